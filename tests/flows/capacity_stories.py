"""Short stories for the flows that make limits, circuits' values and judgements: everything that can happen, in some twenty polls."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from pipelines.records import Record
from schemas.capacity import EnvelopeCommand, EnvelopePiece, OperatingEnvelope, OperatorBlock, PieceKind
from schemas.connection import Command, CommandKind, ConnectionState
from schemas.facts import Value
from schemas.intervals import QUARTER
from schemas.telemetry import Level, Method, QuarterHour
from schemas.topics import COMMANDS, CONNECTIONS, ENVELOPES, INBOUND, QUARTER_HOURS
from schemas.units import Direction, Phase
from tests.builders import T0
from tests.flows.test_envelopes import connection, forecast
from tests.flows.told_story import Moment

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
DAY_END = T0 + 24 * HOUR


def at(minutes: float) -> datetime:
    """That long after T0."""
    return T0 + minutes * MINUTE


def moment(minutes: float, *values: Value) -> Moment:
    """What comes in one poll then."""
    topics = {"InboundMessage": INBOUND, "Connection": CONNECTIONS, "Command": COMMANDS, "OperatingEnvelope": ENVELOPES}
    records = (Record(topics.get(type(value).__name__, QUARTER_HOURS).name, 0, 0, at(minutes), "key", value) for value in values)
    return Moment(at(minutes), tuple(records))


def limits() -> list[Moment]:
    """Forecasts, a fallback, an operator's limit, a partner that goes away and comes back, and hours in which nobody speaks."""
    plan = [(at(15 * n), at(15 * n + 15), 20.0 + n) for n in range(9)]
    own = EnvelopeCommand(
        scope_id="mg-1", direction=Direction.IMPORT, blocks=[OperatorBlock(start=at(20), end=at(40), limit_w=4_000.0)]
    ).model_dump_json()
    command = Command(
        event_id="o1", at=at(18), partner_id="", kind=CommandKind.ENVELOPE, by="ana", scope_id="mg-1", payload=own
    )  # fmt: skip
    return [
        moment(-60, forecast("f1", at(-60), *plan), forecast("g1", at(-60), (at(0), at(135), 9.0), type="GENERATION")),
        moment(-50, forecast("b1", at(-50), (at(0), at(65), 7.0), type="FALLBACK_CONSUMPTION")),
        moment(-40, connection(ConnectionState.ONLINE, at(-40))),
        moment(0),
        moment(15),
        moment(18, command),
        moment(30, forecast("f2", at(30), (at(31), at(75), 12.0))),
        moment(31),
        moment(37.5, connection(ConnectionState.OFFLINE, at(37.5))),
        moment(40),
        moment(50, forecast("f3", at(50), (at(48), at(58), 5.0)), forecast("f1", at(50), *plan)),
        moment(58),
        moment(66),
        moment(70, connection(ConnectionState.ACKING, at(70))),
        moment(71, connection(ConnectionState.ONLINE, at(71))),
        moment(75),
        moment(106),
        moment(135),
        moment(150, forecast("f4", at(150), (at(149), at(160), 300.0))),
        moment(160),
        moment(221),
        moment(225),
    ]


def envelope(number: int, stated: float, effective: float, *pieces: tuple[float, float, float, Phase]) -> OperatingEnvelope:
    """Revision `number`, with pieces from and to when, of so many kW; the export limit is half of it."""
    why: dict[str, Any] = {"import_kind": PieceKind.FORECAST, "export_kind": PieceKind.FORECAST}
    return OperatingEnvelope(
        event_id=f"envelope {number}", at=at(stated), scope_id="mg-1", revision=number, effective_at=at(effective),
        pieces=[
            EnvelopePiece(
                start=at(start), end=at(end), import_limit_w=kw * 1000, export_limit_w=kw * 500, phase=phase,
                import_cause=f"f{number}", export_cause=f"f{number}", **why,
            )
            for start, end, kw, phase in pieces
        ],
    )  # fmt: skip


def row(number: int, import_wh: float, *, revision: int = 1, **more: Any) -> QuarterHour:
    """The group's row of the quarter that many after T0."""
    name = f"row {number} {revision} {more.get('phase', Phase.ALL)} {more.get('last_minute_w')}"
    plain = {
        "event_id": name, "at": T0 + (number + 1) * QUARTER,
        "level": Level.GROUP, "id": "VEC-0001", "scope_id": "mg-1", "start": T0 + number * QUARTER, "import_wh": import_wh,
        "export_wh": 0.0, "net_wh": import_wh, "mean_w": import_wh * 4, "samples": 15, "coverage": 1.0, "method": Method.METER,
        "revision": revision,
    }  # fmt: skip
    return QuarterHour.model_validate(plain | more)


def meter(number: int, import_wh: float, **more: Any) -> QuarterHour:
    """The connection meter's row of phase ONE."""
    return row(number, import_wh, level=Level.ASSET, id="mg-1-grid", phase=Phase.ONE, **more)


def running(number: int, minute: float, import_wh: float, last_w: float) -> QuarterHour:
    """A provisional row of a quarter."""
    more = {"revision": 0, "provisional": True, "at": at(15 * number + minute), "last_minute_w": last_w}
    return row(number, import_wh, **more)


def rows() -> list[Moment]:
    """Rows and envelopes: a breach that is corrected from both sides, one of a phase, one that nothing ends but silence."""
    whole, one = Phase.ALL, Phase.ONE
    return [
        moment(-10, envelope(1, -10, 0, (0, 1440, 20, whole), (0, 1440, 8, one))),
        moment(10, running(0, 10, 4_000, 15_000.0)),
        moment(16, row(0, 6_000), meter(0, 1_000)),
        moment(25, running(1, 10, 1_000, 1_000.0)),
        moment(31, row(1, 7_000)),
        moment(33, envelope(2, 33, 33, (33, 1440, 30, whole), (33, 1440, 6, one))),
        moment(46, row(2, 5_000), meter(2, 2_100)),
        moment(47, row(0, 4_000, revision=2)),
        moment(61, row(3, 7_400), meter(3, 1_400)),
        moment(76, row(4, 7_000)),
        # the flow that makes envelopes had been down: what it says now is about quarters that were judged
        moment(80, envelope(3, 80, 50, (50, 1440, 26, whole), (50, 1440, 6, one))),
        moment(91, row(5, 1_000, coverage=0.2)),
        moment(92, row(2, 6_600, revision=2), meter(2, 1_000, revision=2)),
        moment(106, row(6, 9_000)),
        moment(108, row(5, 6_000, revision=2)),
        moment(121, row(7, 9_000)),
        moment(130),
        moment(255),
        moment(270),
        moment(310, row(19, 1_000)),
        moment(312, row(12, 9_000)),
        moment(315, row(14, 9_000), row(20, 9_000)),
        moment(470),
        moment(475),
    ]


def replayed(moments: Iterable[Moment], *, first: str | None, now: datetime) -> list[Moment]:
    """What a source that reads everything again emits of these, one poll each: the barrier's topic first, the rest as it came."""
    records = [record for one in moments for record in one.records]
    ordered = sorted(records, key=lambda record: record.topic != first) if first is not None else records
    return [Moment(now, (record,)) for record in ordered]
