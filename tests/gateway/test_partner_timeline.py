"""A partner's timeline in the live picture: whatever order topics come in, bounded, each thing once, nothing secret in what is shown."""

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import partner_timeline
from gateway.partner_timeline import KEEP, LEAST, LEAST_BODIES, LONGEST_BEAT, MOST_BODIES, Shelf, Timelines
from gateway.picture import Picture
from gateway.projection import Projection, fold
from gateway.redaction import REMOVED, clean, shown, without_secrets
from gateway.timeline_lines import Way
from gateway.timeline_reading import Kind, attempts_of, credentials_refused, cursor_of, messages_of, part_of, place_of
from schemas.clock import FrozenClock
from schemas.facts import Value
from schemas.outbound import Outcome
from tests.gateway.exchanges import OUR_CAUSE, PEER_TOKEN, SECRETS, asked, beat, came, forecast, owed, registration, said, sent, told
from tests.gateway.facts import NOW, record

SECOND = timedelta(seconds=1)
TOLD = told()


def picture_of(values: list[Any]) -> Picture:
    picture = Picture()
    for value in values:
        fold(picture, record(value))
    return picture


def words(timelines: Timelines, **filters: Any) -> list[str]:
    part = part_of(timelines, "vector", limit=1000, **filters)
    return [f"{line.direction or '-'} {line.action or line.kind} {line.status}" for line in part.lines]


def test_exchanges_of_both_ways_and_transitions_stand_in_order_of_time() -> None:
    timelines = picture_of(list(registration(NOW))).timelines
    assert words(timelines) == [
        "- connection.online None",
        "out HandshakeAcknowledge 204",
        "in Handshake 204",
        "out Register 204",
        "out Register None",
        "- register.received None",
        "in Register 204",
    ]
    assert words(timelines, kind=Kind.TRANSITIONS) == ["- connection.online None", "- register.received None"]
    assert len(words(timelines, kind=Kind.EXCHANGES)) == 5


def test_exchanges_are_no_events_of_the_general_list() -> None:
    picture = picture_of([asked(NOW, "Heartbeat", "b"), said(NOW, "register.received", "Vector registered")])
    assert [event.kind for event in picture.events] == ["register.received"]


def test_a_line_has_all_that_is_known() -> None:
    message = owed(NOW, "Register", {}, correlation_id="theirs")
    values = [message, sent(message, 1, Outcome.RETRY, None, duration_ms=0), sent(message, 3, Outcome.REFUSED, 400, attempt=2, words="no")]
    refused = asked(NOW + 9 * SECOND, "Handshake", "h", status=409, words="nobody waits")
    came_in, second, first = part_of(picture_of([*values, refused]).timelines, "vector", limit=9).lines
    assert (came_in.words, came_in.method, came_in.url, came_in.duration_ms) == ("nobody waits", "POST", "/oscp/fp/2.0/handshake", 6)
    assert (second.outcome, second.status, second.attempt, second.correlation_id) == ("REFUSED", 400, 2, "theirs")
    assert (second.url, second.request_id) == ("https://cp.example/oscp/cp/2.0/register", message.message_id)
    assert (first.status, first.duration_ms) == (None, None)


@given(st.randoms(use_true_random=False), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_no_order_of_records_and_no_repetition_changes_it(chance: random.Random, again: int) -> None:
    straight = [each.value for each in TOLD if not isinstance(each.value, str)]
    mixed = straight + chance.sample(straight, k=min(len(straight), 10 * again))
    chance.shuffle(mixed)
    one, other = picture_of(straight).timelines, picture_of(mixed).timelines
    assert one.lines == other.lines
    assert one.messages == other.messages
    assert one.sizes == other.sizes


def test_heartbeats_push_nothing_else_out_and_nothing_pushes_them_out() -> None:
    values: list[Value] = list(registration(NOW))
    for number in range(500):
        values += beat(NOW + (20 + number) * SECOND, number)
    timelines = picture_of(values).timelines
    assert len(words(timelines)) == 7
    assert len(words(timelines, heartbeats=True)) == 7 + 2 * KEEP[Shelf.BEATS_IN]
    assert len(timelines.messages["vector", Shelf.BEATS_IN]) == KEEP[Shelf.BEATS_IN]
    newest = part_of(timelines, "vector", limit=10, heartbeats=True).lines
    assert next(line.request_id for line in newest if line.direction is Way.IN) == "beat-499"


def test_exchanges_push_out_no_transitions() -> None:
    values: list[Value] = [said(NOW, "connection.online", "there"), *(asked(NOW + n * SECOND, "Handshake", f"{n}") for n in range(1, 400))]
    timelines = picture_of(values).timelines
    part = part_of(timelines, "vector", limit=1000)
    assert len(part.lines) == KEEP[Shelf.IN] + 1
    assert part.lines[0].request_id == "399"
    assert part.lines[-1].kind == "connection.online"
    assert part.whole_since_ms == part.lines[-2].at_ms
    assert part_of(timelines, "vector", limit=9, kind=Kind.TRANSITIONS).whole_since_ms is None


def test_bodies_are_bounded_by_their_size_the_newest_staying() -> None:
    body = {"x": "y" * 10_000}
    timelines = picture_of([came(NOW + n * SECOND, "UpdateGroupCapacityForecast", f"r-{n}", body) for n in range(100)]).timelines
    kept = timelines.messages["vector", Shelf.IN]
    assert sum(each.length for each in kept) == timelines.sizes["vector", Shelf.IN] <= MOST_BODIES
    assert [each.request_id for each in kept] == [f"r-{n}" for n in range(100 - len(kept), 100)]
    assert len(kept) == MOST_BODIES // kept[0].length


def test_one_body_that_is_too_long_pushes_out_no_other() -> None:
    small, large = came(NOW, "Handshake", "small", {}), came(NOW + SECOND, "Handshake", "large", {"x": "y" * MOST_BODIES})
    long_beat = came(NOW, "Heartbeat", "beat", {"offline_mode_at": "y" * LONGEST_BEAT})
    timelines = picture_of([small, large, long_beat]).timelines
    assert [each.body is None for each in timelines.messages["vector", Shelf.IN]] == [False, True]
    assert timelines.messages["vector", Shelf.IN][1].length > MOST_BODIES
    assert timelines.messages["vector", Shelf.BEATS_IN][0].body is None


def test_many_partners_share_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partner_timeline, "WHOLE_LINES", 2000)
    monkeypatch.setattr(partner_timeline, "WHOLE_BODIES", 1_000_000)
    timelines = Timelines()
    body = {"x": "y" * 2000}
    for partner in range(64):
        for n in range(150):
            at = NOW + n * SECOND
            timelines.take(asked(at, "Handshake", f"{n}", partner_id=f"cp-{partner}"))
            timelines.take(asked(at, "Heartbeat", f"b{n}", partner_id=f"cp-{partner}"))
            timelines.take(came(at, "Handshake", f"{n}", body, partner_id=f"cp-{partner}"))
    assert {len(lines) for (_, shelf), lines in timelines.lines.items() if shelf is Shelf.IN} == {LEAST[Shelf.IN]}
    assert {len(lines) for (_, shelf), lines in timelines.lines.items() if shelf is Shelf.BEATS_IN} == {LEAST[Shelf.BEATS_IN]}
    assert max(timelines.sizes.values()) <= LEAST_BODIES
    assert sum(len(each.body or "") for kept in timelines.messages.values() for each in kept) == sum(timelines.sizes.values())


def test_a_copy_stands_still() -> None:
    projection = Projection(FrozenClock(NOW))
    projection.take(TOLD)
    before = projection.current()
    lines, messages = dict(before.timelines.lines), dict(before.timelines.messages)
    projection.take([record(value) for value in forecast(NOW, 7)])
    assert before.timelines.lines == lines
    assert before.timelines.messages == messages
    assert projection.current().timelines.lines != lines


def test_a_line_finds_its_body_whichever_topic_is_read_first() -> None:
    message = owed(NOW, "Register", {"token": {"$token": OUR_CAUSE}}, correlation_id="req")
    for values in ([message, sent(message)], [sent(message), message]):
        timelines = picture_of(values).timelines
        assert len(attempts_of(timelines, "vector", message.message_id)) == 1
        assert [kept.correlation_id for kept in messages_of(timelines, "vector", message.message_id)] == ["req"]


def test_an_id_used_again_and_segments_are_all_there() -> None:
    values = [
        came(NOW, "Handshake", "same", {"a": 1}),
        came(NOW + SECOND, "Handshake", "same", {"a": 2}),
        came(NOW, "UpdateGroupCapacityForecast", "part", {"group_id": "g"}, segment_index=1, segment_count=2),
    ]
    picture = picture_of(values)
    assert [shown(kept.body or "") for kept in messages_of(picture.timelines, "vector", "same")] == [{"a": 1}, {"a": 2}]
    assert [kept.segment for kept in messages_of(picture.timelines, "vector", "part")] == [(1, 2)]
    assert [line.request_id for line in picture.inbound] == ["same", "same"]


def test_parts_follow_each_other_without_gap_or_repetition() -> None:
    timelines = picture_of([each.value for each in TOLD]).timelines
    whole = part_of(timelines, "vector", limit=1000, heartbeats=True).lines
    found, before = [], None
    while True:
        part = part_of(timelines, "vector", limit=3, before=before, heartbeats=True)
        found += part.lines
        before = part.next
        if before is None:
            break
    assert found == whole


@pytest.mark.parametrize("cursor", ["", "x", "12", "-1.a", "1e3.a", "\u0661.a", "9" * 20 + ".a"])
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        place_of(cursor)


def test_a_cursor_names_its_line() -> None:
    line = part_of(picture_of([asked(NOW, "Handshake", "r")]).timelines, "vector", limit=1).lines[0]
    assert place_of(cursor_of(line)) == (line.at_ms, line.id)


def test_a_partner_that_refuses_us_is_seen_until_it_takes_something() -> None:
    lost, later = owed(NOW, "UpdateAssetMeasurements", {}), owed(NOW + SECOND, "Heartbeat", {})
    values = [lost, sent(lost, 1, Outcome.HELD, 403)]
    refused = credentials_refused(picture_of(values).timelines, "vector")
    assert refused is not None
    assert refused.status == 403
    assert credentials_refused(picture_of([*values, sent(later, 2)]).timelines, "vector") is None
    assert credentials_refused(picture_of([*values, sent(later, 2, Outcome.RETRY, None)]).timelines, "vector") is not None


def test_odd_events_harm_nothing() -> None:
    whole = asked(NOW, "Handshake", "r")
    values = [whole.model_copy(update={"event_id": str(n), "data": data}) for n, data in enumerate(("", "[]", '{"status": "x", "url": 3}'))]
    assert [line.status for line in part_of(picture_of(values).timelines, "vector", limit=9).lines] == [None] * 3


sealed = SECRETS.encrypt(PEER_TOKEN, "vector")


@pytest.mark.parametrize(
    "body",
    [
        {"token": sealed},
        {"token": {"$token": OUR_CAUSE}},
        {"Token": PEER_TOKEN, "n": [{"access_token": PEER_TOKEN}]},
        {"note": f"my token is {sealed}."},
        {"deep": [[{"client_secret": [PEER_TOKEN]}]], "X-Api-Key": PEER_TOKEN},
        {"base_url": f"https://user:{PEER_TOKEN}@cp.example/"},
        {"base_url": f"https://u@ser:'{PEER_TOKEN}@cp.example/"},
        {"base_url": f"https://cp.example/?key={PEER_TOKEN}"},
        {"authorization": {"scheme": "Token", "value": PEER_TOKEN}},
    ],
)
def test_secrets_are_left_out_in_whatever_form(body: dict[str, Any]) -> None:
    text = repr(without_secrets(body))
    assert REMOVED in text
    for secret in (PEER_TOKEN, OUR_CAUSE, sealed, sealed[10:40]):
        assert secret not in text


@pytest.mark.parametrize(
    ("told", "shown_as"),
    [
        ("sent to https://u:p@cp.example:8443/a/b?key=k#f now", "sent to https://(removed)@cp.example:8443/a/b?(removed) now"),
        ('<a href="HTTP://cp.example/a#k">', '<a href="HTTP://cp.example/a#(removed)">'),
        ("https://a/?x=1 and https://b@c", "https://a/?(removed) and https://(removed)@c"),
        ("is it https://cp.example/@home? mail me@cp.example", "is it https://cp.example/@home? mail me@cp.example"),
        ("nothing here: //x?y=1", "nothing here: //x?y=1"),
    ],
)
def test_urls_in_words_show_neither_user_nor_query(told: str, shown_as: str) -> None:
    assert clean(told) == shown_as


def test_what_cannot_be_read_is_not_shown() -> None:
    assert PEER_TOKEN not in repr(shown(f'{{"token": "{PEER_TOKEN}"'))
    assert PEER_TOKEN not in repr(shown("[" * 100_000 + PEER_TOKEN))
    assert shown('{"group_id": "VEC-0001", "value": 1.5, "ok": null}') == {"group_id": "VEC-0001", "value": 1.5, "ok": None}
