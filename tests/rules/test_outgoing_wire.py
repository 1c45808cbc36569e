"""Every kind of message we produce, as the rules make it, is valid by OSCP's own schemas and by the check before it is sent.

The other direction of the truth table in tests/schemas/test_oscp_wire.py: what we take and what we send are held to the same.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from schemas.config import Legacy, Partner
from schemas.connection import CommandKind
from schemas.intervals import QUARTER
from schemas.oscp.checking import violations_of
from schemas.oscp.v20 import Action
from schemas.outbound import OutboundMessage
from schemas.partner import Wants
from schemas.units import Direction
from sinks.oscp.client import body_of, token_cause
from tests.builders import T0, configuration
from tests.rules.lifecycle_world import World, seconds
from tests.rules.test_reporting import Reporting, connection, group_row, row
from tests.rules.test_reporting_breaches import BLOCK, command, forecast, verdict
from tests.schemas.oca import complaints, schema_name

TOKEN = "our-token"
EVERYTHING = {
    "measurements": {"messages": ["ASSET", "GROUP"], "styles": ["INTERMITTENT", "CONTINUOUS"]},
}


def lifecycle(**partner: Any) -> list[OutboundMessage]:
    """A life from the first token to our farewell, with a handshake each way."""
    world = World(Partner.model_validate({"id": "vector", "name": "Vector", **partner}))
    world.online("CONTINUOUS", "INTERMITTENT", heartbeat=60)
    world.advance(seconds(120))
    world.command(CommandKind.HANDSHAKE)
    world.advance(seconds(2))
    world.command(CommandKind.DEREGISTER)
    world.advance(seconds(2))
    return [out.value for out in world.outs if isinstance(out.value, OutboundMessage)]


def measured(*required: str, **measurements: Any) -> Iterator[OutboundMessage]:
    partner = {"id": "vector", "measurements": {**EVERYTHING["measurements"], **measurements}}
    reporting = Reporting(configuration(partners=[partner]), online=False)
    reporting.feed(connection(peer_required_measurements=list(required)))
    registers = {"import_register_wh": 5000.0, "export_register_wh": 70.5}
    rows = [row("mg-1-pv", **registers), row("mg-1-bat", stored_wh=500.25, **registers), group_row(**registers)]
    owed = [*reporting.feed(*rows), *reporting.later()]
    owed += reporting.feed(row("mg-1-pv", revision=2, export_wh=-0.0, import_wh=1e9 / 3, **registers))
    owed += reporting.later(timedelta(minutes=10))
    yield from (message for message in owed if isinstance(message, OutboundMessage))


def said() -> Iterator[OutboundMessage]:
    """Breaches and what operators say by hand."""
    reporting = Reporting()
    reporting.feed(forecast("f-1", (-60, 5, 12.0, "KW"), (5, 65, 8.0, "KWH"), (65, 100, 9.0, "A")))
    breaches = [verdict(), verdict(quarter=T0 + QUARTER, direction=Direction.EXPORT), verdict(quarter=T0 + 40 * QUARTER)]
    by_hand = [
        command(
            CommandKind.ADJUST, {"type": "FALLBACK_GENERATION", "forecasted_blocks": [BLOCK, {**BLOCK, "phase": "UNKNOWN", "unit": "A"}]}
        ),
        command(CommandKind.COMPLIANCE_ERROR, {"forecast": "f-9", "message": "cannot — ever"}),
        command(CommandKind.COMPLIANCE_ERROR, {"forecast": "f-9", "message": "cannot", "forecasted_blocks": [BLOCK]}),
    ]
    for item in (*breaches, *by_hand):
        yield from (message for message in reporting.feed(item) if isinstance(message, OutboundMessage))


def demand_valid(messages: Iterable[OutboundMessage], legacy: tuple[Legacy, ...] = ()) -> set[tuple[str, str]]:
    """Check each message as it would go on the wire; returns which methods and actions there were."""
    seen = set()
    for message in messages:
        content = body_of(message, TOKEN if token_cause(message) else None)
        assert complaints(schema_name(message.action), json.loads(content)) == [], message.body
        assert violations_of(message.action, content, legacy) == [], message.body
        assert b"null" not in content
        seen.add((message.method, message.action))
    return seen


EXCHANGE = {
    ("POST", Action.REGISTER), ("DELETE", Action.REGISTER), ("POST", Action.HANDSHAKE), ("POST", Action.HANDSHAKE_ACKNOWLEDGE),
    ("POST", Action.HEARTBEAT),
}  # fmt: skip


@pytest.mark.parametrize("interval", [timedelta(seconds=1), timedelta(minutes=5), None])
@pytest.mark.parametrize("configurations", [[], ["INTERMITTENT"], ["CONTINUOUS", "INTERMITTENT"]])
def test_the_exchange_with_and_without_heartbeats_wanted(interval: timedelta | None, configurations: list[str]):
    messages = lifecycle(wants=Wants.model_validate({"heartbeat_interval": interval, "measurement_configuration": configurations}))
    assert demand_valid(messages) == EXCHANGE
    wanted = [json.loads(message.body)["required_behaviour"] for message in messages if message.action == Action.HANDSHAKE_ACKNOWLEDGE]
    assert wanted
    assert all(("heartbeat_interval" in behaviour) is (interval is not None) for behaviour in wanted)


@pytest.mark.parametrize("switch", list(Legacy))
def test_the_exchange_with_peers_known_to_need_a_switch(switch: Legacy):
    """What goes on the wire is valid by the schemas even then; the check knows what to let pass."""
    assert demand_valid(lifecycle(legacy=[switch]), (switch,)) == EXCHANGE


def test_the_naive_time_is_for_those_only_who_need_it():
    naive = next(message for message in lifecycle(legacy=["NAIVE_HEARTBEAT_TIME"]) if message.action == Action.HEARTBEAT)
    assert violations_of(naive.action, naive.body) != []


@pytest.mark.parametrize("unit", ["WH", "KWH"])
@pytest.mark.parametrize("required", [["INTERMITTENT"], ["CONTINUOUS"], []])
def test_measurements_of_assets_and_groups_in_both_styles(required: list[str], unit: str):
    found = demand_valid(measured(*required, unit=unit))
    assert found == {("POST", Action.UPDATE_ASSET_MEASUREMENTS), ("POST", Action.UPDATE_GROUP_MEASUREMENTS)}


def test_what_is_said_of_breaches_and_by_hand():
    assert demand_valid(said()) == {("POST", Action.GROUP_CAPACITY_COMPLIANCE_ERROR), ("POST", Action.ADJUST_GROUP_CAPACITY_FORECAST)}
