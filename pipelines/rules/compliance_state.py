"""What is kept of a scope to judge its groups: limits, quarters, breaches (semantics 5). Quarters are named by their start in ms."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from pipelines.rules import breaches
from pipelines.rules.breaches import Book
from pipelines.rules.judgement import Allowed, Judged, allowed, judge
from pipelines.rules.kept_limits import KeptLimits
from pipelines.rules.kept_quarters import KINDS, KeptQuarters
from schemas.compliance import VerdictKind
from schemas.intervals import QUARTER_MS
from schemas.units import Direction, Phase

REACH = timedelta(days=7)
"""How far back a quarter can be judged again unless a row's terms say otherwise: as far as a partner is told of measurements."""

OPEN = timedelta(milliseconds=breaches.OPEN_MS)
"""Kept beyond the time in which a quarter can be judged again, since a breach may stay open so long."""

UNLIMITED_MS = timedelta(hours=6) // timedelta(milliseconds=1)
"""How long the quarters of a conductor nobody limits are kept: as far back as a limit that comes late can reach (semantics 3)."""

_WITHIN, _BREACHED = (KINDS.index(kind) + 1 for kind in (VerdictKind.WITHIN, VerdictKind.BREACHED))


class Told(NamedTuple):
    """Whose verdict a late change of the limits concerns."""

    quarter_ms: int
    direction: Direction
    phase: Phase


@dataclass
class Account:
    """One group's quarters of one phase, and their breaches."""

    quarters: KeptQuarters = field(default_factory=KeptQuarters)
    books: dict[Direction, Book] = field(default_factory=lambda: {direction: Book() for direction in Direction})


@dataclass
class GroupState:
    """One group with its terms, its accounts, and the day (in days since 1970) of the last row that came too late."""

    group_id: str
    partner_id: str
    tolerance: float
    kept_ms: int
    accounts: dict[Phase, Account] = field(default_factory=dict)
    too_late_day: int = -1


@dataclass
class ComplianceState:
    """One scope: its limits by phase and its groups. `seen` are the latest envelopes' ids, `revision` the highest of them.

    `late` counts, for a verdict, the envelopes stated after its quarter that changed what it allowed. What was in force before
    `limited_from_ms` is not known any more.
    """

    scope_id: str
    limits: dict[Phase, KeptLimits] = field(default_factory=lambda: {Phase.ALL: KeptLimits()})
    seen: list[str] = field(default_factory=list)
    revision: int = 0
    late: dict[Told, int] = field(default_factory=dict)
    groups: dict[str, GroupState] = field(default_factory=dict)
    newest_ms: int = 0
    limited_from_ms: int = 0
    wait_until_ms: int = 0

    def allowed(self, quarter_ms: int, direction: Direction, phase: Phase) -> Allowed:
        """What the limits of a phase allow in a quarter."""
        kept = self.limits.get(phase)
        return allowed([] if kept is None else kept.over(quarter_ms, quarter_ms + QUARTER_MS), quarter_ms, direction)

    def accounts(self) -> Iterator[tuple[GroupState, Phase, Account]]:
        """All accounts of the scope."""
        for group in self.groups.values():
            for phase, account in group.accounts.items():
                yield group, phase, account

    def forget(self, quarter_ms: int) -> None:
        """A row of that quarter has come: what is too old by now is kept no longer."""
        self.newest_ms = max(self.newest_ms, quarter_ms)
        for group, phase, account in self.accounts():
            limited = phase is Phase.ALL or bool(self.limits.get(phase))
            self._forget_quarters(group, phase, account, self.newest_ms - (group.kept_ms if limited else min(group.kept_ms, UNLIMITED_MS)))
        before_ms = self.newest_ms - max((group.kept_ms for group in self.groups.values()), default=0)
        self.forget_limits(before_ms)

    def forget_limits(self, before_ms: int) -> None:
        """What was in force before that instant is kept no longer."""
        self.limited_from_ms = max(self.limited_from_ms, before_ms)
        for kept in self.limits.values():
            kept.forget(before_ms)
        if any(told.quarter_ms < before_ms for told in self.late):
            self.late = {told: count for told, count in self.late.items() if told.quarter_ms >= before_ms}

    def _forget_quarters(self, group: GroupState, phase: Phase, account: Account, before_ms: int) -> None:
        gone = range(bisect_left(account.quarters.starts, before_ms))
        if gone:
            for direction, book in account.books.items():
                revisions = account.quarters.verdicts[direction].revisions
                weights = list(zip(account.quarters.starts, revisions[: len(gone)], strict=False))
                breaches.forget(book, judgements(self, group, phase, direction, gone), before_ms, weights)
            account.quarters.forget_first(len(gone))


def judged_at(state: ComplianceState, group: GroupState, phase: Phase, direction: Direction, at: int) -> Judged | None:
    """The judgement of the quarter at a place as it was told; None where it was not judged.

    It is not kept: row and limits give it again. The verdict is: the tolerance may have been set anew.
    """
    quarters = group.accounts[phase].quarters
    verdict = quarters.verdict(at, direction)
    if verdict is None:
        return None
    used = quarters.used(at)
    judged = judge(used.of(direction), used.coverage, group.tolerance, state.allowed(quarters.starts[at], direction, phase))
    return judged._replace(verdict=verdict)


def judgements(state: ComplianceState, group: GroupState, phase: Phase, direction: Direction, places: range) -> list[tuple[int, Judged]]:
    """The quarters at some places that were judged, as breaches are made of them."""
    starts = group.accounts[phase].quarters.starts
    found = ((starts[at], judged_at(state, group, phase, direction, at)) for at in places)
    return [(quarter_ms, judged) for quarter_ms, judged in found if judged is not None]


def around(account: Account, direction: Direction, first_ms: int, last_ms: int) -> range:
    """See `breaches.around`."""
    quarters = account.quarters
    codes = quarters.verdicts[direction].codes
    return breaches.around(quarters.starts, codes, first_ms, last_ms, within=_WITHIN, breached=_BREACHED)
