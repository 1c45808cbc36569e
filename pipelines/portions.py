"""What a source may emit at once, cut into portions: a replay lets go thousands of records, and timers must not wait for all of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipelines.lanes import Part

Stretch = tuple[Part, list[Any]]
Positions = dict[Part, int]


def portions(
    stretches: Sequence[Stretch], most: int, before: Mapping[Part, int], after: Positions
) -> Iterator[tuple[list[Stretch], Positions]]:
    """The stretches in their order as portions of at most `most` messages, each with the positions that hold once it has left the
    source: `before` with what is emitted of each partition, and after the last portion `after`."""
    done, portion, room = dict(before), list[Stretch](), most
    for index, (part, messages) in enumerate(stretches):
        at = 0
        while at < len(messages):
            taken = messages[at : at + room]
            portion.append((part, taken))
            at, room = at + len(taken), room - len(taken)
            done[part] = taken[-1].offset() + 1
            last = index == len(stretches) - 1 and at == len(messages)
            if last or not room:
                yield portion, after if last else dict(done)
                portion, room = [], most
