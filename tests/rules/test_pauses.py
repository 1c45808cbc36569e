"""Times of which nothing is reported are known to who hears of the last connection alone (semantics 7.1), and cost little."""

import dataclasses
import pickle
import random
from datetime import datetime, timedelta

import pytest

from pipelines.records import Out
from pipelines.rules.lifecycle_state import PartnerState
from pipelines.rules.pauses import COUNTS, Pause, Pauses
from pipelines.rules.reporting_standing import Standing
from schemas.connection import CommandKind, Connection, ConnectionState
from schemas.intervals import QUARTER
from schemas.topics import CONNECTIONS
from tests.builders import T0
from tests.rules.lifecycle_world import World, seconds
from tests.rules.test_reporting import WRITTEN, Reporting, connection, group_row, row

HORIZON = timedelta(days=7)
MINUTE = timedelta(minutes=1)


def lived(seed: int, turns: int = 60) -> list[Connection]:
    """What the lifecycle says while a partner is suspended and resumed, asks for what we send and for what we cannot send, ends the
    connection and registers again; the lifecycle itself dies now and then, with its recovery store or without it."""
    chance, world = random.Random(seed), World().online()
    for _ in range(turns):
        world.advance(seconds(chance.choice([1, 70, 400, 1300, 5000])))
        match chance.randrange(8):
            case 0 | 1:
                world.command(CommandKind.RESUME if world.state.notes.suspended else CommandKind.SUSPEND)
            case 2 | 3:
                world.handshake("CONTINUOUS")
            case 4 | 5:
                world.handshake("INTERMITTENT")
            case 6 if chance.random() < 0.3 and not world.state.notes.suspended:
                world.command(CommandKind.DEREGISTER)
                world.online()
            case 7:
                world = chance.choice([killed, without_its_store])(world)
    return world.connections


def killed(world: World) -> World:
    """The lifecycle comes back with its recovery store."""
    world.restart()
    return world


def without_its_store(world: World) -> World:
    """All a new lifecycle has is the last connection."""
    fresh = World(at=world.clock.now())
    fresh.step(world.connection)
    fresh.outs, fresh.count, fresh.requests = world.outs, world.count, world.requests
    fresh.advance(seconds(30))
    return fresh


def owed(connections: list[Connection], until: datetime) -> list[bool | None]:
    """Whether each quarter of the week before `until` is owed, by who heard of these."""
    standing = Standing()
    for each in connections:
        standing.take(each, HORIZON)
    first = T0 + (until - HORIZON - T0) // QUARTER * QUARTER
    return [standing.measurements_owed(first + number * QUARTER) for number in range(1, HORIZON // QUARTER)]


@pytest.mark.parametrize("seed", range(30))
def test_who_hears_of_the_last_connection_alone_judges_every_quarter_as_who_heard_of_all(seed: int) -> None:
    said, chance = lived(seed), random.Random(seed)
    all_of_them = owed(said, said[-1].at)
    assert owed(said[-1:], said[-1].at) == all_of_them
    for _ in range(10):  # compaction leaves some of before, too
        left = sorted(chance.sample(range(len(said) - 1), len(said) // 3))
        assert owed([*(said[number] for number in left), said[-1]], said[-1].at) == all_of_them
    assert owed([said[-1], *said], said[-1].at) == all_of_them  # a scope that is bound later asks for the last one first


def test_the_stories_have_what_they_are_told_for() -> None:
    ends = [lived(seed)[-1] for seed in range(30)]
    assert sum(len(each.silences) for each in ends) > 30
    assert sum(len(each.withheld) for each in ends) > 30
    assert any(owed([each], each.at).count(True) > 5 for each in ends)


def test_a_quarter_of_a_suspension_is_not_made_up_where_all_but_the_last_connection_was_compacted_away() -> None:
    pause = Pauses([Pause(T0 + MINUTE, T0 + QUARTER + MINUTE)])
    reporting = Reporting(online=False)
    reporting.feed(pause.told(connection(since=T0 + QUARTER + MINUTE)))
    told = []
    for quarter in (T0, T0 + QUARTER, T0 + 2 * QUARTER):
        reporting.now = quarter + WRITTEN
        rows = [row(name, quarter=quarter) for name in ("mg-1-pv", "mg-1-bat")]
        told.append(len(reporting.feed(*rows, group_row(quarter=quarter))))
    assert told == [0, 1, 1]


def test_one_that_a_program_of_before_said_tells_of_its_own_pause() -> None:
    """It has no list; the suspension it tells of is over only after this program took it over."""
    before = World().online()
    before.command(CommandKind.SUSPEND)
    old = before.connection.model_copy(update={"silences": [], "withheld": []})
    before.outs.append(Out(CONNECTIONS, "vector", old))
    world = without_its_store(before)
    world.advance(timedelta(hours=1))
    world.command(CommandKind.RESUME)
    assert [(each.since, each.until) for each in world.connection.silences] == [(old.since, world.connection.since)]


def test_what_begins_and_ends_between_two_quarters_ends_costs_nothing() -> None:
    pauses, at = Pauses(), T0
    for _ in range(2_000):
        for withheld in (at, None):
            at += timedelta(seconds=71)
            pauses.take(connection(ConnectionState.ONLINE, since=T0, at=at, withheld_since=withheld and at), HORIZON)
    assert at - T0 > timedelta(days=3)
    quarters = (at - T0) // QUARTER
    assert quarters // 4 < len(pauses.withheld) <= quarters


def test_reporting_keeps_no_more_of_them_than_the_lifecycle_tells() -> None:
    lifecycle, reporting, at = Pauses(), Standing(), T0
    for _ in range(2_000):
        for withheld in (at, None):
            at += timedelta(seconds=31)
            said = connection(ConnectionState.ONLINE, since=T0, at=at, withheld_since=withheld and at)
            lifecycle.take(said, HORIZON)
            reporting.take(lifecycle.told(said), HORIZON)
    assert len(reporting.withheld) == len(lifecycle.withheld) < 2 * (at - T0) // QUARTER


def test_what_ended_longer_ago_than_anything_counts_is_forgotten() -> None:
    """A repair of the last day of the horizon counts for a week itself."""
    first, last = Pause(T0, T0 + 2 * QUARTER), Pause(T0 + 3 * QUARTER, T0 + 5 * QUARTER)
    pauses = Pauses([first, last])
    pauses.take(connection(at=T0 + 2 * HORIZON), HORIZON)
    assert pauses.silences == [first, last]
    pauses.take(connection(at=T0 + 2 * QUARTER + HORIZON + COUNTS), HORIZON)
    assert pauses.silences == [last]
    pauses.take(connection(at=T0 + 10 * HORIZON), HORIZON)
    assert pauses.silences == [last]  # with none, nobody would know that there ever was one


def withheld_for_a_quarter() -> tuple[World, datetime]:
    world = World().online()
    world.advance(QUARTER)
    world.handshake("CONTINUOUS")
    world.advance(QUARTER)
    return world, world.clock.now()


def test_measurements_are_withheld_until_the_partner_asked_for_others_however_late_we_learn_of_it() -> None:
    world, asked_at = withheld_for_a_quarter()
    world.advance(timedelta(hours=3))
    world.handshake("INTERMITTENT", received_at=asked_at)
    (pause,) = world.connection.withheld
    assert (pause.since, pause.until) == (asked_at - QUARTER, asked_at)


def test_a_replay_of_an_end_does_not_move_it() -> None:
    """The lifecycle is killed, and comes back hours later with what it kept before the end."""
    world, asked_at = withheld_for_a_quarter()
    kept = pickle.dumps(world.state)
    world.handshake("INTERMITTENT")
    later, message = world.connection, world.taken_in[-1]
    fresh = World(at=asked_at + timedelta(hours=3))
    fresh.rule._around = dataclasses.replace(fresh.rule._around, started_at=fresh.clock.now())
    fresh.state = pickle.loads(kept)
    fresh.step(later)
    fresh.step(message)
    assert (fresh.connection.event_id, fresh.connection.withheld) == (later.event_id, later.withheld)


def test_a_suspension_ends_also_where_the_clock_that_ends_it_is_behind() -> None:
    world = World().online()
    world.advance(QUARTER)
    world.command(CommandKind.SUSPEND)
    suspended_at = world.clock.now()
    world.clock.set(suspended_at - seconds(20))
    world.command(CommandKind.RESUME)
    said = world.connection
    assert said.state is ConnectionState.ONLINE
    standing = Standing()
    for each in (*world.connections, said.model_copy(update={"at": suspended_at + MINUTE})):
        standing.take(each, HORIZON)
    assert not standing.silent(T0 + 9 * QUARTER)


def test_what_a_program_of_before_kept_begins_with_the_pause_under_way() -> None:
    world = World().online()
    world.handshake("CONTINUOUS")
    world.command(CommandKind.SUSPEND)
    suspended_at, withheld_at = world.clock.now(), world.connection.withheld_since
    _, kept = world.state.__reduce_ex__(4)[2]
    of_before = {name: value for name, value in kept.items() if name not in ("silences", "withheld")}
    world.state = PartnerState.__new__(PartnerState)
    world.state.__setstate__((None, of_before))
    world.advance(timedelta(hours=1))
    world.command(CommandKind.RESUME)
    world.handshake("INTERMITTENT")
    told = world.connection
    assert [(each.since, each.until) for each in told.silences] == [(suspended_at, suspended_at + timedelta(hours=1))]
    assert [(each.since, each.until) for each in told.withheld] == [(withheld_at, suspended_at + timedelta(hours=1))]


def test_pauses_that_a_program_of_before_told_one_after_the_other_are_all_adopted() -> None:
    before = World().online()
    before.command(CommandKind.SUSPEND)
    before.advance(timedelta(hours=1))
    before.command(CommandKind.RESUME)
    world = World(at=before.clock.now())
    for each in before.connections:
        world.step(each.model_copy(update={"silences": [], "withheld": []}))
    assert [(each.since, each.until) for each in world.state.silences] == [(T0 + seconds(2), T0 + seconds(2) + timedelta(hours=1))]
