"""What operators ask for by the API: looked at first, asked once, followed (semantics 3.3, 7.4)."""

import json
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.auth import Role
from pipelines.records import Out, Record, Tick
from pipelines.rules.adjustments import AdjustmentRule, Asked
from schemas.capacity import EnvelopeCommand
from schemas.connection import Command, CommandKind, ConnectionState, refused_command
from schemas.facts import Value
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import BY_NAME, COMMANDS, EVENTS, TOPICS
from schemas.units import rfc3339
from tests.gateway import story
from tests.gateway.facts import NOW, connection, envelope, piece
from tests.gateway.operations_world import World, problem
from tests.gateway.test_kept_forecasts import forecast as inbound

HOUR = timedelta(hours=1)
API = "/api/v1"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def block(start: float = 1, end: float = 2, capacity: float = 2.0, **changes: Any) -> dict[str, Any]:
    times = {"start_time": rfc3339(NOW + start * HOUR), "end_time": rfc3339(NOW + end * HOUR)}
    return {"capacity": capacity, "phase": "ALL", "unit": "KW", **times, **changes}


def wish(*blocks: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "partner_id": "vector", "group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": list(blocks) or [block()], **changes,
    }  # fmt: skip


def error(**changes: Any) -> dict[str, Any]:
    return {"partner_id": "vector", "group_id": "VEC-0001", "forecast": story.EMERGENCY, "message": "the feeder is out", **changes}


def see(world: World, *values: Value) -> None:
    """Let the live picture read these."""
    names = {model: topic.name for topic in TOPICS for model in topic.records}
    world.projection.take([Record(names[type(value)], 0, number, NOW, "key", value) for number, value in enumerate(values)])


def told(items: Iterable[Out]) -> list[Value]:
    return [item.value for item in items]


def asked(world: World, path: str, body: dict[str, Any]) -> Command:
    """Ask by the API, and let the picture see the command."""
    answer = world.ask("POST", f"{API}/commands/{path}", Role.OPERATOR, json=body)
    assert answer.status_code == 202, answer.text
    command = world.appender.values(COMMANDS)[-1]
    assert isinstance(command, Command)
    see(world, command)
    return command


def standing(world: World, command: Command) -> dict[str, Any]:
    answer = world.ask("GET", f"{API}/commands/{command.event_id}", Role.VIEWER)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["standing"]
    return found


def plan(world: World, *blocks: tuple[int, int, float], name: str = story.EMERGENCY) -> None:
    """A forecast of the group, with hours from now on."""
    times = [{**block(start, end, capacity)} for start, end, capacity in blocks]
    body = json.dumps({"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": times})
    see(world, inbound(name, group="VEC-0001", body=body))


def test_the_draft_is_the_message_that_is_sent(world: World) -> None:
    plan(world, (0, 8, 3.0))
    draft = world.ask("POST", f"{API}/commands/adjust/preview", Role.OPERATOR, json=wish()).json()
    assert json.loads(draft["body"]) == {"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": [block()]}
    assert (draft["action"], draft["warnings"]) == ("AdjustGroupCapacityForecast", [])
    assert world.appender.appended == []
    command = asked(world, "adjust", {**wish(), "command_id": draft["command_id"]})
    again = asked(world, "adjust", {**wish(), "command_id": draft["command_id"]})
    other = asked(world, "adjust", {**wish(block(capacity=3.0)), "command_id": draft["command_id"]})
    assert command.event_id == again.event_id != other.event_id
    (first, _) = told(AdjustmentRule().step(AdjustmentRule().start("VEC-0001"), Asked(command, "sceaux-house"), NOW))
    see(world, first)
    found = standing(world, command)
    assert (found["state"], found["message_id"]) == ("WAITING", draft["message_id"])


def test_a_wish_is_followed_to_its_answer(world: World) -> None:
    rule, message = AdjustmentRule(), world.ask("POST", f"{API}/commands/adjust/preview", Role.OPERATOR, json=wish())
    command = asked(world, "adjust", wish(command_id=message.json()["command_id"]))
    assert standing(world, command)["state"] == "ASKED"
    state = rule.start("VEC-0001")
    taken = Delivery(
        event_id="d", at=NOW, message_id=message.json()["message_id"], partner_id="vector", action="AdjustGroupCapacityForecast",
        group_id="VEC-0001", attempt=1, outcome=Outcome.DELIVERED, status=204,
    )  # fmt: skip
    see(world, *told(rule.step(state, Asked(command, "sceaux-house"), NOW)), *told(rule.step(state, taken, NOW)))
    assert standing(world, command)["state"] == "DELIVERED"
    answer = inbound("f-9", body=json.dumps({"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": [block()]}))
    answer = answer.model_copy(update={"received_at": NOW + timedelta(minutes=1)})
    see(world, *told(rule.step(state, answer, NOW)))
    assert (standing(world, command)["state"], standing(world, command)["answer"]) == ("ANSWERED", "f-9")
    (item,) = world.ask("GET", f"{API}/adjustments", Role.VIEWER, params={"state": "ANSWERED"}).json()["items"]
    assert (item["adjustment_id"], item["by"], item["answer"]) == (command.event_id, "operator-1", "f-9")
    assert world.ask("GET", f"{API}/adjustments", Role.VIEWER, params={"group_id": "VEC-9"}).json()["items"] == []
    one = world.ask("GET", f"{API}/adjustments/{command.event_id}", Role.VIEWER).json()
    assert one["state"] == "ANSWERED"
    problem(world.ask("GET", f"{API}/adjustments/none", Role.VIEWER), 404)
    assert not list(rule.step(state, Tick(), NOW + 9 * HOUR))


def test_a_wish_about_the_past_is_refused_and_names_the_blocks(world: World) -> None:
    over = block(-3, -2)
    found = problem(world.ask("POST", f"{API}/commands/adjust", Role.OPERATOR, json=wish(over)), 400)
    assert found["errors"][0]["path"] == "forecasted_blocks[0]"
    assert world.appender.appended == []


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (wish(block(-2, -1), block()), "forecasted_blocks[0] is over already"),
        (wish(block(1, 3), block(2, 4)), "forecasted_blocks[0] and [1] speak of the same time"),
        (wish(block(capacity=20)), "20 kW is more than the circuit is rated for (9 kW)"),
        (wish(block(capacity=20, unit="A")), "13.8 kW is more than the circuit"),
        (wish(type="GENERATION"), "no forecast of type GENERATION is known"),
        (wish(block(0, 8, 3.0)), "this is what the partner's forecasts say already"),
    ],
)
def test_what_is_odd_about_a_wish_is_said_before(world: World, body: dict[str, Any], words: str) -> None:
    plan(world, (0, 8, 3.0))
    draft = world.ask("POST", f"{API}/commands/adjust/preview", Role.OPERATOR, json=body)
    assert any(one.startswith(words) for one in draft.json()["warnings"]), draft.text


def test_thousands_of_blocks_are_no_burden(world: World) -> None:
    many = [block(1 + number / 1000, 1 + (number + 1) / 1000) for number in range(4000)]
    draft = world.ask("POST", f"{API}/commands/adjust/preview", Role.OPERATOR, json=wish(*many))
    assert draft.status_code == 200
    assert len(json.loads(draft.json()["body"])["forecasted_blocks"]) == 4000


def test_a_partner_that_is_not_there_is_told_of(world: World) -> None:
    see(world, connection(ConnectionState.OFFLINE))
    draft = world.ask("POST", f"{API}/commands/compliance-error/preview", Role.OPERATOR, json=error()).json()
    assert any("OFFLINE" in one for one in draft["warnings"])


def test_an_error_names_its_forecast_and_is_followed(world: World) -> None:
    plan(world, (0, 4, 1.1))
    draft = world.ask("POST", f"{API}/commands/compliance-error/preview", Role.OPERATOR, json=error(forecasted_blocks=[block()])).json()
    assert (draft["correlation_id"], draft["warnings"]) == (story.EMERGENCY, [])
    command = asked(world, "compliance-error", error(forecasted_blocks=[block()], command_id=draft["command_id"]))
    assert standing(world, command)["state"] == "WAITING"
    sent = OutboundMessage(
        event_id=draft["message_id"], at=NOW, message_id=draft["message_id"], partner_id="vector", action=draft["action"],
        group_id="VEC-0001", correlation_id=story.EMERGENCY, body=draft["body"], not_before=NOW, expires_at=NOW + HOUR,
    )  # fmt: skip
    refused = Delivery(
        event_id="d", at=NOW, message_id=draft["message_id"], partner_id="vector", action=draft["action"], attempt=1,
        outcome=Outcome.REFUSED, status=400, words="no such forecast",
    )  # fmt: skip
    see(world, sent, refused)
    many = [refused.model_copy(update={"event_id": f"d {n}", "message_id": f"m {n}"}) for n in range(900)]
    see(world, *many)  # as automatic ones do within an hour
    assert (standing(world, command)["state"], standing(world, command)["words"]) == ("REFUSED", "no such forecast")


def test_an_error_about_an_unknown_forecast_or_another_time_is_warned_of(world: World) -> None:
    plan(world, (0, 4, 1.1))
    ask = f"{API}/commands/compliance-error/preview"
    unknown = world.ask("POST", ask, Role.OPERATOR, json=error(forecast="f-unknown")).json()
    assert "f-unknown is not among the last ones" in unknown["warnings"][0]
    elsewhere = world.ask("POST", ask, Role.OPERATOR, json=error(forecasted_blocks=[block(9, 10)])).json()
    assert "does not speak" in elsewhere["warnings"][0]


def test_an_operators_limit_is_asked_and_shows_in_the_envelope(world: World) -> None:
    body = {
        "scope_id": "sceaux-house", "direction": "IMPORT", "why": "works on the feeder",
        "blocks": [{"start": rfc3339(NOW), "end": rfc3339(NOW + HOUR), "limit_w": 500}],
    }  # fmt: skip
    command = asked(world, "envelope", body)
    assert world.appender.appended[-1][:2] == (COMMANDS.name, "sceaux-house")
    assert (command.kind, command.scope_id, command.partner_id) == (CommandKind.ENVELOPE, "sceaux-house", "")
    assert EnvelopeCommand.model_validate_json(command.payload).blocks[0].limit_w == 500
    assert standing(world, command)["state"] == "ASKED"
    see(world, envelope(9, NOW, [piece(NOW + HOUR / 2, NOW + HOUR, 0.5, 3, command.event_id)]))
    assert standing(world, command)["state"] == "COMING"
    see(world, envelope(10, NOW, [piece(NOW, NOW + HOUR, 0.5, 3, command.event_id)]))
    assert standing(world, command)["state"] == "IN_FORCE"
    see(world, envelope(11, NOW, [piece(NOW, NOW + HOUR, 0.4, 3, "another")]))
    assert "something else since" in standing(world, command)["words"]
    lift = asked(world, "envelope", {**body, "blocks": [{**body["blocks"][0], "limit_w": None}]})  # type: ignore[index]
    assert standing(world, lift)["state"] == "LIFTED"
    world.clock.advance(2 * HOUR)
    assert standing(world, command)["state"] == "OVER"
    problem(world.ask("POST", f"{API}/commands/envelope", Role.OPERATOR, json={**body, "scope_id": "nowhere"}), 404)
    wrong = {**body, "blocks": [{**body["blocks"][0], "limit_w": -1}]}  # type: ignore[index]
    found = problem(world.ask("POST", f"{API}/commands/envelope", Role.OPERATOR, json=wrong), 400)
    assert found["errors"][0]["path"].startswith("blocks[0].limit_w")


def test_a_request_that_was_not_carried_out_says_why(world: World) -> None:
    command = asked(world, "adjust", wish())
    see(world, refused_command(command, "the group went away", NOW))
    assert standing(world, command)["state"] == "REFUSED"
    assert "the group went away" in standing(world, command)["words"]
    assert BY_NAME[EVENTS.name] is EVENTS


def test_where_a_wish_begins(world: World) -> None:
    plan(world, (-2, 6, 3.0), name="plan")
    plan(world, (1, 2, 1.0), name="drop")
    found = world.ask("GET", f"{API}/forecasts", Role.VIEWER, params={"group_id": "VEC-0001", "type": "CONSUMPTION"}).json()
    assert [(one["forecast"], one["block"]["capacity"]) for one in found["ahead"]] == [("plan", 3.0), ("drop", 1.0), ("plan", 3.0)]
    assert found["ahead"][0]["block"]["start_time"] == rfc3339(NOW)
    assert [one["forecast"] for one in found["received"]] == ["drop", "plan"]
    problem(world.ask("GET", f"{API}/forecasts", Role.VIEWER, params={"group_id": "VEC-9", "type": "CONSUMPTION"}), 404)


def test_who_may_not_act_may_look(world: World) -> None:
    for path in ("adjust", "adjust/preview", "compliance-error", "compliance-error/preview", "envelope"):
        problem(world.ask("POST", f"{API}/commands/{path}", Role.VIEWER, json=wish()), 403)
    assert world.ask("GET", f"{API}/adjustments", Role.VIEWER).status_code == 200
    problem(world.ask("GET", f"{API}/commands/none", Role.VIEWER), 404)


@pytest.mark.parametrize("forecast", ["a\nb", "\u6f22\u5b57", " f-1", "", "f\x7f"])
def test_an_id_that_no_header_can_hold_is_refused_before_it_is_asked(world: World, forecast: str) -> None:
    for path in ("compliance-error", "compliance-error/preview"):
        found = problem(world.ask("POST", f"{API}/commands/{path}", Role.OPERATOR, json=error(forecast=forecast)), 400)
        assert found["errors"][0]["path"] == "forecast"
    assert world.appender.appended == []


def test_the_delivery_may_be_read_before_the_request(world: World) -> None:
    draft = world.ask("POST", f"{API}/commands/compliance-error/preview", Role.OPERATOR, json=error()).json()
    taken = Delivery(
        event_id="d", at=NOW, message_id=draft["message_id"], partner_id="vector", action=draft["action"], attempt=1,
        outcome=Outcome.DELIVERED, status=204,
    )  # fmt: skip
    see(world, taken)
    command = asked(world, "compliance-error", error(command_id=draft["command_id"]))
    assert standing(world, command)["state"] == "DELIVERED"
