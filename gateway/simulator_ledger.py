"""What a simulated Capacity Provider has heard and said, and everything it found wrong with what it heard."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from schemas.clock import Clock
from schemas.intervals import QUARTER, quarter_of
from schemas.oscp import v20
from schemas.oscp.v20 import Action, EnergyMeasurement, EnergyUnit, FlowDirection, ForecastedBlock, MeasurementConfiguration, Wire
from schemas.units import W_PER_KW, rfc3339

GRACE = timedelta(seconds=90)
PROBLEMS_KEPT = 200


@dataclass(frozen=True, slots=True)
class Heard:
    """One message that came, readable and with the right credentials."""

    action: Action
    message: Wire
    request_id: str
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class No:
    """An answer that refuses: HTTP status and words."""

    status: int
    words: str


@dataclass
class Ledger:
    """Takes in what was heard, checks it, and adds it up. Not thread-safe; asks the clock, does no I/O.

    What is wrong with a message goes into `problems` in words; `take` returns `No` where the answer should
    be an error too. `owed` are the request ids (and actions) we misbehaved at, which have to come again; `refused` those that
    we refused without reason, which need not. `unnamed` are the messages we sent without X-Request-ID, so that any correlation
    will do. `expects_start`: the Flexibility Provider may register first. `lapses` counts its heartbeats that came after the
    instant until which the one before had vouched for it. `segmented` counts the messages that came in segments; `unfinished` says of
    which some have not come. `reused` are the request ids we used for two messages, each of which may be answered, with the id of the
    second answer.
    """

    group_id: str
    clock: Clock
    heartbeat_interval_s: float | None
    styles: frozenset[MeasurementConfiguration]
    heard: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    duplicates: int = 0
    forecasts: dict[str, tuple[datetime, v20.UpdateGroupCapacityForecast]] = field(default_factory=dict)
    compliance_errors: list[dict[str, Any]] = field(default_factory=list)
    adjustments: list[dict[str, Any]] = field(default_factory=list)
    energies: dict[tuple[str, str, datetime], float] = field(default_factory=dict)
    registrations: set[str] = field(default_factory=set)
    handshakes: set[str] = field(default_factory=set)
    acknowledged: v20.HandshakeAcknowledge | None = None
    beats_due: datetime | None = None
    partner_offline_at: datetime | None = None
    owed: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unnamed: set[str] = field(default_factory=set)
    expects_start: bool = False
    lapses: int = 0
    contents: dict[tuple[str, str | None, str], str] = field(default_factory=dict)
    segmented: int = 0
    unfinished: list[str] = field(default_factory=list)
    more_groups: frozenset[str] = frozenset()
    reused: dict[str, str] = field(default_factory=dict)

    def problem(self, words: str) -> None:
        """Note something wrong; the same words once."""
        if words not in self.problems and len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(words)

    def excuse(self) -> None:
        """It was our fault if a heartbeat did not come: the next one is due an interval from now."""
        self.partner_offline_at = None
        if self.beats_due is not None and self.heartbeat_interval_s is not None:
            self.beats_due = self.clock.now() + timedelta(seconds=self.heartbeat_interval_s)

    def once(self, action: Action, request_id: str, correlation_id: str | None, content: str) -> None:
        """Note what a message holds (a digest); the same again under another request id is one message sent as two."""
        if action is Action.HEARTBEAT:
            return
        if self.contents.setdefault((action, correlation_id, content), request_id) != request_id:
            if correlation_id is not None and self.reused.get(correlation_id) in ("", request_id):
                self.reused[correlation_id] = request_id  # the second of its two answers
                return
            self.problem(f"{action}: {request_id} is the same message as {self.contents[action, correlation_id, content]}")

    def take(self, heard: Heard) -> No | None:
        """Check one message and add it to the books; None means 204."""
        self.heard[heard.action] += 1
        match heard.message:
            case v20.Register():
                return self._register(heard, heard.message)
            case v20.HandshakeAcknowledge():
                return self._acknowledge(heard, heard.message)
            case v20.Heartbeat():
                return self._beat(heard.message)
            case v20.UpdateAssetMeasurements():
                entries = [(entry.asset_id, entry.energy_measurement) for entry in heard.message.measurements]
                return self._measured(heard, heard.message.group_id, entries)
            case v20.UpdateGroupMeasurements():
                return self._measured(
                    heard, heard.message.group_id, [(heard.message.group_id, each) for each in heard.message.measurements]
                )
            case v20.GroupCapacityComplianceError():
                return self._compliance(heard, heard.message)
            case v20.AdjustGroupCapacityForecast():
                self.adjustments.append({"at": rfc3339(self.clock.now()), "body": heard.message.model_dump(mode="json")})
                return self._group(heard, heard.message.group_id)
            case _:
                return self._no(404, f"{heard.action} is not for a Capacity Provider")

    def _no(self, status: int, words: str) -> No:
        self.problem(words)
        return No(status, words)

    def _ours(self, heard: Heard, ids: set[str], action: Action) -> bool:
        return heard.correlation_id in ids or (heard.correlation_id is not None and action in self.unnamed)

    def _register(self, heard: Heard, message: v20.Register) -> No | None:
        starts = heard.correlation_id is None and self.expects_start
        if not starts and not self._ours(heard, self.registrations, Action.REGISTER):
            self.problem(f"Register: X-Correlation-ID {heard.correlation_id!r} is no request id of our registration")
        if [each.version for each in message.version_url] != ["2.0"]:
            self.problem("Register: a reply names the one chosen version, 2.0")
        return None

    def _acknowledge(self, heard: Heard, message: v20.HandshakeAcknowledge) -> No | None:
        if not self._ours(heard, self.handshakes, Action.HANDSHAKE):
            return self._no(409, f"HandshakeAcknowledge: X-Correlation-ID {heard.correlation_id!r} is no handshake of ours")
        if message.required_behaviour is None:
            self.problem("HandshakeAcknowledge: required_behaviour is missing")
        self.acknowledged = message
        if self.heartbeat_interval_s is not None:
            self.beats_due = self.clock.now() + timedelta(seconds=self.heartbeat_interval_s)
        return None

    def _beat(self, message: v20.Heartbeat) -> No | None:
        now = self.clock.now()
        if self.heartbeat_interval_s is None:
            self.problem("Heartbeat: we asked for none")
            return None
        for words in self._silence(now):
            self.problem(words)
        if message.offline_mode_at <= now:
            self.problem(f"Heartbeat: offline_mode_at {rfc3339(message.offline_mode_at)} was past when it came")
        if self.partner_offline_at is not None and now > self.partner_offline_at:
            self.lapses += 1
        self.partner_offline_at = message.offline_mode_at
        self.beats_due = now + timedelta(seconds=self.heartbeat_interval_s)
        return None

    def _silence(self, now: datetime) -> list[str]:
        late = self.beats_due is not None and now > self.beats_due + self.clock.allowance(GRACE)
        return [f"Heartbeat: none came by {rfc3339(self.beats_due)}"] if late and self.beats_due else []

    def _group(self, heard: Heard, group_id: str) -> No | None:
        known = group_id == self.group_id or group_id in self.more_groups
        return None if known else self._no(404, f"{heard.action}: there is no group {group_id!r}")

    def _measured(self, heard: Heard, group_id: str, entries: list[tuple[str, EnergyMeasurement | None]]) -> No | None:
        if (no := self._group(heard, group_id)) is not None:
            return no
        seen = set()
        for name, energy in entries:
            if energy is None:
                continue
            words = f"{heard.action}: {name} {energy.direction} at {rfc3339(energy.measure_time)}"
            start = energy.initial_measure_time
            if start is None:
                if MeasurementConfiguration.CONTINUOUS not in self.styles:
                    self.problem(f"{words}: initial_measure_time is missing though INTERMITTENT is required")
                continue
            if start != quarter_of(start) or energy.measure_time != start + QUARTER:
                self.problem(f"{words}: begins {rfc3339(start)}, which is no quarter hour")
            if energy.measure_time > self.clock.now() + self.clock.allowance(timedelta(0)):
                self.problem(f"{words}: lies in the future")
            if energy.value < 0 and energy.direction is not FlowDirection.NET:
                self.problem(f"{words}: {energy.value:g} is negative")
            key = (name, energy.direction.value, start)
            if key in seen:
                self.problem(f"{words}: twice in one message")
            seen.add(key)
            self.energies[key] = energy.value * (W_PER_KW if energy.unit is EnergyUnit.KWH else 1.0)
        return None

    def _compliance(self, heard: Heard, message: v20.GroupCapacityComplianceError) -> No | None:
        found = self.forecasts.get(heard.correlation_id or "")
        if found is None:
            return self._no(400, f"GroupCapacityComplianceError: X-Correlation-ID {heard.correlation_id!r} is no forecast of ours")
        for block in message.forecasted_blocks or []:
            if not any(_within(block, whole) for whole in found[1].forecasted_blocks):
                words = f"the block from {rfc3339(block.start_time)} is not part of forecast {heard.correlation_id}"
                self.problem(f"GroupCapacityComplianceError: {words}")
        self.compliance_errors.append(
            {
                "correlation_id": heard.correlation_id,
                "at": rfc3339(self.clock.now()),
                "message": message.message,
                "forecasted_blocks": [block.model_dump(mode="json") for block in message.forecasted_blocks or []],
            }
        )
        return None

    def report(self) -> dict[str, Any]:
        """Everything so far, as plain JSON data."""
        now = [*self._silence(self.clock.now()), *self.unfinished]
        return {
            "heard": dict(self.heard),
            "said": dict(self.said),
            "problems": [*self.problems, *(each for each in now if each not in self.problems)],
            "segmented": self.segmented,
            "duplicates": self.duplicates,
            "owed": self.owed,
            "refused": self.refused,
            "lapses": self.lapses,
            "forecasts": [
                {
                    "request_id": request_id,
                    "type": forecast.type.value,
                    "sent_at": rfc3339(at),
                    "start": rfc3339(forecast.forecasted_blocks[0].start_time),
                    "end": rfc3339(forecast.forecasted_blocks[-1].end_time),
                    "blocks": len(forecast.forecasted_blocks),
                }
                for request_id, (at, forecast) in self.forecasts.items()
            ],
            "compliance_errors": self.compliance_errors,
            "adjustments": self.adjustments,
            "energies": [
                {"id": name, "direction": direction, "start": rfc3339(start), "wh": wh}
                for (name, direction, start), wh in sorted(self.energies.items())
            ],
        }


def _within(part: ForecastedBlock, whole: ForecastedBlock) -> bool:
    same = (part.capacity, part.unit, part.phase) == (whole.capacity, whole.unit, whole.phase)
    return same and whole.start_time <= part.start_time and part.end_time <= whole.end_time
