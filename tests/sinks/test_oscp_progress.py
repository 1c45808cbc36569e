"""Which positions dispatch may commit (semantics 8.1)."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sinks.oscp.progress import MARK_EVERY_MS, MEMORY_MS, Tracker

T = 1_800_000_000_000


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60), st.randoms(use_true_random=False))
def test_a_committed_position_never_passes_what_is_open(takes: list[tuple[int, bool]], chance: Any) -> None:
    tracker = Tracker({0: 5}, {})
    offsets = {0: 5, 1: 0, 2: 0}
    open_: list[tuple[int, int]] = []
    for partition, finish in takes:
        tracker.take(partition, offsets[partition])
        open_.append((partition, offsets[partition]))
        offsets[partition] += 1
        if finish:
            done = open_.pop(chance.randrange(len(open_)))
            tracker.done(*done)
        for number, position in tracker.positions().items():
            assert position == min([offset for each, offset in open_ if each == number], default=offsets[number])
    assert tracker.open() == len(open_)


@given(st.lists(st.sampled_from(["take", "finish", "mark"]), max_size=80), st.randoms(use_true_random=False))
def test_a_restart_reads_every_outcome_of_what_it_sends_again(steps: list[str], chance: Any) -> None:
    """Outcomes go to one partition of deliveries; the position kept there is before any outcome of a message that is read again."""
    tracker = Tracker({0: 0}, {0: 0})
    outcomes: list[int] = []
    taken, clock = 0, T
    open_: list[int] = []
    for step in steps:
        clock += MEMORY_MS
        match step:
            case "take":
                tracker.take(0, taken)
                open_.append(taken)
                taken += 1
            case "finish" if open_:
                done = open_.pop(chance.randrange(len(open_)))
                outcomes.append(done)
                tracker.done(0, done)
            case "mark":
                tracker.mark(clock, {0: len(outcomes)})
        kept = tracker.deliveries(clock)[0]
        position = tracker.positions()[0]
        assert all(index >= kept for index, offset in enumerate(outcomes) if offset >= position)


def test_outcomes_are_remembered_for_a_week() -> None:
    tracker = Tracker({0: 0}, {0: 3})
    for number in range(1, 20):
        tracker.mark(T + number * MARK_EVERY_MS, {0: 100 * number})
    assert tracker.deliveries(T + 20 * MARK_EVERY_MS) == {0: 3}
    assert tracker.deliveries(T + 5 * MARK_EVERY_MS + MEMORY_MS) == {0: 500}
    assert tracker.deliveries(T + 100 * MARK_EVERY_MS + MEMORY_MS) == {0: 1900}
