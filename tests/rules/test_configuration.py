from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.rules.configuration import changes_between, configuration_of, key_of, merged
from schemas.config import ConfigChange, Configuration, Timing
from tests.builders import T0, configuration

BY = "anna"


def between(old: dict[str, ConfigChange], new: Configuration, *, prune: bool = False) -> list[ConfigChange]:
    return changes_between(old, new, prune=prune, by=BY, at=T0)


def applied(*configurations: Configuration, prune: bool = False) -> dict[str, ConfigChange]:
    state: dict[str, ConfigChange] = {}
    for each in configurations:
        state = merged(state, between(state, each, prune=prune))
    return state


def by_id(found: Configuration) -> Configuration:
    """The same with its items in the order a fold has them."""
    kinds = ("circuits", "scopes", "assets", "partners")
    return found.model_copy(update={kind: tuple(sorted(getattr(found, kind), key=lambda item: item.id)) for kind in kinds})


def test_nothing_is_an_empty_configuration():
    assert configuration_of({}) == Configuration()


def test_what_was_applied_comes_out():
    assert configuration_of(applied(configuration())) == by_id(configuration())


def test_items_are_written_before_those_that_refer_to_them():
    changes = between({}, configuration(timing={"lateness": "PT30S"}))
    assert [change.kind for change in changes] == ["circuits", "scopes", "assets", "assets", "assets", "partners", "groups", "timing"]
    assert [change.revision for change in changes] == [1] * 8
    assert {change.by for change in changes} == {BY}
    assert changes[-2].id == "vector/VEC-0001"
    # Each prefix of the way is consistent, so a reader half way has something to work with.
    for count in range(len(changes) + 1):
        configuration_of(merged({}, changes[:count]))


def test_the_same_again_changes_nothing():
    state = applied(configuration())
    assert between(state, configuration()) == []
    assert between(state, configuration(), prune=True) == []


def test_only_what_differs_gets_the_next_revision():
    state = applied(configuration())
    faster = configuration(circuits=[{"id": "feeder-17", "name": "Harbour feeder", "rated_import_kw": 300, "rated_export_kw": 150}])
    (change,) = between(state, faster)
    assert (key_of(change), change.revision) == ("circuits/feeder-17", 2)
    assert configuration_of(merged(state, [change])).circuits[0].rated_import_kw == 300


def test_spelling_out_a_default_is_no_change():
    state = applied(configuration())
    spelled = configuration(
        scopes=[{"id": "mg-1", "name": "Harbour Street", "circuit_id": "feeder-17", "time_zone": "Pacific/Auckland", "phases": 3}]
    )
    assert between(state, spelled) == []


def test_without_prune_nothing_goes():
    fewer = configuration(assets=[{"id": "mg-1-pv", "scope_id": "mg-1", "category": "GENERATION"}])
    assert between(applied(configuration()), fewer) == []


def test_prune_removes_last_and_from_the_outside_in():
    state = applied(configuration())
    changes = between(state, Configuration(), prune=True)
    assert [change.kind for change in changes] == ["groups", "partners", "assets", "assets", "assets", "scopes", "circuits"]
    assert all(change.body is None and change.revision == 2 for change in changes)
    for count in range(len(changes) + 1):
        configuration_of(merged(state, changes[:count]))
    assert configuration_of(merged(state, changes)) == Configuration()


def test_what_was_removed_comes_back_with_a_higher_revision():
    state = applied(configuration(), Configuration(), configuration(), prune=True)
    assert state["circuits/feeder-17"].revision == 3
    assert configuration_of(state) == by_id(configuration())


def test_timing_is_one_item_and_only_said_when_it_is_given():
    assert "timing/timing" not in applied(configuration())
    assert "timing/timing" not in applied(configuration(timing={}))
    state = applied(configuration(timing={"lateness": "PT30S"}))
    assert configuration_of(state).timing.lateness == timedelta(seconds=30)
    assert between(state, configuration()) == []  # a file without a timing section leaves it alone
    (change,) = between(state, configuration(timing={"lateness": "PT30S", "future": "PT5M"}))
    assert (change.kind, change.id, change.revision) == ("timing", "timing", 2)
    (back,) = between(state, configuration(timing={}))
    assert configuration_of(merged(state, [back])).timing == Timing()
    (gone,) = between(state, configuration(), prune=True)
    assert gone.body is None


def test_items_that_do_not_fit_together_are_refused_with_their_path():
    state = applied(configuration())
    del state["scopes/mg-1"]
    with pytest.raises(ValidationError, match=r"there is no scope 'mg-1'"):
        configuration_of(state)


def test_a_body_nobody_can_read_counts_as_different():
    state = applied(configuration())
    state["circuits/feeder-17"] = state["circuits/feeder-17"].model_copy(update={"body": '{"id": "feeder-17", "colour": "red"}'})
    (change,) = between(state, configuration())
    assert change.revision == 2


def test_the_same_apply_makes_the_same_facts():
    assert [each.event_id for each in between({}, configuration())] == [each.event_id for each in between({}, configuration())]
    assert len({each.event_id for each in between({}, configuration())}) == 7


ratings = st.dictionaries(st.sampled_from([f"c{number}" for number in range(6)]), st.integers(0, 500))


def circuits(rated: dict[str, int]) -> Configuration:
    return Configuration.model_validate(
        {"circuits": [{"id": key, "rated_import_kw": kw, "rated_export_kw": kw} for key, kw in rated.items()]}
    )


@given(st.lists(ratings, max_size=5))
def test_pruning_makes_it_exactly_what_the_last_file_says(history: list[dict[str, int]]):
    state = applied(*(circuits(each) for each in history), prune=True)
    assert configuration_of(state) == by_id(circuits(history[-1] if history else {}))


@given(st.lists(ratings, max_size=5))
def test_without_pruning_the_last_word_on_each_item_holds(history: list[dict[str, int]]):
    union: dict[str, int] = {}
    for each in history:
        union |= each
    assert configuration_of(applied(*(circuits(each) for each in history))) == by_id(circuits(union))
