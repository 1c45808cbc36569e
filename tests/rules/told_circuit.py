"""A circuit's rule that is told plans and rung by its own timers, for tests."""

from datetime import datetime

from pipelines.records import Out, Tick
from pipelines.rules.circuits import CircuitRule, CircuitState, CircuitTerms, Plan
from pipelines.rules.limits import Stretch
from pipelines.rules.patience import Patience
from schemas.capacity import CircuitCapacity
from tests.rules.scenes import CIRCUIT, at, limit, ms


def plan(as_of: str, *stretches: Stretch, terms: CircuitTerms | None = CIRCUIT) -> Plan:
    return Plan("mg-1", terms, ms(as_of), stretches, f"cause {as_of}")


def stretch(start: str, end: str, import_kw: float | None, export_kw: float | None = None) -> Stretch:
    return Stretch(
        ms(start), ms(end), None if import_kw is None else limit(import_kw), None if export_kw is None else limit(export_kw, "g1")
    )


class Circuit:
    """A circuit's rule with a clock that only moves when told, ringing the timers that are due on the way."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.rule = CircuitRule(patience) if patience else CircuitRule()
        self.state: CircuitState = self.rule.start("mg-1")
        self.said: list[CircuitCapacity] = []

    def told(self, item: Plan, now: str) -> list[CircuitCapacity]:
        return self._note(self.rule.step(self.state, item, at(now)))

    def rung(self, now: str) -> list[CircuitCapacity]:
        """The timer rings at `now`, if anything is due by then."""
        due = self.rule.due(self.state)
        return self._note(self.rule.step(self.state, Tick(), at(now))) if due is not None and due <= at(now) else []

    def _note(self, outs: object) -> list[CircuitCapacity]:
        found = []
        for out in outs:  # type: ignore[attr-defined]
            assert isinstance(out, Out)
            assert out.topic.name == "derms.circuit-capacity"
            assert isinstance(out.value, CircuitCapacity)
            assert out.key == out.value.circuit_id
            found.append(out.value)
        self.said += found
        return found


def brief(changes: list[CircuitCapacity]) -> list[tuple[datetime, float | None, float | None, str]]:
    return [(c.effective_from, c.available_import_w, c.available_export_w, c.kind.value) for c in changes]
