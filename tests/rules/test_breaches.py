import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.breaches import OPEN_MS, Book, Revision, forget, next_close_ms, revise, runs
from pipelines.rules.judgement import Judged
from schemas.compliance import BreachState, VerdictKind
from schemas.intervals import QUARTER_MS

W, B, U = VerdictKind.WITHIN, VerdictKind.BREACHED, VerdictKind.UNKNOWN
BASE = 2_000_000 * QUARTER_MS
LETTERS = {"W": W, "B": B, "U": U}
QUIET = OPEN_MS // QUARTER_MS


def judged(verdict: VerdictKind, used: float = 6_000.0, cause: str = "f1") -> Judged:
    return Judged(verdict, used, 5_000.0, "", (cause,), (cause,))


def history(letters: str) -> list[tuple[int, Judged]]:
    """One letter a quarter; a dot is a quarter without judgement."""
    return [(BASE + n * QUARTER_MS, judged(LETTERS[letter])) for n, letter in enumerate(letters) if letter != "."]


def name(first_ms: int, number: int) -> str:
    return f"b{(first_ms - BASE) // QUARTER_MS}" + "'" * number


def brief(revisions: list[Revision]) -> list[tuple[str, str, int, int, int]]:
    """(id, state, first quarter, quarters, revision)"""
    return [
        (r.breach_id, r.told.state.value, (r.told.run.first_ms - BASE) // QUARTER_MS, r.told.run.quarters, r.told.revision)
        for r in revisions
    ]


def test_opened_continued_closed():
    book = Book()
    told = [brief(revise(book, history("WBBUBW"[:n]), name)) for n in range(1, 7)]
    assert told == [
        [], [("b1", "OPENED", 1, 1, 1)], [("b1", "CONTINUED", 1, 2, 2)], [], [("b1", "CONTINUED", 1, 3, 3)], [("b1", "CLOSED", 1, 3, 4)],
    ]  # fmt: skip


def test_what_it_records():
    run = runs([(BASE, judged(B, 6_000.0, "f1")), (BASE + QUARTER_MS, judged(B, 8_000.0, "f2"))], None, BASE)[0]
    assert (run.peak_mean_w, run.energy_over_wh, run.forecasts) == (32_000.0, 4_000.0, ("f1", "f2"))


def test_unknown_or_silence_keeps_it_open_for_two_hours():
    for quiet in "U.":
        assert brief(revise(Book(), history("B" + quiet * (QUIET - 1) + "B"), name)) == [("b0", "CONTINUED", 0, 2, 1)]
        apart = brief(revise(Book(), history("B" + quiet * QUIET + "B"), name))
        assert apart == [("b0", "CLOSED", 0, 1, 1), (f"b{QUIET + 1}", "OPENED", QUIET + 1, 1, 1)]
    assert brief(revise(Book(), history("B" + "U" * QUIET), name)) == [("b0", "CLOSED", 0, 1, 1)]


def test_with_no_rows_at_all_time_closes_it():
    book = Book()
    revise(book, history("B"), name)
    closes = next_close_ms(book)
    assert closes == BASE + QUARTER_MS + OPEN_MS
    book.as_of_ms = closes - 1
    assert revise(book, history("B"), name) == []
    book.as_of_ms = closes
    assert brief(revise(book, history("B"), name)) == [("b0", "CLOSED", 0, 1, 2)]
    assert next_close_ms(book) is None
    assert brief(revise(book, history("B..B"), name)) == [("b0", "CONTINUED", 0, 2, 3)]  # rows that were late after all
    assert brief(revise(book, history("B..B......B"), name)) == [("b0", "CONTINUED", 0, 3, 4)]


def corrected(*stages: str) -> list[list[tuple[str, str, int, int, int]]]:
    book = Book()
    return [brief(revise(book, history(letters), name)) for letters in stages][1:]


def test_corrections():
    assert corrected("BBW", "BBB") == [[("b0", "CONTINUED", 0, 3, 2)]]  # reopened
    assert corrected("BBBW", "WBBW") == [[("b0", "CLOSED", 1, 2, 2)]]  # shrunk
    assert corrected("BBW", "WWW") == [[("b0", "VOIDED", 0, 0, 2)]]
    assert corrected("BW", "WW", "BW") == [[("b0", "VOIDED", 0, 0, 2)], [("b0", "CLOSED", 0, 1, 3)]]
    assert corrected("BBBW", "BWBW") == [[("b0", "CLOSED", 0, 1, 2), ("b2", "CLOSED", 2, 1, 1)]]  # split
    assert corrected("BWBW", "BBBW") == [[("b0", "CLOSED", 0, 3, 2), ("b2", "VOIDED", 2, 0, 2)]]  # joined
    # The id of the first quarter is taken by a breach that has moved on.
    assert corrected("BBBBW", "WBBBW", "BWBBW") == [[("b0", "CLOSED", 1, 3, 2)], [("b0'", "CLOSED", 0, 1, 1), ("b0", "CLOSED", 2, 2, 3)]]


letters = st.text("WBU.", max_size=30)


def living(book: Book) -> list[tuple[int, int, int, str]]:
    return sorted(
        (t.run.first_ms, t.run.last_ms, t.run.quarters, t.state.value) for t in book.told.values() if t.state is not BreachState.VOIDED
    )


@given(letters, st.data())
def test_any_order_of_judgements_ends_with_the_same_breaches(story: str, data: st.DataObject):
    full = history(story)
    book = Book()
    known: dict[int, Judged] = {}
    revisions: dict[str, int] = {}
    for quarter_ms, one in data.draw(st.permutations(full)):
        known[quarter_ms] = one
        for revision in revise(book, sorted(known.items()), name):
            assert revision.told.revision == revisions.get(revision.breach_id, 0) + 1
            revisions[revision.breach_id] = revision.told.revision
    straight = Book()
    revise(straight, full, name)
    assert living(book) == living(straight)


@given(letters)
def test_every_breached_quarter_is_in_exactly_one_breach_and_no_within_inside_one(story: str):
    full = history(story)
    found = runs(full, None, full[-1][0] + QUARTER_MS if full else 0)
    for quarter_ms, one in full:
        around = [run for run in found if run.first_ms <= quarter_ms <= run.last_ms]
        if one.verdict is B:
            assert len(around) == 1
        elif one.verdict is W:
            assert around == []
    assert sum(run.quarters for run in found) == sum(one.verdict is B for _, one in full)
    assert all(run.closed for run in found[:-1])


@settings(max_examples=200)
@given(st.text("WBU.", min_size=1, max_size=60), st.integers(9, 20), st.booleans())
def test_forgetting_changes_nothing_that_is_told(story: str, kept: int, restarting: bool):
    """Fed quarter by quarter, with only the last `kept` judgements at hand."""
    plain, bounded = Book(), Book()
    known: list[tuple[int, Judged]] = []
    for n, letter in enumerate(story):
        if letter != ".":
            known.append(history("." * n + letter)[0])
            whole = revise(plain, history(story[: n + 1]), name)
            assert brief(revise(bounded, known, name)) == brief(whole)
            before_ms = BASE + (n - kept) * QUARTER_MS
            gone, known = [one for one in known if one[0] < before_ms], [one for one in known if one[0] >= before_ms]
            forget(bounded, gone, before_ms)
            if restarting:
                bounded = pickle.loads(pickle.dumps(bounded))
    assert len(bounded.told) <= kept + 3
