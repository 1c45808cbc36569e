"""A day at one house, as records on the topics: a day-ahead forecast, an emergency block, a breach, and what the partner was told.

For the live picture's tests, the page's tests and the picture of the page in the README.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pipelines.records import Record
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.compliance import Breach, BreachState, Verdict, VerdictKind
from schemas.config import Configuration
from schemas.connection import InboundMessage, Severity
from schemas.facts import Value, derived_id
from schemas.intervals import QUARTER
from schemas.outbound import DeadLetter
from schemas.telemetry import Level, Method, QuarterHour
from schemas.units import Direction
from tests.gateway.facts import NOW, connection, delivery, envelope, event, message, piece, record, report, reported, row

DAY_AHEAD, EMERGENCY = "b1c0a9e2-day-ahead", "7f3d5510-emergency"
LOADS = (
    0.36, 0.38, 0.52, 1.02, 1.75, 1.43, 1.36, 0.57, 0.40, 0.53, 0.90, 0.35, 1.43, 1.76, 1.34, 0.68, 0.39, 0.38, 0.35, 0.39, 0.51, 0.45,
    1.13, 0.65, 0.52, 0.60, 0.55, 0.48, 0.75, None, None, 1.98, 1.51, 1.04, 1.21, 1.25, 1.28, 1.28, 1.45, 1.37, 1.39, 1.43,
)  # fmt: skip
"""Mean kW of the quarters up to the running one; None where the meter was silent."""
ATTRIBUTION = (
    "Contains data by G. Hebrail and A. Berard (UCI Machine Learning Repository, doi:10.24432/C58K54), CC BY 4.0, cut and converted."
)


def configuration() -> Configuration:
    """The recorded house as a microgrid."""
    return Configuration.model_validate(
        {
            "circuits": [{"id": "sceaux-feeder", "name": "Sceaux connection", "rated_import_kw": 9, "rated_export_kw": 6}],
            "scopes": [{"id": "sceaux-house", "name": "House in Sceaux", "circuit_id": "sceaux-feeder", "time_zone": "Europe/Paris"}],
            "assets": [
                {"id": "house-main", "scope_id": "sceaux-house", "category": "CONSUMPTION", "connection_meter": True},
                {"id": "house-kitchen", "scope_id": "sceaux-house", "category": "CONSUMPTION"},
                {"id": "house-laundry", "scope_id": "sceaux-house", "category": "CONSUMPTION"},
                {"id": "house-waterheat-ac", "scope_id": "sceaux-house", "category": "CONSUMPTION"},
            ],
            "partners": [{"id": "vector", "name": "Vector"}],
            "groups": [{"partner_id": "vector", "group_id": "VEC-0001", "scope_id": "sceaux-house"}],
        }
    )


MIDNIGHT = datetime(2007, 6, 8, 22, 0, tzinfo=UTC)
NOON, EVENING, TOMORROW = MIDNIGHT + timedelta(hours=12), MIDNIGHT + timedelta(hours=18), MIDNIGHT + timedelta(hours=24)
DROP, LIFT = NOW.replace(hour=16, minute=45, second=0), NOW.replace(hour=20, minute=30, second=0)
PLAN = (
    (MIDNIGHT, NOON, 4.0, DAY_AHEAD),
    (NOON, EVENING, 2.5, DAY_AHEAD),
    (EVENING, DROP, 3.5, DAY_AHEAD),
    (DROP, LIFT, 1.1, EMERGENCY),
    (LIFT, TOMORROW, 3.5, DAY_AHEAD),
)
"""What held, and from which forecast."""


def values() -> Iterator[Value]:
    """Everything that was said by 20:26 local time."""
    yield connection()
    day_ahead = [piece(start, end, limit, 3, DAY_AHEAD) for start, end, limit, _ in PLAN[:2]]
    yield envelope(1, MIDNIGHT, [*day_ahead, piece(EVENING, TOMORROW, 3.5, 3, DAY_AHEAD)])
    yield envelope(2, DROP, [piece(start, end, limit, 3, cause) for start, end, limit, cause in PLAN[3:]])
    yield from _circuit()
    over: list[tuple[datetime, float]] = []
    first = NOW.replace(hour=18, minute=15, second=0) - len(LOADS) * QUARTER
    for index, load in enumerate(LOADS):
        start = first + index * QUARTER
        if load is None:
            continue
        coverage = 0.8667 if LOADS[index - 1] is None else 1.0
        yield row(start, load, coverage=coverage)
        yield row(start, load, of="house-main", level=Level.ASSET, coverage=coverage, method=Method.POWER)
        for asset, share in (("house-kitchen", 0.05), ("house-laundry", 0.11), ("house-waterheat-ac", 0.62)):
            yield row(start, load * share, of=asset, level=Level.ASSET)
        allowed = next(limit for begin, end, limit, _ in PLAN if begin <= start < end)
        yield _verdict(start, load * 250, allowed * 250)
        told = start + QUARTER + timedelta(minutes=1, seconds=8)
        owed = [message("UpdateAssetMeasurements", told)]
        if load > allowed:
            over.append((start, load - allowed))
            owed.append(message("GroupCapacityComplianceError", told + timedelta(seconds=1), EMERGENCY))
        for one in owed:
            yield one
            yield delivery(one, attempt=2 if len(over) == 2 and one.correlation_id else 1)
    yield _running()
    yield _breach(over)
    yield from _talk()


def _circuit() -> Iterator[CircuitCapacity]:
    previous = None
    for at, _, limit, cause in PLAN[:4]:
        value = limit * 1000
        yield CircuitCapacity(
            event_id=derived_id("circuit", at),
            at=at,
            circuit_id="sceaux-feeder",
            scope_id="sceaux-house",
            available_import_w=value,
            available_export_w=3000.0,
            previous_import_w=previous,
            previous_export_w=None if previous is None else 3000.0,
            effective_from=at,
            cause=cause,
            kind=PieceKind.FORECAST,
            import_kind=PieceKind.FORECAST,
            export_kind=PieceKind.FORECAST,
        )
        previous = value


def _verdict(quarter: datetime, used_wh: float, allowed_wh: float) -> Verdict:
    return Verdict(
        event_id=derived_id("verdict", quarter),
        at=quarter + QUARTER,
        partner_id="vector",
        group_id="VEC-0001",
        scope_id="sceaux-house",
        quarter=quarter,
        direction=Direction.IMPORT,
        verdict=VerdictKind.BREACHED if used_wh > allowed_wh + 1 else VerdictKind.WITHIN,
        used_wh=used_wh,
        allowed_wh=allowed_wh,
        revision=1,
    )


def _running() -> QuarterHour:
    start = NOW.replace(minute=15, second=0)
    at = NOW - timedelta(seconds=10)
    return row(start, 1.05, provisional=True, revision=0, at=at, last_minute_w=1432.0, samples=11, coverage=0.7333)


def _breach(over: list[tuple[datetime, float]]) -> Breach:
    return Breach(
        event_id=derived_id("breach", len(over)),
        at=NOW - timedelta(minutes=10),
        breach_id=derived_id("breach"),
        partner_id="vector",
        group_id="VEC-0001",
        scope_id="sceaux-house",
        direction=Direction.IMPORT,
        state=BreachState.CONTINUED,
        first_quarter=over[0][0],
        last_quarter=over[-1][0],
        quarters=len(over),
        peak_mean_w=1000 * max(excess for _, excess in over) + 1100,
        energy_over_wh=250 * sum(excess for _, excess in over),
        forecasts=[EMERGENCY],
        revision=len(over),
    )


def _talk() -> Iterator[Value]:
    yield InboundMessage(
        event_id="i1", at=NOW, partner_id="vector", action="Heartbeat", method="POST", request_id="h1",
        received_at=NOW - timedelta(minutes=1, seconds=50), body="{}", body_digest="0", credential_digest="0",
    )  # fmt: skip
    beat = message("Heartbeat", NOW - timedelta(minutes=3, seconds=2))
    yield beat
    yield delivery(beat)
    for minutes, kind, words, severity in (
        (540, "online", "Vector has acknowledged; heartbeats go both ways", Severity.INFO),
        (532, "forecast", "Day-ahead forecast of 3 blocks received for VEC-0001", Severity.INFO),
        (101, "forecast", "Emergency forecast received: 1.1 kW import from 18:45 to 22:30", Severity.WARNING),
        (84, "breach", "Import limit of VEC-0001 exceeded: 1.28 kW of 1.10 kW mean, reported to Vector", Severity.ALARM),
        (9, "breach", "The breach of VEC-0001 continues: 1.43 kW of 1.10 kW mean, reported to Vector", Severity.ALARM),
    ):  # fmt: skip
        subject = "sceaux-house" if kind == "breach" else "vector"
        yield event(NOW - timedelta(minutes=minutes), kind, words, severity, subject)
    for number, (reason, count) in enumerate({"unknown asset": 15, "not a finite number": 1}.items()):
        yield DeadLetter(
            event_id=f"d{number}", at=NOW, reason=reason, count=count, topic="derms.telemetry", partition=0, offset=number, raw=b"x"
        )


def records() -> list[Record]:
    """The story as records, and what the telemetry flow's worker reported meanwhile."""
    reports = [reported(report(ago, 345_600 - 4 * ago), ago) for ago in (20, 10, 0)]
    return [*(record(value, offset) for offset, value in enumerate(values())), *reports]
