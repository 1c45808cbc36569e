"""Group shards against the plain arithmetic: any members, phases, order of news among shards, late revisions, restarts anywhere.

What groups' last rows say is a function of their members' last rows alone, to the last bit.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.group_bindings import scope_hash
from pipelines.rules.group_news import GroupNews
from pipelines.rules.groups import group_content
from pipelines.rules.quarter_roster import shard_of
from schemas.config import Configuration
from schemas.intervals import QUARTER_MS
from schemas.telemetry import CONTENT_EXCLUDES, Method, QuarterHour
from schemas.topology import bound
from schemas.units import Phase
from tests.builders import configuration
from tests.rules.group_scale import measured
from tests.rules.grouping import END, START, Groups, instant, news, row, running

QUARTERS = 3
LAST = START + QUARTERS * QUARTER_MS
_VALUES = ("import_wh", "export_wh", "mean_w", "coverage")
_MAYBE = ("min_w", "max_w", "stored_wh", "import_register_wh", "export_register_wh", "last_minute_w")
_PHASES = [[Phase.ALL], [Phase.ONE, Phase.TWO, Phase.THREE], [Phase.TWO], [Phase.ALL, Phase.ONE], [Phase.THREE, Phase.ONE]]

chances = st.integers(0, 2**32 - 1).map(random.Random)
law = settings(max_examples=60, deadline=None, derandomize=True)


def numbers(chance: random.Random) -> dict[str, Any]:
    """A row's content: numbers whose sums depend on their order."""
    values = {name: chance.choice([0.0, 0.1, 1 / 3, 1e9 / 7, chance.random()]) for name in _VALUES}
    maybe = {name: chance.choice([None, 0.1, chance.random()]) for name in _MAYBE}
    return values | maybe | {"samples": chance.randrange(900), "estimated": chance.random() < 0.1, "reset": chance.random() < 0.1}


@dataclass
class World:
    """Some assets of two scopes, and what they do, told by telemetry shards each in its own order."""

    chance: random.Random
    shards: int
    config: Configuration = field(init=False)
    rows: dict[tuple[str, int, Phase], QuarterHour] = field(default_factory=dict)
    """The last row of each."""

    def __post_init__(self) -> None:
        chance = self.chance
        assets = [
            {
                "id": f"a{number}", "scope_id": f"s{number % 2}", "category": "STORAGE",
                "connection_meter": number < 2 and chance.random() < 0.3,
                "valid_from": chance.choice([None, None, None, instant(1), instant(0.5)]),
                "valid_to": chance.choice([None, None, instant(2)]),
            }
            for number in range(chance.randrange(2, 9))
        ]  # fmt: skip
        scopes = [{"id": "s0"}, {"id": "s1"}]
        bindings = (("vector", "G0", "s0"), ("vector", "G1", "s1"), ("other", "H1", "s1"))
        groups = [{"partner_id": partner, "group_id": group, "scope_id": scope} for partner, group, scope in bindings]
        partners = [{"id": "vector"}, {"id": "other"}]
        self.config = configuration(circuits=[], scopes=scopes, assets=assets, groups=groups, partners=partners)

    def _asset(self, asset_id: str, shard: int) -> list[GroupNews]:
        """All that is heard of an asset: its quarters as they close, and revisions of those that are closed."""
        chance, phases, told = self.chance, self.chance.choice(_PHASES), []
        for quarter in range(QUARTERS):
            if chance.random() < 0.3:
                live = [running(asset_id, quarter, phase=phase, **numbers(chance)) for phase in phases]
                told.append(news(live=live, shard=shard, shards=self.shards))
            fresh = [row(asset_id, quarter, phase=phase, **self._final(chance)) for phase in phases if chance.random() < 0.8]
            self.rows |= {(one.id, quarter, one.phase): one for one in fresh}
            told.append(news(*fresh, settled=[asset_id], until=END + quarter * QUARTER_MS, shard=shard, shards=self.shards))
            while chance.random() < 0.4:
                at, phase = chance.randrange(quarter + 1), chance.choice(phases)
                late = self.rows[asset_id, at, phase] = row(asset_id, at, phase=phase, revision=2, **self._final(chance))
                told.append(news(late, shard=shard, shards=self.shards))
        return told

    @staticmethod
    def _final(chance: random.Random) -> dict[str, Any]:
        return numbers(chance) | {"last_minute_w": None}

    def told(self) -> list[list[GroupNews]]:
        """What each telemetry shard has to say, in order, deadlines and rounds between."""
        by_shard: list[list[GroupNews]] = [[] for _ in range(self.shards)]
        for asset in self.config.assets:
            shard = shard_of(asset.id, self.shards)
            by_shard[shard] = self.shuffled([by_shard[shard], self._asset(asset.id, shard)])
        for shard, mine in enumerate(by_shard):
            if self.chance.random() < 0.3:
                for quarter in range(QUARTERS):
                    mine.insert(
                        self.chance.randrange(len(mine) + 1),
                        news(shard=shard, shards=self.shards, overdue_until=END + quarter * QUARTER_MS),
                    )
            for tick in sorted(self.chance.sample(range(1, 9), 3)):
                mine.append(news(shard=shard, shards=self.shards, tick=tick))
        return by_shard

    def shuffled(self, sequences: list[list[GroupNews]]) -> list[GroupNews]:
        """All of them in one, each in its own order."""
        order = [index for index, one in enumerate(sequences) for _ in one]
        self.chance.shuffle(order)
        each = [iter(one) for one in sequences]
        return [next(each[index]) for index in order]

    def expected(self) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
        """What each group's last row says of each quarter."""
        for group in self.config.groups:
            for quarter in range(QUARTERS):
                start = instant(quarter)
                members = sorted(
                    (one for one in self.config.assets if one.scope_id == group.scope_id and bound(one, start)), key=lambda one: one.id
                )
                known: dict[str, dict[str, dict[str, Any]]] = {}
                phases: dict[str, list[str]] = {}
                for (asset, at, phase), one in sorted(self.rows.items()):
                    if at <= quarter:
                        phases.setdefault(asset, []).append(phase.value) if phase.value not in phases.get(asset, []) else None
                    if at == quarter:
                        known.setdefault(asset, {})[phase.value] = one.model_dump() | {"net_wh": one.import_wh - one.export_wh}
                content = group_content(members, known, phases)
                if content is not None:
                    yield (group.group_id, quarter), content


def content(found: QuarterHour) -> dict[str, Any]:
    return found.model_dump(exclude={*CONTENT_EXCLUDES, "level", "id", "scope_id", "phase", "start", "provisional"})


class Heard:
    """What is written of groups; checks what holds of any row."""

    def __init__(self) -> None:
        self.last: dict[tuple[str, int], QuarterHour] = {}
        self.provisional = 0

    def take(self, rows: list[QuarterHour]) -> None:
        for found in rows:
            place = (found.id, (found.start - instant(0)) // (instant(1) - instant(0)))
            if found.provisional:
                assert (found.revision, place in self.last) == (0, False)
                self.provisional += 1
                continue
            before = self.last.get(place)
            assert found.revision == (1 if before is None else before.revision + 1)
            assert before is None or content(before) != content(found)
            assert found.last_minute_w is None
            self.last[place] = found


def settle(world: World, each: dict[int, Groups], heard: Heard) -> None:
    """Everything is closed in the end, heard of or not."""
    ids = [one.id for one in world.config.assets]
    for shard in range(world.shards):
        for groups in each.values():
            mine = [asset for asset in ids if shard_of(asset, world.shards) == shard]
            heard.take(groups.take(news(settled=mine, until=LAST, shard=shard, shards=world.shards, overdue_until=START)))


def told(world: World, order: list[GroupNews], restarts: float) -> Heard:
    """What groups say when they hear this."""
    heard = Heard()
    each = {scope_hash(scope) % world.shards: Groups(world.config, world.shards, scope) for scope in ("s0", "s1")}
    for item in order:
        for groups in each.values():
            heard.take(groups.take(item))
            if world.chance.random() < restarts:
                groups.restart()
    settle(world, each, heard)
    for shard in range(world.shards):
        for groups in each.values():
            assert groups.take(news(shard=shard, shards=world.shards, frozen_until=LAST)) == []
    assert all(groups.quarters() == [] for groups in each.values())
    return heard


@law
@given(chances, st.integers(1, 4))
def test_last_rows_are_what_the_members_last_rows_amount_to(chance: random.Random, shards: int) -> None:
    world = World(chance, shards)
    sequences = world.told()
    first, second = told(world, world.shuffled(sequences), 0.0), told(world, world.shuffled(sequences), 0.2)
    found = {place: content(one) for place, one in first.last.items()}
    assert found == {place: content(one) for place, one in second.last.items()}  # to the last bit
    expected = dict(world.expected())
    assert found.keys() == expected.keys()
    for place, says in expected.items():
        assert found[place] == {name: value for name, value in says.items() if name in found[place]} | {"last_minute_w": None}


@law
@given(chances, st.integers(1, 3))
def test_a_row_waits_for_its_members(chance: random.Random, shards: int) -> None:
    """Nothing is told of a quarter before the meter, else everybody, closed it, or all telemetry shards said that nobody is waited for."""
    world = World(chance, shards)
    groups = {scope_hash(scope) % shards: Groups(world.config, shards, scope) for scope in ("s0", "s1")}
    closed, overdue = dict.fromkeys((one.id for one in world.config.assets), 0), dict.fromkeys(range(shards), 0)
    marks = {int(mark): asset for asset in closed for mark in news(settled=[asset]).settled.tolist()}
    for item in world.shuffled(world.told()):
        for mark, until in zip(item.settled.tolist(), item.until.tolist(), strict=True):
            closed[marks[mark]] = max(closed[marks[mark]], until)
        overdue[item.shard] = max(overdue[item.shard], item.overdue_until)
        for one in groups.values():
            for found in one.take(item):
                members = [asset for asset in world.config.assets if asset.scope_id == found.scope_id and bound(asset, found.start)]
                awaited = [asset for asset in members if asset.connection_meter] or members
                end = START + (found.start - instant(0)) // (instant(1) - instant(0)) * QUARTER_MS + QUARTER_MS
                assert found.provisional or min(overdue.values()) >= end or all(closed[asset.id] >= end for asset in awaited)
                assert found.method is (Method.METER if awaited is not members else Method.SUM) or found.provisional


def test_many_scopes_in_eight_shards_all_get_their_rows() -> None:
    """In numbers, and for as many as 100,000 assets: `python -m tests.rules.group_scale`."""
    found = measured(assets=2_000, scopes=50, partitions=4)
    assert found.rows == 50
