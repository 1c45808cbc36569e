"""What was judged in the end does not depend on the order rows and envelopes came in, nor on restarts (semantics 5).

Envelopes come in their order, and a row after every envelope that was stated before it; how long it waits beyond that is
chance: live running, a flow that lagged behind, a replay that reads all envelopes first.
"""

import pickle
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.records import Out
from pipelines.rules.breaches import Run, runs
from pipelines.rules.compliance import ComplianceRule, GroupRow
from pipelines.rules.judgement import Judged
from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.compliance import Breach, BreachState, Verdict, VerdictKind
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.telemetry import Level, Method, QuarterHour
from schemas.units import Direction, Phase, to_ms
from tests.builders import T0
from tests.rules.scenes import values

QUARTERS = 14
END = T0 + timedelta(days=1)
PHASES = (Phase.ALL, Phase.ONE)


class Given(NamedTuple):
    """What happens to one scope: rows and envelopes in the order they were written, each with when that was."""

    rows: list[tuple[datetime, GroupRow]]
    envelopes: list[OperatingEnvelope]


@st.composite
def stories(draw: st.DrawFn) -> Given:
    envelopes, stated = [], T0
    for number in range(draw(st.integers(1, 5))):
        stated += draw(st.integers(0, 80)) * timedelta(minutes=1)
        effective = stated + draw(st.sampled_from([-100, -40, -16, 0, 0, 7, 30])) * timedelta(minutes=1)
        pieces = []
        for phase in PHASES:
            if draw(st.integers(0, 3)):
                limits = [draw(st.sampled_from([None, 8_000.0, 20_000.0, 30_000.0])) for _ in range(4)]
                middle = effective + draw(st.integers(1, 60)) * timedelta(minutes=1)
                kind = draw(st.sampled_from([PieceKind.FORECAST, PieceKind.OPERATOR, PieceKind.SAFE]))
                why = {"import_kind": kind, "export_kind": kind, "import_cause": f"f{number}", "export_cause": f"f{number}"}
                for start, end, (imports, exports) in ((effective, middle, limits[:2]), (middle, END, limits[2:])):
                    piece = {"start": start, "end": end, "import_limit_w": imports, "export_limit_w": exports, "phase": phase}
                    pieces.append(EnvelopePiece.model_validate(piece | why))
        envelopes.append(
            OperatingEnvelope(event_id=f"e{number}", at=stated, scope_id="mg-1", revision=number + 1, effective_at=effective, pieces=pieces)
        )
    rows = []
    for quarter in range(QUARTERS):
        for phase in PHASES:
            written = T0 + (quarter + 1) * QUARTER
            for revision in range(1, draw(st.sampled_from([0, 1, 1, 1, 2, 3])) + 1):
                written += draw(st.integers(1, 50)) * timedelta(minutes=1)
                rows.append(
                    (written, row(quarter, revision, phase, draw(st.sampled_from([0, 4_000, 5_001, 6_000, 9_000])), draw(coverages)))
                )
    return Given(sorted(rows, key=lambda one: one[0]), envelopes)


coverages = st.sampled_from([1.0, 1.0, 1.0, 0.9, 0.4])


def row(quarter: int, revision: int, phase: Phase, used_wh: float, coverage: float) -> GroupRow:
    start, level = T0 + quarter * QUARTER, Level.GROUP if phase is Phase.ALL else Level.ASSET
    plain = {
        "event_id": f"row {quarter} {phase} {revision}", "at": start + QUARTER, "level": level, "id": "VEC-0001", "scope_id": "mg-1",
        "phase": phase, "start": start, "import_wh": used_wh, "export_wh": 9_000 - used_wh, "net_wh": 0, "mean_w": 0, "samples": 15,
        "coverage": coverage, "method": Method.METER, "revision": revision,
    }  # fmt: skip
    return GroupRow(QuarterHour.model_validate(plain), "VEC-0001", "vector", 0.0)


def told(story: Given, waits: Iterable[int], restarts: Iterable[bool]) -> list[Out]:
    """What the rule says if rows wait for that many envelopes more than they must."""
    rule, outs, read, pause = ComplianceRule(), list[Out](), 0, iter(restarts)
    state = rule.start("mg-1")

    def take(item: Any) -> None:
        nonlocal state
        if next(pause, False):
            state = pickle.loads(pickle.dumps(state))
        outs.extend(rule.step(state, item, END))

    for (written, item), wait in zip(story.rows, waits, strict=True):
        due = sum(envelope.at <= written for envelope in story.envelopes)
        for envelope in story.envelopes[read : max(due + wait, read)]:
            take(envelope)
        read = max(read, min(due + wait, len(story.envelopes)))
        take(item)
    for envelope in story.envelopes[read:]:
        take(envelope)
    return outs


Key = tuple[datetime, Direction, Phase]


def verdicts(outs: list[Out]) -> dict[Key, Verdict]:
    """Those that hold: the highest revision, of equal ones the later."""
    found: dict[Key, Verdict] = {}
    for verdict in values(outs, Verdict):
        key = (verdict.quarter, verdict.direction, verdict.phase)
        if key not in found or verdict.revision >= found[key].revision:
            found[key] = verdict
    return found


def contents(outs: list[Out]) -> dict[Key, dict[str, Any]]:
    """What holds. That a single phase is not limited after all is only said where it was judged before."""
    said = {key: verdict.model_dump(exclude={"event_id", "at", "cause_id", "revision"}) for key, verdict in verdicts(outs).items()}
    return {key: content for key, content in said.items() if key[2] is Phase.ALL or content["reason"] != "limit covers 0 s of 900"}


def holding(outs: list[Out], direction: Direction, phase: Phase) -> dict[str, Breach]:
    """The breaches that hold, by their id."""
    found: dict[str, Breach] = {}
    for breach in values(outs, Breach):
        known = found.get(breach.breach_id)
        if (breach.direction, breach.phase) == (direction, phase) and (known is None or breach.revision >= known.revision):
            found[breach.breach_id] = breach
    return found


def breaches(outs: list[Out], direction: Direction, phase: Phase) -> list[tuple[Any, ...]]:
    """Those that hold, without those taken back."""
    return sorted(
        (b.first_quarter, b.last_quarter, b.quarters, round(b.peak_mean_w, 6), round(b.energy_over_wh, 6), b.forecasts, closed(b))
        for b in holding(outs, direction, phase).values()
        if b.state is not BreachState.VOIDED
    )


def names(outs: list[Out], direction: Direction, phase: Phase) -> set[str]:
    """The ids of the breaches that hold and were not taken back: they follow from how each came to be."""
    return {name for name, breach in holding(outs, direction, phase).items() if breach.state is not BreachState.VOIDED}


def closed(breach: Breach) -> bool:
    return breach.state is BreachState.CLOSED


def expected(outs: list[Out], direction: Direction, phase: Phase, as_of_ms: int) -> list[tuple[Any, ...]]:
    """The breaches that follow from the verdicts that hold, all at once."""
    of = sorted((v for v in verdicts(outs).values() if (v.direction, v.phase) == (direction, phase)), key=lambda v: v.quarter)
    history = [(to_ms(v.quarter), Judged(v.verdict, v.used_wh, v.allowed_wh, v.reason, tuple(v.forecasts), ())) for v in of]
    return [plain(run) for run in runs(history, None, as_of_ms)]


def plain(run: Run) -> tuple[Any, ...]:
    first, last = (T0 + timedelta(milliseconds=ms - to_ms(T0)) for ms in run[:2])
    return first, last, run.quarters, round(run.peak_mean_w, 6), round(run.energy_over_wh, 6), list(run.forecasts), run.closed


@settings(max_examples=60, deadline=None)
@given(stories(), st.data())
def test_any_legal_order_with_restarts_anywhere_ends_with_the_same_facts(story: Given, data: st.DataObject):
    count = len(story.rows)
    live = told(story, [0] * count, [])
    waits = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    restarts = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    other = told(story, waits, restarts)
    assert contents(other) == contents(live)
    # what is on the topic after a replay from nothing is what was there before
    replay = told(story, [5] * count, [])
    assert contents(live + replay) == contents(live)
    for phase in PHASES:
        starts = [to_ms(item.row.start) for _, item in story.rows if item.row.phase is phase]
        as_of_ms = max(starts, default=0) + QUARTER_MS
        for direction in Direction:
            found = breaches(live, direction, phase)
            if names(live, direction, phase) == names(replay, direction, phase):
                assert breaches(live + replay, direction, phase) == found
            assert found == breaches(other, direction, phase)
            assert found == expected(live, direction, phase, as_of_ms)


@settings(max_examples=60, deadline=None)
@given(stories(), st.data())
def test_a_flow_that_lost_its_store_goes_on_where_it_was(story: Given, data: st.DataObject):
    """It reads all there is again, envelopes first, and then what comes: what it says then stands above what was said before."""
    if not story.rows:
        return
    lost = data.draw(st.integers(1, len(story.rows)))
    since = story.rows[lost - 1][0]
    there = [envelope for envelope in story.envelopes if envelope.at <= since]
    first = told(Given(story.rows[:lost], there), [0] * lost, [])
    again = [len(there) - sum(envelope.at <= written for envelope in there) for written, _ in story.rows[:lost]]
    count = len(story.rows)
    second = told(story, [*again, *[0] * (count - lost)], [])
    assert contents(first + second) == contents(told(story, [0] * count, []))


@settings(max_examples=25, deadline=None)
@given(stories())
def test_the_same_order_says_the_same_in_the_same_words(story: Given):
    once, again = (told(story, [0] * len(story.rows), restarts) for restarts in ([], [True] * 200))
    assert once == again


@settings(max_examples=25, deadline=None)
@given(stories())
def test_a_revision_is_a_change(story: Given):
    before: dict[Key, Verdict] = {}
    for verdict in values(told(story, [0] * len(story.rows), []), Verdict):
        key = (verdict.quarter, verdict.direction, verdict.phase)
        if (last := before.get(key)) is not None:
            assert verdict.revision > last.revision
            change = {"event_id", "at", "cause_id", "revision"}
            assert verdict.model_dump(exclude=change) != last.model_dump(exclude=change)
        before[key] = verdict
        if verdict.phase is not Phase.ALL and last is None:
            assert verdict.allowed_wh is not None or verdict.verdict is VerdictKind.UNKNOWN


@settings(max_examples=60, deadline=None)
@given(st.text("WBU.", max_size=50))
def test_what_is_no_longer_kept_changes_nothing_that_is_told(letters: str):
    """A row's quarters stay two hours at least, as long as a breach stays open for want of news."""
    pieces = [EnvelopePiece(start=T0, end=END, import_limit_w=20_000.0, import_kind=PieceKind.FORECAST, import_cause="f")]
    limits = OperatingEnvelope(event_id="e", at=T0, scope_id="mg-1", revision=1, effective_at=T0, pieces=pieces)
    used = {"W": (4_000, 1.0), "B": (6_000, 1.0), "U": (0, 0.1)}
    said = []
    for reach in (timedelta(0), timedelta(days=7)):
        rule, outs = ComplianceRule(), []
        state = rule.start("mg-1")
        outs += rule.step(state, limits, END)
        for number, letter in enumerate(letters):
            if letter != ".":
                outs += rule.step(state, row(number, 1, Phase.ALL, *used[letter])._replace(reach=reach), END)
        said.append(outs)
    assert said[0] == said[1]
