from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.rules.configuration import (
    EARLIER,
    changes_between,
    configuration_held,
    configuration_of,
    followed,
    held_after,
    held_of,
    key_of,
    merged,
)
from schemas.config import ConfigChange, Configuration, EarlierBinding, Timing
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


@pytest.mark.parametrize("more", [{}, {"timing": {"lateness": "PT30S"}}])
def test_what_is_held_of_changes_amounts_to_the_same_configuration(more: dict[str, object]):
    state = applied(configuration(), configuration(**more))
    held = {key: held_of(change) for key, change in state.items()}
    assert configuration_held(held) == configuration_of(state)
    del held["scopes/mg-1"]
    with pytest.raises(ValidationError, match=r"there is no scope 'mg-1'"):
        configuration_held(held)


def test_an_item_that_is_not_valid_is_named():
    state = applied(configuration())
    wrong = state["circuits/feeder-17"].model_copy(update={"body": '{"id": "feeder-17", "rated_import_kw": -1, "rated_export_kw": 2}'})
    held = {key: held_of(change) for key, change in merged(state, [wrong]).items()}
    with pytest.raises(ValueError, match=r"circuits/feeder-17: rated_import_kw: Input should be greater than or equal to 0"):
        configuration_held(held)


def test_a_body_nobody_can_read_counts_as_different():
    state = applied(configuration())
    state["circuits/feeder-17"] = state["circuits/feeder-17"].model_copy(update={"body": '{"id": "feeder-17", "colour": "red"}'})
    (change,) = between(state, configuration())
    assert change.revision == 2


def test_the_same_apply_makes_the_same_facts():
    assert [each.event_id for each in between({}, configuration())] == [each.event_id for each in between({}, configuration())]
    assert len({each.event_id for each in between({}, configuration())}) == 7


class TestEarlier:
    """What an asset or group was bound to before travels with its change."""

    AT = [T0 + timedelta(minutes=minutes) for minutes in range(40)]

    @staticmethod
    def bound(scope: str | None, **more: object) -> Configuration:
        """One asset, or none, and one group, in a scope."""
        assets = [] if scope is None else [{"id": "pv", "scope_id": scope, "category": "GENERATION", **more}]
        groups = [] if scope is None else [{"partner_id": "vector", "group_id": "V", "scope_id": scope}]
        return configuration(circuits=[], scopes=[{"id": name} for name in "abc"], assets=assets, groups=groups)

    def after(self, *configurations: Configuration) -> dict[str, ConfigChange]:
        state: dict[str, ConfigChange] = {}
        for at, each in zip(self.AT, configurations, strict=False):
            state = merged(state, changes_between(state, each, prune=True, by=BY, at=at))
        return state

    def told(self, *configurations: Configuration) -> list[tuple[str | None, datetime]]:
        found = configuration_of(self.after(*configurations)).earlier
        asset, group = ([(one.scope_id, one.until) for one in found.get(key, ())] for key in ("assets/pv", "groups/V"))
        assert asset == group
        return asset

    @pytest.mark.parametrize("partner", ["vector", "nz/vector"])
    def test_a_group_is_told_by_its_own_id_whatever_slashes_there_are(self, partner):
        def bound(*groups: tuple[str, str], partners: tuple[str, ...] = (partner,)) -> Configuration:
            plain = [{"partner_id": partner, "group_id": group, "scope_id": scope} for group, scope in groups]
            scopes = [{"id": name} for name in "abc"]
            return configuration(circuits=[], scopes=scopes, assets=[], partners=[{"id": one} for one in partners], groups=plain)

        before = [bound(("V/1", "a"), ("W", "b")), bound(("V/1", "c"), ("W", "b"))]
        gone = [bound(("W", "a")), bound(partners=("other",))]
        assert configuration_of(self.after(*before)).earlier.keys() == {"groups/V/1"}
        found = configuration_of(self.after(*before, *gone)).earlier
        assert {key: [one.scope_id for one in some] for key, some in found.items()} == {"groups/V/1": ["a", "c"], "groups/W": ["b", "a"]}

    def test_a_group_that_went_to_another_partner_has_one_past(self):
        def bound(partner: str, scope: str) -> Configuration:
            groups = [{"partner_id": partner, "group_id": "V", "scope_id": scope}]
            scopes = [{"id": name} for name in "abc"]
            return configuration(circuits=[], scopes=scopes, assets=[], partners=[{"id": "p"}, {"id": "q"}], groups=groups)

        found = configuration_of(self.after(bound("p", "a"), bound("q", "b"), bound("q", "c"))).earlier
        assert [(one.scope_id, one.until) for one in found["groups/V"]] == [("a", self.AT[1]), ("b", self.AT[2])]

    def test_a_first_binding_has_nothing_before_it(self):
        assert self.told(self.bound("a")) == []
        assert self.told(self.bound(None), self.bound("a")) == []

    def test_each_change_adds_what_it_ended_and_when(self):
        assert self.told(self.bound("a"), self.bound("b"), self.bound("c")) == [("a", self.AT[1]), ("b", self.AT[2])]

    def test_what_is_removed_says_what_it_was_bound_to_and_what_comes_back_that_it_was_nothing(self):
        assert self.told(self.bound("a"), self.bound(None)) == [("a", self.AT[1])]
        assert self.told(self.bound("a"), self.bound(None), self.bound("a")) == [("a", self.AT[1]), (None, self.AT[2])]

    def test_other_changes_leave_it_alone(self):
        found = configuration_of(self.after(self.bound("a", valid_to=self.AT[9]), self.bound("b"), self.bound("b", max_w=5.0)))
        assert found.earlier["assets/pv"] == (EarlierBinding(scope_id="a", valid_to=self.AT[9], until=self.AT[1]),)

    def test_another_meter_is_another_binding(self):
        found = configuration_of(self.after(self.bound("a", connection_meter=True), self.bound("a")))
        assert found.earlier["assets/pv"] == (EarlierBinding(scope_id="a", connection_meter=True, until=self.AT[1]),)

    def test_only_so_many_are_told_and_time_never_runs_back_in_them(self):
        many = [self.bound("ab"[index % 2]) for index in range(EARLIER + 5)]
        assert [until for _, until in self.told(*many)] == self.AT[5 : EARLIER + 5]
        state = self.after(self.bound("a"), self.bound("b"))
        (change, _) = changes_between(state, self.bound("c"), by=BY, at=T0)
        assert [one.until for one in change.earlier] == [self.AT[1], self.AT[1]]

    def test_it_is_no_part_of_what_is_compared_or_written(self):
        found = configuration_of(self.after(self.bound("a"), self.bound("b")))
        assert found == configuration_of(self.after(self.bound("b")))
        assert "earlier" not in found.model_dump_json()
        assert found.model_copy().earlier == found.earlier

    def test_changes_that_do_not_say_it_are_taken_as_they_come(self):
        """From a program of before: what the broker still has tells."""
        state: dict[str, ConfigChange] = {}
        for at, each in zip(self.AT, ("a", "b", "b", "c"), strict=False):
            for change in changes_between(state, self.bound(each, max_w=1.0 + at.minute), by=BY, at=at):
                bare = change.model_copy(update={"earlier": []})
                known = state.get(key_of(change))
                state = merged(state, [followed(known, bare)])
                assert held_after(known and held_of(known), bare) == held_of(state[key_of(change)])
        assert [(one.scope_id, one.until) for one in state["assets/pv"].earlier] == [("a", self.AT[1]), ("b", self.AT[3])]

    def test_what_comes_again_is_no_news(self):
        state = self.after(self.bound("a"), self.bound("b"))
        again = self.after(self.bound("a"))["assets/pv"]
        assert followed(state["assets/pv"], again).earlier == []
        assert followed(None, again) is again


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
