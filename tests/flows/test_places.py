"""Where payloads lay in the topic: as every message said, whatever is missing."""

from array import array
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.places import places
from pipelines.records import Poll, Run
from tests.builders import T0

OFFSETS = st.lists(st.integers(0, 2**40), max_size=5, unique=True).map(sorted)
CONTIGUOUS = st.builds(lambda first, count: list(range(first, first + count)), st.integers(0, 2**40), st.integers(0, 5))


@given(st.lists(OFFSETS | CONTIGUOUS, max_size=4), st.data())
def test_every_payload_has_its_partition_and_offset(parts: list[list[int]], data: st.DataObject) -> None:
    where = [(partition, offset) for partition, offsets in enumerate(parts) for offset in offsets]
    runs = []
    for partition, offsets in enumerate(parts):
        if offsets:
            whole = all(after == before + 1 for before, after in pairwise(offsets))
            first = where.index((partition, offsets[0]))
            found = range(offsets[0], offsets[-1] + 1) if whole else array("q", offsets)
            runs.append(Run(partition, first, len(offsets), found))
    payload = sorted(data.draw(st.lists(st.integers(0, len(where) - 1), max_size=9))) if where else []
    partition, offset = places(Poll([b""] * len(where), tuple(runs), (), (), T0), np.array(payload, np.int32))
    assert list(zip(partition.tolist(), offset.tolist(), strict=True)) == [where[index] for index in payload]
