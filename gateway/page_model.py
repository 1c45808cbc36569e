"""What the page's templates get: plain words and figures, nothing left to compute."""

from dataclasses import dataclass

from markupsafe import Markup

from gateway.partner_queue import QueueWords
from schemas.units import Instant


@dataclass(frozen=True, slots=True)
class When:
    """An instant for people (`words`, local) and for machines (`instant`)."""

    instant: Instant
    words: str
    distance: str


@dataclass(frozen=True, slots=True)
class State:
    """A state in a word; `look` is a class: good, risk, bad or quiet."""

    words: str
    look: str


@dataclass(frozen=True, slots=True)
class TableRow:
    """One quarter of the table beside the chart."""

    start: Instant
    when: str
    used: str
    limit: str
    verdict: State
    given: str
    export_limit: str
    export_verdict: State
    coverage: str


@dataclass(frozen=True, slots=True)
class LastQuarter:
    """The newest closed quarter in the direction the card is about."""

    when: str
    used: str
    allowed: str
    verdict: State
    coverage: str


@dataclass(frozen=True, slots=True)
class UnclosedQuarter:
    """A quarter that has ended and may still change, while nothing has come of the running one."""

    when: str
    used: str
    allowed: str
    gauge: Markup
    coverage: str


@dataclass(frozen=True, slots=True)
class AssetRow:
    """One asset and its last closed quarter."""

    id: str
    category: str
    role: str
    when: str
    used: str
    given: str
    coverage: str


@dataclass(frozen=True, slots=True)
class ScopeCard:
    """Everything the template needs for one scope."""

    id: str
    name: str
    zone: str
    state: State
    way: str
    running_when: str
    projected: str
    so_far: str
    allowed: str
    limit_now: str
    limit_words: str
    other_words: str
    last: LastQuarter | None
    unclosed: UnclosedQuarter | None
    gauge: Markup
    chart_wide: Markup
    chart_narrow: Markup
    kinds: tuple[str, ...]
    rows: tuple[TableRow, ...]
    assets: tuple[AssetRow, ...]
    more_assets: int
    empty: str


@dataclass(frozen=True, slots=True)
class PartnerCard:
    """One partner's connection."""

    id: str
    name: str
    state: State
    since: When | None
    words: str
    heartbeat_in: When | None
    heartbeat_in_words: str
    heartbeat_out: When | None
    heartbeat_out_words: str
    deadline: When | None
    base_url: str
    asks: str
    advice: str
    queue: QueueWords


@dataclass(frozen=True, slots=True)
class CircuitCard:
    """One circuit: available of rated, what comes next, and whether the legacy platform has taken the last change (None: nothing known);
    where it is owed one, `written_at` is since when."""

    id: str
    name: str
    scope_id: str
    scope: str
    import_now: str
    import_rated: str
    import_gauge: Markup
    export_now: str
    export_rated: str
    export_gauge: Markup
    since: When | None
    previous: str
    source: str
    cause: str
    next_when: When | None
    next_words: str
    written: State | None
    written_at: When | None
    written_words: str


@dataclass(frozen=True, slots=True)
class SentError:
    """Compliance errors that were made about a breach and stand alike; `ids` are their X-Request-IDs."""

    ids: str
    count: int
    state: State


@dataclass(frozen=True, slots=True)
class BreachRow:
    """One breach. `scope_id` is empty where the scope is not configured any more; `day` is the local date it began on."""

    id: str
    scope_id: str
    scope: str
    partner_id: str
    group_id: str
    direction: str
    phase: str
    open: bool
    state: State
    day: str
    since: When
    until: str
    span: str
    quarters: str
    peak: str
    over: str
    revision: int
    forecasts: str
    forecast_ids: tuple[str, ...]
    errors: tuple[SentError, ...]


@dataclass(frozen=True, slots=True)
class MessageRow:
    """One outbound message."""

    at: When
    partner: str
    action: str
    about: str
    state: State
    words: str
    id: str
    correlation: str


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event."""

    at: When
    look: str
    severity: str
    subject: str
    words: str


@dataclass(frozen=True, slots=True)
class FlowLine:
    """How a dataflow stands, in a line; `troubles` tell of workers that need someone."""

    name: str
    words: str
    troubles: tuple[State, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """The whole page."""

    clock: When
    speed: str
    zone: str
    headline: tuple[tuple[str, str, str], ...]
    flows: tuple[FlowLine, ...]
    partners: tuple[PartnerCard, ...]
    scopes: tuple[ScopeCard, ...]
    more_scopes: int
    circuits: tuple[CircuitCard, ...]
    more_circuits: int
    breaches: tuple[BreachRow, ...]
    messages: tuple[MessageRow, ...]
    events: tuple[EventRow, ...]
    dead_letters: tuple[tuple[str, int], ...]
