"""The life of breaches, as a pure function of the judgements of one group and direction (semantics 5).

A breach is a run of breached quarters. Whenever a judgement changes, the runs are found anew and compared with what
was told; so a correction that reopens, shrinks, splits or voids a breach needs no rule of its own.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
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
    """A breach as it was last told, the quarter it was named after, and the `Weigh`t of those after it that are no longer kept."""

    state: BreachState
    run: Run
    revision: int
    named_ms: int
    forgotten: int = 0


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


Weigh = Callable[[int], int]
"""The sum of the revisions of the judgements from a quarter (ms) on, of those that are kept."""

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


def around(starts: Sequence[int], codes: Sequence[int], first_ms: int, last_ms: int, *, within: int, breached: int) -> range:
    """The places of the quarters whose judgements decide, together with those from `first_ms` to `last_ms`, what breaches there
    are: on both sides to the next quarter judged within (that after them included), or to where a breach would have closed.

    `starts` (ms) and `codes` are columns of quarters in order of time, `within` and `breached` two of the codes.
    """
    first = bisect_left(starts, first_ms)
    reach_ms = first_ms
    while first > 0 and codes[first - 1] != within and reach_ms - starts[first - 1] < QUARTER_MS + OPEN_MS:
        first -= 1
        if codes[first] == breached:
            reach_ms = starts[first]
    end = bisect_right(starts, last_ms)
    reach_ms = last_ms
    while end < len(starts) and starts[end] - reach_ms < QUARTER_MS + OPEN_MS:
        end += 1
        if codes[end - 1] == within:
            break
        if codes[end - 1] == breached:
            reach_ms = starts[end - 1]
    return range(first, end)


def uncounted(quarter_ms: int) -> int:
    """For judgements without revisions: those of a breach are then counted one by one."""
    return 0


def revise(
    book: Book, history: History, name: Callable[[int, int], str], *, whole: bool = True, weigh: Weigh = uncounted
) -> list[Revision]:
    """What has to be told now, in order of time; `book` is brought up to date.

    `history` is all that is kept or, with `whole` off, a part that `around` found, not from the beginning. `name` makes the id
    of a new breach from its first quarter (ms) and a number that is 0 unless that id is taken. A breach keeps its id while any
    part of it remains; of several that have become one, the earliest stays.

    A breach's revision is the weight of the judgements since the quarter it was named after, or one more than the last if that
    is higher: so a replay, in which some corrections were known from the start, does not count behind what was told.
    """
    if history:
        book.as_of_ms = max(book.as_of_ms, history[-1][0] + QUARTER_MS)
    found = runs(history, book.carried if whole else None, book.as_of_ms)
    left = [breach_id for _, breach_id in sorted(_concerned(book, history, whole))]
    revisions: list[Revision | None] = []
    for run in found:
        same = next((breach_id for breach_id in left if _overlap(book.told[breach_id].run, run)), None)
        if same is not None:
            left.remove(same)
        revisions.append(_told(book, same or _new_name(book, run, name), _state(run), run, weigh))
    for breach_id in left:
        gone = book.told[breach_id].run._replace(quarters=0, peak_mean_w=0.0, energy_over_wh=0.0, closed=True)
        revisions.append(_told(book, breach_id, BreachState.VOIDED, gone, weigh))
    return sorted((revision for revision in revisions if revision is not None), key=lambda revision: revision.told.run.first_ms)


def forget(book: Book, gone: History, before_ms: int, revisions: Sequence[tuple[int, int]] = ()) -> None:
    """Judgements of quarters before `before_ms` are no longer kept: what they amount to stays in `carried`, what their
    `revisions` (by quarter in ms) add to a breach's in the breach."""
    past = runs(gone, book.carried, before_ms)
    book.carried = past[-1] if past and not past[-1].closed else None
    kept_from_ms = before_ms if book.carried is None else book.carried.first_ms
    book.told = {breach_id: told for breach_id, told in book.told.items() if told.run.last_ms >= min(kept_from_ms, before_ms)}
    for breach_id, told in book.told.items():
        more = sum(revision for quarter_ms, revision in revisions if quarter_ms >= told.named_ms)
        if more:
            book.told[breach_id] = told._replace(forgotten=told.forgotten + more)


def open_run(book: Book) -> Run | None:
    """The breach that is open; there is never more than one."""
    return next((told.run for told in book.told.values() if told.state in (BreachState.OPENED, BreachState.CONTINUED)), None)


def next_close_ms(book: Book) -> int | None:
    """When the breach that is open closes if nothing more is known."""
    run = open_run(book)
    return None if run is None else run.open_until_ms


def _concerned(book: Book, history: History, whole: bool) -> Iterator[tuple[int, str]]:
    """The first quarters and ids of the breaches that are told and not voided, where the history, or what is carried, is about them."""
    since_ms = history[0][0] if history and not whole else 0
    carried_ms = [book.carried.last_ms] if book.carried is not None and whole else []
    until_ms = max([*carried_ms, *(quarter_ms for quarter_ms, _ in history[-1:])], default=-1)
    for breach_id, told in book.told.items():
        if told.state is not BreachState.VOIDED and since_ms <= told.run.last_ms and told.run.first_ms <= until_ms:
            yield told.run.first_ms, breach_id


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


def _told(book: Book, breach_id: str, state: BreachState, run: Run, weigh: Weigh) -> Revision | None:
    before = book.told.get(breach_id)
    if before is not None and (before.state, before.run) == (state, run):
        return None
    last = before or Told(state, run, 0, run.first_ms)
    revision = max(last.revision + 1, last.forgotten + weigh(last.named_ms))
    told = book.told[breach_id] = Told(state, run, revision, last.named_ms, last.forgotten)
    return Revision(breach_id, told)
