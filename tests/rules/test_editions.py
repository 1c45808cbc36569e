"""Which assets there were a moment ago: every set there was is found again by its edition, as it was."""

import random

import pytest

from pipelines.rules.editions import Editions, edition_of
from pipelines.rules.quarter_roster import Roster
from schemas.clock import FrozenClock
from schemas.topology import Asset
from tests.builders import T0, configuration


def asset(name: str, max_w: float | None = None) -> Asset:
    return Asset.model_validate({"id": name, "scope_id": "mg-1", "category": "STORAGE", "max_w": max_w})


def story(seed: int, changes: int, most: int) -> tuple[Editions, list[dict[str, Asset]]]:
    """Assets that come, go and change at random, and the states there were, the first one empty."""
    chance, editions, states = random.Random(seed), Editions(most), [dict[str, Asset]()]
    for number in range(changes):
        name = f"a-{chance.randrange(12)}"
        before, after = states[-1].get(name), asset(name, number + 1.0) if chance.random() < 0.6 else None
        editions.changed(name, before, after)
        states.append({key: value for key, value in (states[-1] | {name: after}).items() if value is not None})
    return editions, states


@pytest.mark.parametrize("seed", range(20))
def test_every_set_there_was_is_found(seed: int) -> None:
    editions, states = story(seed, 60, 1000)
    for state in states:
        found = editions.assets(edition_of(state), states[-1])
        assert {one.id for one in found} == set(state)
        # As they are now where they still are; one that is gone as it last was.
        assert all(one == states[-1].get(one.id, one) for one in found)
        assert all(one in (each.get(one.id) for each in states) for one in found)


def test_what_is_gone_comes_back_as_it_last_was() -> None:
    editions = Editions()
    for before, after in ((None, asset("a")), (asset("a"), asset("a", 5.0)), (asset("a", 5.0), None)):
        editions.changed("a", before, after)
    assert editions.assets(edition_of(["a"]), {}) == [asset("a", 5.0)]


def test_what_was_longer_ago_is_not_known() -> None:
    editions = Editions(most=2)
    names = ["a", "b", "c"]
    for name in names:
        editions.changed(name, None, asset(name))
    present = {name: asset(name) for name in names}
    assert [editions.knows(edition_of(names[:count])) for count in range(4)] == [False, True, True, True]
    assert editions.assets(edition_of(["a"]), present) == [asset("a")]
    with pytest.raises(LookupError):
        editions.assets(edition_of([]), present)


def test_an_edition_names_a_set_whatever_the_order_it_came_in() -> None:
    plain = [{"id": name, "scope_id": "mg-1", "category": "STORAGE"} for name in ("b", "c", "a")]
    one, other = (Roster.of(configuration(assets=some), FrozenClock(T0)) for some in (plain, plain[::-1]))
    assert one.edition == other.edition == edition_of("abc")
    assert one.ids == other.ids == ["a", "b", "c"]
    assert one.edition != edition_of("ab")
