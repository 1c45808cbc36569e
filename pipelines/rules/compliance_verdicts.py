"""A scope's quarters judged, and what follows for their breaches (semantics 5)."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial

from pipelines.records import Out
from pipelines.rules import breaches, compliance_facts, judgement
from pipelines.rules.compliance_state import Account, ComplianceState, GroupState, Told, around, judgements
from pipelines.rules.judgement import Judged
from schemas.intervals import QUARTER_MS
from schemas.units import Direction, Phase


def about(state: ComplianceState, group: GroupState, direction: Direction, phase: Phase) -> compliance_facts.About:
    """Whose limits."""
    return compliance_facts.About(group.partner_id, group.group_id, state.scope_id, direction, phase)


def judged_anew(
    state: ComplianceState, group: GroupState, told: Told, at: int, before: Judged | None, cause_id: str, now: datetime
) -> Iterator[Out]:
    """The verdict on the quarter at a place, if it is another than `before`.

    Its revision follows from the row's and from how often its limits were changed afterwards, so that a replay, which may know
    the envelopes before the rows, does not count behind what was told.
    """
    quarters = group.accounts[told.phase].quarters
    limits = state.allowed(*told)
    if before is None and told.phase is not Phase.ALL and not limits.known_s:
        return
    used = quarters.used(at)
    judged = judgement.judge(used.of(told.direction), used.coverage, group.tolerance, limits)
    if judged == before:
        return
    last = quarters.verdicts[told.direction].revisions[at]
    revision = max(used.revision + state.late.get(told, 0), last + 1)
    quarters.told(at, told.direction, judged.verdict, revision)
    whose = about(state, group, told.direction, told.phase)
    yield compliance_facts.verdict(whose, told.quarter_ms, judged, revision, cause_id, now)


def breaches_of(
    state: ComplianceState, group: GroupState, account: Account, phase: Phase, direction: Direction, first_ms: int, last_ms: int,
    cause_id: str | None, now: datetime,
) -> Iterator[Out]:  # fmt: skip
    """What follows from the judgements of the quarters from `first_ms` to `last_ms`; those far from them are not looked at."""
    whose, book = about(state, group, direction, phase), account.books[direction]
    book.as_of_ms = max(book.as_of_ms, account.quarters.starts[-1] + QUARTER_MS if account.quarters else 0)
    places = around(account, direction, first_ms, last_ms)
    before = {breach_id: told.state for breach_id, told in book.told.items()}
    history = judgements(state, group, phase, direction, places)
    name, weigh = partial(compliance_facts.breach_id, whose), partial(account.quarters.weight, direction)
    for revision in breaches.revise(book, history, name, whole=places.start == 0, weigh=weigh):
        yield from compliance_facts.breach(whose, revision, before.get(revision.breach_id), cause_id, now)


def silent(
    state: ComplianceState, group: GroupState, phase: Phase, account: Account, as_of_ms: int, cause_id: str | None, now: datetime
) -> Iterator[Out]:
    """Nothing more is expected of the time before `as_of_ms`: a breach that nothing continued is closed."""
    for direction, book in account.books.items():
        book.as_of_ms = max(book.as_of_ms, as_of_ms)
        run = breaches.open_run(book)
        if run is not None and run.open_until_ms <= book.as_of_ms:
            yield from breaches_of(state, group, account, phase, direction, run.first_ms, run.last_ms, cause_id, now)
