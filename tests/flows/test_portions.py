"""What is let go at once leaves in portions, each with the positions that hold behind it."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from pipelines.lanes import Part
from pipelines.portions import Stretch, portions


@dataclass(frozen=True)
class Message:
    part: Part
    at: int

    def offset(self) -> int:
        return self.at


BEFORE = {("a", 0): 3, ("b", 0): 7, ("c", 0): 0}


def stretches_of(parts: list[tuple[str, int]]) -> tuple[list[Stretch], dict[Part, int]]:
    """Stretches of so many messages of each topic, with gaps between offsets, and where everything ends."""
    ends, found = dict(BEFORE), list[Stretch]()
    for topic, count in parts:
        part = (topic, 0)
        found.append((part, [Message(part, ends[part] + 2 * number) for number in range(count)]))
        ends[part] += 2 * count
    return found, ends


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9)), max_size=6), st.integers(1, 7))
def test_portions_are_small_and_in_order_and_no_position_is_ahead_of_what_left(parts: list[tuple[str, int]], most: int):
    found, ends = stretches_of(parts)
    left, positions = list[Message](), dict(BEFORE)
    cut = list(portions(found, most, BEFORE, ends))
    for portion, positions in cut:
        assert 0 < sum(len(messages) for _, messages in portion) <= most
        assert all(message.part == part for part, messages in portion for message in messages)
        left += [message for _, messages in portion for message in messages]
        still = [message for _, messages in found for message in messages][len(left) :]
        for part, position in positions.items():
            assert all(message.at < position for message in left if message.part == part)
            assert all(message.at >= position for message in still if message.part == part)
    assert left == [message for _, messages in found for message in messages]
    assert not cut or positions == ends


def test_nothing_is_no_portion():
    assert list(portions([], 5, BEFORE, BEFORE)) == []
