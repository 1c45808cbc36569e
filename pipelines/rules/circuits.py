"""A circuit's available capacity: min(limit in force, rating), changed when its time comes (semantics 4)."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pipelines.records import Out, Tick
from pipelines.rules.kept import Coming, coming
from pipelines.rules.limits import Limit, Stretch
from pipelines.rules.patience import AT_ONCE, Patience
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.facts import derived_id, made
from schemas.topics import CIRCUIT_CAPACITY
from schemas.units import from_ms, to_ms, whole_ms


class CircuitTerms(NamedTuple):
    """A circuit and its ratings in W. `keep`: an unknown limit keeps the last value instead of giving the rating."""

    circuit_id: str
    rated_import_w: float
    rated_export_w: float
    keep: bool = True


class Plan(NamedTuple):
    """What is known from `as_of_ms` on about a scope's limits for phase ALL, and the circuit it is for, if any.

    `cause_id` is the id of the fact that made it.
    """

    scope_id: str
    terms: CircuitTerms | None
    as_of_ms: int
    stretches: tuple[Stretch, ...]
    cause_id: str


class Step(NamedTuple):
    """From `at_ms` on, these limits."""

    at_ms: int
    imports: Limit | None = None
    exports: Limit | None = None


class Available(NamedTuple):
    """A circuit's values in W (None: none yet) and why they hold."""

    import_w: float | None = None
    export_w: float | None = None
    import_kind: PieceKind = PieceKind.UNKNOWN
    export_kind: PieceKind = PieceKind.UNKNOWN


NOTHING, NOTHING_COMING = Available(), Coming()


@dataclass
class CircuitState:
    """One scope's circuit: what it has now, and what is to come. Row `row` of `coming` holds now, none if it is -1."""

    scope_id: str
    terms: CircuitTerms | None = None
    cause_id: str = ""
    coming: Coming = NOTHING_COMING
    row: int = -1
    stated_ms: int = 0
    wait_until_ms: int = 0
    available: Available = NOTHING


class CircuitRule:
    """Turns `Plan`s and time into `CircuitCapacity` changes, one scope a key.

    Every boundary makes its own change with its own `effective_from`, also when it is stated late; what was stated
    is never taken back: news about the past changes the value from the last statement on.
    """

    def __init__(self, patience: Patience = AT_ONCE) -> None:
        self._patience = patience

    def start(self, key: str) -> CircuitState:
        """A scope without circuit and values."""
        return CircuitState(key)

    def step(self, state: CircuitState, item: Plan | Tick, now: datetime) -> Iterator[Out]:
        """Changes up to now (a tick) or up to the plan's instant, then the plan's own."""
        if isinstance(item, Plan):
            state.wait_until_ms = max(state.wait_until_ms, self._patience.after(item.as_of_ms, now))
            # What the plan before said of this instant itself never came to be.
            yield from self._until(state, item.as_of_ms - 1, now)
            yield from self._planned(state, item, now)
        elif self._waits(state) <= to_ms(now):
            yield from self._until(state, to_ms(now), now)

    def due(self, state: CircuitState) -> datetime | None:
        """The next boundary."""
        following = state.coming.at_ms(state.row + 1)
        return None if following is None else from_ms(max(following, self._waits(state)))

    def _waits(self, state: CircuitState) -> int:
        return max(state.wait_until_ms, self._patience.at_first())

    def _until(self, state: CircuitState, until_ms: int, now: datetime) -> Iterator[Out]:
        while (following := state.coming.at_ms(state.row + 1)) is not None and following <= until_ms:
            state.row += 1
            yield from _stated(state, following, now)

    def _planned(self, state: CircuitState, plan: Plan, now: datetime) -> Iterator[Out]:
        if plan.terms is None or state.terms is None or plan.terms.circuit_id != state.terms.circuit_id:
            state.available, state.stated_ms = NOTHING, 0
        at_ms = max(plan.as_of_ms, state.stated_ms)
        state.terms, state.cause_id = plan.terms, plan.cause_id
        state.coming, state.row = coming(plan.stretches if plan.terms else ()), -1
        while (following := state.coming.at_ms(state.row + 1)) is not None and following <= at_ms:
            state.row += 1
        yield from _stated(state, at_ms, now)


def available(step: Step, terms: CircuitTerms, last: Available) -> Available:
    """min(limit, rating) a direction; ignorance never raises a circuit: an unknown limit keeps the last value, flagged
    UNKNOWN, unless `keep` is off (semantics 3.3)."""
    import_w, import_kind = _one(step.imports, terms.rated_import_w, last.import_w, terms.keep)
    export_w, export_kind = _one(step.exports, terms.rated_export_w, last.export_w, terms.keep)
    return Available(import_w, export_w, import_kind, export_kind)


def _one(limit: Limit | None, rated_w: float, last_w: float | None, keep: bool) -> tuple[float | None, PieceKind]:
    if limit is not None:
        return min(limit.watts, rated_w), limit.kind
    if not keep:
        return rated_w, PieceKind.UNKNOWN
    return None if last_w is None else min(last_w, rated_w), PieceKind.UNKNOWN


def _stated(state: CircuitState, at_ms: int, now: datetime) -> Iterator[Out]:
    if state.terms is None:
        return
    before, state.stated_ms = state.available, at_ms
    step = Step(at_ms, *state.coming.limits(state.row)) if state.row >= 0 else Step(at_ms)
    found = state.available = available(step, state.terms, before)
    if found == before:
        return
    circuit_id, imports_rule = state.terms.circuit_id, found.import_w is not None
    ruling = step.imports if imports_rule else step.exports
    change = made(
        CircuitCapacity,
        # The cause is part of it: values may go back and forth within an instant, and each time is a change of its own.
        event_id=derived_id("circuit-capacity", circuit_id, at_ms, state.cause_id, *found, *before),
        at=whole_ms(now),
        cause_id=state.cause_id,
        circuit_id=circuit_id,
        scope_id=state.scope_id,
        available_import_w=found.import_w,
        available_export_w=found.export_w,
        previous_import_w=before.import_w,
        previous_export_w=before.export_w,
        effective_from=from_ms(at_ms),
        cause=ruling.cause if ruling else None,
        kind=found.import_kind if imports_rule else found.export_kind,
        import_kind=found.import_kind,
        export_kind=found.export_kind,
    )
    yield Out(CIRCUIT_CAPACITY, circuit_id, change)
