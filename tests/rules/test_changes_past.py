"""What stood on a topic after each of its last records is found again, as it was."""

import random

import pytest

from pipelines.rules.changes_past import ChangesPast


def story(seed: int, changes: int, most: int) -> tuple[ChangesPast[int], dict[int, dict[str, int]]]:
    """Keys whose values come, change and go at random offsets; the states by offset, the first one empty."""
    chance, past, states = random.Random(seed), ChangesPast[int](most), {-1: dict[str, int]()}
    offset, latest = -1, dict[str, int]()
    for number in range(changes):
        offset, key = offset + chance.choice([1, 1, 1, 3]), f"k-{chance.randrange(9)}"
        past.note(offset, key, latest.get(key))
        latest = {**latest, key: number} if chance.random() < 0.6 else {name: value for name, value in latest.items() if name != key}
        states[offset] = latest
    return past, states


@pytest.mark.parametrize("seed", range(20))
def test_every_state_there_was_is_found(seed: int) -> None:
    past, states = story(seed, 60, 1000)
    latest = states[max(states)]
    assert {offset: past.at(offset, latest) for offset in states} == states
    between = next(offset for offset in range(max(states)) if offset not in states)
    assert past.at(between, latest) == states[max(offset for offset in states if offset < between)]
    assert past.at(max(states) + 5, latest) == latest


def test_what_was_longer_ago_than_is_remembered_is_not_known() -> None:
    past, states = story(1, 30, 10)
    offsets = sorted(states)
    known = [offset for offset in offsets if past.at(offset, states[offsets[-1]]) is not None]
    assert known == offsets[-11:]
    assert all(past.at(offset, states[offsets[-1]]) == states[offset] for offset in known)


def test_a_topic_that_was_made_anew_is_remembered_from_there() -> None:
    past = ChangesPast[int]()
    for offset, key in ((70, "a"), (71, "b"), (5, "a"), (6, "c")):
        past.note(offset, key, None if key in "bc" else 0)
    latest = {"a": 2, "b": 1, "c": 3}
    assert [past.at(offset, latest) for offset in (3, 4, 5, 6)] == [None, {"a": 0, "b": 1}, {"a": 2, "b": 1}, latest]
