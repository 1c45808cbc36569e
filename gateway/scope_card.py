"""One scope as the page shows it: state in a word, figures of the running quarter, the drawn chart, the same as a table. Pure."""

from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

from markupsafe import Markup

from gateway import wording as say
from gateway.chart_plane import NARROW, WIDE, window
from gateway.charts import scope_chart
from gateway.outlook import Outlook, Standing, allowed_w, used_w
from gateway.page_model import AssetRow, LastQuarter, ScopeCard, State, TableRow, UnclosedQuarter
from gateway.picture import RowKey
from gateway.scope_drawing import NARROW_SPAN, WIDE_SPAN, chart_bars, drawing, kinds_of
from gateway.svg import gauge
from schemas.capacity import PieceKind
from schemas.compliance import Verdict, VerdictKind
from schemas.intervals import QUARTER, quarter_of
from schemas.telemetry import Level, QuarterHour
from schemas.topology import Asset
from schemas.units import Direction, Phase, mean_w

MAX_ASSETS = 12
OTHER = {Direction.IMPORT: Direction.EXPORT, Direction.EXPORT: Direction.IMPORT}
RECENT = 2 * QUARTER
"""A scope whose newest quarter began longer before the running one than this has no readings worth the name."""
NOT_CLOSED = State("not closed yet", "quiet")
VERDICT_STATES = {
    VerdictKind.WITHIN: State("within", "good"),
    VerdictKind.BREACHED: State("over the limit", "bad"),
    VerdictKind.UNKNOWN: State("not known", "quiet"),
}
KIND_WORDS = {
    PieceKind.FORECAST: "as forecast",
    PieceKind.FALLBACK: "fallback, while the partner is offline",
    PieceKind.HELD: "the last one, held on",
    PieceKind.SAFE: "the safe value",
    PieceKind.OPERATOR: "set by an operator",
    PieceKind.UNKNOWN: "not known",
}


def scope_card(outlook: Outlook) -> ScopeCard:
    """The card of a scope as things stand."""
    scope, now, zone = outlook.scope, outlook.now, ZoneInfo(outlook.scope.time_zone)
    way = _focus(outlook)
    found, other = outlook.standing(way), outlook.standing(OTHER[way])
    piece = outlook.line.at(now) if outlook.line else None
    kind = PieceKind.UNKNOWN if piece is None else piece.import_kind if way is Direction.IMPORT else piece.export_kind
    bars = chart_bars(outlook, zone)
    shown = drawing(outlook, zone, bars, WIDE_SPAN)
    assets = outlook.assets
    return ScopeCard(
        id=scope.id,
        name=scope.name or scope.id,
        zone=f"{say.zone_name(now, zone)} ({scope.time_zone})",
        state=state_of(outlook),
        way=way.value.lower(),
        running_when=say.quarter(found.quarter, zone),
        projected=say.kw(found.projected_w) if found.projected_w is not None else "",
        so_far=say.kw(found.so_far_w) if found.so_far_w is not None else "",
        allowed=say.kw(found.allowed_w),
        limit_now=say.kw(found.limit_w),
        limit_words=KIND_WORDS[kind],
        other_words=_other_words(other, OTHER[way]),
        last=_last(outlook, way, zone),
        unclosed=_unclosed(outlook, way, zone),
        gauge=_gauge(found),
        chart_wide=scope_chart(shown, WIDE),
        chart_narrow=scope_chart(drawing(outlook, zone, bars, NARROW_SPAN), NARROW),
        kinds=kinds_of(shown),
        rows=tuple(_table(outlook, zone)),
        assets=tuple(_asset_row(outlook, asset, zone) for asset in assets[:MAX_ASSETS]),
        more_assets=max(0, len(assets) - MAX_ASSETS),
        empty=_empty(outlook),
    )


def _focus(outlook: Outlook) -> Direction:
    """The direction the figures are about: export where more is (or last was) given than taken, else import."""
    row = outlook.running or next(reversed(outlook.unclosed), None) or (outlook.rows[max(outlook.rows)] if outlook.rows else None)
    return Direction.EXPORT if row is not None and row.export_wh > row.import_wh else Direction.IMPORT


def state_of(outlook: Outlook) -> State:
    """How the scope stands, in a word."""
    quarter = quarter_of(outlook.now)
    if outlook.open_breaches:
        return State("Over the limit", "bad")
    running = [outlook.standing(direction) for direction in Direction]
    verdicts = [outlook.verdict(quarter, direction) for direction in Direction]
    unclosed = [outlook.standing_of(row, direction) for row in outlook.unclosed for direction in Direction]
    if any(each.over for each in (*running, *unclosed)) or any(verdict is not None and verdict.at_risk for verdict in verdicts):
        return State("At risk", "risk")
    if not any(start >= quarter - RECENT for start in (*outlook.rows, *outlook.provisional)):
        return State("No readings", "quiet")
    if all(each.limit_w is None for each in running):
        return State("Limit not known", "quiet")
    return State("Within the limit", "good")


def _other_words(found: Standing, way: Direction) -> str:
    name = way.value.lower()
    if found.limit_w is None and not found.projected_w:
        return ""
    limit = f"no {name} limit known" if found.limit_w is None else f"{name} limit {say.kw(found.limit_w)}"
    return f"{name} {say.kw(found.projected_w)}, {limit}" if found.projected_w else limit


def _unclosed(outlook: Outlook, way: Direction, zone: ZoneInfo) -> UnclosedQuarter | None:
    """The newest quarter that has ended and is not closed, while nothing has come of the running one."""
    row = next(reversed(outlook.unclosed), None)
    if outlook.running is not None or row is None or row.start < quarter_of(outlook.now) - RECENT:
        return None
    found = outlook.standing_of(row, way)
    used, allowed = say.kw(found.so_far_w), say.kw(found.allowed_w)
    level = gauge(found.so_far_w, found.allowed_w or 0.0, f"so far {used} of {allowed}", "bad" if found.over_already else "good")
    return UnclosedQuarter(say.quarter(row.start, zone), used, allowed, level, say.percent(row.coverage))


def _last(outlook: Outlook, way: Direction, zone: ZoneInfo) -> LastQuarter | None:
    if not outlook.rows:
        return None
    start = max(outlook.rows)
    row, verdict = outlook.rows[start], outlook.verdict(start, way)
    return LastQuarter(
        say.quarter(start, zone),
        say.kw(used_w(row, way)),
        say.kw(_allowed(outlook, start, way)),
        _judged(verdict),
        say.percent(row.coverage),
    )


def _allowed(outlook: Outlook, quarter: datetime, way: Direction) -> float | None:
    """What a closed quarter was allowed, as it was judged where it was."""
    verdict = outlook.verdict(quarter, way)
    if verdict is None or verdict.allowed_wh is None:
        return allowed_w(outlook.line, quarter, way)
    return mean_w(verdict.allowed_wh, QUARTER)


def _judged(verdict: Verdict | None) -> State:
    return State("not judged", "quiet") if verdict is None or verdict.at_risk else VERDICT_STATES[verdict.verdict]


def _gauge(found: Standing) -> Markup:
    words = f"projected {say.kw(found.projected_w)} of {say.kw(found.allowed_w)}"
    return gauge(found.projected_w, found.allowed_w or 0.0, words, "bad" if found.over else "good")


def _table(outlook: Outlook, zone: ZoneInfo) -> Iterator[TableRow]:
    first, _ = window(outlook.now, *WIDE_SPAN)
    for row in reversed(outlook.unclosed):
        yield _table_row(outlook, row, zone, NOT_CLOSED, NOT_CLOSED)
    for start in sorted((start for start in outlook.rows if start >= first), reverse=True):
        imported, exported = (_judged(outlook.verdict(start, direction)) for direction in (Direction.IMPORT, Direction.EXPORT))
        yield _table_row(outlook, outlook.rows[start], zone, imported, exported)


def _table_row(outlook: Outlook, row: QuarterHour, zone: ZoneInfo, imported: State, exported: State) -> TableRow:
    return TableRow(
        start=row.start,
        when=say.quarter(row.start, zone),
        used=say.kw(used_w(row, Direction.IMPORT)),
        limit=say.kw(_allowed(outlook, row.start, Direction.IMPORT)),
        verdict=imported,
        given=say.kw(used_w(row, Direction.EXPORT)),
        export_limit=say.kw(_allowed(outlook, row.start, Direction.EXPORT)),
        export_verdict=exported,
        coverage=say.percent(row.coverage),
    )


def _asset_row(outlook: Outlook, asset: Asset, zone: ZoneInfo) -> AssetRow:
    known = (outlook.picture.rows.get(RowKey(Level.ASSET, asset.id, phase)) for phase in Phase)
    rows = [rows for rows in known if rows]
    start = max((start for each in rows for start in each), default=None)
    role = "connection meter" if asset.connection_meter else ""
    if start is None:
        return AssetRow(asset.id, asset.category.value, role, "nothing measured yet", "", "", "")
    last = [each[start] for each in rows if start in each]
    return AssetRow(
        id=asset.id,
        category=asset.category.value,
        role=role,
        when=say.quarter(start, zone),
        used=say.kwh(sum(row.import_wh for row in last)),
        given=say.kwh(sum(row.export_wh for row in last)),
        coverage=say.percent(min(row.coverage for row in last)),
    )


def _empty(outlook: Outlook) -> str:
    """What to do next, where there is nothing to draw."""
    if outlook.group_id is None:
        return "No capacity group is bound to this scope. Add one under groups: in the configuration and apply it with derms config apply."
    if outlook.rows or outlook.provisional or outlook.line:
        return ""
    if not outlook.assets:
        return "No asset belongs to this scope. Add some under assets: in the configuration and apply it with derms config apply."
    return "No readings yet. Produce them to derms.telemetry, post them to /api/v1/telemetry, or try derms telemetry replay FILE."
