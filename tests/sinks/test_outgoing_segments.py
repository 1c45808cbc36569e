"""Messages larger than a partner takes: how they are cut, and that all of it arrives once in effect, whatever breaks (semantics 8.7)."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rules.segment_sets import OpenSet, joined, part_of, place
from schemas.config import Configuration
from schemas.connection import Connection, Event, InboundMessage, Severity
from schemas.facts import digest
from schemas.oscp.checking import violations_of
from schemas.outbound import DeadLetter, OutboundMessage, Outcome
from sinks.oscp.answers import Judgement
from sinks.oscp.client import OscpClient
from sinks.oscp.segments import RESUMED_S, WHOLE_S, Segment, Taken, TooLarge, segments_of
from tests.builders import T0, configuration
from tests.sinks.partner_server import FakePartner, Reply, Request, fake_partner
from tests.sinks.test_dispatcher import World, eventually
from tests.sinks.test_dispatcher import message as numbered
from tests.sinks.test_oscp_client import SECRETS, TokenServer, connection, message, oauth, partner

ENTRY: dict[str, Any] = {
    "asset_id": "a", "asset_category": "GENERATION",
    "energy_measurement": {
        "value": 1.05, "phase": "ALL", "unit": "KWH", "direction": "EXPORT",
        "measure_time": "2026-10-20T10:15:00.000Z", "initial_measure_time": "2026-10-20T10:00:00.000Z",
    },
}  # fmt: skip
LEAST = 1024


def measurements(assets: int, **changes: Any) -> str:
    entries = [{**ENTRY, "asset_id": f"asset-{number:03}"} for number in range(assets)]
    return json.dumps({"group_id": "VEC-0001", "measurements": entries, **changes}, separators=(",", ":"))


def large(assets: int = 14, **changes: Any) -> OutboundMessage:
    return message(body=measurements(assets), correlation_id="c-1", **changes)


def cut(owed: OutboundMessage, max_body: int | None = LEAST) -> list[Segment]:
    return segments_of(owed, owed.body.encode(), max_body)


def join(owed: OutboundMessage, segments: list[Segment]) -> InboundMessage:
    """What a receiver makes of segments: ours."""
    open_sets: list[OpenSet] = []
    for segment in segments:
        key, part = part_of(
            InboundMessage(
                event_id=segment.request_id, at=T0, partner_id="us", action=owed.action, method=owed.method,
                request_id=segment.request_id, correlation_id=segment.correlation_id, received_at=T0, group_id="VEC-0001",
                body=segment.body.decode(), body_digest=digest(segment.body), credential_digest="",
                segment_index=segment.index, segment_count=segment.count,
            )
        )  # fmt: skip
        place(open_sets, key, part, T0).take(part)
    (found,) = open_sets
    assert found.complete
    return joined("us", found)[0]


# -- how a message is cut ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_body", [None, len(measurements(14))])
def test_what_fits_goes_as_it_is(max_body: int | None) -> None:
    owed = large()
    (whole,) = cut(owed, max_body)
    assert (whole.body, whole.headers) == (owed.body.encode(), {"X-Request-ID": "m-1", "X-Correlation-ID": "c-1"})


def test_the_first_segment_has_the_messages_ids_and_the_others_refer_to_it() -> None:
    first, *others = segments = cut(large())
    count = str(len(segments))
    assert first.headers == {"X-Request-ID": "m-1", "X-Correlation-ID": "c-1", "X-Segment-Index": "1", "X-Segment-Count": count}
    for index, segment in enumerate(others, 2):
        assert segment.headers["X-Correlation-ID"] == "m-1"
        assert (segment.headers["X-Segment-Index"], segment.headers["X-Segment-Count"]) == (str(index), count)
    assert len({segment.request_id for segment in segments}) == len(segments) > 2


def test_every_try_has_the_same_ids_and_another_cut_has_others() -> None:
    ids = {segment.request_id for segment in cut(large())[1:]}
    assert {segment.request_id for segment in cut(large())[1:]} == ids
    assert not ids & {segment.request_id for segment in cut(large(), 1300)[1:]}
    assert not ids & {segment.request_id for segment in cut(large(message_id="m-2"))[1:]}
    assert not ids & {segment.request_id for segment in cut(message(body=measurements(14, group_id="VEC-0002")))[1:]}


NAMES = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=30)


@given(st.lists(NAMES, min_size=1, max_size=40), st.integers(LEAST, 4096), NAMES, st.booleans())
def test_segments_fit_are_valid_and_make_the_whole_again(names: list[str], max_body: int, more: str, ascii_only: bool) -> None:
    plain = {"group_id": "VEC-0001", "x_more": more, "measurements": [{**ENTRY, "asset_id": name} for name in names]}
    owed = message(body=json.dumps(plain, ensure_ascii=ascii_only))
    segments = cut(owed, max_body)
    assert all(len(segment.body) <= max_body for segment in segments)
    assert all(violations_of(owed.action, segment.body) == [] for segment in segments)
    assert [segment.index for segment in segments] == list(range(1, len(segments) + 1))
    assert {segment.count for segment in segments} == {len(segments)}
    if len(segments) == 1:
        assert json.loads(segments[0].body) == plain
        return
    assert len(owed.body.encode()) > max_body
    whole = join(owed, segments)
    assert json.loads(whole.body) == plain
    assert (whole.request_id, whole.correlation_id) == (owed.message_id, owed.correlation_id)
    for one, next_one in pairwise(segments):  # none could have held one entry more
        entry = json.loads(next_one.body)["measurements"][0]
        assert len(one.body) + 1 + len(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()) > max_body


def test_an_entry_that_does_not_fit_alone_says_what_would_do() -> None:
    owed = message(body=measurements(3).replace("asset-001", "x" * 1000))
    with pytest.raises(TooLarge) as caught:
        cut(owed)
    needed = len(measurements(1).replace("asset-000", "x" * 1000))
    assert str(caught.value) == (
        f"the largest entry of its measurements makes a segment of {needed:,} bytes by itself, more than max_body of partners/vector"
        f" allows (1,024); if vector takes that much, set it to {needed:,} or more"
    )
    assert max(len(segment.body) for segment in cut(owed, needed)) == needed
    with pytest.raises(TooLarge):
        cut(owed, needed - 1)


def test_a_message_without_an_array_cannot_be_cut() -> None:
    body = json.dumps({"message": "m" * 1500})
    with pytest.raises(TooLarge, match=f"it has {len(body):,} bytes, and a GroupCapacityComplianceError cannot be cut into segments"):
        cut(message("GroupCapacityComplianceError", body))


def test_half_a_surrogate_pair_stays_what_it_is() -> None:
    owed = message(body=measurements(14, x_odd="\ud800"))
    assert [json.loads(segment.body)["x_odd"] for segment in cut(owed)] == ["\ud800"] * len(cut(owed))


def test_what_was_taken_is_known_for_a_minute_for_the_same_segments_and_address() -> None:
    taken, segments = Taken(), cut(large())
    taken.note(segments, "u", 1, 100.0, 110.0)
    taken.note(segments, "u", 2, 100.0, 140.0)
    assert taken.of(segments, "u", 100.0 + RESUMED_S) == (2, 100.0)
    assert taken.of(segments, "u", 100.1 + RESUMED_S) == (0, 100.1 + RESUMED_S)
    assert taken.of(segments, "elsewhere", 141.0) == (0, 141.0)
    assert taken.of(cut(large(), 1300), "u", 141.0) == (0, 141.0)
    taken.note(segments, "u", 3, 100.0, 101.0 + RESUMED_S)  # the try that had begun in time goes on; the minute is the first one's
    assert taken.of(segments, "u", 101.0 + RESUMED_S)[0] == 0
    taken.note(segments, "u", 1, 200.0, 200.5)
    assert taken.of(segments, "u", 201.0) == (1, 200.0)
    taken.forget("m-1")
    assert taken.of(segments, "u", 201.0) == (0, 201.0)


# -- how it is sent ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cp() -> Iterator[FakePartner]:
    with fake_partner() as found:
        yield found


class Sending:
    """One client, so that it knows what went before; `config` and `known` may change between tries."""

    def __init__(self, cp: FakePartner, config: Configuration | None = None) -> None:
        self.config, self.known = config or partner(max_body=LEAST), connection(cp.url)

    def tries(self, owed: OutboundMessage, times: int = 1, between: Any = lambda: None) -> list[Judgement]:
        async def run() -> list[Judgement]:
            client = OscpClient(lambda: self.config, self._connections, SECRETS)
            found = []
            try:
                for _ in range(times):
                    found.append(await client.attempt(owed))
                    between()
            finally:
                await client.aclose()
            return found

        return asyncio.run(run())

    def _connections(self) -> dict[str, Connection]:
        return {"vector": self.known}


def indices(cp: FakePartner, *, taken_only: bool = False) -> list[int]:
    pairs = zip(cp.requests, cp.statuses, strict=True)
    return [int(request.headers["x-segment-index"]) for request, status in pairs if status < 300 or not taken_only]


def failing(index: int, *replies: Reply | int) -> Any:
    """Answers a segment so, the first times it comes."""
    left = list(replies)
    return lambda request: left.pop(0) if left and request.headers["x-segment-index"] == str(index) else 204


def test_segments_go_one_after_the_other_and_all_of_them_are_the_message(cp: FakePartner) -> None:
    owed = large()
    (judgement,) = Sending(cp).tries(owed)
    assert (judgement.outcome, judgement.status, judgement.words) == (Outcome.DELIVERED, 204, "in 4 segments")
    assert [request.text.encode() for request in cp.requests] == [segment.body for segment in cut(owed)]
    for request, segment in zip(cp.requests, cut(owed), strict=True):
        assert {name: request.headers.get(name.lower()) for name in segment.headers} == segment.headers
        assert request.headers["content-type"] == "application/json"
        assert request.path == "/update_asset_measurements"


def test_a_max_body_that_is_far_too_small_is_told(cp: FakePartner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.oscp.client.MANY", 3)
    (judgement,) = Sending(cp).tries(large())
    told = "max_body of partners/vector makes so many of them; with a larger one, or none, the message takes less time"
    assert (judgement.outcome, judgement.words) == (Outcome.DELIVERED, f"in 4 segments; {told}")


def test_without_max_body_a_message_goes_whole(cp: FakePartner) -> None:
    (judgement,) = Sending(cp, partner()).tries(large())
    (request,) = cp.requests
    assert (judgement.words, request.text) == ("", large().body)
    assert "x-segment-index" not in request.headers


def test_a_partner_that_finds_a_message_too_large_shows_the_setting(cp: FakePartner) -> None:
    cp.answer = lambda request: (413, b'{"message":"at most 1 kB"}', {})
    (judgement,) = Sending(cp, partner()).tries(large())
    told = "answered 413: at most 1 kB (with max_body set for the partner, larger messages go in segments that fit)"
    assert (judgement.outcome, judgement.words) == (Outcome.REFUSED, told)


def test_after_a_failure_it_goes_on_where_it_stopped(cp: FakePartner) -> None:
    cp.answer = failing(3, (503, b'{"message":"busy"}', {"Retry-After": "7"}))
    failed, delivered = Sending(cp).tries(large(), 2)
    assert (failed.outcome, failed.status, failed.retry_after_s) == (Outcome.RETRY, 503, 7.0)
    assert failed.words == "segment 3 of 4: answered 503: busy"
    assert (delivered.outcome, delivered.words) == (Outcome.DELIVERED, "in 4 segments, of which 2 went before")
    assert indices(cp) == [1, 2, 3, 3, 4]
    assert cp.requests[2].id == cp.requests[3].id


def test_after_a_minute_it_begins_again_with_the_same_ids(cp: FakePartner, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("sinks.oscp.client.wall_seconds", lambda: now[0])

    def a_minute() -> None:
        now[0] += RESUMED_S + 1

    cp.answer = failing(3, 503)
    _, delivered = Sending(cp).tries(large(), 2, a_minute)
    assert (delivered.outcome, delivered.words) == (Outcome.DELIVERED, "in 4 segments")
    assert indices(cp) == [1, 2, 3, 1, 2, 3, 4]
    assert cp.ids()[:3] == cp.ids()[3:6]


def test_a_partner_too_slow_for_all_of_it_to_be_kept_is_no_delivery_and_all_of_it_goes_again(
    cp: FakePartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, slow_s = [1000.0], [WHOLE_S / 2]
    monkeypatch.setattr("sinks.oscp.client.wall_seconds", lambda: now[0])

    def answered(request: Request) -> int:
        now[0] += slow_s[0] + 1
        return 204

    def quick() -> None:
        slow_s[0] = 0

    cp.answer = answered
    failed, delivered = Sending(cp).tries(large(), 2, quick)
    assert (failed.outcome, failed.status) == (Outcome.RETRY, None)
    assert failed.words.startswith("segment 3 of 4: not sent, since the first one went 482 s ago and may be thrown away by now")
    assert (delivered.outcome, delivered.words) == (Outcome.DELIVERED, "in 4 segments")
    assert indices(cp) == [1, 2, 1, 2, 3, 4]


def test_a_restart_begins_again_with_the_same_ids(cp: FakePartner) -> None:
    cp.answer = failing(3, 503)
    sending = Sending(cp)
    sending.tries(large())
    assert sending.tries(large())[0].outcome is Outcome.DELIVERED
    assert indices(cp) == [1, 2, 3, 1, 2, 3, 4]
    assert cp.ids()[:3] == cp.ids()[3:6]


def test_another_size_begins_again_with_other_ids_behind_the_first(cp: FakePartner) -> None:
    cp.answer = failing(3, 503)
    sending = Sending(cp)

    def larger() -> None:
        sending.config = partner(max_body=1300)

    assert sending.tries(large(), 2, larger)[1].words == "in 3 segments"
    assert indices(cp) == [1, 2, 3, 1, 2, 3]
    assert cp.ids()[0] == cp.ids()[3] == "m-1"
    assert not set(cp.ids()[1:3]) & set(cp.ids()[4:])


def test_a_message_that_was_delivered_begins_at_the_first_if_it_is_sent_again(cp: FakePartner) -> None:
    Sending(cp).tries(large(), 2)
    assert indices(cp) == [1, 2, 3, 4, 1, 2, 3, 4]


def test_the_partners_words_about_a_segment_end_the_message(cp: FakePartner) -> None:
    cp.answer = failing(2, (400, b'{"message":"too many"}', {}))
    (judgement,) = Sending(cp).tries(large())
    assert (judgement.outcome, judgement.status, judgement.words) == (Outcome.REFUSED, 400, "segment 2 of 4: answered 400: too many")
    assert indices(cp) == [1, 2]


def test_an_odd_2xx_to_a_segment_is_flagged(cp: FakePartner) -> None:
    cp.answer = failing(2, (202, b"", {}))
    (judgement,) = Sending(cp).tries(large())
    assert (judgement.outcome, judgement.status) == (Outcome.DELIVERED, 204)
    assert judgement.words == "in 4 segments; segment 2 of 4 was answered 202 (204 was expected)"


def test_a_connection_that_breaks_in_the_middle_names_the_segment(cp: FakePartner) -> None:
    sending = Sending(cp)

    def gone(request: Request) -> int:
        sending.known = connection("http://127.0.0.1:1")
        return 503 if request.headers["x-segment-index"] == "2" else 204

    cp.answer = gone
    first, second = sending.tries(large(), 2)
    assert first.words == "segment 2 of 4: answered 503"
    assert (second.outcome, second.words) == (Outcome.RETRY, "segment 1 of 4: cannot connect to 127.0.0.1:1")


def test_a_token_is_renewed_once_for_all_segments(cp: FakePartner, tmp_path: Path) -> None:
    server = TokenServer()

    def revoking(request: Request) -> Reply | int:
        if request.headers.get("x-segment-index") in revoked:
            revoked.remove(request.headers["x-segment-index"])
            server.valid = "another"
        return server(request)

    cp.answer = revoking
    config = oauth(cp, tmp_path)
    config = config.model_copy(update={"partners": (config.partners[0].model_copy(update={"max_body": LEAST}),)})
    revoked = {"2"}
    (judgement,) = Sending(cp, config).tries(large())
    assert (judgement.outcome, server.made) == (Outcome.DELIVERED, 2)
    revoked = {"2", "4"}
    held, delivered = Sending(cp, config).tries(large(), 2)
    assert (held.outcome, held.words) == (Outcome.HELD, "segment 4 of 4: answered 401")
    assert (delivered.outcome, delivered.words) == (Outcome.DELIVERED, "in 4 segments, of which 3 went before")


# -- what is on record -------------------------------------------------------------------------------------------------


def small_partner(world: World) -> World:
    world.config = configuration(partners=[{"id": "vector", "allow_private_addresses": True, "max_body": LEAST}], groups=[])
    return world


def test_the_record_says_in_how_many_segments_and_a_failure_is_one_attempt(cp: FakePartner) -> None:
    cp.answer = failing(2, 500)
    world = small_partner(World(vector=cp.url))
    world.owe(numbered(0, body=measurements(14)), numbered(1, body=measurements(14)))
    with world.dispatching():
        eventually(lambda: world.delivered(0, 1))
    told = [(delivery.message_id, delivery.attempt, delivery.outcome.value, delivery.words) for delivery in world.kafka.deliveries]
    assert told == [
        ("m0", 1, "RETRY", "segment 2 of 4: answered 500"),
        ("m0", 2, "DELIVERED", "in 4 segments, of which 1 went before"),
        ("m1", 1, "DELIVERED", "in 4 segments"),
    ]
    assert [cp.ids()[0], cp.ids()[5]] == ["m0", "m1"]


def test_what_cannot_be_made_small_enough_is_told_and_left_out_and_the_next_one_goes(cp: FakePartner) -> None:
    world = small_partner(World(vector=cp.url))
    too_large = measurements(1).replace("asset-000", "x" * 1000)
    world.owe(numbered(0, body=too_large), numbered(1, body=measurements(3)))
    with world.dispatching():
        eventually(lambda: world.delivered(1) and bool(world.kafka.of("m0")))
    assert cp.ids() == ["m1"]
    (delivery,) = [each for each in world.kafka.deliveries if each.message_id == "m0"]
    assert (delivery.outcome, delivery.status) == (Outcome.REFUSED, None)
    assert delivery.words.startswith("not sent: the largest entry of its measurements makes a segment of ")
    assert "max_body of partners/vector" in delivery.words
    (event,) = [value for value in world.kafka.written if isinstance(value, Event)]
    assert (event.kind, event.severity) == ("message.too-large", Severity.ALARM)
    assert event.words == f"UpdateAssetMeasurements m0 was {delivery.words}; the message is in the dead letters"
    (letter,) = [value for value in world.kafka.written if isinstance(value, DeadLetter)]
    assert (letter.subject, letter.raw) == ("m0", too_large.encode())
    assert letter.reason == f"not fit for vector: {delivery.words}"


def test_a_heartbeat_waits_for_no_segments(cp: FakePartner) -> None:
    beat = json.dumps({"offline_mode_at": "2026-10-20T10:15:00.000Z"})
    world = small_partner(World(vector=cp.url))
    with world.dispatching() as dispatcher:

        def answer(request: Request) -> int:
            if request.path == "/heartbeat":
                return 204
            if request.headers.get("x-segment-index") == "1":
                world.owe(
                    numbered(9, action="Heartbeat", group_id=None, body=beat, expires_at=T0 + timedelta(hours=1)), dispatcher=dispatcher
                )
                eventually(lambda: world.delivered(9))
            return 204

        cp.answer = answer
        world.owe(numbered(0, body=measurements(14)), dispatcher=dispatcher)
        eventually(lambda: world.delivered(0, 9))
    assert cp.requests[0].path == "/heartbeat"  # remembered as they are answered
