"""What comes again after a kill is judged as it was: by when the broker appended it, not by when it is read (semantics 1.8 to 1.11)."""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.records import Out, Outs, Poll
from pipelines.rules.quarter_rejects import FUTURE, REASONS
from pipelines.telemetry import telemetry_flow
from pipelines.views import FixedView
from schemas.clock import FrozenClock
from schemas.outbound import DeadLetter
from schemas.telemetry import LateMeasurement, Measurement
from tests.builders import T0, configuration
from tests.flows.polls import MINUTE, Topic, reading
from tests.flows.test_telemetry import final, of
from tests.outs import each

AT_ONCE, NEVER = timedelta(0), timedelta(days=1)
ASSET = "mg-1-grid"
AHEAD = {20: 3.25, 50: 3.25, 75: 1.9}
"""By so many minutes the reading of a minute is ahead of the clock: the first two by more than it may be."""
AGO = {76: 10.25}
"""One of long ago: its quarter can be revised until event time comes past minute 75, to which the clock holds it back."""
Life = tuple[timedelta, int | None, timedelta]
"""How long from one snapshot to the next, at which poll it is killed, and how much later than appended it reads."""


def appended(minute: int) -> list[Measurement]:
    """What comes in a minute: a reading of it, one of half a minute before, and perhaps one of long ago."""
    instants = [minute + AHEAD.get(minute, 0.0), minute - 0.5, *([AGO[minute]] if minute in AGO else [])]
    return [reading(ASSET, at, power_w=60.0) for at in instants]


def polls(delay: timedelta) -> list[Poll]:
    """The log in a poll a minute, read so much later than it was appended; then silence."""
    topic = Topic(1)
    found = [topic.poll(T0 + n * MINUTE + delay, appended(n), appended=T0 + n * MINUTE) for n in range(120)]
    end = T0 + 120 * MINUTE + delay
    return [*found, topic.silence(end, end), topic.silence(end, end + 60 * MINUTE)]


def timed(clock: FrozenClock, items: Sequence[Any]) -> Iterator[Any]:
    """The items, with the clock standing where each poll says."""
    for item in items:
        if isinstance(item, Poll):
            clock.set(item.now)
        yield item


def lives(store: Path, *plan: Life) -> list[Out]:
    """What lives of a flow write, one after the other over one recovery store."""
    init_db_dir(store, 1)
    out = list[Out | Outs]()
    for every, until, delay in plan:
        clock, items = FrozenClock(T0), list[Any](polls(delay))
        if until is not None:
            items.insert(until, TestingSource.ABORT())
        source = TestingSource(timed(clock, items))
        flow = telemetry_flow(polls=source, out=TestingSink(out), clock=clock, config=FixedView(configuration()))
        run_main(flow, epoch_interval=every, recovery_config=RecoveryConfig(str(store)))
    return each(out)


LATER = 10 * MINUTE
LIVES: dict[str, tuple[Life, ...]] = {
    "from nothing": ((NEVER, 100, AT_ONCE), (AT_ONCE, None, LATER)),
    "from a snapshot": ((AT_ONCE, 30, AT_ONCE), (NEVER, 100, AT_ONCE), (AT_ONCE, None, LATER)),
    "twice": ((AT_ONCE, 15, AT_ONCE), (NEVER, 60, AT_ONCE), (AT_ONCE, 78, LATER), (NEVER, None, 9 * LATER)),
}


@pytest.mark.parametrize("name", LIVES)
def test_a_kill_and_a_later_clock_change_neither_rows_nor_verdicts(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain").mkdir()
    plain, found = lives(tmp_path / "plain", (AT_ONCE, None, AT_ONCE)), lives(tmp_path, *LIVES[name])
    assert final(found) == final(plain)
    samples = {row["start"]: row["samples"] for row in final(plain).values() if row["id"] == ASSET}
    assert samples[T0] == 31  # the one of long ago was in time
    assert samples[T0 + 15 * MINUTE] == 29  # and those of the future do not count
    for out in (plain, found):
        assert of(out, LateMeasurement) == []
        letters = {(one.reason, one.subject, one.offset) for one in of(out, DeadLetter)}
        assert letters == {(REASONS[FUTURE], ASSET, 40), (REASONS[FUTURE], ASSET, 100)}
