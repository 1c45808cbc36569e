"""What a telemetry shard tells group shards: to whom, about whom, and how time passes for those it never heard of (semantics 2)."""

from typing import Any

import numpy as np
import pytest

from pipelines.rules.group_bindings import marks_of, scope_hash
from pipelines.rules.group_news import GroupNews
from pipelines.rules.quarter_closing import take_step
from pipelines.rules.quarter_intake import sort
from pipelines.rules.quarter_news import Teller, Told
from pipelines.rules.quarter_parts import Silence
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.quarter_state import Shard
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.intervals import QUARTER_MS
from tests.builders import T0
from tests.rules.metering import START, columns, minutes, stamped
from tests.rules.reference_quarter_hours import Reading

END = START + QUARTER_MS
SHARDS = 8
NORTH, SOUTH = (scope_hash(scope) % SHARDS for scope in ("north", "south"))


def roster(scopes: dict[str, str], groups: tuple[str, ...] = ("north", "south")) -> Roster:
    """Assets by id with their scopes, and which scopes have a group."""
    config = Configuration.model_validate(
        {
            "scopes": [{"id": "north"}, {"id": "south"}, {"id": "plain"}],
            "assets": [{"id": asset, "scope_id": scope, "category": "STORAGE"} for asset, scope in scopes.items()],
            "partners": [{"id": "vector"}],
            "groups": [{"partner_id": "vector", "group_id": scope, "scope_id": scope} for scope in groups],
        }
    )
    return Roster.of(config, FrozenClock(T0))


class Desk:
    """The one telemetry shard whose assets these are, and its teller."""

    def __init__(self, assets: Roster) -> None:
        self.shard, self.teller, self.roster = Shard(), Teller(), assets
        self.number = int(assets.hashes[0] % SHARDS)

    def poll(self, now: float, *readings: tuple[str, float], silent: bool = False) -> dict[int, GroupNews]:
        """What follows from (asset, minute) read at minute `now`, by group shard."""
        at = START + minutes(now)
        polled = columns([Reading(asset, START + minutes(minute), power=60.0) for asset, minute in readings], self.roster)
        silences = (Silence(0, at - minutes(1), at),) if silent else ()
        part = sort(polled, self.roster, at, (0,), silences, SHARDS, stamped(polled, [at] * len(readings))).parts[self.number]
        step = take_step(self.shard, part, self.roster)
        return dict(self.teller.tell(self.shard, part, self.roster, step))

    def restart(self) -> None:
        self.teller = Teller(Told(**vars(self.teller.told)))


def assets_in_one_shard(count: int) -> list[str]:
    """Ids of assets whose state lives in the same shard."""
    names = (f"a{number}" for number in range(1000))
    return [name for name in names if scope_hash(name) % SHARDS == 0][:count]


A, B, C = assets_in_one_shard(3)


def settled(news: GroupNews) -> dict[str, int]:
    names = {int(mark): name for name in (A, B, C) for mark in marks_of([name])}
    return {names[mark]: until for mark, until in zip(news.settled.tolist(), news.until.tolist(), strict=True)}


def test_shards_of_the_scopes_are_two() -> None:
    assert NORTH != SOUTH


def test_without_groups_nothing_is_told() -> None:
    desk = Desk(roster({A: "north"}, groups=()))
    assert [desk.poll(minute, (A, minute)) for minute in (0, 5, 16, 17)] == [{}, {}, {}, {}]


def test_rows_and_what_is_closed_go_to_the_scopes_group_shard() -> None:
    desk = Desk(roster({A: "north", B: "plain"}))
    desk.poll(0, (A, 0), (B, 0))
    told = desk.poll(16.5, (A, 16.5), (B, 16.5))
    assert len(told[NORTH].rows.rows) == 1
    assert told[NORTH].rows.marks.tolist() == marks_of([A]).tolist()
    assert settled(told[NORTH]) == {A: END}
    assert not len(told[SOUTH].rows.rows)  # time has passed for it, and that is all


def test_all_group_shards_hear_how_time_passes_and_of_each_round() -> None:
    desk = Desk(roster({A: "north"}))
    first = desk.poll(0, (A, 0))
    assert first.keys() == set(range(SHARDS))
    assert {one.tick for one in first.values()} == {START}
    desk.poll(0.25, (A, 0.25))  # the deadline comes a step later
    assert desk.poll(0.5, (A, 0.5)) == {}
    assert len(desk.poll(1, (A, 1))[NORTH].running.rows) == 1


def test_assets_never_heard_of_are_settled_by_what_all_partitions_have_passed() -> None:
    desk = Desk(roster({A: "north", B: "north", C: "south"}))
    first = desk.poll(0, (A, 0))
    assert (settled(first[NORTH]), settled(first[SOUTH])) == ({A: START - QUARTER_MS, B: START - QUARTER_MS}, {C: START - QUARTER_MS})
    told = desk.poll(16.5, (A, 16.5))
    assert (settled(told[NORTH]), settled(told[SOUTH])) == ({A: END, B: END}, {C: END})
    assert settled(desk.poll(17, (B, 17))[NORTH]) == {B: END}


def test_the_deadline_is_told_one_step_late() -> None:
    desk = Desk(roster({A: "north"}))
    desk.poll(0, (A, 0))
    before = desk.poll(60, (A, 60))[NORTH].overdue_until
    assert desk.poll(61, (A, 61))[NORTH].overdue_until == before + 4 * QUARTER_MS


def test_an_asset_that_moves_is_told_of_in_both_places_until_all_from_before_is_past() -> None:
    desk = Desk(roster({A: "north"}))
    desk.poll(0, (A, 0))
    desk.roster = roster({A: "south"})
    first = desk.poll(5, (A, 5))
    assert settled(first[SOUTH]) == {A: START}  # where it is new, what is known of it comes first
    desk.restart()
    told = desk.poll(16.5, (A, 16.5))
    assert [len(told[number].rows.rows) for number in (NORTH, SOUTH)] == [1, 1]
    desk.poll(100, (A, 100))
    told = desk.poll(200, (A, 200))
    assert [len(told[number].rows.rows) for number in (NORTH, SOUTH)] == [0, 1]
    assert desk.teller.told.former == {}


def test_an_asset_that_is_removed_is_told_of_until_its_quarter_is_done() -> None:
    desk = Desk(roster({A: "north", B: "north"}))
    desk.poll(0, (A, 0), (B, 0))
    desk.roster = roster({B: "north"})
    assert sorted(desk.poll(16.5, (B, 16.5))[NORTH].rows.marks.tolist()) == sorted(marks_of([A, B]).tolist())


def test_a_move_while_the_process_was_down_is_seen() -> None:
    desk = Desk(roster({A: "north"}))
    desk.poll(0, (A, 0))
    desk.restart()
    desk.roster = roster({A: "south"})
    told = desk.poll(16.5, (A, 16.5))
    assert [len(told[number].rows.rows) for number in (NORTH, SOUTH)] == [1, 1]


def test_what_it_remembers_is_plain() -> None:
    desk = Desk(roster({A: "north", B: "south"}))
    desk.poll(0, (A, 0))
    kept: dict[str, Any] = vars(desk.teller.told)
    assert kept.keys() == {"marks", "shards", "former", "former_until", "absent", "overdue", "next_overdue"}


def test_assets_that_columns_could_not_tell_apart_are_refused() -> None:
    one = roster({A: "north", B: "north"})
    vars(one)["marks"] = np.array([7, 7], np.int64)
    with pytest.raises(ValueError, match=f"{A!r} and {B!r} cannot be told apart"):
        one.tell_apart()
