"""Short words for tests of limits: instants of one day, forecasts, and a scope that is told things."""

import json
import pickle
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.records import Out
from pipelines.rules.circuits import CircuitTerms, Plan
from pipelines.rules.envelopes import EnvelopeRule
from pipelines.rules.limits import Limit, Stretch, replaced, stretch_of
from pipelines.rules.scope_items import Configured, GroupTerms, Item, Linked, ScopeTerms, Spoken
from schemas.capacity import CapacityBlock, CapacityForecast, LimitType, OperatingEnvelope, PieceKind
from schemas.connection import Event
from schemas.facts import digest
from schemas.oscp.translate import capacity_forecast
from schemas.oscp.v20 import UpdateGroupCapacityForecast
from schemas.topology import Scope
from schemas.units import Phase, to_ms

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "data" / "envelopes.json").read_text())["cases"]
DAY = "2026-10-20T"
HOUR_MS = 3_600_000
CIRCUIT = CircuitTerms("feeder-17", 250_000.0, 150_000.0)


def at(clock: str) -> datetime:
    """`10:07` or `10:07:30` of the tests' day, or a whole instant."""
    return datetime.fromisoformat(clock if "T" in clock else f"{DAY}{clock}+00:00")


def ms(clock: str) -> int:
    return to_ms(at(clock))


def block(start: str, end: str, kw: float, phase: Phase = Phase.ALL) -> CapacityBlock:
    return CapacityBlock(
        start=at(start), end=at(end), limit_w=kw * 1000, phase=phase, received_capacity=kw, received_unit="KW", received_phase=phase
    )


def forecast(
    cause: str, received: str, *blocks: CapacityBlock, of: LimitType = LimitType.IMPORT, source: str = "VEC-0001"
) -> CapacityForecast:
    return CapacityForecast(
        cause=cause,
        source_id=source,
        scope_id="mg-1",
        type=of,
        received_at=at(received),
        body_digest=digest(f"{of}{blocks}"),
        blocks=list(blocks),
    )


def group(group_id: str = "VEC-0001", *, partner: str = "vector", hold: timedelta = timedelta(hours=1), **more: Any) -> GroupTerms:
    return GroupTerms(group_id, partner, hold // timedelta(milliseconds=1), **more)


def terms(*groups: GroupTerms, circuit: CircuitTerms | None = CIRCUIT) -> ScopeTerms:
    return ScopeTerms(circuit, tuple(sorted(groups)) or (group(),))


def received(case: dict[str, Any]) -> list[CapacityForecast]:
    """The messages of a case as neutral forecasts."""
    scope = Scope(id="mg-1", nominal_voltage_v=case["nominal_voltage_v"], phases=case["phases"])
    found = []
    for message in case["messages"]:
        body = json.dumps({"group_id": "VEC-0001", "type": message["type"], "forecasted_blocks": message["blocks"]})
        wire = UpdateGroupCapacityForecast.model_validate_json(body)
        found.append(
            capacity_forecast(wire, scope=scope, cause=message["id"], received_at=at(message["received"]), body_digest=digest(body))
        )
    return found


class ToldScope:
    """One scope's envelope rule, what it said, and the envelope over time as any reader would have it."""

    def __init__(self, *groups: GroupTerms, circuit: CircuitTerms | None = CIRCUIT, restarting: bool = False) -> None:
        self.terms = terms(*groups, circuit=circuit)
        self.rule = EnvelopeRule()
        self.state = self.rule.start("mg-1")
        self.restarting = restarting
        self.envelopes: list[OperatingEnvelope] = []
        self.events: list[Event] = []
        self.plans: list[Plan] = []
        self.timelines: dict[Phase, list[Stretch]] = {phase: [] for phase in Phase}

    def _take(self, item: Item) -> list[Out | Plan]:
        if self.restarting:
            self.state = pickle.loads(pickle.dumps(self.state))
        said = list(self.rule.step(self.state, item, at("12:00")))
        for one in said:
            if isinstance(one, Plan):
                self.plans.append(one)
            elif isinstance(one.value, OperatingEnvelope):
                self._note(one.value)
            elif isinstance(one.value, Event):
                self.events.append(one.value)
        return said

    def _note(self, envelope: OperatingEnvelope) -> None:
        self.envelopes.append(envelope)
        for phase in Phase:
            newer = [stretch_of(piece) for piece in envelope.pieces if piece.phase is phase]
            self.timelines[phase] = replaced(self.timelines[phase], to_ms(envelope.effective_at), newer)

    def hears(self, *forecasts: CapacityForecast) -> list[Out | Plan]:
        return [one for said in forecasts for one in self._take(Spoken(said, f"inbound {said.cause}", self.terms))]

    def linked(self, since: str, *, away: bool, partner: str = "vector") -> list[Out | Plan]:
        return self._take(Linked(partner, away, at(since), f"{partner} {since}", self.terms))

    def configured(self, when: str, *groups: GroupTerms, circuit: CircuitTerms | None = CIRCUIT) -> list[Out | Plan]:
        self.terms = terms(*groups, circuit=circuit)
        return self._take(Configured(at(when), f"config {when}", self.terms))

    def imports(self, when: str | int, phase: Phase = Phase.ALL) -> Limit | None:
        return found.imports if (found := self._at(when, phase)) else None

    def exports(self, when: str | int, phase: Phase = Phase.ALL) -> Limit | None:
        return found.exports if (found := self._at(when, phase)) else None

    def import_kw(self, *whens: str) -> list[tuple[float, str] | None]:
        """(kW, kind) at each instant."""
        limits = (self.imports(when) for when in whens)
        return [None if limit is None else (limit.watts / 1000, limit.kind.value) for limit in limits]

    def _at(self, when: str | int, phase: Phase) -> Stretch | None:
        instant_ms = when if isinstance(when, int) else ms(when)
        return next((one for one in self.timelines[phase] if one.start_ms <= instant_ms < one.end_ms), None)


def limit(kw: float, cause: str | None = "f1", kind: PieceKind = PieceKind.FORECAST) -> Limit:
    return Limit(kw * 1000, kind, cause)


def values(said: Iterable[Out], model: type) -> list[Any]:
    """The values of one kind among what a rule said."""
    return [out.value for out in said if isinstance(out.value, model)]
