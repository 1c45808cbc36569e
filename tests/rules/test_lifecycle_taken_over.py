"""A lifecycle that takes over from another one rests only until it has read the last word about a partner (semantics 8.1)."""

from dataclasses import replace

import pytest

from pipelines.rules.lifecycle import LifecycleRule
from schemas.oscp.v20 import Action
from tests.rules.lifecycle_world import World, seconds

BEAT_S = 2.0


def takes_over(lived: World, *, knows: bool) -> World:
    """A world without state, just started, that knows (or not) which connection was the last one."""
    fresh = World(at=lived.clock.now())
    last = lived.connection.event_id if knows else None
    fresh.rule = LifecycleRule(replace(fresh.rule._around, started_at=fresh.clock.now(), last_said=lambda _: last))
    for connection in lived.connections:
        fresh.step(connection)
        assert fresh.outs == []
    return fresh


@pytest.mark.parametrize(("knows", "silent_s"), [(True, 0.0), (False, 9.9)])
def test_it_beats_as_soon_as_the_last_connection_is_read(knows: bool, silent_s: float) -> None:
    lived = World().online(heartbeat=BEAT_S)
    fresh = takes_over(lived, knows=knows)
    lived.advance(seconds(30))
    fresh.advance(seconds(silent_s))
    assert fresh.outs == [] or knows
    fresh.advance(seconds(BEAT_S))
    beats = fresh.sent(Action.HEARTBEAT)
    assert beats
    # Under the ids the one before would have used for the same instants.
    assert {beat.message_id for beat in beats} <= {beat.message_id for beat in lived.sent(Action.HEARTBEAT)}


def test_an_earlier_connection_is_not_gone_on_from() -> None:
    lived = World().online(heartbeat=BEAT_S)
    fresh = World(at=lived.clock.now())
    last = lived.connection.event_id
    fresh.rule = LifecycleRule(replace(fresh.rule._around, started_at=fresh.clock.now(), last_said=lambda _: last))
    for connection in lived.connections[:-1]:
        fresh.step(connection)
        fresh.advance(seconds(1))
    assert fresh.outs == []
    fresh.step(lived.connection)
    fresh.advance(seconds(BEAT_S))
    assert fresh.sent(Action.HEARTBEAT)
