"""What a demo came to, and whether it is as the recording's truth says (contract 1: `demo --once --report`)."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gateway.demo_platform import unwritten
from schemas.capacity import CircuitCapacity, EnvelopePiece, OperatingEnvelope
from schemas.compliance import Breach
from schemas.connection import Connection
from schemas.facts import Value
from schemas.intervals import QUARTER
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.telemetry import Level, QuarterHour
from schemas.units import rfc3339

TOLERANCE_WH = 0.5
TOLERANCE_SHARE = 0.001


@dataclass(frozen=True, slots=True)
class Truth:
    """What one quarter hour of one asset must amount to."""

    asset_id: str
    start: datetime
    import_wh: float
    export_wh: float


def read_truth(text: str) -> list[Truth]:
    """The rows of a truth CSV."""
    return [
        Truth(row["asset_id"], datetime.fromisoformat(row["start"]), float(row["import_wh"]), float(row["export_wh"]))
        for row in csv.DictReader(io.StringIO(text))
    ]


@dataclass
class Story:
    """Everything the topics said, folded: highest revision of rows and breaches, last delivery of a message."""

    quarters: dict[tuple[Level, str, datetime], QuarterHour] = field(default_factory=dict)
    envelopes: list[OperatingEnvelope] = field(default_factory=list)
    circuits: list[CircuitCapacity] = field(default_factory=list)
    breaches: dict[str, Breach] = field(default_factory=dict)
    messages: dict[str, OutboundMessage] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    connection: Connection | None = None

    def take(self, value: Value) -> None:
        """Fold one value of any topic."""
        match value:
            case QuarterHour(provisional=False):
                key = (value.level, value.id, value.start)
                if key not in self.quarters or value.revision >= self.quarters[key].revision:
                    self.quarters[key] = value
            case OperatingEnvelope():
                self.envelopes.append(value)
            case CircuitCapacity():
                self.circuits.append(value)
            case Breach():
                known = self.breaches.get(value.breach_id)
                if known is None or value.revision >= known.revision:
                    self.breaches[value.breach_id] = value
            case OutboundMessage():
                self.messages[value.message_id] = value
            case Delivery():
                self.deliveries[value.message_id] = value
            case Connection():
                self.connection = value
            case _:
                pass

    def waiting(self) -> list[OutboundMessage]:
        """Messages without a final outcome, heartbeats aside."""
        final = {Outcome.DELIVERED, Outcome.REFUSED, Outcome.EXPIRED, Outcome.DROPPED}
        known = {key for key, delivery in self.deliveries.items() if delivery.outcome in final}
        return [message for key, message in self.messages.items() if key not in known and message.action != "Heartbeat"]


def timeline(envelopes: list[OperatingEnvelope]) -> list[EnvelopePiece]:
    """What was and will be in force: each envelope holds from its `effective_at` on, what was before stays (semantics 3.4)."""
    pieces: list[EnvelopePiece] = []
    for envelope in envelopes:
        since = envelope.effective_at
        past = [piece.model_copy(update={"end": min(piece.end, since)}) for piece in pieces if piece.start < since]
        ahead = [piece.model_copy(update={"start": max(piece.start, since)}) for piece in envelope.pieces if piece.end > since]
        pieces = past + ahead
    return pieces


def differences(story: Story, truth: Iterable[Truth]) -> list[str]:
    """Each asset quarter that is not within 0.5 Wh or 0.1 % of the truth, in words."""
    found = []
    for true in truth:
        row = story.quarters.get((Level.ASSET, true.asset_id, true.start))
        name = f"{true.asset_id} {rfc3339(true.start)}"
        if row is None:
            found.append(f"{name}: no row, truth has {true.import_wh:g} Wh import, {true.export_wh:g} Wh export")
            continue
        for word, got, want in (("import", row.import_wh, true.import_wh), ("export", row.export_wh, true.export_wh)):
            if abs(got - want) > max(TOLERANCE_WH, TOLERANCE_SHARE * abs(want)):
                found.append(f"{name}: {word} {got:g} Wh, truth has {want:g} Wh")
    return found


def untold(story: Story, partner: Mapping[str, Any], platform: Mapping[str, Any]) -> list[str]:
    """What of the demo's story did not happen, in words; `partner` and `platform` are the simulator's and the circuit platform's own
    reports."""
    found = []
    if not any(envelope.pieces for envelope in story.envelopes):
        found.append("no operating envelope")
    if len({change.available_import_w for change in story.circuits}) < 2:
        found.append("the circuit's available capacity did not follow the forecast")
    found += unwritten(story.circuits, platform)
    if not story.breaches:
        found.append("no breach was opened")
    delivered = [d for d in story.deliveries.values() if d.outcome is Outcome.DELIVERED]
    answered = {delivery.action for delivery in delivered if delivery.status == 204}
    owed = ("UpdateAssetMeasurements", "GroupCapacityComplianceError")
    found.extend(f"no {action} was delivered with 204" for action in owed if action not in answered)
    found.extend(f"refused: {d.action} {d.status} {d.words}" for d in story.deliveries.values() if d.outcome is Outcome.REFUSED)
    found.extend(f"not delivered: {message.action} {message.message_id}" for message in story.waiting())
    found.extend(f"the partner found: {problem}" for problem in partner.get("problems", []))
    return found


def report(
    story: Story,
    truth: list[Truth],
    partner: Mapping[str, Any],
    platform: Mapping[str, Any],
    history: Mapping[str, int],
    attribution: str,
) -> dict[str, Any]:
    """The report as plain JSON data; `verdict.ok` says whether everything is as it should be."""
    wrong = differences(story, truth)
    missing = untold(story, partner, platform)
    outcomes = Counter((delivery.action, delivery.outcome.value, delivery.status) for delivery in story.deliveries.values())
    rows: dict[str, list[dict[str, Any]]] = {}
    for (level, name, start), row in sorted(story.quarters.items(), key=lambda item: item[0][1:]):
        if level is Level.ASSET and start + QUARTER <= _end(truth):
            rows.setdefault(name, []).append(
                {
                    "start": rfc3339(start),
                    "import_wh": row.import_wh,
                    "export_wh": row.export_wh,
                    "coverage": row.coverage,
                    "method": row.method.value,
                    "samples": row.samples,
                    "revision": row.revision,
                }
            )
    return {
        "attribution": attribution,
        "quarters": rows,
        "envelope_pieces": [piece.model_dump(mode="json") for piece in timeline(story.envelopes)],
        "envelopes": len(story.envelopes),
        "circuit_changes": [change.model_dump(mode="json") for change in story.circuits],
        "breaches": [breach.model_dump(mode="json") for breach in story.breaches.values()],
        "messages": [
            {"action": action, "outcome": outcome, "status": status, "count": count}
            for (action, outcome, status), count in sorted(outcomes.items(), key=str)
        ],
        "partner": dict(partner),
        "circuit_platform": dict(platform),
        "history_rows": dict(history),
        "truth_quarters": len(truth),
        "verdict": {"ok": not wrong and not missing, "differences": wrong, "untold": missing},
    }


def _end(truth: list[Truth]) -> datetime:
    return max(true.start + QUARTER for true in truth)
