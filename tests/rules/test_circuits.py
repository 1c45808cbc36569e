import pickle
from datetime import timedelta

import pytest

from pipelines.records import Tick
from pipelines.rules.circuits import CircuitTerms
from pipelines.rules.patience import Patience
from schemas.capacity import PieceKind
from tests.rules.scenes import CIRCUIT, ToldScope, at, block, forecast, group
from tests.rules.told_circuit import Circuit, brief, plan, stretch

HELD = PieceKind.HELD


def test_the_value_changes_when_its_time_comes():
    circuit = Circuit()
    day = plan("08:00", stretch("09:00", "10:00", 50), stretch("10:00", "11:00", 60))
    assert circuit.told(day, "08:00") == []
    assert circuit.rule.due(circuit.state) == at("09:00")
    assert circuit.rung("08:59") == []
    assert brief(circuit.rung("09:00")) == [(at("09:00"), 50_000, None, "FORECAST")]
    (change,) = circuit.rung("10:00")
    assert (change.previous_import_w, change.available_import_w, change.cause, change.cause_id) == (50_000, 60_000, "f1", "cause 08:00")
    (unknown,) = circuit.rung("11:00")
    assert (unknown.available_import_w, unknown.kind, unknown.import_kind, unknown.cause) == (60_000, "UNKNOWN", "UNKNOWN", None)
    assert circuit.rule.due(circuit.state) is None


def test_a_forecast_that_covers_now_changes_it_at_once():
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("08:00", "12:00", 50)), "08:00")
    assert brief(circuit.told(plan("10:07", stretch("10:07", "12:00", 20)), "10:07:00.020")) == [(at("10:07"), 20_000, None, "FORECAST")]


def test_never_above_the_rating():
    circuit = Circuit()
    assert brief(circuit.told(plan("08:00", stretch("08:00", "09:00", 400, 400)), "08:00")) == [(at("08:00"), 250_000, 150_000, "FORECAST")]
    smaller = CIRCUIT._replace(rated_import_w=100_000.0)
    assert brief(circuit.told(plan("08:30", terms=smaller), "08:30")) == [(at("08:30"), 100_000, 150_000, "UNKNOWN")]


def test_an_unknown_limit_keeps_the_last_value_unless_the_rating_is_asked_for():
    for terms, value in ((CIRCUIT, 50_000), (CIRCUIT._replace(keep=False), 250_000)):
        circuit = Circuit()
        circuit.told(plan("08:00", stretch("08:00", "09:00", 50), terms=terms), "08:00")
        assert circuit.rung("09:00")[0].available_import_w == value


def test_nothing_is_said_while_nothing_is_known():
    circuit = Circuit()
    assert circuit.told(plan("08:00"), "08:00") == []
    assert circuit.told(plan("08:00", stretch("08:00", "09:00", 50), terms=None), "08:00") == []
    assert circuit.rule.due(circuit.state) is None


def test_what_the_plan_before_said_of_the_instant_of_the_new_one_never_came_to_be():
    """Fallback would rise at 09:50; the partner is back since 09:50 and has said nothing: ignorance does not raise it."""
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("08:00", "09:50", 40), stretch("09:50", "12:00", 90)), "08:00")
    changes = circuit.told(plan("09:50"), "09:50:00.300")
    assert [(change.available_import_w, change.kind) for change in changes] == [(40_000, "UNKNOWN")]


def test_what_is_not_a_change_is_not_said():
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("08:00", "09:00", 50), stretch("09:00", "10:00", 50)), "08:00")
    assert circuit.rung("09:00") == []
    assert len(circuit.said) == 1


def test_each_direction_is_flagged_by_itself():
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("08:00", "09:00", 50, 20), stretch("09:00", "10:00", None, 20)), "08:00")
    (change,) = circuit.rung("09:00")
    assert change.cause is None  # as the kind, that of the import value, which only stays
    assert (change.available_import_w, change.import_kind, change.export_kind, change.kind) == (50_000, "UNKNOWN", "FORECAST", "UNKNOWN")


def test_a_late_timer_states_every_boundary_that_was_missed():
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("09:00", "10:00", 50), stretch("10:00", "11:00", 60), stretch("11:00", "12:00", 70)), "08:00")
    assert brief(circuit.rung("11:30")) == [
        (at("09:00"), 50_000, None, "FORECAST"), (at("10:00"), 60_000, None, "FORECAST"), (at("11:00"), 70_000, None, "FORECAST"),
    ]  # fmt: skip


def test_a_plan_states_the_boundaries_before_it_first():
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("09:00", "10:00", 50), stretch("10:00", "11:00", 60)), "08:00")
    changes = circuit.told(plan("10:30", stretch("10:30", "12:00", 5)), "10:31")
    assert brief(changes) == [
        (at("09:00"), 50_000, None, "FORECAST"), (at("10:00"), 60_000, None, "FORECAST"), (at("10:30"), 5_000, None, "FORECAST"),
    ]  # fmt: skip
    assert [change.cause_id for change in changes] == ["cause 08:00", "cause 08:00", "cause 10:30"]


def test_what_was_said_is_not_taken_back():
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("09:00", "12:00", 50)), "08:00")
    circuit.told(plan("10:00", stretch("10:00", "12:00", 40)), "10:00")
    late = plan("09:30", stretch("09:30", "10:30", 30), stretch("10:30", "12:00", 20))
    assert brief(circuit.told(late, "10:01")) == [(at("10:00"), 30_000, None, "FORECAST")]
    assert brief(circuit.rung("10:30")) == [(at("10:30"), 20_000, None, "FORECAST")]


def test_another_circuit_begins_without_a_value():
    circuit = Circuit()
    circuit.told(plan("08:00", stretch("08:00", "12:00", 50)), "08:00")
    other = CircuitTerms("feeder-18", 10_000.0, 10_000.0)
    (change,) = circuit.told(plan("09:00", stretch("09:00", "12:00", 50), terms=other), "09:00")
    assert (change.circuit_id, change.previous_import_w, change.available_import_w) == ("feeder-18", None, 10_000)


def test_ids_follow_from_what_is_said():
    twice = []
    for now in ("08:00", "08:00:01"):
        circuit = Circuit()
        circuit.told(plan("08:00", stretch("08:00", "09:00", 50), stretch("09:00", "10:00", 60)), now)
        circuit.rung("09:00:00.250" if now == "08:00" else "09:10")
        twice.append([change.event_id for change in circuit.said])
    assert twice[0] == twice[1]
    assert len(set(twice[0])) == 2


PATIENCE = Patience(at("10:20"), timedelta(seconds=1))


def test_after_a_restart_timers_wait_for_what_was_written_meanwhile():
    before = Circuit()
    before.told(plan("08:00", stretch("09:00", "10:10", 50), stretch("10:10", "12:00", 60)), "08:00")
    before.rung("09:00")
    after = Circuit(PATIENCE)
    after.state = pickle.loads(pickle.dumps(before.state))
    assert after.rule.due(after.state) == at("10:20:01")
    assert list(after.rule.step(after.state, Tick(), at("10:20"))) == []
    # Received at 10:05 while the flow was down: the boundary of 10:10 never came to be.
    assert brief(after.told(plan("10:05", stretch("10:05", "10:30", 20), stretch("10:30", "12:00", 30)), "10:20:00.500")) == [
        (at("10:05"), 20_000, None, "FORECAST")
    ]
    assert after.rule.due(after.state) == at("10:30")


def test_after_a_restart_without_news_the_missed_boundary_is_stated_when_patience_ends():
    circuit = Circuit(PATIENCE)
    circuit.told(plan("10:00", stretch("10:00", "10:10", 50), stretch("10:10", "10:15", 60), stretch("10:15", "11:00", 70)), "10:20")
    assert circuit.rung("10:20:00.999") == []
    assert [change.available_import_w for change in circuit.rung("10:20:01")] == [60_000, 70_000]


def test_a_source_that_opens_slowly_is_waited_for():
    circuit = Circuit(Patience(at("10:20"), timedelta(seconds=1), opening=timedelta(seconds=2)))
    circuit.told(plan("10:00", stretch("10:00", "10:10", 50), stretch("10:10", "11:00", 60)), "10:20")
    assert circuit.rule.due(circuit.state) == at("10:20:03")
    assert circuit.rung("10:20:02") == []


def test_late_news_makes_timers_wait_for_more():
    circuit = Circuit(PATIENCE)
    circuit.told(plan("10:00", stretch("10:00", "10:10", 50), stretch("10:10", "12:00", 60)), "10:25")
    assert circuit.rule.due(circuit.state) == at("10:25:01")
    circuit.told(plan("10:05", stretch("10:05", "10:12", 40), stretch("10:12", "12:00", 60)), "10:25:00.900")
    assert circuit.rung("10:25:01.500") == []
    assert brief(circuit.rung("10:25:01.900"))[-1] == (at("10:12"), 60_000, None, "FORECAST")
    assert at("10:10") not in {change.effective_from for change in circuit.said}


@pytest.mark.parametrize("hold", [timedelta(0), timedelta(hours=1)])
def test_a_scope_and_its_circuit_over_an_offline_hour(hold: timedelta):
    scope, circuit = ToldScope(group(hold=hold, safe_import_w=5_000.0)), Circuit()
    scope.hears(forecast("f1", "08:00", block("09:00", "20:00", 100)))
    scope.linked("10:00", away=True)
    scope.linked("13:00", away=False)
    for one in scope.plans:
        circuit.told(one, "13:00")
    circuit.rung("21:30")
    held = [(at("10:00"), 100_000, None, "HELD"), (at("11:00"), 5_000, None, "SAFE")] if hold else [(at("10:00"), 5_000, None, "SAFE")]
    last = [(at("20:00"), 100_000, None, "HELD"), (at("21:00"), 5_000, None, "SAFE")] if hold else [(at("20:00"), 5_000, None, "SAFE")]
    assert brief(circuit.said) == [
        (at("08:00"), 5_000, None, "SAFE"), (at("09:00"), 100_000, None, "FORECAST"), *held,
        (at("13:00"), 100_000, None, "FORECAST"), *last,
    ]  # fmt: skip
