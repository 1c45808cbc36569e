"""Heartbeats both ways, offline and back, restarts (semantics 6.5, architecture)."""

import json
from datetime import timedelta, timezone

import pytest

from pipelines.rules.heartbeats import Grid, beat_at, beat_body, deadline_of, first_deadline, interval_of, newest_beat
from pipelines.rules.lifecycle_state import shown
from schemas.config import Legacy, Partner, Wants
from schemas.connection import CommandKind, Connection
from schemas.oscp.v20 import Action
from schemas.outbound import Outcome
from tests.builders import T0
from tests.rules.lifecycle_world import World, body_of, seconds

HEARTBEAT = Action.HEARTBEAT
GRACE = seconds(90)


def partner(**changes) -> Partner:
    return Partner.model_validate({"id": "vector", "name": "Vector", **changes})


# Ours ------------------------------------------------------------------------------------------------------------------


def test_we_beat_on_a_grid_from_the_acknowledgement_every_eight_tenths_of_the_interval():
    world = World().online(heartbeat=60)
    start = world.clock.now()
    world.advance(seconds(200))
    beats = world.sent(HEARTBEAT)
    assert [beat.not_before for beat in beats] == [start + seconds(48) * n for n in range(5)]
    assert [beat.expires_at - beat.not_before for beat in beats] == [seconds(60)] * 5
    assert body_of(beats[1]) == {"offline_mode_at": "2026-10-20T10:03:50.000Z"}  # 10:00:02 + 48 s + three intervals
    assert len({beat.message_id for beat in beats}) == 5


def test_beats_missed_while_nothing_ran_are_not_made_up():
    world = World().online(heartbeat=10)
    start = world.clock.now()
    world.clock.advance(seconds(1001))
    world.advance(seconds(0))
    assert [beat.not_before - start for beat in world.sent(HEARTBEAT)] == [seconds(0), seconds(1000)]


def test_the_same_beats_have_the_same_ids_on_every_run():
    def ids(late: timedelta) -> list[str]:
        world = World().online(heartbeat=10)
        for _ in range(5):
            world.clock.advance(late)
            world.advance(seconds(8) - late)
        return [beat.message_id for beat in world.sent(HEARTBEAT)]

    assert ids(seconds(0))[:5] == ids(seconds(1.3))[:5]


def test_no_heartbeat_is_sent_where_none_is_asked_nor_after_it_is_no_longer():
    world = World().online()
    world.advance(timedelta(days=1))
    assert world.sent(HEARTBEAT) == []
    world = World().online(heartbeat=10)
    world.handshake()
    sent = len(world.sent(HEARTBEAT))
    world.advance(seconds(100))
    assert len(world.sent(HEARTBEAT)) == sent


def test_a_peer_with_naive_times_gets_and_gives_them():
    world = World(partner(legacy=(Legacy.NAIVE_HEARTBEAT_TIME,))).online(heartbeat=60)
    assert json.loads(world.sent(HEARTBEAT)[0].body) == {"offline_mode_at": "2026-10-20 10:03:02"}
    assert beat_body(T0, naive=True, naive_in=timezone(timedelta(hours=13))) == '{"offline_mode_at":"2026-10-20 23:00:00"}'


def test_that_our_beats_fail_is_said_once_and_once_that_they_arrive_again():
    world = World().online(heartbeat=10)
    world.advance(seconds(40))
    for beat, outcome in zip(world.sent(HEARTBEAT), ("EXPIRED", "REFUSED", "DELIVERED", "DELIVERED"), strict=False):
        world.deliver(beat, Outcome(outcome))
    assert [event.kind for event in world.events if event.kind.startswith("heartbeat")] == ["heartbeat.failing", "heartbeat.delivered"]


@pytest.mark.parametrize(("asked", "interval"), [(0.1, 1), (1, 1), (1.5, 1.5), (86400, 86400), (1e300, 86400)])
def test_an_interval_is_held_between_a_second_and_a_day(asked, interval):
    assert interval_of(asked) == seconds(interval)


def test_the_grid_counts_from_zero_and_knows_nothing_before_it():
    grid = Grid(T0, 10.0, "h")
    assert [newest_beat(grid, T0 + seconds(n)) for n in (-9, 0, 7.999, 8, 80)] == [-1, 0, 0, 1, 10]
    assert beat_at(grid, 10) == T0 + seconds(80)


# Theirs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "interval", "expected", "skewed"),
    [
        (seconds(600), seconds(300), seconds(690), False),
        (seconds(-3600), seconds(300), seconds(390), True),
        (seconds(0), seconds(300), seconds(390), True),
        (timedelta(days=30), seconds(300), timedelta(days=1), False),
        (timedelta(days=3), timedelta(days=1), timedelta(days=1, seconds=90), False),
    ],
)
def test_a_deadline_is_the_peers_own_and_the_grace_at_most_a_day_ahead(ahead, interval, expected, skewed):
    assert deadline_of(T0 + ahead, T0, interval=interval, grace=GRACE) == (T0 + expected, skewed)


def test_silence_past_the_deadline_is_offline_since_then():
    world = World().online()
    acknowledged = world.clock.now()
    world.advance(seconds(900 + 89))
    assert world.connection.state == "ONLINE"
    world.advance(seconds(1))
    assert world.connection.state == "OFFLINE"
    assert world.connection.since == first_deadline(acknowledged, interval=seconds(300), grace=GRACE)
    assert "fallback" in world.connection.words


def test_heartbeats_keep_the_partner_online_without_a_connection_each():
    world = World().online()
    said = len(world.connections)
    for _ in range(50):
        world.heartbeat(seconds(600))
        world.advance(seconds(300))
    assert len(world.connections) == said
    world.advance(seconds(600 - 300 + 90))
    assert world.connection.state == "OFFLINE"


def test_a_heartbeat_brings_it_back_unless_the_configuration_wants_a_handshake():
    for resumes in (True, False):
        world = World(partner(resume_on_heartbeat=resumes)).online()
        world.advance(timedelta(hours=1))
        world.heartbeat(seconds(600))
        assert world.connection.state == ("ONLINE" if resumes else "OFFLINE")
        world.handshake()
        assert world.connection.state == ("ONLINE" if resumes else "ACKING")
        world.deliver(world.sent(Action.HANDSHAKE_ACKNOWLEDGE)[-1])
        assert world.connection.state == "ONLINE"


def test_a_partner_that_comes_back_and_falls_silent_before_our_acknowledgement_is_offline_again():
    world = World().online()
    world.advance(timedelta(hours=1))
    world.handshake()
    assert world.connection.state == "ACKING"
    world.advance(seconds(990))
    assert world.connection.state == "OFFLINE"


def test_silence_means_nothing_where_we_asked_for_no_heartbeats():
    world = World(partner(wants=Wants(heartbeat_interval=None))).online()
    world.heartbeat(seconds(5))
    world.advance(timedelta(days=10))
    assert world.connection.state == "ONLINE"
    assert world.connection.liveness_deadline is None


def test_a_heartbeat_before_our_acknowledgement_has_arrived_counts():
    world = World().registered()
    world.handshake()
    world.heartbeat(seconds(100))
    world.deliver(world.sent(Action.HANDSHAKE_ACKNOWLEDGE)[-1])
    assert world.connection.state == "ONLINE"
    world.advance(seconds(190))
    assert world.connection.state == "OFFLINE"


def test_a_wrong_clock_is_flagged_once_and_the_partner_stays_online():
    world = World().online()
    for _ in range(10):
        world.heartbeat(seconds(-7200))
        world.advance(seconds(300))
    assert world.connection.state == "ONLINE"
    assert [event.kind for event in world.events].count("heartbeat.skewed") == 1


def test_a_promise_that_ends_before_the_next_beat_is_due_is_flagged():
    world = World().online()  # asked for one every 300 s, with 90 s of grace
    for _ in range(3):
        world.heartbeat(seconds(300 - 91))
        world.advance(seconds(300))
    told = [event for event in world.events if event.kind == "heartbeat.skewed"]
    assert len(told) == 1
    assert "before its next one is due" in told[0].words
    world.heartbeat(seconds(300 - 89))
    world.advance(seconds(299))
    assert world.connection.state == "ONLINE"


def test_a_connection_without_a_handshake_is_not_watched():
    world = World().registered()
    world.heartbeat(seconds(10))
    world.advance(timedelta(days=2))
    assert world.connection.state == "REGISTERED"


def test_a_sped_up_clock_allows_machines_two_wall_seconds():
    world = World()
    world.clock.speed = 240.0
    world.online(heartbeat=60)
    beat = world.sent(HEARTBEAT)[0]
    assert beat.expires_at - beat.not_before == seconds(480)
    world.advance(seconds(3 * 480 + 480))
    assert world.connection.state == "OFFLINE"


# Restarts --------------------------------------------------------------------------------------------------------------


def story(world: World, restart: set[int]) -> World:
    """Half a day of a partner's life in steps; after those in `restart` the state goes through the recovery store."""
    steps = [
        lambda: world.command_token(),
        lambda: world.register(),
        lambda: world.advance(seconds(1)),
        lambda: world.deliver(world.sent(Action.REGISTER)[-1]),
        lambda: world.handshake(heartbeat=60),
        lambda: world.advance(seconds(2)),
        lambda: world.deliver(world.sent(Action.HANDSHAKE_ACKNOWLEDGE)[-1]),
        lambda: world.advance(seconds(500)),
        lambda: world.heartbeat(seconds(600)),
        lambda: world.advance(seconds(1000)),
        lambda: world.heartbeat(seconds(600)),
        lambda: world.register(peer_token="B2"),
        lambda: world.deliver(world.sent(Action.REGISTER)[-1], Outcome.RETRY),
        lambda: world.deliver(world.sent(Action.REGISTER)[-1]),
        lambda: world.advance(seconds(300)),
    ]
    for number, step in enumerate(steps):
        step()
        if number in restart:
            world.restart()
    return world


class Told(World):
    def command_token(self) -> None:
        self.command(CommandKind.ISSUE_TOKEN)


@pytest.mark.parametrize("restart", [set(range(15)), *({number} for number in range(15))])
def test_a_restart_anywhere_changes_nothing_that_is_said(restart):
    assert story(Told(), restart).outs == story(Told(), set()).outs


def test_a_flow_without_its_store_goes_on_from_the_connection_and_sends_the_same_ids():
    lived = story(Told(), set())
    messages = [out.value for out in lived.outs]
    for cut, connection in enumerate(messages):
        if not isinstance(connection, Connection):
            continue
        fresh = Told(at=connection.at)
        for earlier in messages[:cut]:
            if isinstance(earlier, Connection):
                fresh.step(earlier)
        fresh.step(connection)
        assert fresh.outs == []
        fresh.advance(seconds(1))
        known = {out.value.message_id for out in lived.outs if hasattr(out.value, "message_id")}
        again = {out.value.message_id for out in fresh.outs if hasattr(out.value, "message_id")}
        assert again <= known, cut
        assert fresh.state.credentials == connection.credentials
        assert shown(fresh.state) == connection.state


def test_a_registration_of_ours_that_comes_to_nothing_leaves_what_worked_also_where_another_lifecycle_hears_of_it():
    lived = World().online()
    before = (lived.connection.peer_base_url, lived.connection.peer_token)
    lived.command(CommandKind.REGISTER, base_url="https://typo.example/oscp", peer_token="sealed")
    (ours,) = lived.sent(Action.REGISTER)[-1:]
    assert lived.connection.peer_base_url == "https://typo.example/oscp"
    fresh = World(at=lived.clock.now())
    fresh.step(lived.connection)
    for world in (lived, fresh):
        world.deliver(ours, Outcome.REFUSED, "answered 404")
        assert (world.connection.peer_base_url, world.connection.peer_token) == before


def test_a_restored_partner_that_is_no_longer_configured_is_let_go():
    lived = World().online()
    fresh = World(at=lived.clock.now())
    fresh.partner = None
    fresh.step(lived.connection)
    fresh.advance(seconds(2))
    assert fresh.connection.state == "DEREGISTERED"


def test_what_a_restored_connection_had_taken_in_is_not_taken_in_again():
    lived = World().online(heartbeat=60)
    fresh = World(at=lived.clock.now())
    fresh.step(lived.connection)
    said = len(fresh.outs)
    for message in lived.taken_in:
        fresh.step(message)
    old = seconds(90)  # more than clocks of gateways differ
    fresh.register(received_at=fresh.clock.now() - old, cred=lived.connection.credentials[0].cause, request_id="forgotten")
    fresh.handshake(received_at=fresh.clock.now() - old, request_id="forgotten too")
    assert [out for out in fresh.outs[said:] if out.topic.name != "derms.outbound"] == []
    fresh.advance(seconds(1))
    fresh.handshake()
    assert len(fresh.sent(Action.HANDSHAKE_ACKNOWLEDGE)) == 1


def test_a_restored_partner_has_until_its_next_beat():
    lived = World().online()
    fresh = World(at=lived.clock.now() + timedelta(hours=9))
    fresh.step(lived.connection)
    fresh.advance(seconds(2))
    fresh.advance(seconds(387))
    assert fresh.connections == []
    fresh.advance(seconds(1))
    assert fresh.connection.state == "OFFLINE"


def test_nobody_is_offline_while_its_messages_still_lie_unread_after_a_stop():
    world = World().online()
    world.clock.advance(timedelta(hours=2))
    for minutes in (110, 60, 5):
        world.heartbeat(seconds(600) - timedelta(minutes=minutes), received_at=world.clock.now() - timedelta(minutes=minutes))
    assert "OFFLINE" not in world.states
    world.advance(seconds(9))
    assert "OFFLINE" not in world.states
    world.advance(seconds(600))
    assert world.connection.state == "OFFLINE"


def test_a_connection_without_readable_memory_is_still_understood():
    lived = World().online().connection
    for state in ("ONLINE", "SUSPENDED", "REGISTERED", "DEREGISTERED"):
        fresh = World()
        fresh.step(lived.model_copy(update={"memory": "", "state": state}))
        assert shown(fresh.state) == state
