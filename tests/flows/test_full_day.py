"""A whole local day through the flows as they are wired, against a plain reckoning: days of 92 and 100 quarters (semantics 3 to 5, 7.3)."""

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any

import pytest

from pipelines.circuits import circuits_flow
from pipelines.compliance import compliance_flow
from pipelines.envelopes import envelopes_flow
from pipelines.records import Out
from pipelines.reporting import reporting_flow
from pipelines.views import FixedView
from schemas.capacity import CircuitCapacity, EnvelopePiece, OperatingEnvelope
from schemas.compliance import Breach, BreachState, Verdict
from schemas.connection import Event
from schemas.outbound import OutboundMessage
from schemas.topics import CIRCUIT_CAPACITY, COMPLIANCE, ENVELOPES, QUARTER_HOURS
from schemas.units import Direction, Phase
from tests.builders import configuration
from tests.flows.full_day import HOLD, HOUR, QUARTER, FullDay, Held, in_order, record
from tests.flows.told_story import Moment, StoryClock, Written, told

CONFIG = FixedView(configuration(groups=[{"partner_id": "vector", "group_id": "VEC-0001", "scope_id": "mg-1", "fallback_hold": HOLD}]))
LIMITED = (ENVELOPES, CIRCUIT_CAPACITY)


class Platform:
    """The legacy platform's writer, as far as the flow sees it."""

    def __init__(self) -> None:
        self.written: list[CircuitCapacity] = []

    def submit(self, change: CircuitCapacity) -> None:
        self.written.append(change)


class Played:
    """A day, played through the four flows, each with what the one before it wrote."""

    def __init__(self, day: FullDay) -> None:
        self.day = day
        said = in_order(day.connections(), day.inbound(), day.commands(), day.passing())
        self.limits = told(lambda s, o, c: envelopes_flow(records=s, out=o, clock=c, config=CONFIG), said)
        self.platform = Platform()
        self.events = told(self._circuits, self.moments(self.limits, CircuitCapacity))
        judged = in_order(self.moments(self.limits, OperatingEnvelope), day.rows(), [self.running()])
        self.judged = told(lambda s, o, c: compliance_flow(records=s, out=o, clock=c, config=CONFIG), judged)
        owed = in_order(day.connections(), day.inbound(), self.moments(self.judged, Verdict))
        self.owed = told(lambda s, o, c: reporting_flow(records=s, out=o, clock=c, config=CONFIG), owed)

    def _circuits(self, source: Any, sink: Any, clock: StoryClock) -> Any:
        return circuits_flow(records=source, out=sink, clock=clock, config=CONFIG, writer=self.platform)

    def running(self) -> Moment:
        """A provisional row inside the first quarter that will be over its limit."""
        number = min(self.day.over)
        at = self.day.midnight + number * QUARTER + timedelta(minutes=10)
        wh = self.day.used_kwh(number, Direction.IMPORT) * 1000 * 2 / 3
        row = self.day.row(number, revision=0, provisional=True, at=at, event_id="running", import_wh=wh, export_wh=0.0, last_minute_w=None)
        return Moment(at, (record(QUARTER_HOURS, row),))

    def moments(self, written: list[Written], model: type) -> list[Moment]:
        topic = {OperatingEnvelope: ENVELOPES, CircuitCapacity: CIRCUIT_CAPACITY, Verdict: COMPLIANCE}[model]
        return [Moment(each.at, (record(topic, each.out.value),)) for each in written if isinstance(each.out.value, model)]

    def of(self, written: list[Written], model: type) -> list[Any]:
        return [each.out.value for each in written if isinstance(each.out.value, model)]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return [verdict for verdict in self.of(self.judged, Verdict) if not verdict.at_risk]


def day(zone: str, date: tuple[int, int, int], block: timedelta) -> FullDay:
    """Breached before the emergency, while the partner is away, under the operator's limit and against the emergency block; the
    quarters from the last one on are over their limit until midnight."""
    count = FullDay(zone, date, block).quarters
    over = {20: 2.0, 21: 0.5, 22: 0.002, 52: 3.0, 53: 1.0, 65: 0.7, 66: 0.2, 67: 1.0, 79: 2.0, 80: 0.6, 81: 0.6, 84: 1.0, 85: 4.0}
    return FullDay(zone, date, block, over={**over, len(count) - 2: 1.0, len(count) - 1: 1.5}, poor=frozenset({30, 54, 55, 86, 88}))


DAYS = [
    pytest.param((day("Pacific/Auckland", (2026, 9, 27), HOUR), 92), id="Auckland, spring"),
    pytest.param((day("Pacific/Auckland", (2027, 4, 4), QUARTER), 100), id="Auckland, autumn"),
    pytest.param((day("Europe/Paris", (2026, 10, 25), HOUR), 100), id="Paris, autumn"),
    pytest.param((day("Europe/Paris", (2026, 3, 29), QUARTER), 92), id="Paris, spring"),
]


def timeline(envelopes: Iterable[OperatingEnvelope]) -> list[tuple[datetime, Held | None, Held | None]]:
    """The envelopes one after the other as any reader has them: from `effective_at` on each replaces those before it."""
    pieces: list[EnvelopePiece] = []
    for envelope in envelopes:
        since = envelope.effective_at
        kept = [piece.model_copy(update={"end": min(piece.end, since)}) for piece in pieces if piece.start < since]
        pieces = kept + [piece for piece in envelope.pieces if piece.end > since]
        assert all(one.end <= other.start for one, other in pairwise(pieces))
        assert {piece.phase for piece in pieces} == {Phase.ALL}
    found: list[tuple[datetime, Held | None, Held | None]] = []
    ends = [*(piece.start for piece in pieces[1:]), None]
    for piece, following in zip(pieces, ends, strict=True):
        steps = [(piece.start, imported(piece), exported(piece))]
        if following is None or following > piece.end:
            steps.append((piece.end, None, None))
        found += [step for n, step in enumerate(steps) if step[1:] != (steps[n - 1] if n else found[-1] if found else (None,) * 3)[1:]]
    return found


def imported(piece: EnvelopePiece) -> Held | None:
    return None if piece.import_limit_w is None else Held(piece.import_limit_w / 1000, piece.import_kind.value, piece.import_cause or "")


def exported(piece: EnvelopePiece) -> Held | None:
    return None if piece.export_limit_w is None else Held(piece.export_limit_w / 1000, piece.export_kind.value, piece.export_cause or "")


def expected_breaches(day: FullDay, direction: Direction) -> list[tuple[Any, ...]]:
    """Runs of breached quarters: one within ends a run, what is not known does not, but for two hours."""
    found: list[list[int]] = []
    open_until = -1
    for number in range(len(day.quarters)):
        verdict = day.judged(number, direction).verdict
        if verdict == "BREACHED":
            if number < open_until:
                found[-1].append(number)
            else:
                found.append([number])
            open_until = number + 9
        elif verdict == "WITHIN":
            open_until = -1
    return [summary(day, direction, numbers) for numbers in found]


def summary(day: FullDay, direction: Direction, numbers: list[int]) -> tuple[Any, ...]:
    judged = [day.judged(number, direction) for number in numbers]
    over = sum(each.used_wh - (each.allowed_wh or 0.0) for each in judged)
    causes = list(dict.fromkeys(cause for each in judged for cause in each.causes))
    start = day.midnight
    first, last = start + numbers[0] * QUARTER, start + numbers[-1] * QUARTER
    return first, last, len(numbers), pytest.approx(max(each.used_wh for each in judged) * 4), pytest.approx(over, abs=1e-6), causes


@pytest.fixture(scope="module", params=DAYS)
def played(request: pytest.FixtureRequest) -> Played:
    played_day, quarters = request.param
    assert len(played_day.quarters) == quarters
    return Played(played_day)


def test_every_boundary_of_the_envelope(played: Played):
    assert timeline(played.of(played.limits, OperatingEnvelope)) == played.day.changes()


def test_every_change_of_the_circuit_when_its_time_has_come(played: Played):
    changes = played.of(played.limits, CircuitCapacity)
    found = [(c.effective_from, c.available_import_w, c.available_export_w, c.import_kind.value, c.export_kind.value) for c in changes]
    assert found == played.day.capacities()
    assert all(change.at == change.effective_from for change in changes)
    assert [(c.previous_import_w, c.previous_export_w) for c in changes[1:]] == [change[1:3] for change in found[:-1]]
    assert played.platform.written == changes
    assert [event.cause_id for event in played.of(played.events, Event)] == [change.event_id for change in changes]


def test_every_verdict(played: Played):
    numbers = range(len(played.day.quarters))
    expected = {(n, direction): played.day.judged(n, direction) for n in numbers for direction in Direction}
    assert len(played.verdicts) == len(expected)
    for verdict in played.verdicts:
        at = (verdict.quarter - played.day.midnight) // QUARTER, verdict.direction
        told = expected.pop(at)
        assert (verdict.verdict.value, verdict.used_wh, verdict.forecasts, verdict.reportable_forecasts) == (
            told.verdict, told.used_wh, told.causes, told.told,
        ), at  # fmt: skip
        assert verdict.allowed_wh == (None if told.allowed_wh is None else pytest.approx(told.allowed_wh))
        assert (verdict.revision, verdict.phase) == (1, Phase.ALL)
    assert expected == {}
    assert {verdict.verdict.value for verdict in played.verdicts} == {"WITHIN", "BREACHED", "UNKNOWN"}


def test_the_warning_before(played: Played):
    (warning,) = [verdict for verdict in played.of(played.judged, Verdict) if verdict.at_risk]
    assert (warning.quarter - played.day.midnight) // QUARTER == min(played.day.over)
    assert warning.projected_w == pytest.approx(played.day.used_kwh(min(played.day.over), Direction.IMPORT) * 4000)


def test_every_breach(played: Played):
    last: dict[str, Breach] = {}
    for breach in played.of(played.judged, Breach):
        assert breach.breach_id not in last or breach.revision > last[breach.breach_id].revision
        last[breach.breach_id] = breach
    assert BreachState.VOIDED not in {breach.state for breach in last.values()}
    for direction in Direction:
        found = sorted((breach for breach in last.values() if breach.direction is direction), key=lambda breach: breach.first_quarter)
        assert [
            (b.first_quarter, b.last_quarter, b.quarters, b.peak_mean_w, b.energy_over_wh, b.forecasts) for b in found
        ] == expected_breaches(played.day, direction)
        assert all(breach.state is BreachState.CLOSED for breach in found[:-1])
    assert [b.state.value for b in last.values()][-1] == "CONTINUED"  # until midnight, and nothing was heard since


def test_every_compliance_error(played: Played):
    day, messages = played.day, played.of(played.owed, OutboundMessage)
    expected = [
        (cause, number)
        for number in range(len(day.quarters))
        for cause in day.judged(number, Direction.IMPORT).told
        if day.judged(number, Direction.IMPORT).verdict == "BREACHED"
    ]
    assert len(messages) == len(expected) > 10
    for message, (cause, number) in zip(messages, expected, strict=True):
        assert (message.action, message.correlation_id, message.group_id) == ("GroupCapacityComplianceError", cause, "VEC-0001")
        body, judged = json.loads(message.body), day.judged(number, Direction.IMPORT)
        over = judged.used_wh - (judged.allowed_wh or 0.0)
        assert f"import of {judged.used_wh / 1000:.3f} kWh" in body["message"]
        assert f"{over / 1000:.3f} kWh over the {(judged.allowed_wh or 0.0) / 1000:.3f} kWh" in body["message"]
        assert blocks_of(body) == pytest.approx(expected_blocks(day, cause, number))
    told = {cause for cause, _ in expected}
    assert told == {"plan-in", "emergency", "fallback", "meanwhile"}
    operators = [n for n in range(79, 82) if not day.judged(n, Direction.IMPORT).told]
    assert operators  # quarters over the operator's limit alone, of which the partner hears nothing
    assert {out.topic.name for out in outs(played.owed)} == {"derms.outbound"}


def outs(written: list[Written]) -> list[Out]:
    return [each.out for each in written]


def blocks_of(body: dict[str, Any]) -> dict[tuple[str, str, str], float]:
    return {(each["start_time"], each["end_time"], each["unit"]): each["capacity"] for each in body.get("forecasted_blocks", [])}


def expected_blocks(day: FullDay, cause: str, number: int) -> dict[tuple[str, str, str], float]:
    """The part of the forecast's blocks within the quarter, in its own unit."""
    start, unit = day.midnight + number * QUARTER, "KWH" if cause == "plan-in" and day.block == HOUR else "KW"
    found = {}
    for begin, end, kw in day.blocks()[cause]:
        inside = min(end, start + QUARTER) - max(begin, start)
        if inside > timedelta(0):
            key = stamp(max(begin, start)), stamp(min(end, start + QUARTER)), unit
            found[key] = kw * (inside / HOUR) if unit == "KWH" else kw
    return found


def stamp(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:%S}.000Z"
