"""Handshakes and their acknowledgements, and what they say of measurements (semantics 6.4)."""

from datetime import timedelta

import pytest

from schemas.config import Legacy, Measurements, Partner, Style, Wants
from schemas.connection import CommandKind
from schemas.oscp.v20 import Action
from schemas.outbound import Outcome
from tests.rules.lifecycle_world import ACK, HEARTBEAT, REGISTER, World, body_of, seconds


@pytest.mark.parametrize(
    ("legacy", "interval", "body"),
    [
        ((), timedelta(minutes=5), {"required_behaviour": {"measurement_configuration": ["INTERMITTENT"], "heartbeat_interval": 300}}),
        ((), None, {"required_behaviour": {"measurement_configuration": ["INTERMITTENT"]}}),
        ((Legacy.FLAT_HANDSHAKE,), None, {"measurement_configuration": ["INTERMITTENT"]}),
    ],
)
def test_the_acknowledgement_is_complete_whatever_came(legacy, interval, body):
    partner = Partner(id="vector", legacy=legacy, wants=Wants(heartbeat_interval=interval))
    for handshake in ({}, {"required_behaviour": {"measurement_configuration": []}}, {"measurement_configuration": ["CONTINUOUS"]}):
        world = World(partner).registered()
        world.inbound(Action.HANDSHAKE, handshake, request_id="hs")
        (acknowledgement,) = world.sent(ACK)
        assert body_of(acknowledgement) == body
        assert acknowledgement.correlation_id == "hs"
        assert acknowledgement.not_before == world.clock.now() + seconds(1)
        assert acknowledgement.expires_at == world.clock.now() + timedelta(hours=12)


def test_a_handshake_before_the_registration_is_answered_after_it():
    world = World()
    world.command(CommandKind.ISSUE_TOKEN)
    world.handshake()
    assert world.sent(ACK) == []
    world.register()
    assert len(world.sent(ACK)) == 1
    assert len(world.sent(REGISTER)) == 1


def test_an_acknowledgement_that_is_refused_fails_a_first_handshake_and_not_a_later_one():
    world = World().registered()
    world.handshake()
    world.deliver(world.sent(ACK)[-1], Outcome.REFUSED, "404")
    assert world.connection.state == "FAILED"
    world.command(CommandKind.RESUME)
    assert world.connection.state == "ACKING"
    world.deliver(world.sent(ACK)[-1])
    assert world.connection.state == "ONLINE"
    world.handshake()
    world.deliver(world.sent(ACK)[-1], Outcome.REFUSED, "404")
    assert world.connection.state == "ONLINE"
    assert "acknowledgement.failed" in [event.kind for event in world.events]


def test_a_parked_acknowledgement_that_arrives_after_all_counts():
    world = World().registered()
    world.handshake()
    world.deliver(world.sent(ACK)[-1], Outcome.PARKED)
    assert world.connection.state == "FAILED"
    world.deliver(world.sent(ACK)[-1])
    assert world.connection.state == "ONLINE"


@pytest.mark.parametrize(
    ("required", "styles", "withheld"),
    [
        (["INTERMITTENT"], (Style.INTERMITTENT,), False),
        (["INTERMITTENT", "CONTINUOUS"], (Style.INTERMITTENT,), False),
        ([], (Style.INTERMITTENT,), False),
        (["CONTINUOUS"], (Style.INTERMITTENT,), True),
        (["CONTINUOUS"], (Style.INTERMITTENT, Style.CONTINUOUS), False),
    ],
)
def test_measurements_are_withheld_only_where_continuous_is_all_the_partner_takes(required, styles, withheld):
    world = World(Partner(id="vector", measurements=Measurements(styles=styles))).registered()
    world.inbound(Action.HANDSHAKE, {"required_behaviour": {"measurement_configuration": required}})
    assert (world.connection.withheld_since is not None) is withheld
    world.deliver(world.sent(ACK)[-1])
    assert world.connection.state == "ONLINE"
    if withheld:
        both = Measurements(styles=(Style.INTERMITTENT, Style.CONTINUOUS))
        world.configured(Partner(id="vector", measurements=both))
        assert world.connection.withheld_since is None


def test_our_own_handshake_waits_for_its_acknowledgement():
    world = World().registered()
    world.command(CommandKind.HANDSHAKE)
    (ours,) = world.sent(Action.HANDSHAKE)
    assert world.connection.handshake_id == ours.message_id
    world.deliver(ours)
    world.inbound(ACK, {"required_behaviour": {"measurement_configuration": [], "heartbeat_interval": 10}}, correlation_id=ours.message_id)
    assert world.connection.state == "ONLINE"
    assert world.connection.handshake_id is None
    assert len(world.sent(HEARTBEAT)) == 1


def test_an_acknowledgement_nobody_waits_for_changes_nothing():
    world = World().online()
    before = world.connection
    world.inbound(ACK)
    assert world.connection == before
    assert world.events[-1].kind == "handshake.unexpected"
