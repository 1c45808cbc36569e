"""A scope's circuit through a day's events: what is said of it, and why (semantics 3.3, 4)."""

from datetime import timedelta

import pytest

from pipelines.rules.circuits import CircuitTerms
from pipelines.rules.scope_items import OPERATOR
from schemas.capacity import LimitType
from tests.rules.scenes import CIRCUIT, ToldScope, at, block, forecast, group
from tests.rules.told_circuit import Circuit, brief, plan, stretch

SMALL = CIRCUIT._replace(rated_import_w=30_000.0)


class Site:
    """A scope with its circuit on one clock."""

    def __init__(self, *groups: object, keep: bool = True) -> None:
        self.circuit_terms = CIRCUIT._replace(keep=keep)
        self.scope, self.circuit, self._heard = ToldScope(*groups, circuit=self.circuit_terms), Circuit(), 0  # type: ignore[arg-type]

    def follow(self, now: str) -> None:
        """The circuit hears what the scope has said."""
        for one in self.scope.plans[self._heard :]:
            self.circuit.told(one, now)
        self._heard = len(self.scope.plans)
        self.circuit.rung(now)

    def brief(self) -> list[tuple[object, ...]]:
        return [(change.effective_from, change.available_import_w, change.kind.value, change.cause) for change in self.circuit.said]


def test_a_change_of_kind_alone_is_told():
    site = Site(group(safe_import_w=50_000.0))
    site.scope.hears(forecast("f1", "08:00", block("08:00", "09:00", 50)))
    site.follow("11:00")
    assert site.brief() == [
        (at("08:00"), 50_000, "FORECAST", "f1"), (at("09:00"), 50_000, "HELD", "f1"), (at("10:00"), 50_000, "SAFE", None),
    ]  # fmt: skip
    assert [change.previous_import_w for change in site.circuit.said] == [None, 50_000, 50_000]


def test_a_forecast_received_while_away_counts_at_once():
    site = Site(group(safe_import_w=5_000.0))
    site.scope.hears(forecast("f1", "08:00", block("08:00", "20:00", 100)))
    site.scope.hears(forecast("b1", "08:00", block("08:00", "20:00", 40), of=LimitType.FALLBACK_IMPORT))
    site.scope.linked("10:00", away=True)
    site.scope.hears(forecast("f2", "10:30", block("10:00", "11:00", 20)))
    site.follow("12:00")
    assert site.brief() == [
        (at("08:00"), 100_000, "FORECAST", "f1"), (at("10:00"), 40_000, "FALLBACK", "b1"), (at("10:30"), 20_000, "FORECAST", "f2"),
        (at("11:00"), 40_000, "FALLBACK", "b1"),
    ]  # fmt: skip


@pytest.mark.parametrize("limited", [LimitType.IMPORT, LimitType.EXPORT])
def test_a_direction_without_safe_limit_goes_unknown_alone(limited: LimitType):
    site = Site(group(hold=timedelta(0), safe_import_w=5_000.0))
    site.scope.hears(forecast("f1", "08:00", block("08:00", "09:00", 50)))
    site.scope.hears(forecast("g1", "08:00", block("08:00", "09:00", 40), of=LimitType.EXPORT))
    site.follow("09:00")
    last = site.circuit.said[-1]
    assert (last.available_import_w, last.import_kind) == (5_000, "SAFE")
    assert (last.available_export_w, last.export_kind) == (40_000, "UNKNOWN")


def test_when_unknown_rating_gives_the_rating_after_the_hold():
    site = Site(group(keep=False), keep=False)
    site.scope.hears(forecast("f1", "08:00", block("08:00", "09:00", 50)))
    site.follow("11:00")
    assert [(when, watts, kind) for when, watts, kind, _ in site.brief()] == [
        (at("08:00"), 50_000, "FORECAST"), (at("09:00"), 50_000, "HELD"), (at("10:00"), 250_000, "UNKNOWN"),
    ]  # fmt: skip


def test_several_groups_and_an_operator_make_one_value():
    site = Site(group("A"), group("B", partner="other"))
    site.scope.hears(forecast("a1", "08:00", block("08:00", "20:00", 100), source="A"))
    site.scope.hears(forecast("b1", "08:30", block("09:00", "20:00", 60), source="B"))
    site.scope.hears(forecast("o1", "08:40", block("10:00", "11:00", 30), source=OPERATOR))
    site.scope.linked("10:30", away=True, partner="other")  # held at what its group allowed
    site.follow("12:00")
    assert site.brief() == [
        (at("08:00"), 100_000, "FORECAST", "a1"), (at("09:00"), 60_000, "FORECAST", "b1"), (at("10:00"), 30_000, "OPERATOR", "o1"),
        (at("11:00"), 60_000, "HELD", "b1"), (at("11:30"), 60_000, "FORECAST", "b1"),
    ]  # fmt: skip


def test_a_smaller_rating_counts_at_once_and_a_larger_one_where_the_limit_is_known():
    site = Site()
    site.scope.hears(forecast("f1", "08:00", block("08:00", "12:00", 50)))
    site.scope.configured("09:00", group(), circuit=SMALL)
    site.scope.configured("10:00", group(), circuit=CIRCUIT)
    site.scope.configured("13:30", group(), circuit=SMALL)
    site.scope.configured("14:00", group(), circuit=CIRCUIT)
    site.follow("15:00")
    assert [(when, watts, kind) for when, watts, kind, _ in site.brief()] == [
        (at("08:00"), 50_000, "FORECAST"), (at("09:00"), 30_000, "FORECAST"), (at("10:00"), 50_000, "FORECAST"),
        (at("12:00"), 50_000, "HELD"), (at("13:00"), 50_000, "UNKNOWN"), (at("13:30"), 30_000, "UNKNOWN"),
    ]  # fmt: skip


def test_a_scope_that_changes_its_circuit_leaves_the_old_one_as_it_is():
    site = Site()
    site.scope.hears(forecast("f1", "08:00", block("08:00", "12:00", 50)))
    site.scope.configured("09:00", group(), circuit=CircuitTerms("feeder-18", 40_000.0, 40_000.0))
    site.scope.configured("10:00", group(), circuit=None)
    site.scope.configured("11:00", group())
    site.follow("11:30")
    said = site.circuit.said
    assert [(change.circuit_id, change.effective_from, change.previous_import_w, change.available_import_w) for change in said] == [
        ("feeder-17", at("08:00"), None, 50_000), ("feeder-18", at("09:00"), None, 40_000), ("feeder-17", at("11:00"), None, 50_000),
    ]  # fmt: skip


def test_without_its_partner_a_circuit_keeps_its_value():
    site = Site()
    site.scope.hears(forecast("f1", "08:00", block("08:00", "12:00", 50)))
    site.scope.configured("09:00", group("none", partner="nobody"))
    site.follow("13:30")
    assert site.brief() == [(at("08:00"), 50_000, "FORECAST", "f1"), (at("09:00"), 50_000, "UNKNOWN", None)]


def test_values_that_go_back_and_forth_within_an_instant_are_changes_of_their_own():
    circuit = Circuit()
    circuit.told(plan("10:00", stretch("10:00", "12:00", 50)), "10:00")
    for number, kw in enumerate((40, 50, 40)):  # late news: all of it counts from the last statement on
        circuit.told(plan("09:30", stretch("09:30", "12:00", kw))._replace(cause_id=f"late {number}"), "10:00:01")
    assert [watts for _, watts, _, _ in brief(circuit.said)] == [50_000, 40_000, 50_000, 40_000]
    assert len({change.event_id for change in circuit.said}) == 4
