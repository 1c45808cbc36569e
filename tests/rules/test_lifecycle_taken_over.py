"""A lifecycle that takes over from another one rests only until it has read the last word about a partner (semantics 8.1)."""

import pickle
from dataclasses import replace

import pytest

from pipelines.rules.lifecycle import LifecycleRule
from pipelines.rules.lifecycle_state import Notes, PartnerState
from schemas.connection import CommandKind
from schemas.oscp.v20 import Action
from tests.rules.lifecycle_world import PEER_URL, World, seconds

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


def goes_on_from_the_last(lived: World) -> World:
    """A lifecycle without its store, after it has read the last connection."""
    fresh = takes_over(lived, knows=True)
    fresh.requests, fresh.count = dict(lived.requests), lived.count
    fresh.advance(seconds(1))
    return fresh


def test_what_another_gateway_took_at_an_earlier_instant_by_its_own_clock_is_taken_all_the_same() -> None:
    # Two gateways, one of them a second behind: what it took in stands later on the topic, with an earlier receipt.
    lived = World().registered()
    lived.inbound(Action.REGISTER, {"token": "B2", "version_url": [{"version": "2.0", "base_url": PEER_URL}]}, method="PUT")
    fresh = goes_on_from_the_last(lived)
    behind = lived.clock.now() - seconds(1)
    fresh.handshake(received_at=behind)
    assert len(fresh.sent(Action.HANDSHAKE_ACKNOWLEDGE)) == 1


def test_what_was_taken_before_is_skipped_whatever_its_instant() -> None:
    lived = World().online()
    lived.inbound(Action.REGISTER, {"token": "B2", "version_url": [{"version": "2.0", "base_url": PEER_URL}]}, method="PUT")
    fresh = goes_on_from_the_last(lived)
    before = len(fresh.outs)
    for message in lived.taken_in:
        fresh.step(message)
    assert fresh.outs[before:] == []


def test_of_two_commands_of_one_instant_the_second_is_obeyed_too() -> None:
    lived = World()
    lived.configured(lived.partner)
    lived.advance(seconds(2))
    lived.command(CommandKind.ISSUE_TOKEN)
    fresh = goes_on_from_the_last(lived)
    fresh.clock.set(lived.clock.now())
    order = fresh.command(CommandKind.SUSPEND)
    assert order.at == lived.clock.now()
    assert fresh.connection.state == "SUSPENDED"


def test_notes_of_an_earlier_version_have_what_it_did_not_know() -> None:
    notes = World().online().state.notes
    kept = {name: getattr(notes, name) for name in ("registration", "link", "seen")}
    earlier = Notes.__new__(Notes)
    earlier.__setstate__((None, kept))
    assert (earlier.link, earlier.obeyed, earlier.unsettled) == (notes.link, {}, [])


def resumes(lived: World, kept: PartnerState, said_before: int) -> World:
    """A world started again with the store as it was after so many connections, which it reads back from there."""
    fresh = World(at=lived.clock.now() + seconds(2))
    fresh.rule = LifecycleRule(replace(fresh.rule._around, started_at=fresh.clock.now()))
    fresh.state, fresh.count = kept, lived.count
    for connection in lived.connections[said_before:]:
        fresh.step(connection)
    return fresh


def test_a_replay_does_not_go_back_to_connections_before_the_last_one() -> None:
    lived = World().registered()
    kept, before, came = pickle.loads(pickle.dumps(lived.state)), len(lived.connections), len(lived.taken_in)
    lived.advance(seconds(1))
    lived.register(peer_token="B2")
    lived.handshake()
    answer = lived.sent(Action.REGISTER)[-1]
    fresh = resumes(lived, kept, before)
    for message in lived.taken_in[came:]:
        fresh.step(message)
    assert [connection.event_id for connection in fresh.connections] == [lived.connection.event_id]
    assert {message.message_id for message in fresh.sent(Action.REGISTER)} == {answer.message_id}
    # What is new is said at once.
    fresh.command(CommandKind.SUSPEND)
    assert fresh.connection.state == "SUSPENDED"


def test_a_replay_that_comes_out_otherwise_is_said_a_while_after_the_start() -> None:
    lived = World().registered()
    kept, before = pickle.loads(pickle.dumps(lived.state)), len(lived.connections)
    lived.advance(seconds(1))
    lived.handshake()
    lived.command(CommandKind.SUSPEND)
    fresh = resumes(lived, kept, before)
    fresh.step(lived.taken_in[-1])
    assert fresh.connections == []
    fresh.advance(seconds(11))
    assert fresh.connection.state == "ACKING"


def test_a_rest_that_ended_while_nobody_was_there_waits_for_what_can_be_read_back() -> None:
    lived = World()
    lived.configured(lived.partner)
    kept = pickle.loads(pickle.dumps(lived.state))
    lived.advance(seconds(2))
    lived.command(CommandKind.ISSUE_TOKEN)
    fresh = World(at=lived.clock.now() + seconds(60))
    fresh.rule = LifecycleRule(replace(fresh.rule._around, started_at=fresh.clock.now()))
    fresh.state, fresh.count = kept, lived.count
    fresh.advance(seconds(1))
    assert fresh.outs == []
    fresh.step(lived.connection)
    fresh.advance(seconds(20))
    assert fresh.connections == []
    assert fresh.state.credentials == lived.connection.credentials
