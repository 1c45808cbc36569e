"""How a key stands at an instant: the few readings that all later quarters need of the time before it.

What came before reaches a quarter only through the last good value of each register, the fallen values that may yet
be confirmed, and the last power (semantics 1.1 to 1.3). They are carried as readings, so that nothing else has to know.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_hours import Judged
from pipelines.rules.quarter_readings import EXPORT, IMPORT, POWER, Floats, Ints, Table, last_of_key, position
from pipelines.rules.quarter_registers import Counted, counted
from schemas.intervals import QUARTER_MS

NEVER = np.iinfo(np.int64).max
REGISTERS = (("import_wh", IMPORT), ("export_wh", EXPORT))


class Standing(NamedTuple):
    """`carried` are readings from before the instant, with only the flags of what is needed of them, in order.

    `reached_until` says by asked key up to where a register value at or after the instant would still change quarters
    before it: the next value on whose account they stand; `NEVER` if there is none yet; 0 if none can.
    """

    carried: Table
    reached_until: Ints


def standing(known: Judged, key: NDArray[np.int32], at: Ints, max_w: Floats, max_interpolation: int) -> Standing:
    """How the keys (ascending) stand at the instants `at`, one for each; `max_w` is by key."""
    readings, ends = known.readings, position(key, at)
    before = _before(readings, key, at)
    flags = np.zeros(len(readings), np.uint8)

    power = np.flatnonzero(before & ((readings["flags"] & POWER) != 0))
    flags[power[last_of_key(readings["key"][power])]] |= POWER
    reached = np.zeros(len(key), np.int64)
    for (name, flag), values in zip(REGISTERS, (known.imported, known.exported), strict=True):
        last, waiting = _last_values(known, values, name, flag, key, ends, before, max_w)
        flags[last] |= flag
        flags[waiting] |= flag
        reached = np.maximum(reached, _reached(readings, values, key, at, last, waiting, max_interpolation))
    carried = readings[flags > 0]
    carried["flags"] = flags[flags > 0]
    return Standing(carried, reached)


def _before(readings: Table, key: NDArray[np.int32], at: Ints) -> NDArray[np.bool_]:
    """Which readings are of one of the keys and before its instant."""
    if not len(key):
        return np.zeros(len(readings), np.bool_)
    which = np.minimum(np.searchsorted(key, readings["key"]), len(key) - 1)
    before: NDArray[np.bool_] = (key[which] == readings["key"]) & (readings["at"] < at[which])
    return before


def _last_values(
    known: Judged, values: Counted, name: str, flag: int, key: NDArray[np.int32], ends: Ints, before: NDArray[np.bool_], max_w: Floats
) -> tuple[Ints, Ints]:
    """Rows of the last good value of each key before its end, and of the values that waited to be confirmed by then."""
    if not len(values.key):
        return values.row, values.waiting
    index = np.searchsorted(position(values.key, values.at), ends) - 1
    found = (index >= 0) & (values.key[np.maximum(index, 0)] == key) & ~np.isin(key, values.fell)
    last, waiting = values.row[index[found]], values.waiting[:0]
    # A register that fell is judged again by what was known then: later values must not have confirmed earlier ones yet.
    fallen = np.flatnonzero(before & np.isin(known.readings["key"], values.fell)) if len(values.fell) else values.waiting[:0]
    if len(fallen):
        then = counted(known.readings[fallen], name, flag, max_w)
        last = np.concatenate((last, fallen[then.row[last_of_key(then.key)]]))
        waiting = fallen[then.waiting]
    return last, waiting


def _reached(readings: Table, values: Counted, key: NDArray[np.int32], at: Ints, last: Ints, waiting: Ints, max_interpolation: int) -> Ints:
    """Up to where a later value of this register changes what lies before `at` (see `Standing.reached_until`)."""
    matters = np.zeros(len(key), np.bool_)
    held = np.searchsorted(key, readings["key"][last])
    # Where nothing is interpolated, the next value still says how much of the quarter was covered (1.5).
    matters[held] = readings["at"][last] >= at[held] - max(max_interpolation, QUARTER_MS)
    matters[np.searchsorted(key, readings["key"][waiting])] = True
    settled_key, settled_at = values.key[values.settled], values.at[values.settled]
    index = np.searchsorted(position(settled_key, settled_at), position(key, at))
    following = np.full(len(key), NEVER)
    known = index < len(settled_key)
    known[known] = settled_key[index[known]] == key[known]
    following[known] = settled_at[index[known]]
    return np.where(matters, following, 0)
