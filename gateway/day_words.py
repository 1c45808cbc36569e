"""A scope's day as its page shows it: plain words and figures, nothing left to compute. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

from markupsafe import Markup

from gateway import wording as say
from gateway.breach_rows import breach_row, errors_about
from gateway.charts import scope_chart
from gateway.day_drawing import DAY_NARROW, DAY_WIDE, day_drawing, legend_of, mean_of, quarter_words
from gateway.outlook import Outlook
from gateway.page_model import BreachRow, EventRow, State
from gateway.partner_card import when
from gateway.redaction import clean
from gateway.scope_card import KIND_WORDS, VERDICT_STATES
from gateway.scope_day import FIRST_DAY, LAST_DAY, DayFacts, DayQuarter, DayView, DayWay, PhaseQuarter, QuarterState
from schemas.capacity import PieceKind
from schemas.compliance import VerdictKind
from schemas.topology import Category
from schemas.units import Direction, Instant

STATE_OF = {
    QuarterState.UNCLOSED: State("not closed yet", "quiet"),
    QuarterState.RUNNING: State("running", "quiet"),
    QuarterState.MISSING: State("nothing measured", "quiet"),
    QuarterState.AHEAD: State("to come", "quiet"),
}
AT_RISK = State("at risk", "risk")
LIMIT_LEGEND = {
    PieceKind.FORECAST: "limit as forecast",
    PieceKind.FALLBACK: "fallback limit",
    PieceKind.HELD: "last limit, held on",
    PieceKind.SAFE: "safe value",
    PieceKind.OPERATOR: "operator's limit",
    PieceKind.UNKNOWN: "limit not known",
}
_DIRECTIONS = (Direction.IMPORT, Direction.EXPORT)


@dataclass(frozen=True, slots=True)
class DayRow:
    """One quarter of the table; `look` is its state as a class."""

    start: Instant
    when: str
    look: str
    used: str
    limit: str
    verdict: State
    given: str
    export_limit: str
    export_verdict: State
    kind: str
    coverage: str
    revision: str
    forecasts: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One single conductor's quarter."""

    start: Instant
    when: str
    phase: str
    direction: str
    used: str
    limit: str
    verdict: State
    reason: str


@dataclass(frozen=True, slots=True)
class DayPage:
    """The chosen day. `earlier` and `later` are the neighbouring dates, empty where there is no page; `nothing` says why there is
    nothing to draw, if so."""

    date: str
    today: bool
    title: str
    length: str
    earlier: str
    later: str
    note: str
    nothing: str
    chart_wide: Markup
    chart_narrow: Markup
    legend: tuple[str, ...]
    limit_kinds: tuple[tuple[str, str], ...]
    rows: tuple[DayRow, ...]
    import_sum: str
    export_sum: str
    summed: str
    phases: tuple[PhaseRow, ...]
    breaches: tuple[BreachRow, ...]
    events: tuple[EventRow, ...]


def day_page(outlook: Outlook, view: DayView, facts: DayFacts) -> DayPage:
    """Everything the page shows of the day."""
    scope, zone = outlook.scope, ZoneInfo(outlook.scope.time_zone)
    shown = day_drawing(view, scope.name or scope.id, gives=gives(outlook))
    legend = tuple(legend_of(view, shown))
    nothing = _nothing(outlook, view)
    empty = Markup("")
    errors = errors_about(outlook.picture, facts.breaches)
    return DayPage(
        date=view.date.isoformat(),
        today=view.start <= view.now < view.end,
        title=f"{view.date:%A} {view.date.day} {view.date:%B %Y}",
        length=_length(view, zone),
        earlier=(view.date - timedelta(days=1)).isoformat() if view.date > FIRST_DAY else "",
        later=(view.date + timedelta(days=1)).isoformat() if view.date < LAST_DAY else "",
        note=view.note,
        nothing=nothing,
        chart_wide=empty if nothing else scope_chart(shown, DAY_WIDE),
        chart_narrow=empty if nothing else scope_chart(shown, DAY_NARROW),
        legend=legend,
        limit_kinds=tuple((kind.value.lower(), LIMIT_LEGEND[kind]) for kind in PieceKind if f"limit-{kind.value.lower()}" in legend),
        rows=tuple(_row(quarter, zone) for quarter in view.quarters),
        import_sum=say.kwh(view.import_wh),
        export_sum=say.kwh(view.export_wh),
        summed=f"{view.closed} of {say.plural(len(view.quarters), 'quarter hour')} closed",
        phases=tuple(_phase(each, zone) for each in view.phases),
        breaches=tuple(breach_row(breach, outlook.index, errors, outlook.now, zone) for breach in view.breaches),
        events=tuple(_events(outlook, facts, zone)),
    )


def gives(outlook: Outlook) -> bool:
    """Whether the scope can export: it generates or stores, or has exported."""
    able = any(asset.category in (Category.GENERATION, Category.STORAGE) for asset in outlook.assets)
    return able or any(row.export_wh for row in outlook.rows.values())


def _length(view: DayView, zone: ZoneInfo) -> str:
    """`96 quarter hours; Europe/Paris (CEST)`, with both names where the clocks change."""
    names = dict.fromkeys(say.zone_name(quarter.start, zone) for quarter in view.quarters)
    change = "" if len(names) < 2 else ", the clocks change"
    said = " \u2192 ".join(names) or "skipped"
    return f"{say.plural(len(view.quarters), 'quarter hour')}; {zone.key} ({said}){change}"


def _nothing(outlook: Outlook, view: DayView) -> str:
    if not view.quarters:
        return f"There was no such day in {view.time_zone}: the calendar skipped it."
    if outlook.group_id is None and not view.pieces:
        return (
            "No capacity group is bound to this scope, so nothing is measured against a limit. Add one under groups: in the configuration "
            "and apply it with derms config apply."
        )
    if any(quarter.coverage is not None for quarter in view.quarters) or view.pieces:
        return ""
    if view.start > view.now:
        return "This day has not begun, and no limit is known for it yet."
    if not outlook.assets:
        return "No asset belongs to this scope. Add some under assets: in the configuration and apply it with derms config apply."
    return "Neither readings nor limits are known of this day."


def _row(quarter: DayQuarter, zone: ZoneInfo) -> DayRow:
    kinds = [KIND_WORDS[kind] for kind in dict.fromkeys([*_kinds(quarter.imports), *_kinds(quarter.exports)])]
    reasons = dict.fromkeys(_reason(way, direction) for way, direction in zip((quarter.imports, quarter.exports), _DIRECTIONS, strict=True))
    return DayRow(
        start=quarter.start,
        when=quarter_words(quarter.start, zone),
        look=quarter.state.value.lower(),
        used=_power(quarter.imports.used_wh),
        limit=_power(quarter.imports.allowed_wh),
        verdict=_judged(quarter, quarter.imports),
        given=_power(quarter.exports.used_wh),
        export_limit=_power(quarter.exports.allowed_wh),
        export_verdict=_judged(quarter, quarter.exports),
        kind="; ".join(kinds),
        coverage="" if quarter.coverage is None else say.percent(quarter.coverage) + (", estimated" if quarter.estimated else ""),
        revision="" if quarter.revision is None else str(quarter.revision),
        forecasts=tuple(dict.fromkeys([*quarter.imports.forecasts, *quarter.exports.forecasts])),
        reason="; ".join(filter(None, reasons)),
    )


def _kinds(way: DayWay) -> list[PieceKind]:
    return [kind for kind in way.kinds if kind is not PieceKind.UNKNOWN or way.verdict is VerdictKind.UNKNOWN]


def _reason(way: DayWay, direction: Direction) -> str:
    return f"{direction.value.lower()}: {clean(way.reason)}" if way.reason else ""


def _power(energy_wh: float | None) -> str:
    return "\u2013" if energy_wh is None else say.kw(mean_of(energy_wh))


def _judged(quarter: DayQuarter, way: DayWay) -> State:
    if way.verdict is not None:
        return VERDICT_STATES[way.verdict]
    if way.at_risk:
        return AT_RISK
    return STATE_OF.get(quarter.state, State("not judged", "quiet"))


def _phase(found: PhaseQuarter, zone: ZoneInfo) -> PhaseRow:
    return PhaseRow(
        start=found.start,
        when=quarter_words(found.start, zone),
        phase=found.phase.value.lower(),
        direction=found.direction.value.lower(),
        used=_power(found.used_wh),
        limit=_power(found.allowed_wh),
        verdict=VERDICT_STATES[found.verdict],
        reason=clean(found.reason),
    )


def _events(outlook: Outlook, facts: DayFacts, zone: ZoneInfo) -> Iterator[EventRow]:
    looks = {"INFO": "quiet", "WARNING": "risk", "ALARM": "bad"}
    for event in sorted(facts.events, key=lambda event: event.at, reverse=True):
        at = when(event.at, zone, outlook.now)
        yield EventRow(at, looks[event.severity.value], event.severity.value.lower(), event.subject_id, clean(event.words))
