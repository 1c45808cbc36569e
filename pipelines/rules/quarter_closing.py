"""What time does to a shard: quarters close, are revised, and leave (semantics 1.9, 1.10).

A quarter of a key is open until `closed`, then revisable until its partition's `cut` passes it, then gone.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.quarter_arrivals import STEP_MS
from pipelines.rules.quarter_hours import Inside, Judged, MeterTiming, assembled, judged, tolerant
from pipelines.rules.quarter_minutes import in_order
from pipelines.rules.quarter_parts import Part
from pipelines.rules.quarter_power import PowerEnergy
from pipelines.rules.quarter_readings import EXPORT, IMPORT, Flags, Ints, Table, joined, position
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.quarter_slots import Slots
from pipelines.rules.quarter_standing import standing
from pipelines.rules.quarter_state import Shard, Step
from pipelines.rules.quarter_written import digests
from schemas.intervals import QUARTER_MS

MANY_KEYS, MANY_READINGS, CLOSE_WITHIN_MS = 1000, 500, 500
"""A shard with so many keys, or readings in a poll, puts off closing for at most so long (clock)."""
_CHUNK = 8192
"""So many keys are computed at once: enough for numpy, and little memory."""


def take_step(shard: Shard, part: Part, roster: Roster, ids: list[str] | None = None) -> Step:
    """Take in a part; says what follows. Deterministic: the same parts in the same order give the same.

    `roster` is what holds, of the part's edition or a newer one; `ids` are those of the part's edition (None: the roster's).
    """
    timing, step = roster.timing, Step()
    shard.expire(max(timing.expiry, timing.horizon + 2 * QUARTER_MS))
    shard.number = part.shard
    shard.follow(roster)
    shard.know(part)
    if len(part.readings):
        _take(shard, part, roster, roster.ids if ids is None else ids, step)
    shard.times.see(part.newest, part.clocks.newest())
    for silence in part.silences:
        shard.times.silent(silence.partition, silence.since, silence.now, timing.idle_after)
    shard.times.advance(timing.lateness)
    _advance(shard, shard.times.watermark, timing, step, part)
    shard.fold_if_many(step)
    tick = part.now // timing.provisional_every * timing.provisional_every  # an instant: it rises whatever the interval becomes
    if tick > shard.tick:
        shard.tick, step.provisional = tick, True
        _run(shard, part.now, roster, step)
    return step


def _take(shard: Shard, part: Part, roster: Roster, ids: list[str], step: Step) -> None:
    key = shard.seat(part, ids, step)
    met_at, cuts = shard.meet(part, key, roster.timing)
    home = shard.keys.home[key]
    later = cuts > shard.cut[home]
    if not later.any() or _unmoved(shard, part.readings, key, cuts, later):
        shard.take(part.readings, key, part.offset, met_at, cuts, step)
        return
    # Quarters leave the horizon within this poll: what came before and after that must not see the same state.
    stages = np.where(later, cuts, 0)
    for cut in np.unique(stages).tolist():
        stage = np.flatnonzero(stages == cut)
        if cut:
            reached = shard.watermark.copy()
            least = np.full(len(reached), np.iinfo(np.int64).max)
            np.minimum.at(least, home[stage], met_at[stage])
            reached[home[stage]] = least[home[stage]]
            _advance(shard, reached, roster.timing, step)
        shard.take(part.readings[stage], key[stage], part.offset[stage], met_at[stage], cuts[stage], step)


def _unmoved(shard: Shard, readings: Table, key: NDArray[np.int32], cuts: Ints, later: Flags) -> bool:
    """Whether the quarters that leave the horizon within a poll are closed already, and none of its readings changes them."""
    keys, furthest = shard.keys, np.zeros(len(shard.cut), np.int64)
    np.maximum.at(furthest, keys.home[key[later]], cuts[later])
    if ((keys.closed >= 0) & (keys.closed < furthest[keys.home])).any():
        return False
    reaches = (readings["at"][later] < keys.reached_until[key[later]]) & ((readings["flags"][later] & (IMPORT | EXPORT)) != 0)
    return not reaches.any() and bool((keys.closed[key[later]] >= 0).all())


def _advance(shard: Shard, watermark: Ints, timing: MeterTiming, step: Step, part: Part | None = None) -> None:
    """Event time has come so far in each partition: revise what late readings touched, close what is complete, forget what is past.

    With the part that brought the time along, a shard with much to do may put off the last two (see `_ripe`).
    """
    np.maximum(shard.watermark[: len(watermark)], watermark, out=shard.watermark[: len(watermark)])
    if shard.keys.dirty.any():
        _revise(shard, timing, step)
    due = np.flatnonzero((shard.watermark >= shard.next_close) & (shard.watermark > 0))
    if len(due):
        if part is not None and not _ripe(shard, due, part):
            return
        shard.due_since = 0
        _close(shard, due, timing, step)
    cut = cut_of(shard.watermark, timing)
    if (cut > shard.cut).any():
        _forget(shard, np.maximum(cut, shard.cut), timing)


def _ripe(shard: Shard, due: Ints, part: Part) -> bool:
    """Whether to close what is due now. A busy shard waits a moment for its other partitions: closing all at once costs as much as one.

    When does not matter to what rows say.
    """
    if len(shard.keys) < MANY_KEYS and len(part.readings) < MANY_READINGS:
        return True
    shard.due_since = shard.due_since or part.now
    if part.now - shard.due_since >= CLOSE_WITHIN_MS or (shard.watermark[due] - shard.next_close[due]).max() >= QUARTER_MS:
        return True
    here = np.zeros(len(shard.watermark), np.bool_)
    here[np.unique(shard.keys.home)] = True
    here[due] = False
    return not here.any()


def _close(shard: Shard, partitions: Ints, timing: MeterTiming, step: Step) -> None:
    keys = shard.keys
    shard.fold(shard.watermark // STEP_MS * STEP_MS, step)
    here = np.zeros(len(shard.watermark), np.bool_)
    here[partitions] = True
    mine = np.flatnonzero(here[keys.home]).astype(np.int32)
    passed = shard.watermark[keys.home[mine]] // QUARTER_MS * QUARTER_MS
    until, waits, wake = _closable(shard, mine, passed, timing)
    due = until > keys.closed[mine]
    for some, ends in _chunks(mine[due], until[due]):
        pairs = _pairs(some, _candidates(shard, timing), keys.closed[some], ends)
        known = _known(shard, some)
        if len(pairs[0]):
            _write(shard, _rows(shard.slots, known, *pairs, timing), step)
        keys.reached_until[some] = standing(known, some, ends, keys.max_w, timing.max_interpolation).reached_until
        keys.closed[some] = ends
    if due.any():
        step.closed.append(mine[due])
    keys.waits[mine] = waits
    shard.next_close[partitions] = (shard.watermark[partitions] // QUARTER_MS + 1) * QUARTER_MS
    np.minimum.at(shard.next_close, keys.home[mine[waits]], wake[waits])


def _closable(shard: Shard, mine: NDArray[np.int32], passed: Ints, timing: MeterTiming) -> tuple[Ints, Flags, Ints]:
    """Up to where each key's quarters may be closed now, whether it waits for a register's next value (1.9), and till which watermark."""
    keys = shard.keys
    last, closed, watermark = keys.last_register[mine], keys.closed[mine], shard.watermark[keys.home[mine]]
    # The first end that is neither reached by a value nor waited for long enough; before max_interpolation, a value would tell.
    end = np.maximum(np.maximum(last, watermark - timing.register_wait) // QUARTER_MS * QUARTER_MS, closed) + QUARTER_MS
    waits = (last > 0) & (end <= passed) & (end <= last + max(timing.max_interpolation, QUARTER_MS)) & (closed >= 0)
    until = np.where(closed < 0, -1, np.maximum(np.where(waits, end - QUARTER_MS, passed), closed))
    return until, waits, end + timing.register_wait


def _revise(shard: Shard, timing: MeterTiming, step: Step) -> None:
    keys = shard.keys
    dirty = np.flatnonzero(keys.dirty).astype(np.int32)
    for some, begin in _chunks(dirty, shard.cut[keys.home[dirty]]):
        known = _known(shard, some)
        pairs = _pairs(some, _candidates(shard, timing), begin, keys.closed[some])
        if len(pairs[0]):
            _write(shard, _rows(shard.slots, known, *pairs, timing), step)
        keys.reached_until[some] = standing(known, some, keys.closed[some], keys.max_w, timing.max_interpolation).reached_until
    keys.dirty[:] = False


def _forget(shard: Shard, cut: Ints, timing: MeterTiming) -> None:
    keys = shard.keys
    moved = np.flatnonzero(cut > shard.cut)
    shard.cut = cut
    of_key = np.where(np.isin(keys.home, moved), cut[keys.home], 0)
    shard.slots.forget(of_key)
    past = shard.kept["at"] < of_key[shard.kept["key"]]
    touched = np.unique(shard.kept["key"][past])
    if not len(touched):
        return
    parts = [shard.kept[~past]]
    for some, cuts in _chunks(touched, of_key[touched]):
        known = judged(shard.kept[keys.among(some)[shard.kept["key"]]], keys.max_w)
        parts.append(standing(known, some, cuts, keys.max_w, timing.max_interpolation).carried)
    kept = joined(parts)
    shard.kept = kept[np.argsort(position(kept["key"], kept["at"]), kind="stable")]


def _run(shard: Shard, now: int, roster: Roster, step: Step) -> None:
    """Compute the open quarters of those reporting keys that had readings since the last time, up to now."""
    keys, timing = shard.keys, roster.timing
    bound = shard.seated(roster.group_shards(1) >= 0)
    chosen = np.flatnonzero(bound[keys.asset] & keys.touched) if len(keys) else np.zeros(0, np.int64)
    keys.touched[:] = False
    if not len(chosen):
        return
    trial = shard.slots.open_copy(chosen, int(keys.closed[chosen].min()) - timing.max_hold)
    rows = shard.buffer.rows()
    rows = rows[keys.among(chosen)[rows["key"]]]
    trial.fold(rows, in_order(rows, len(keys)))
    for some, begin in _chunks(chosen.astype(np.int32), keys.closed[chosen]):
        pairs = _pairs(some, [start for start in trial.starts.tolist() if start <= now], begin, np.full(len(some), now + 1))
        if len(pairs[0]):
            step.running.append(_rows(trial, _known(shard, some), *pairs, timing, now))


def _candidates(shard: Shard, timing: MeterTiming) -> list[int]:
    """The quarters that can have a row: those with readings, and those a register may bridge up to one of them."""
    reach = -(-timing.max_interpolation // QUARTER_MS) * QUARTER_MS
    heard = np.union1d(shard.slots.starts, shard.buffer.quarters())
    return sorted({start - back for start in heard.tolist() for back in range(0, reach + 1, QUARTER_MS)})


def _pairs(some: NDArray[np.int32], starts: list[int], begin: Ints, until: Ints) -> tuple[NDArray[np.int32], Ints]:
    """(key, start) in order, for the starts within [begin, until) of each key."""
    low, high = int(begin.min()), int(until.max())
    near = np.array([start for start in starts if low <= start < high], np.int64)
    index, which = np.nonzero((near >= begin[:, None]) & (near < until[:, None]))
    return some[index], near[which]


def _known(shard: Shard, some: NDArray[np.int32]) -> Judged:
    """The register values known of some keys, those on time and not folded yet included."""
    wanted = shard.keys.among(some)
    waiting = shard.buffer.registers(wanted)
    waiting["flags"] &= IMPORT | EXPORT
    return judged(joined([shard.kept[wanted[shard.kept["key"]]], waiting]), shard.keys.max_w)


def _rows(
    slots: Slots, known: Judged, key: NDArray[np.int32], start: Ints, timing: MeterTiming, until: int | None = None
) -> NDArray[np.void]:
    slot = slots.of(key, start)
    power, found = slots.power(key, start, timing.max_hold, until), slot >= 0

    def of(name: str, nothing: float = 0) -> NDArray[Any]:
        return np.where(found, slots.quarters[name][slot], nothing) if len(slots.quarters) else np.full(len(key), nothing)

    whole, flag = np.int64, np.bool_
    inside = Inside(
        of("samples").astype(whole), of("estimated").astype(flag), of("stored_wh", np.nan), start + of("newest_ms").astype(whole)
    )
    imported, exported, mean, covered, last_minute = power.T
    energy = PowerEnergy(
        imported, exported, mean, of("min_w", np.nan), of("max_w", np.nan), covered, of("powers").astype(whole), last_minute
    )
    with tolerant():
        return assembled(known, energy, inside, key, start, timing, running=until is not None)


def _write(shard: Shard, rows: NDArray[np.void], step: Step) -> None:
    """Of these rows those whose content changed, with their new revisions."""
    fresh, slot = digests(rows), shard.slots.of(rows["key"], rows["start"], make=True)
    quarters = shard.slots.quarters
    changed = (quarters["revision"][slot] == 0) | (quarters["digest"][slot] != fresh)
    slot = slot[changed]
    shard.touch(rows["key"][changed], rows["start"][changed])
    quarters["revision"][slot] += 1
    quarters["digest"][slot] = fresh[changed]
    if len(slot):
        step.rows.append(rows[changed])
        step.revisions.append(quarters["revision"][slot].copy())


def _chunks(keys: NDArray[np.int32], bounds: Ints) -> Iterator[tuple[NDArray[np.int32], Ints]]:
    for first in range(0, len(keys), _CHUNK):
        yield keys[first : first + _CHUNK], bounds[first : first + _CHUNK]


def cut_of(watermark: Ints | np.int64, timing: MeterTiming) -> Ints:
    """The start of the first quarter that may still be revised: it ends at most the horizon before the watermark (1.10)."""
    return np.maximum(0, -(-(watermark - timing.horizon - QUARTER_MS) // QUARTER_MS) * QUARTER_MS)
