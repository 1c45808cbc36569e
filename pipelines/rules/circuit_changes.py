"""Each change of a circuit once and in order, in words a person understands (semantics 4)."""

import json
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from pipelines.records import Out, Tick
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.circuit_order import ChangesSeen
from schemas.connection import Event, Severity, SubjectKind
from schemas.facts import derived_id
from schemas.topics import EVENTS
from schemas.units import W_PER_KW, rfc3339

_WHY = {
    PieceKind.FORECAST: "as forecast",
    PieceKind.FALLBACK: "the fallback forecast, since the partner is away",
    PieceKind.HELD: "the last limit, held",
    PieceKind.SAFE: "the safe limit",
    PieceKind.OPERATOR: "an operator's limit",
    PieceKind.UNKNOWN: "the limit is unknown",
}


class Named(NamedTuple):
    """A change, and what people call its circuit."""

    capacity: CircuitCapacity
    name: str


class CircuitChangesRule:
    """An event for each `CircuitCapacity` of one circuit (the key), but for those seen before and those overtaken.

    Nothing is written to the platform from here: `sinks.circuits` finds out by itself what is to be asserted after a restart.
    """

    def start(self, key: str) -> ChangesSeen:
        """No change seen."""
        return ChangesSeen()

    def step(self, state: ChangesSeen, item: Named | Tick, now: datetime) -> Iterator[Out]:
        """What people are told of the change, if it is news."""
        if isinstance(item, Tick):
            return
        if state.take(item.capacity):
            yield Out(EVENTS, item.capacity.circuit_id, _event(item, now))

    def due(self, state: ChangesSeen) -> datetime | None:
        """Never."""
        return None


def words_of(named: Named) -> str:
    """The change in words, kW and UTC."""
    change = named.capacity
    imports = _one("import", change.available_import_w, change.previous_import_w, change.import_kind)
    exports = _one("export", change.available_export_w, change.previous_export_w, change.export_kind)
    return f"from {rfc3339(change.effective_from)} circuit {named.name} has {imports} and {exports}"


def _one(direction: str, value_w: float | None, before_w: float | None, kind: PieceKind) -> str:
    if value_w is None:
        return f"no known {direction} limit"
    before = "" if before_w in (None, value_w) else f", was {_kw(before_w or 0.0)}"
    return f"{_kw(value_w)} {direction} ({_WHY[kind]}{before})"


def _kw(watts: float) -> str:
    return f"{round(watts / W_PER_KW, 3):g} kW"


def _event(named: Named, now: datetime) -> Event:
    change = named.capacity
    return Event(
        event_id=derived_id("circuit capacity changed", change.event_id),
        at=now,
        cause_id=change.event_id,
        subject_kind=SubjectKind.CIRCUIT,
        subject_id=change.circuit_id,
        kind="circuit capacity changed",
        severity=Severity.INFO,
        words=words_of(named),
        data=json.dumps({"available_import_w": change.available_import_w, "available_export_w": change.available_export_w}),
    )
