"""Schedules and what is to come, as they are kept: what is read is what was written."""

import pickle

from hypothesis import given
from hypothesis import strategies as st

from pipelines.rules.kept import Book, Coming, ScheduleKey, begins_before, coming, kept, schedule_of
from pipelines.rules.limits import Limit, Stretch
from pipelines.rules.schedules import Origin, Schedule, Span
from schemas.capacity import LimitType, PieceKind
from schemas.units import Phase

ORIGINS = [Origin(f"f{n}", f"digest {n}", n) for n in range(3)]
gaps_and_lengths = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.floats(0, 1e9), st.sampled_from(ORIGINS)), max_size=12)
limits = st.none() | st.builds(Limit, st.floats(0, 1e9), st.sampled_from(PieceKind), st.none() | st.sampled_from("ab"))


def schedule(parts: list[tuple[int, int, float, Origin]]) -> Schedule:
    found, at = [], -7
    for gap, length, watts, origin in parts:
        found.append(Span(at + gap, at + gap + length, watts, origin))
        at += gap + length
    return found


@given(gaps_and_lengths)
def test_a_schedule_is_read_as_it_was_written(parts: list[tuple[int, int, float, Origin]]):
    one = schedule(parts)
    assert schedule_of(pickle.loads(pickle.dumps(kept(one)))) == one


def test_a_schedule_may_come_from_more_messages_than_a_byte_can_count():
    one = [Span(n, n + 1, float(n), Origin(f"f{n}", "", n)) for n in range(1000)]
    assert schedule_of(kept(one)) == one
    assert begins_before(kept(one), 999, 1000)


def test_it_is_known_how_much_of_a_schedule_is_past():
    one = kept(schedule([(0, 5, 1.0, ORIGINS[0]), (0, 5, 2.0, ORIGINS[1])]))  # rows at -7, -2 and 3
    assert [begins_before(one, row, 3) for row in (0, 1, 2, 3)] == [True, True, False, False]
    assert not begins_before(kept([]), 0, 3)


def test_a_book_reads_what_was_written_in_it():
    key, one = ScheduleKey("G", LimitType.IMPORT, Phase.ALL), schedule([(0, 5, 1.0, ORIGINS[0])])
    schedules: dict = {}
    book = Book(schedules)
    assert book.read(key) == []
    book.write(key, one)
    assert (book.read(key), Book(schedules).read(key)) == (one, one)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), limits, limits), max_size=12))
def test_what_is_to_come_is_read_as_it_was_written(parts: list[tuple[int, int, Limit | None, Limit | None]]):
    stretches, at, expected = [], 0, []
    for number, (gap, length, imports, exports) in enumerate(parts):
        if gap and number:
            expected.append((at, (None, None)))
        expected.append((at + gap, (imports, exports)))
        stretches.append(Stretch(at + gap, at + gap + length, imports, exports))
        at += gap + length
    if parts:
        expected.append((at, (None, None)))
    found = coming(stretches)
    rows = []
    while (instant := found.at_ms(len(rows))) is not None:
        rows.append((instant, found.limits(len(rows))))
    assert rows == expected


def test_nothing_to_come_has_no_rows():
    assert Coming().at_ms(0) is None
    assert coming([]) == Coming()


def test_what_is_to_come_may_have_more_reasons_than_a_byte_can_count():
    many = [Stretch(n, n + 1, Limit(float(n), PieceKind.FORECAST, f"f{n}"), None) for n in range(600)]
    assert coming(many).limits(599) == (Limit(599.0, PieceKind.FORECAST, "f599"), None)
