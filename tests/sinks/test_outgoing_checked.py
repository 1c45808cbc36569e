"""What breaks OSCP never leaves the house: no request at all, an alarm, a dead letter, and the lane goes on (semantics 6.7, 8.3)."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.connection import Event, Severity
from schemas.outbound import DeadLetter, Outcome
from sinks.oscp.answers import Judgement
from sinks.oscp.breaker import BreakerState
from sinks.oscp.pace import Pace
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.waiting import Now, Waiting
from tests.builders import configuration
from tests.schemas.golden import oscp_example
from tests.sinks.partner_server import FakePartner, fake_partner
from tests.sinks.test_dispatcher import World, eventually
from tests.sinks.test_dispatcher import message as numbered
from tests.sinks.test_oscp_client import SECRETS, attempt, connection, message, partner

REFERENCE = {"$token": "cause-7"}
MEASUREMENTS = json.loads(oscp_example("UpdateAssetMeasurements"))


@pytest.fixture
def cp() -> Iterator[FakePartner]:
    with fake_partner() as found:
        yield found


def register(**changes: Any) -> str:
    return json.dumps({"token": REFERENCE, "version_url": [{"version": "2.0", "base_url": "https://derms.example"}], **changes})


@pytest.mark.parametrize(
    ("action", "body", "words"),
    [
        ("UpdateAssetMeasurements", '{"group_id":"g","measurements":[]}', "measurements: List should have at least 1 item"),
        ("UpdateGroupMeasurements", '{"group_id":"g"}', "measurements: Field required"),
        ("Heartbeat", '{"offline_mode_at":"2026-10-20 10:00:00"}', "offline_mode_at: must be RFC 3339 text"),
        ("HandshakeAcknowledge", '{"required_behaviour":{}}', "required_behaviour.measurement_configuration: Field required"),
        ("GroupCapacityComplianceError", '{"message":""}', "message: String should have at least 1 character"),
        ("Register", register(version_url=[]), "version_url: List should have at least 1 item"),
        ("Register", register(token={"$token": 5}), "token: Input should be a valid string"),
        ("Register", "[]", "Input should be"),
        ("Register", "{", "must be JSON text"),
        ("Heartbeat", "", "must be JSON text"),
        ("Heartbeat", '{"offline_mode_at":NaN}', "must be JSON text"),
        ("Gossip", "{}", "there is no message Gossip"),
    ],
)
def test_what_breaks_oscp_is_not_sent(cp: FakePartner, action: str, body: str, words: str) -> None:
    (judgement,) = attempt(cp, message(action, body))
    assert (judgement.outcome, judgement.status, judgement.defect) == (Outcome.REFUSED, None, True)
    assert judgement.words.startswith(f"not sent, since it breaks OSCP 2.0: {words}")
    assert SECRETS.token("vector", "cause-7") not in judgement.words
    assert cp.requests == []


def test_nobody_is_asked_for_anything_for_its_sake(cp: FakePartner) -> None:
    """Neither the partner nor its token server, and it is refused where nobody could be asked."""
    config = partner(oauth={"token_url": f"{cp.url}/token", "client_id": "derms", "client_secret_file": "/no/such/file"})
    bad = message("Heartbeat", "{}")
    assert [each.outcome for each in attempt(cp, bad, config=config)] == [Outcome.REFUSED]
    assert [each.outcome for each in attempt(cp, bad, known=connection(None))] == [Outcome.REFUSED]
    assert [each.outcome for each in attempt(cp, bad, config=configuration(partners=[{"id": "other"}], groups=[]))] == [Outcome.REFUSED]
    assert cp.requests == []


def test_what_a_peer_is_known_to_need_is_sent(cp: FakePartner) -> None:
    flat = message("HandshakeAcknowledge", '{"measurement_configuration":["INTERMITTENT"],"heartbeat_interval":60}')
    naive = message("Heartbeat", '{"offline_mode_at":"2026-10-20 10:00:00"}')
    config = partner(legacy=["FLAT_HANDSHAKE", "NAIVE_HEARTBEAT_TIME"])
    assert [each.outcome for each in attempt(cp, flat, naive, config=config)] == [Outcome.DELIVERED] * 2


@pytest.mark.parametrize("body", ["", "{}", register()])
def test_a_delete_needs_no_body(cp: FakePartner, body: str) -> None:
    (judgement,) = attempt(cp, message("Register", body, method="DELETE"))
    assert judgement.outcome is Outcome.DELIVERED


def test_the_bad_one_is_told_and_kept_and_the_next_one_goes(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    bad = json.dumps({**MEASUREMENTS, "measurements": [{"asset_id": "a", "asset_category": "STORAGE"}], "number": 0})
    world.owe(numbered(0, body=bad), numbered(1), numbered(2))
    with world.dispatching():
        eventually(lambda: world.delivered(1, 2))
    assert cp.ids() == ["m1", "m2"]
    (delivery,) = [each for each in world.kafka.deliveries if each.message_id == "m0"]
    assert (delivery.outcome, delivery.status, delivery.attempt) == (Outcome.REFUSED, None, 1)
    wrong = "not sent, since it breaks OSCP 2.0: measurements[0]: an asset needs an energy_measurement"
    assert delivery.words.startswith(wrong)
    (event,) = [value for value in world.kafka.written if isinstance(value, Event)]
    assert (event.kind, event.severity, event.subject_id) == ("message.invalid", Severity.ALARM, "vector")
    assert event.words.startswith(f"UpdateAssetMeasurements m0 was {wrong}")
    assert "defect of ours" in event.words
    (letter,) = [value for value in world.kafka.written if isinstance(value, DeadLetter)]
    assert letter.reason.startswith(f"not fit for vector: {wrong}")
    assert (letter.subject, letter.topic, letter.offset, letter.raw) == ("m0", "derms.outbound", 0, bad.encode())
    with world.dispatching():
        eventually(lambda: world.kafka.kept[0] == {0: 3})
    assert cp.ids() == ["m1", "m2"]


def test_our_token_is_in_no_letter_event_or_delivery(cp: FakePartner) -> None:
    world = World(vector=cp.url)
    world.owe(numbered(0, action="Register", group_id=None, body=register(version_url=[])), numbered(1))
    with world.dispatching():
        eventually(lambda: world.delivered(1))
    (letter,) = [value for value in world.kafka.written if isinstance(value, DeadLetter)]
    assert json.loads(letter.raw)["token"] == REFERENCE
    token = SECRETS.token("vector", "cause-7")
    assert not any(token in value.model_dump_json() for value in world.kafka.written)


def waiting(number: int) -> Waiting:
    return Waiting(f"m{number}", 0, number, f"g{number}", "UpdateAssetMeasurements", 0, 0, 2**60)


DEFECT = Judgement(Outcome.REFUSED, None, "not sent", defect=True)


def test_what_was_not_sent_says_nothing_about_the_partner() -> None:
    """A hold stays, and so does an open breaker; the next message may probe at once."""
    now = Now(0.0, 0)
    queue = PartnerQueue(Pace(), lambda bound: bound)
    for number in range(3):
        queue.add(waiting(number))
    first = queue.next(now)
    assert first is not None
    queue.settle(first, Judgement(Outcome.HELD, 401, "answered 401"), now)
    queue.free(first, Outcome.HELD)
    later = Now(queue.pace.probe_s + 1, 0)
    probe = queue.next(later)
    assert probe is not None
    assert queue.settle(probe, DEFECT, later).notices == ()
    queue.free(probe, Outcome.REFUSED)
    assert queue.hold is not None
    assert queue.next(later) is not None


def test_an_open_breaker_is_not_closed_by_it() -> None:
    queue = PartnerQueue(Pace(), lambda bound: 0.0)
    for number in range(7):
        queue.add(waiting(number))
    now = Now(0.0, 0)
    for _ in range(5):
        tried = queue.next(now)
        assert tried is not None
        queue.settle(tried, Judgement(Outcome.RETRY, 500, "answered 500"), now)
        queue.free(tried, Outcome.RETRY)
    assert queue.breaker.state is BreakerState.OPEN
    later = Now(queue.pace.breaker_s + 1, 0)
    probe = queue.next(later)
    assert probe is not None
    assert queue.settle(probe, DEFECT, later).notices == ()
    queue.free(probe, Outcome.REFUSED)
    assert queue.breaker.state is BreakerState.OPEN
    assert queue.next(later) is not None
