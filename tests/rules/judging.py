"""A scope that is judged, and short words for what it is told and says."""

import pickle
from datetime import datetime, timedelta
from typing import Any

from pipelines.records import Out
from pipelines.rules.at_risk import AtRiskRule
from pipelines.rules.compliance import ComplianceRule, GroupRow
from pipelines.rules.patience import Patience
from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.compliance import Breach, Verdict
from schemas.intervals import QUARTER
from schemas.telemetry import Level, Method, QuarterHour
from schemas.units import Direction, Phase
from tests.rules.scenes import at, values

IMPORT, EXPORT = Direction.IMPORT, Direction.EXPORT


def row(start: str | datetime, import_kwh: float = 0.0, *, revision: int = 1, export_kwh: float = 0.0, **more: Any) -> GroupRow:
    began = at(start) if isinstance(start, str) else start
    plain = {
        "event_id": f"row {began} {revision}", "at": began + QUARTER + timedelta(minutes=1), "level": Level.GROUP,
        "id": "VEC-0001",
        "scope_id": "mg-1", "start": began, "import_wh": import_kwh * 1000, "export_wh": export_kwh * 1000,
        "net_wh": (import_kwh - export_kwh) * 1000, "mean_w": 0.0, "samples": 15, "coverage": 1.0, "method": Method.SUM,
        "revision": revision,
    }  # fmt: skip
    found = QuarterHour.model_validate({**plain, **more})
    return GroupRow(found, found.id if found.level is Level.GROUP else "VEC-0001", "vector", 0.0)


def running(start: str, now: str, import_kwh: float, last_kw: float | None, **more: Any) -> GroupRow:
    last_w = None if last_kw is None else last_kw * 1000
    return row(start, import_kwh, revision=0, provisional=True, at=at(now), event_id=f"running {now}", last_minute_w=last_w, **more)


def envelope(number: int, effective: str, *pieces: tuple[str, str, float], phase: Phase = Phase.ALL) -> OperatingEnvelope:
    kind, cause = PieceKind.FORECAST, f"f{number}"
    return OperatingEnvelope(
        event_id=f"envelope {number}",
        at=at(effective),
        scope_id="mg-1",
        revision=number,
        effective_at=at(effective),
        pieces=[
            EnvelopePiece(start=at(start), end=at(end), import_limit_w=kw * 1000, phase=phase, import_cause=cause, import_kind=kind)
            for start, end, kw in pieces
        ],
    )


class Scope:
    def __init__(self, patience: Patience | None = None) -> None:
        self.rule = ComplianceRule(patience) if patience else ComplianceRule()
        self.state = self.rule.start("mg-1")
        self.warning, self.warned = AtRiskRule(), AtRiskRule().start("mg-1")

    def told(self, *items: Any, now: str = "12:00") -> list[Out]:
        outs = []
        for item in items:
            self.state, self.warned = pickle.loads(pickle.dumps((self.state, self.warned)))
            outs += self.warning.step(self.warned, item, at(now))
            outs += self.rule.step(self.state, item, at(now))
        return outs


def imports(outs: list[Out]) -> list[tuple[str, str, int]]:
    found = [verdict for verdict in values(outs, Verdict) if verdict.direction is IMPORT]
    return [(f"{verdict.quarter:%H:%M}", verdict.verdict.value, verdict.revision) for verdict in found]


def states(outs: list[Out]) -> list[tuple[str, int, int]]:
    return [(breach.state.value, breach.quarters, breach.revision) for breach in values(outs, Breach)]


DAY = envelope(1, "08:00", ("08:00", "20:00", 20))
