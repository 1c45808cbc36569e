"""Times of which nothing is reported are known to who hears of the last connection alone (semantics 7.1), and cost little."""

import random
from datetime import datetime, timedelta

import pytest

from pipelines.records import Out
from pipelines.rules.pauses import Pause, Pauses
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


def test_what_ended_longer_ago_than_anybody_is_told_of_is_forgotten() -> None:
    pauses = Pauses([Pause(T0, T0 + 2 * QUARTER), Pause(T0 + 3 * QUARTER, T0 + 5 * QUARTER)])
    pauses.take(connection(at=T0 + 3 * QUARTER + HORIZON), HORIZON)
    assert pauses.silences == [Pause(T0 + 3 * QUARTER, T0 + 5 * QUARTER)]
    pauses.take(connection(at=T0 + 10 * HORIZON), HORIZON)
    assert len(pauses.silences) == 1  # the last one stays: with none, nobody would know that there ever was one
