"""One worker of a cluster is behind another in what it knows of the configuration: parts wait for it, or it says so (engine.md 4)."""

import pytest

from pipelines.meters import Meters
from pipelines.rules.quarter_parts import Part
from pipelines.rules.quarter_roster import Roster, Rosters
from pipelines.telemetry_intake import DeadLetterLimit, Intake, uncounted
from pipelines.telemetry_shards import ShardLogic
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.topology import Asset
from sinks.errors import Unavailable
from tests.builders import T0, configuration
from tests.flows.polls import Topic, reading

CLOCK = FrozenClock(T0)


def sites(*assets: str) -> Configuration:
    return configuration(assets=[{"id": asset, "scope_id": "mg-1", "category": "STORAGE"} for asset in assets])


class Late:
    """A view that shows another configuration once it has been asked so many times."""

    def __init__(self, before: Configuration, after: Configuration, asked: int) -> None:
        self._before, self._after, self.left = before, after, asked

    def current(self) -> Configuration:
        self.left -= 1
        return self._before if self.left >= 0 else self._after


def part_by(config: Configuration, *assets: str) -> Part:
    """What a worker that knows this configuration makes of a poll with a reading of each asset."""
    intake = Intake(Rosters(lambda: config, CLOCK), 1, DeadLetterLimit(), uncounted)
    (part,) = intake.take(Topic(1).poll(T0, [reading(asset, 0, power_w=1.0) for asset in assets])).parts
    return part


def logic(view: Late) -> ShardLogic:
    return ShardLogic(None, Rosters(view.current, CLOCK), None, Meters("telemetry", clock=CLOCK))


def assets_of(shard: ShardLogic) -> list[str]:
    """The assets whose readings it took, once it has."""
    shard.snapshot()
    return shard._shard.keys.assets


@pytest.mark.parametrize("asked", [0, 1, 7])
def test_a_part_waits_for_the_configuration_it_was_made_by(asked: int) -> None:
    """An asset before all others was added: by the order of before, each row would be another asset's."""
    before, after = sites("b", "c"), sites("a", "b", "c")
    view = Late(before, after, asked)
    shard = logic(view)
    shard.on_item((part_by(after, "c", "a"),))
    assert view.left < 0
    assert assets_of(shard) == ["a", "c"]


def test_one_that_never_comes_ends_the_worker_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.telemetry_shards.EDITION_WITHIN_S", 0.05)
    view = Late(sites("b", "c"), sites("b", "c"), 0)
    shard = logic(view)
    with pytest.raises(Unavailable, match=r"not seen the configuration another one works by within 0\.05 s"):
        shard.on_item((part_by(sites("a", "b", "c"), "a"),))
    assert view.left < -2  # it looked again and again
    assert shard._shard.keys.assets == []


def test_parts_of_a_configuration_of_before_are_taken_by_that() -> None:
    """The other way round: the worker is ahead of the one that read the poll."""
    before, after = sites("b", "c"), sites("a", "b", "c")
    view = Late(before, after, 1)
    shard = logic(view)
    shard.on_item((part_by(before, "b"),))
    shard.on_item((part_by(after, "a"),))
    shard.on_item((part_by(before, "c"),))
    assert assets_of(shard) == ["b", "a", "c"]


def test_a_configuration_this_worker_never_went_by_is_made_again() -> None:
    """While somebody goes on changing the configuration, each worker takes over what it sees at a moment of its own."""
    then, now = sites("b", "c"), sites("a", "c", "d")
    asked = []

    def assets_then(edition: str) -> list[Asset] | None:
        asked.append(edition)
        return list(then.assets) if edition == Roster.of(then, CLOCK).edition else None

    shard = ShardLogic(None, Rosters(lambda: now, CLOCK, assets_then), None, Meters("telemetry", clock=CLOCK))
    for config, names in ((then, "c"), (now, "cd"), (then, "bc")):
        shard.on_item((part_by(config, *names),))
    assert assets_of(shard) == ["c", "d", "b"]
    assert asked == [Roster.of(then, CLOCK).edition]  # made once
