"""What a telemetry shard tells a group shard, and what that answers: packed columns, no object a row (semantics 2)."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_hours import CONTENT, ROW
from pipelines.rules.quarter_readings import Ints
from schemas.telemetry import Method

METHODS = (Method.METER, Method.SUM)

GROUP_ROW = np.dtype(
    [
        ("start", np.int64), *((name, np.float64) for name in CONTENT), ("last_minute_w", np.float64),
        ("samples", np.int64), ("missing_members", np.int64), ("method", np.int8), ("estimated", np.bool_), ("reset", np.bool_),
    ]
)  # fmt: skip
"""A group's quarter, as `quarter_hours.ROW` has an asset's; `method` indexes `METHODS`. Packed: rows compare by their bytes."""


def _no_ints() -> Ints:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Members:
    """Rows of assets (`quarter_hours.ROW`), with each one's mark (`group_bindings.marks_of`) and phase."""

    rows: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, ROW))
    marks: Ints = field(default_factory=_no_ints)
    phases: NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, np.int8))


def together(some: Iterable[Members]) -> Members:
    """All their rows, in order."""
    there = [one for one in some if len(one.rows)]
    if len(there) < 2:
        return there[0] if there else Members()
    return Members(*(np.concatenate([getattr(one, name) for one in there]) for name in ("rows", "marks", "phases")))


@dataclass(frozen=True, slots=True)
class GroupNews:
    """What telemetry shard `shard` of `shards` has to say in one step. Instants are ms.

    `until` is up to where the quarters of the assets in `settled` are closed; `overdue_until` up to where nobody is waited
    for any more, `frozen_until` up to where no row can change, as far as this shard knows. `tick` (0: none) numbers a round of
    provisional rows (`running`).
    """

    shard: int
    shards: int
    rows: Members = field(default_factory=Members)
    running: Members = field(default_factory=Members)
    settled: Ints = field(default_factory=_no_ints)
    until: Ints = field(default_factory=_no_ints)
    overdue_until: int = 0
    frozen_until: int = 0
    tick: int = 0


@dataclass(slots=True)
class GroupRows:
    """Rows of groups (`GROUP_ROW`) to write, each with the group's id, its scope's, and its revision (0: provisional)."""

    groups: list[str]
    scopes: list[str]
    rows: NDArray[np.void]
    revisions: NDArray[np.int32]
