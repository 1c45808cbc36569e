"""By what clock readings are judged: rows are a function of the log, however often and however late it is read (semantics 1.11)."""

import copy
import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.quarter_snapshot import dump, load
from tests.rules.metering import START, Meter, minutes, roster
from tests.rules.reference_quarter_hours import Reading
from tests.rules.test_quarter_hours_stream import stream

Entry = tuple[int, int, Reading]
"""A reading in a log: its offset, and what the clock read when it was appended."""
AHEAD = [-120, -30, -2, 0, 45, 100, 120, 121, 180, 1200]
"""By so many seconds a reading is ahead of the clock: less than the two minutes it may be, just so many, and more."""
SAID = ("rows", "revisions", "late", "future")


def log_of(seed: int, disorder_s: int) -> list[Entry]:
    """Readings of two partitions, many of them ahead of the clock; a change of leader sets it back a little."""
    rng = random.Random(seed)
    log, clock = list[Entry](), START
    for offset, reading in enumerate(stream(seed, disorder_s)):
        ahead = rng.choice(AHEAD) * 1000
        clock = max(clock, reading.at - rng.choice([ahead, ahead, minutes(5)]))
        at = clock + ahead if rng.random() < 0.4 else reading.at
        log.append((offset, clock - rng.choice([0] * 20 + [3000]), replace(reading, at=at)))
    return log


class Lives:
    """A rule that reads a log, is killed, and reads again from a snapshot with a later clock."""

    def __init__(self, log: list[Entry], cuts: random.Random) -> None:
        self.meter, self.cuts = Meter(roster({f"asset-{n}" for n in range(3)}), cuts.choice([1, 3])), cuts
        self.log = {partition: [entry for entry in log if entry[2].partition == partition] for partition in (0, 1)}
        self.read = {0: 0, 1: 0}
        self.snapshot = self._snapshot()

    def _snapshot(self) -> Any:
        said = {name: copy.copy(getattr(self.meter, name)) for name in SAID}
        return [dump(shard) for shard in self.meter.shards], dict(self.read), said

    def poll(self, delay: int) -> None:
        """The next few of each partition; the poll's clock is `delay` ms after the last of them was appended."""
        some: list[Entry] = []
        for partition, entries in self.log.items():
            first = self.read[partition]
            few = entries[first : first + self.cuts.choice([0, 1, 1, 3, 20, 200])]
            self.read[partition] += len(few)
            some += few
        if some:
            self.meter.replay(some, max(clock for _, clock, _ in some) + delay)

    def kill(self) -> None:
        """Nothing is left of what came after the snapshot."""
        states, read, said = self.snapshot
        self.meter.shards, self.read = [load(state) for state in states], dict(read)
        for name, value in said.items():
            setattr(self.meter, name, copy.copy(value))

    def live(self, kills: int) -> Meter:
        """To the end of the log, with so many kills on the way."""
        delay = 0
        while any(self.read[partition] < len(entries) for partition, entries in self.log.items()):
            self.poll(delay)
            if self.cuts.random() < 0.3:
                self.snapshot = self._snapshot()
            if kills and self.cuts.random() < 0.3:
                kills, delay = kills - 1, delay + self.cuts.choice([minutes(3), minutes(90)])
                self.kill()
        self.meter.close()
        return self.meter


@settings(max_examples=40, deadline=None, derandomize=True)  # the first example may have to compile
@given(st.integers(0, 2**32), st.sampled_from([0, 60, 6000]))
def test_kills_and_other_polls_with_a_later_clock_change_no_bit(seed: int, disorder_s: int) -> None:
    log = log_of(seed, disorder_s)
    plain = Lives(log, random.Random(seed)).live(kills=0)
    for way in (1, 2):
        other = Lives(log, random.Random(seed + way)).live(kills=3 * way)
        assert other.rows == plain.rows
        assert sorted(other.late) == sorted(plain.late)
        assert sorted(other.future) == sorted(plain.future)


def entries(*readings: tuple[float, float]) -> list[Entry]:
    """Of one asset: (minute it is of, minute it was appended)."""
    return [(offset, START + minutes(appended), Reading("a", START + minutes(at), 60.0)) for offset, (at, appended) in enumerate(readings)]


def test_a_reading_is_in_the_future_of_when_it_was_appended() -> None:
    meter = Meter(roster({"a"}))
    meter.replay(entries((0, 0), (3, 0.5), (2.5, 0.5), (3, 1)), START + minutes(60))
    assert meter.future == [1]
    meter.close()
    assert meter.rows["a", 0, START]["samples"] == 3


def test_event_time_is_held_back_by_when_readings_were_appended() -> None:
    meter = Meter(roster({"a"}))
    meter.replay(entries((0, 0), (16.5, 15), (14.5, 15.9), (17, 15.99)), START + minutes(60))
    assert meter.rows == {}  # the last of them shows that 15.99 minutes had passed, whatever the poll's clock says
    meter.replay([(9, START + minutes(16), Reading("a", START + minutes(17), 60.0))], START + minutes(61))
    assert meter.rows["a", 0, START]["samples"] == 2
    assert meter.revisions == {("a", 0, START): 1}


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_read_of_the_clock_is_known_in_the_next_poll_and_life(restart: bool) -> None:
    meter = Meter(roster({"a"}))
    for entry in entries((0, 0), (15.9, 16.5), (16.4, 15.8)):  # the last one by a leader whose clock is behind
        assert meter.rows == {}
        meter.replay([entry], START + minutes(60))
        if restart:
            meter.restart()
    assert meter.rows["a", 0, START]["samples"] == 1
