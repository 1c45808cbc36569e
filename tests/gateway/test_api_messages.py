"""Messages in the operations API: found beyond what the picture keeps, with why they wait; sent again or given up."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import picture as p
from gateway.auth import Role
from gateway.messages_model import MessageWish, fits, place_of
from gateway.messages_why import HELD_UNTIL_MENDED
from gateway.past import SLOW
from gateway.past_messages import MessageCount
from gateway.picture import MessageLine
from pipelines.records import Record
from schemas.connection import Command, CommandKind, ConnectionState
from schemas.flows import FlowReport, QueueStanding
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import COMMANDS
from sinks.errors import Unavailable
from tests.gateway.facts import NOW, WALL, connection, delivery, message, record
from tests.gateway.operations_world import World, problem

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MEASURED = "UpdateAssetMeasurements"
WORDS = "<script>alert(1)</script> https://u:hunter2@cp.example/?key=s3cret"


class MessagePast:
    """A history of messages, each with all its attempts; `away` it does not answer."""

    def __init__(self, *known: tuple[OutboundMessage, Sequence[Delivery]], counts: Sequence[MessageCount] = ()) -> None:
        self.known, self.counts, self.away = {each[0].message_id: each for each in known}, counts, False
        self.asked = 0

    async def messages(self, wish: MessageWish, most: int) -> list[MessageLine]:
        self._answer()
        lines = [MessageLine(each.message_id, each, tried[-1] if tried else None) for each, tried in self.known.values()]
        return sorted((line for line in lines if fits(line, wish)), key=place_of, reverse=True)[:most]

    async def message(self, message_id: str, partner_id: str = "") -> tuple[MessageLine, list[Delivery]] | None:
        self._answer()
        if message_id not in self.known:
            return None
        found, tried = self.known[message_id]
        return MessageLine(message_id, found, tried[-1] if tried else None), list(tried)

    async def message_counts(self, since: Any, now: Any) -> Sequence[MessageCount]:
        self._answer()
        return self.counts

    def _answer(self) -> None:
        self.asked += 1
        if self.away:
            raise Unavailable(SLOW)


def queues(*standing: QueueStanding) -> Record:
    """What dispatch says of its queues."""
    said = FlowReport(event_id="q", at=NOW, flow="dispatch", worker="0", started_at=WALL, queues=list(standing))
    return Record("derms.flow-reports", 0, 0, WALL, said.key, said)


def owed(ago: timedelta, **changes: Any) -> OutboundMessage:
    return message(MEASURED, NOW - ago).model_copy(update=changes)


def world_of(directory: Path, *values: Any, standing: Sequence[QueueStanding] = (), past: Any = None, **changes: Any) -> World:
    found = [record(connection(**changes)), *(record(value, offset) for offset, value in enumerate(values))]
    return World(directory, records=[*found, *([queues(*standing)] if standing else [])], past=past)


def listed(world: World, query: str = "") -> dict[str, Any]:
    answer = world.ask("GET", f"/api/v1/messages{query}", Role.VIEWER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def ids(found: dict[str, Any]) -> list[str]:
    return [item["message_id"] for item in found["items"]]


def whys(directory: Path, *values: Any, standing: Sequence[QueueStanding] = (), **changes: Any) -> list[str]:
    return [item["why"] for item in listed(world_of(directory, *values, standing=standing, **changes))["items"]]


def test_where_each_stands_and_how_long_it_took(tmp_path: Path) -> None:
    good, bad = owed(9 * MINUTE), owed(8 * MINUTE, action="GroupCapacityComplianceError")
    world = world_of(tmp_path, good, bad, delivery(good), delivery(bad, Outcome.REFUSED, 400, words=WORDS))
    refused, delivered = listed(world)["items"]
    assert (delivered["stand"], delivered["latency_ms"], delivered["duration_ms"], delivered["why"]) == ("DELIVERED", 2000, 41, "")
    assert (refused["stand"], refused["status"], refused["latency_ms"]) == ("REFUSED", 400, None)
    assert "hunter2" not in json.dumps(refused)
    assert "s3cret" not in json.dumps(refused)


Q = QueueStanding


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        (Q(partner_id="vector", waiting=3, breaker="OPEN", paused_until=WALL + MINUTE), "left alone until"),
        (Q(partner_id="vector", waiting=3, breaker="HALF_OPEN"), "one message is on its way to see"),
        (Q(partner_id="vector", waiting=3, held="answered 403: who are you"), "until this is mended"),
        (Q(partner_id="vector", waiting=1000, draining=True), "a backlog of 1000 drains, the oldest first, at most 20 a second"),
        (Q(partner_id="vector", waiting=1), "its turn comes now"),
        (
            Q(partner_id="vector", waiting=9, under_way=8),
            "it is on its way or comes next; waiting for an answer now, of the partner's messages: 8",
        ),
        (Q(partner_id="other"), "its turn comes now"),
    ],
)
def test_why_the_queue_makes_a_message_wait(tmp_path: Path, standing: QueueStanding, words: str) -> None:
    (why,) = whys(tmp_path, owed(MINUTE), standing=[standing])
    assert why.startswith("not tried yet; ")
    assert words in why


def test_a_dispatch_that_is_silent_is_why_everything_waits(tmp_path: Path) -> None:
    said = replace(queues(Q(partner_id="vector", held="answered 401")), appended_at=WALL - 2 * MINUTE)
    world = World(tmp_path, records=[record(connection()), record(owed(MINUTE)), said])
    (item,) = listed(world)["items"]
    assert item["why"] == "not tried yet; dispatch has not been heard of for 2\u00a0min: nothing is sent before it runs again"


def test_why_the_message_or_the_connection_make_it_wait(tmp_path: Path) -> None:
    first, second = owed(9 * MINUTE), owed(8 * MINUTE)
    assert "dispatch has not said yet" in whys(tmp_path, first)[0]
    queue = [Q(partner_id="vector", waiting=2)]
    assert "after an older one of its group" in whys(tmp_path, first, second, standing=queue)[0]
    assert "suspended" in whys(tmp_path, first, state=ConnectionState.SUSPENDED, standing=queue)[0]
    assert whys(tmp_path, owed(MINUTE, not_before=NOW + MINUTE), standing=queue) == ["not tried yet; not before 2007-06-09T18:27:40.000Z"]
    retried = delivery(first, Outcome.RETRY, 500, attempt=3, words="answered 500: no")
    assert whys(tmp_path, first, retried, standing=queue) == [
        "tried 3 times, last answered 500: no; it is tried again by itself, after 5 minutes at the latest"
    ]
    refused, held = (
        delivery(first, Outcome.HELD, 401, attempt=1, words="answered 401: who?"),
        Q(partner_id="vector", held="answered 401: who?"),
    )
    assert whys(tmp_path, first, refused, standing=[held]) == [f"tried once, last answered 401: who?; {HELD_UNTIL_MENDED}"]
    parked = delivery(first, Outcome.PARKED, 500, attempt=10, words="failed 10 times while others were delivered: answered 500")
    assert whys(tmp_path, first, second, parked, standing=queue)[0] == "not tried yet; its turn comes now"
    assert "give it up" in whys(tmp_path, first, second, parked, standing=queue)[1]
    over = listed(world_of(tmp_path, owed(DAY, expires_at=NOW)))["items"][0]
    assert (over["stand"], over["outcome"], over["why"]) == ("EXPIRED", None, "")


def test_a_backlog_of_seven_days_is_found_in_parts(tmp_path: Path) -> None:
    backlog = [owed(7 * DAY - 15 * number * MINUTE) for number in range(1, 600)]
    past = MessagePast(*((each, ()) for each in backlog))
    world = world_of(tmp_path, *backlog[-p.KEEP_MESSAGES - 50 :], past=past)
    newest = listed(world, "?limit=50")
    assert (len(ids(newest)), past.asked) == (50, 0)
    seen, query = ids(newest), newest["next"]
    while query:
        part = listed(world, f"?limit=250&outcome=WAITING&before={query}")
        seen += ids(part)
        query = part["next"]
    assert seen == [each.message_id for each in reversed(backlog)]
    assert ids(listed(world, f"?id={backlog[0].message_id[:13]}")) == [backlog[0].message_id]
    assert ids(listed(world, "?since=2007-06-02T18:41:40Z&until=2007-06-02T19:00:00Z")) == [
        each.message_id for each in reversed(backlog[:2])
    ]
    past.away = True
    kept = listed(world, "?outcome=WAITING&limit=1000")
    assert (len(kept["items"]), kept["note"], kept["next"]) == (p.KEEP_MESSAGES, SLOW, None)


def test_without_a_history_it_is_said_what_may_be_lacking(tmp_path: Path) -> None:
    assert listed(world_of(tmp_path, owed(MINUTE)))["note"] == ""
    full = world_of(tmp_path, *(owed(number * MINUTE) for number in range(p.KEEP_MESSAGES + 1)))
    assert "no history beside this gateway" in listed(full, "?limit=1000")["note"]
    part = listed(full, "?limit=150")
    assert (part["note"], len(listed(full, f"?limit=150&before={part['next']}")["items"])) == ("", 50)
    problem(full.ask("GET", "/api/v1/messages?before=soon", Role.VIEWER), 400)
    assert listed(full, "?until=0001-01-01T00:00:00Z")["items"] == []


def test_the_picture_knows_better_than_the_history(tmp_path: Path) -> None:
    good = owed(9 * MINUTE)
    past = MessagePast((good, (delivery(good, Outcome.RETRY, 500),)))
    world = world_of(tmp_path, delivery(good, attempt=2), past=past)
    (found,) = listed(world)["items"]
    assert (found["stand"], found["at"], found["attempts"]) == ("DELIVERED", "2007-06-09T18:17:40.000Z", 2)
    assert listed(world, "?outcome=WAITING")["items"] == []
    whole = world.ask("GET", f"/api/v1/messages/{good.message_id}", Role.VIEWER).json()
    assert [(each["attempt"], each["outcome"]) for each in whole["attempted"]] == [(1, "RETRY"), (2, "DELIVERED")]
    assert whole["body"] == {}


def test_one_message_with_what_caused_it(tmp_path: Path) -> None:
    asked = Command(event_id="c1", at=NOW, partner_id="vector", kind=CommandKind.COMPLIANCE_ERROR, by="Ann")
    body = json.dumps({"message": "the feeder is out", "token": "s3cret"})
    error = owed(MINUTE, action="GroupCapacityComplianceError", correlation_id="f1", cause_id="c1", body=body)
    world = world_of(tmp_path, asked, error, delivery(error))
    found = world.ask("GET", f"/api/v1/messages/{error.message_id}", Role.VIEWER).json()
    assert (found["cause"], found["cause_id"], found["correlation_id"]) == ("asked for by Ann", "c1", "f1")
    assert found["body"] == {"message": "the feeder is out", "token": "(removed)"}


def test_the_last_day_is_counted_by_the_history_else_by_the_picture(tmp_path: Path) -> None:
    good, bad = owed(9 * MINUTE), owed(8 * MINUTE)
    late = delivery(bad).model_copy(update={"at": NOW})
    standing = Q(partner_id="vector", waiting=7, held="see https://u:hunter2@x.example/")
    past = MessagePast(counts=[MessageCount("vector", MEASURED, owed=700, waiting=672, delivered=28, p50_ms=80, p99_ms=900)])
    world = world_of(tmp_path, good, bad, owed(2 * DAY), owed(0 * DAY), delivery(good), late, standing=[standing], past=past)
    found = world.ask("GET", "/api/v1/messages/summary", Role.VIEWER).json()
    assert (found["source"], found["note"], found["counts"][0]["waiting"]) == ("history", "", 672)
    assert (found["queues"][0]["waiting"], "hunter2" in found["queues"][0]["held"]) == (7, False)
    past.away = True
    found = world.ask("GET", "/api/v1/messages/summary", Role.VIEWER).json()
    assert found["source"] == "picture"
    assert SLOW in found["note"]
    (count,) = found["counts"]
    assert (count["owed"], count["waiting"], count["delivered"], count["p50_ms"], count["p99_ms"]) == (3, 1, 2, 480_000, 480_000)


def ordered(world: World) -> list[tuple[CommandKind, str, str]]:
    return [(each.kind, each.partner_id, json.loads(each.payload)["message_id"]) for each in world.appender.values(COMMANDS)]


def test_an_operator_has_it_sent_again_or_gives_it_up(tmp_path: Path) -> None:
    parked, gone, old = owed(MINUTE), owed(2 * MINUTE), owed(5 * DAY)
    past = MessagePast((old, ()))
    world = world_of(
        tmp_path, parked, gone, delivery(parked, Outcome.PARKED, 500, attempt=10), delivery(gone, Outcome.DROPPED, None), past=past
    )

    def post(message_id: str, act: str, role: Role = Role.OPERATOR) -> Any:
        return world.ask("POST", f"/api/v1/messages/{message_id}/{act}", role)

    assert post(parked.message_id, "retry", Role.VIEWER).status_code == 403
    answer = post(parked.message_id, "retry")
    assert (answer.status_code, answer.json()["kind"]) == (202, "RETRY_MESSAGE")
    assert post(old.message_id, "drop").status_code == 202
    assert ordered(world) == [
        (CommandKind.RETRY_MESSAGE, "vector", parked.message_id),
        (CommandKind.DROP_MESSAGE, "vector", old.message_id),
    ]
    assert "dropped already" in problem(post(gone.message_id, "retry"), 409)["detail"]
    problem(post("none", "drop"), 404)
    problem(post(parked.message_id, "drop?partner_id=other"), 404)
    problem(post("none", "drop?partner_id=nobody"), 404)
    problem(post("x" * 201, "drop?partner_id=vector"), 404)
    past.away = True
    assert "Name the message's partner" in problem(post(old.message_id, "retry"), 503)["detail"]
    assert len(ordered(world)) == 2
    assert post(old.message_id, "retry?partner_id=vector").status_code == 202


def test_a_request_about_a_message_says_what_became_of_it(tmp_path: Path) -> None:
    parked, gone, sent = owed(MINUTE), owed(2 * MINUTE), owed(3 * MINUTE)
    kinds = ((parked, CommandKind.RETRY_MESSAGE), (gone, CommandKind.DROP_MESSAGE), (sent, CommandKind.RETRY_MESSAGE))
    commands = [
        Command(
            event_id=each.message_id, at=NOW, partner_id="vector", kind=kind, by="Ann", payload=json.dumps({"message_id": each.message_id})
        )
        for each, kind in kinds
    ]
    said = [
        delivery(parked, Outcome.PARKED, 500, attempt=10),
        delivery(gone, Outcome.DROPPED, None, words="dropped by Ann").model_copy(update={"at": NOW}),
        delivery(sent, attempt=11).model_copy(update={"at": NOW + MINUTE}),
    ]
    world = world_of(tmp_path, parked, gone, sent, *commands, *said)
    found = {item["id"]: item["standing"] for item in world.ask("GET", "/api/v1/commands", Role.VIEWER).json()["items"]}
    assert [found[each.message_id]["state"] for each, _ in kinds] == ["ASKED", "OVER", "DELIVERED"]
    assert [found[each.message_id]["message_id"] for each, _ in kinds] == [each.message_id for each, _ in kinds]
    assert f'href="/messages/{gone.message_id}"' in world.ask("GET", "/requests", Role.VIEWER).text
