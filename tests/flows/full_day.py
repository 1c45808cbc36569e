"""One local day of one scope, as it is told to the flows, and what semantics 3 to 5 make of it by plain reckoning.

A day-ahead plan in hourly or quarter-hour blocks, an emergency block until midnight, an hour offline with a fallback for most
of it and a forecast that arrives meanwhile, the return, and an hour with an operator's own limit. Nothing here uses the
product's rules: the limit is asked at every step of ten seconds.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from pipelines.records import Record
from schemas.capacity import EnvelopeCommand, OperatorBlock
from schemas.connection import Command, CommandKind, Connection, ConnectionState, InboundMessage
from schemas.facts import digest
from schemas.telemetry import Level, Method, QuarterHour
from schemas.topics import COMMANDS, CONNECTIONS, INBOUND, QUARTER_HOURS, Topic
from schemas.units import Direction
from tests.flows.told_story import Moment

STEP, QUARTER, HOUR = timedelta(seconds=10), timedelta(minutes=15), timedelta(hours=1)
AFTERWARDS = 3 * HOUR
HOLD = timedelta(minutes=90)
RATED_KW = {Direction.IMPORT: 250.0, Direction.EXPORT: 150.0}
EMERGENCY_KW, FALLBACK_KW, MEANWHILE_KW, OPERATOR_KW, EXPORT_KW = 25.0, 18.0, 12.0, 10.0, 60.0


class Held(NamedTuple):
    """A limit in force: kW, why, and from whom."""

    kw: float
    kind: str
    cause: str


class Judged(NamedTuple):
    """What a quarter and direction must come to."""

    verdict: str
    used_wh: float
    allowed_wh: float | None
    causes: list[str]
    told: list[str]


@dataclass
class FullDay:
    """A local day. `blocks` of the plan are that long; hours are told as energies (KWH), quarters as powers (KW)."""

    zone: str
    day: tuple[int, int, int]
    block: timedelta
    over: dict[int, float] = field(default_factory=dict)
    poor: frozenset[int] = frozenset()

    @cached_property
    def midnight(self) -> datetime:
        return datetime(*self.day, tzinfo=ZoneInfo(self.zone)).astimezone(UTC)

    @cached_property
    def end(self) -> datetime:
        return (datetime(*self.day, tzinfo=ZoneInfo(self.zone)) + timedelta(days=1)).astimezone(UTC)

    @property
    def quarters(self) -> list[datetime]:
        return [self.midnight + n * QUARTER for n in range((self.end - self.midnight) // QUARTER)]

    @property
    def planned(self) -> datetime:
        return self.midnight - 10 * HOUR

    @property
    def emergency(self) -> tuple[datetime, datetime]:
        """When it is received, and when it begins to hold."""
        return self.midnight + timedelta(hours=13, minutes=7, seconds=20), self.midnight + timedelta(hours=13, minutes=10)

    @property
    def away(self) -> tuple[datetime, datetime]:
        begin = self.midnight + timedelta(hours=16, minutes=7, seconds=30)
        return begin, begin + HOUR

    @property
    def fallback_ends(self) -> datetime:
        return self.away[0] + timedelta(minutes=45)

    @property
    def meanwhile(self) -> tuple[datetime, datetime, datetime]:
        """A forecast received while the partner is away: when, and from when to when it speaks."""
        begin = self.away[0]
        return begin + timedelta(minutes=20), begin + timedelta(minutes=22), begin + timedelta(minutes=50)

    @property
    def operator(self) -> tuple[datetime, datetime]:
        return self.midnight + timedelta(hours=19, minutes=35), self.midnight + timedelta(hours=20, minutes=25)

    def plan_kw(self, at: datetime) -> float:
        number = (at - self.midnight) // self.block
        return 260.0 if number == 5 else 40.0 + 7.0 * (number % 9)

    def limit(self, at: datetime, direction: Direction) -> Held | None:
        """What is in force at an instant."""
        if not self.midnight <= at < self.end + HOLD:
            return None
        if direction is Direction.EXPORT:
            held = at >= self.end or self.away[0] <= at < self.away[1]
            return Held(EXPORT_KW, "HELD" if held else "FORECAST", "plan-out")
        if at >= self.end:
            return Held(EMERGENCY_KW, "HELD", "emergency")
        if self.away[0] <= at < self.away[1]:
            _, begin, until = self.meanwhile
            if at < begin:
                return Held(FALLBACK_KW, "FALLBACK", "fallback")
            return Held(MEANWHILE_KW, "FORECAST" if at < min(until, self.fallback_ends) else "HELD", "meanwhile")
        if at >= self.emergency[1]:
            if self.operator[0] <= at < self.operator[1]:
                return Held(OPERATOR_KW, "OPERATOR", "operators-limit")
            return Held(EMERGENCY_KW, "FORECAST", "emergency")
        return Held(self.plan_kw(at), "FORECAST", "plan-in")

    def changes(self) -> list[tuple[datetime, Held | None, Held | None]]:
        """Every instant from which on another limit is in force, import before export."""
        found: list[tuple[datetime, Held | None, Held | None]] = []
        at = self.planned
        last: tuple[Held | None, Held | None] = (None, None)
        while at < self.end + AFTERWARDS:
            now = self.limit(at, Direction.IMPORT), self.limit(at, Direction.EXPORT)
            if now != last:
                found.append((at, *now))
                last = now
            at += STEP
        return found

    def capacities(self) -> list[tuple[datetime, float | None, float | None, str, str]]:
        """Every change of the circuit: min(limit, rating), and the last value where nothing is known."""
        found: list[tuple[datetime, float | None, float | None, str, str]] = []
        value: dict[Direction, float | None] = dict.fromkeys(Direction)
        for at, *held in self.changes():
            kinds = []
            for direction, limit in zip(Direction, held, strict=True):
                if limit is not None:
                    value[direction] = min(limit.kw, RATED_KW[direction]) * 1000
                kinds.append("UNKNOWN" if limit is None else limit.kind)
            now = (value[Direction.IMPORT], value[Direction.EXPORT], kinds[0], kinds[1])
            if not found or found[-1][1:] != now:
                found.append((at, *now))
        return found

    def used_kwh(self, number: int, direction: Direction) -> float:
        """Well below the limit, but for the quarters that are to be over it by so many kWh."""
        limits = self._in(number, direction)
        allowed = sum(limit.kw for limit in limits if limit) * STEP / HOUR
        if direction is Direction.EXPORT:
            return 0.5
        return round(allowed + self.over[number], 4) if number in self.over else round(allowed * 0.4, 4)

    def coverage(self, number: int) -> float:
        return 0.3 if number in self.poor else 1.0

    def judged(self, number: int, direction: Direction) -> Judged:
        """The checks of semantics 5, one after the other."""
        limits = self._in(number, direction)
        used, known = self.used_kwh(number, direction) * 1000, [limit for limit in limits if limit]
        causes = list(dict.fromkeys(limit.cause for limit in known))
        own = [limit for limit in known if limit.kind not in ("OPERATOR", "SAFE")]
        told = list(dict.fromkeys(limit.cause for limit in own))
        if len(known) < len(limits):
            return Judged("UNKNOWN", used, None, causes, told)
        allowed = sum(limit.kw for limit in known) * 1000 / len(known) / 4
        if used > allowed + 1:
            theirs = sum(limit.kw for limit in own) * 1000 / len(own) / 4 if own else 0.0
            return Judged("BREACHED", used, allowed, causes, told if own and used > theirs + 1 else [])
        covered = self.coverage(number)
        enough = covered >= 0.5 and used / covered <= allowed + 1
        return Judged("WITHIN" if enough else "UNKNOWN", used, allowed, causes, told)

    def _in(self, number: int, direction: Direction) -> list[Held | None]:
        start = self.midnight + number * QUARTER
        return [self.limit(start + n * STEP, direction) for n in range(QUARTER // STEP)]

    # What is told to the flows

    def blocks(self) -> dict[str, list[tuple[datetime, datetime, float]]]:
        """The blocks in kW of each forecast, by its X-Request-ID."""
        starts = [self.midnight + n * self.block for n in range((self.end - self.midnight) // self.block)]
        return {
            "plan-in": [(start, start + self.block, self.plan_kw(start)) for start in starts],
            "plan-out": [(self.midnight, self.end, EXPORT_KW)],
            "fallback": [(self.midnight, self.fallback_ends, FALLBACK_KW)],
            "emergency": [(self.emergency[1], self.end, EMERGENCY_KW)],
            "meanwhile": [(*self.meanwhile[1:], MEANWHILE_KW)],
        }

    def inbound(self) -> list[Moment]:
        """Forecasts as they come in."""
        energies = self.block >= HOUR
        said = [
            self._forecast("plan-in", self.planned, "CONSUMPTION", "KWH" if energies else "KW"),
            self._forecast("plan-out", self.planned, "GENERATION", "W"),
            self._forecast("fallback", self.planned + HOUR, "FALLBACK_CONSUMPTION", "KW"),
            self._forecast("emergency", self.emergency[0], "CONSUMPTION", "KW"),
            self._forecast("meanwhile", self.meanwhile[0], "CONSUMPTION", "KW"),
        ]
        return [Moment(each.received_at, (record(INBOUND, each),)) for each in said]

    def connections(self) -> list[Moment]:
        """The partner's connection: there, away for an hour, there again."""
        states = [
            (ConnectionState.ONLINE, self.planned - HOUR), (ConnectionState.OFFLINE, self.away[0]), (ConnectionState.ONLINE, self.away[1]),
        ]  # fmt: skip
        return [
            Moment(since, (record(CONNECTIONS, Connection(
                event_id=f"{state} {since}", at=since, partner_id="vector", state=state, since=since,
                first_acknowledged_at=self.planned - HOUR,
            )),))
            for state, since in states
        ]  # fmt: skip

    def commands(self) -> list[Moment]:
        """An operator's own limit, an hour before it begins."""
        blocks = [OperatorBlock(start=self.operator[0], end=self.operator[1], limit_w=OPERATOR_KW * 1000)]
        payload = EnvelopeCommand(scope_id="mg-1", direction=Direction.IMPORT, blocks=blocks).model_dump_json()
        at = self.operator[0] - HOUR
        command = Command(
            event_id="operators-limit", at=at, partner_id="", kind=CommandKind.ENVELOPE, by="ana", scope_id="mg-1", payload=payload
        )
        return [Moment(at, (record(COMMANDS, command),))]

    def passing(self) -> list[Moment]:
        """Time, at least every quarter hour, and at every instant at which another limit holds."""
        steps = [self.planned + n * QUARTER for n in range((self.end + AFTERWARDS - self.planned) // QUARTER)]
        return [Moment(at) for at in {*steps, *(change[0] for change in self.changes())}]

    def rows(self) -> list[Moment]:
        """The group's rows of the day, each a minute after its quarter, as the connection meter gives them."""
        return [
            Moment(start + QUARTER + timedelta(seconds=65), (record(QUARTER_HOURS, self.row(n)),)) for n, start in enumerate(self.quarters)
        ]

    def row(self, number: int, **changes: Any) -> QuarterHour:
        start = self.midnight + number * QUARTER
        imports, exports = (self.used_kwh(number, direction) * 1000 for direction in Direction)
        plain = {
            "event_id": f"row {number}", "at": start + QUARTER, "level": Level.GROUP, "id": "VEC-0001", "scope_id": "mg-1", "start": start,
            "import_wh": imports, "export_wh": exports, "net_wh": imports - exports, "mean_w": (imports - exports) * 4, "samples": 15,
            "coverage": self.coverage(number), "method": Method.METER, "revision": 1,
        }  # fmt: skip
        return QuarterHour.model_validate(plain | changes)

    def _forecast(self, cause: str, received: datetime, kind: str, unit: str) -> InboundMessage:
        said = [self._said(block, unit) for block in self.blocks()[cause]]
        text = json.dumps({"group_id": "VEC-0001", "type": kind, "forecasted_blocks": said})
        return InboundMessage(
            event_id=f"inbound {cause}", at=received, partner_id="vector", action="UpdateGroupCapacityForecast", method="POST",
            request_id=cause, received_at=received, group_id="VEC-0001", body=text, body_digest=digest(text), credential_digest="c",
        )  # fmt: skip

    def _said(self, block: tuple[datetime, datetime, float], unit: str) -> dict[str, Any]:
        start, end, kw = block
        capacity = {"KW": kw, "W": kw * 1000, "KWH": kw * ((end - start) / HOUR)}[unit]
        return {"capacity": capacity, "phase": "ALL", "unit": unit, "start_time": start.isoformat(), "end_time": end.isoformat()}


def record(topic: Topic, value: Any) -> Record:
    """Where it stands on its topic makes no difference to these flows."""
    return Record(topic.name, 0, 0, value.at, "key", value)


def in_order(*stories: list[Moment]) -> list[Moment]:
    """Several stories as one; of one instant, those named first come first."""
    return sorted((moment for story in stories for moment in story), key=lambda moment: moment.at)
