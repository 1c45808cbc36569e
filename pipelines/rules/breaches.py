"""The life of breaches, as a pure function of the judgements of one group and direction (semantics 5).

A breach is a run of breached quarters. Whenever a judgement changes, the runs are found anew and compared with what
was told; so a correction that reopens, shrinks, splits or voids a breach needs no rule of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from pipelines.rules.judgement import Judged
from schemas.compliance import BreachState, VerdictKind
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.units import mean_w

OPEN_MS = timedelta(hours=2) // timedelta(milliseconds=1)
"""How long Unknown, or no judgement at all, keeps a breach open."""


class Run(NamedTuple):
    """Consecutive breached quarters. `last_ms` is the start of the last; forecasts are causes in order of time."""

    first_ms: int
    last_ms: int
    quarters: int
    peak_mean_w: float
    energy_over_wh: float
    forecasts: tuple[str, ...]
    closed: bool = False

    @property
    def open_until_ms(self) -> int:
        """When it closes if nothing more is known."""
        return self.last_ms + QUARTER_MS + OPEN_MS


class Told(NamedTuple):
    """A breach as it was last told."""

    state: BreachState
    run: Run
    revision: int


class Revision(NamedTuple):
    """A breach as it is to be told now."""

    breach_id: str
    told: Told


@dataclass
class Book:
    """The breaches of one group and direction. `carried` is the run that was open where the kept judgements begin,
    `as_of_ms` the instant up to which silence counts."""

    told: dict[str, Told] = field(default_factory=dict)
    carried: Run | None = None
    as_of_ms: int = 0


History = Sequence[tuple[int, Judged]]
"""Quarter starts (ms) and judgements, in order of time."""


def runs(history: History, carried: Run | None, as_of_ms: int) -> list[Run]:
    """The runs of the history, after `carried`; the last one closed if `as_of_ms` is past its time."""
    found: list[Run] = []
    run = carried
    for quarter_ms, judged in history:
        if run is not None and quarter_ms >= run.open_until_ms:
            found.append(run._replace(closed=True))
            run = None
        if judged.verdict is VerdictKind.BREACHED:
            run = _grown(run, quarter_ms, judged)
        elif judged.verdict is VerdictKind.WITHIN and run is not None:
            found.append(run._replace(closed=True))
            run = None
    if run is not None:
        found.append(run._replace(closed=as_of_ms >= run.open_until_ms))
    return found


def revise(book: Book, history: History, name: Callable[[int, int], str]) -> list[Revision]:
    """What has to be told now, in order of time; `book` is brought up to date.

    `name` makes the id of a new breach from its first quarter (ms) and a number that is 0 unless that id is taken. A
    breach keeps its id while any part of it remains; of several that have become one, the earliest stays.
    """
    if history:
        book.as_of_ms = max(book.as_of_ms, history[-1][0] + QUARTER_MS)
    found = runs(history, book.carried, book.as_of_ms)
    living = sorted((told.run.first_ms, breach_id) for breach_id, told in book.told.items() if told.state is not BreachState.VOIDED)
    left = [breach_id for _, breach_id in living]
    revisions: list[Revision | None] = []
    for run in found:
        same = next((breach_id for breach_id in left if _overlap(book.told[breach_id].run, run)), None)
        if same is not None:
            left.remove(same)
        revisions.append(_told(book, same or _new_name(book, run, name), _state(run), run))
    for breach_id in left:
        gone = book.told[breach_id].run._replace(quarters=0, peak_mean_w=0.0, energy_over_wh=0.0, closed=True)
        revisions.append(_told(book, breach_id, BreachState.VOIDED, gone))
    return sorted((revision for revision in revisions if revision is not None), key=lambda revision: revision.told.run.first_ms)


def forget(book: Book, gone: History, before_ms: int) -> None:
    """Judgements of quarters before `before_ms` are no longer kept: what they amount to stays in `carried`."""
    past = runs(gone, book.carried, before_ms)
    book.carried = past[-1] if past and not past[-1].closed else None
    kept_from_ms = before_ms if book.carried is None else book.carried.first_ms
    book.told = {breach_id: told for breach_id, told in book.told.items() if told.run.last_ms >= min(kept_from_ms, before_ms)}


def next_close_ms(book: Book) -> int | None:
    """When the breach that is open closes if nothing more is known."""
    return min((t.run.open_until_ms for t in book.told.values() if t.state in (BreachState.OPENED, BreachState.CONTINUED)), default=None)


def _grown(run: Run | None, quarter_ms: int, judged: Judged) -> Run:
    peak_w = mean_w(judged.used_wh, QUARTER)
    over_wh = judged.used_wh - (judged.allowed_wh or 0.0)
    if run is None:
        return Run(quarter_ms, quarter_ms, 1, peak_w, over_wh, judged.causes)
    return run._replace(
        last_ms=quarter_ms,
        quarters=run.quarters + 1,
        peak_mean_w=max(run.peak_mean_w, peak_w),
        energy_over_wh=run.energy_over_wh + over_wh,
        forecasts=tuple(dict.fromkeys((*run.forecasts, *judged.causes))),
    )


def _state(run: Run) -> BreachState:
    if run.closed:
        return BreachState.CLOSED
    return BreachState.OPENED if run.quarters == 1 else BreachState.CONTINUED


def _overlap(one: Run, other: Run) -> bool:
    return one.first_ms <= other.last_ms and other.first_ms <= one.last_ms


def _new_name(book: Book, run: Run, name: Callable[[int, int], str]) -> str:
    number = 0
    while (told := book.told.get(breach_id := name(run.first_ms, number))) is not None and told.state is not BreachState.VOIDED:
        number += 1
    return breach_id


def _told(book: Book, breach_id: str, state: BreachState, run: Run) -> Revision | None:
    before = book.told.get(breach_id)
    if before is not None and (before.state, before.run) == (state, run):
        return None
    told = book.told[breach_id] = Told(state, run, 1 if before is None else before.revision + 1)
    return Revision(breach_id, told)
