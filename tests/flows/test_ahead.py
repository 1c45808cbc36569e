"""Polls taken in ahead and shards side by side say what polls taken one after the other say, and lose nothing."""

import random
import threading
from array import array
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.ahead import Ahead
from pipelines.beside import Beside, threads_for
from pipelines.merging import merged, together
from pipelines.meters import Meters
from pipelines.records import Appended, Mark, Out, Outs, Poll, Run
from pipelines.rules.quarter_parts import Part, joined_parts
from pipelines.rules.quarter_roster import Rosters
from pipelines.sources import PayloadSource
from pipelines.telemetry import _Taking, telemetry_flow
from pipelines.telemetry_intake import DeadLetterLimit, Intake, Taken, TooManyDeadLetters, uncounted
from pipelines.views import FixedView
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.topics import TELEMETRY
from schemas.units import to_ms
from sinks.codec import encode
from sinks.kafka import create_topics
from sinks.payloads import Payloads
from sinks.settings import KafkaSettings
from tests.builders import T0, configuration
from tests.flows.polls import reading
from tests.kafka.driving import drive, publish
from tests.outs import each

ASSETS = ("mg-1-grid", "mg-1-pv", "mg-1-bat", "nobody", "nobody else")
CLOCK = FrozenClock(T0 + timedelta(hours=1))


def packed(payloads: list[bytes]) -> Payloads:
    return Payloads.of(payloads, array("q", map(len, payloads)))


@st.composite
def polls(draw: st.DrawFn) -> list[Poll]:
    """Polls of several lanes, each of partitions of its own, with foreign bytes, unknown assets, gaps and marks."""
    chance, offsets, found = random.Random(draw(st.integers(0, 1 << 32))), dict.fromkeys(range(6), 0), list[Poll]()
    for number in range(draw(st.integers(1, 8))):
        payloads, runs = list[bytes](), list[Run]()
        now = T0 + timedelta(hours=1, seconds=number)
        for partition in chance.sample(range(6), chance.randrange(3)):
            count = chance.randrange(1, 6)
            places = sorted(chance.sample(range(offsets[partition], offsets[partition] + 2 * count), count))
            offsets[partition] = places[-1] + 1
            said = Appended([0, 1], [to_ms(now) - 5000, to_ms(now)]) if count > 1 and chance.random() < 0.5 else Appended()
            runs.append(Run(partition, len(payloads), count, array("q", places), said))
            for _ in range(count):
                one = reading(chance.choice(ASSETS), chance.randrange(60), power_w=float(chance.randrange(9)))
                payloads.append(b"foreign" if chance.random() < 0.1 else encode(one))
        marks = [Mark(partition, T0, now) for partition in range(6) if chance.random() < 0.1]
        found.append(Poll(packed(payloads), tuple(runs), tuple(marks), tuple(range(6)), now))
    return found


def intake() -> Intake:
    config = configuration()
    return Intake(Rosters(lambda: config, CLOCK), 3, DeadLetterLimit(), uncounted)


def same(one: Part, other: Part) -> bool:
    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        return [part.tolist() for part in (value.bound, value.offset, value.at)] if hasattr(value, "bound") else value

    return [plain(getattr(one, field.name)) for field in fields(Part)] == [plain(getattr(other, field.name)) for field in fields(Part)]


@given(polls())
@settings(deadline=None)
def test_parts_of_polls_joined_are_the_parts_of_the_polls_as_one(some: list[Poll]) -> None:
    for group in together(some, lanes=True):
        (one,) = merged(group)
        expected = intake().take(one)
        taken = [intake().take(poll) for poll in group]
        found = [joined_parts(parts) for parts in zip(*(each.parts for each in taken), strict=True)]
        for joined, part in zip(found, expected.parts, strict=True):
            assert joined.newest.tolist() == part.newest.tolist() + [0] * (len(joined.newest) - len(part.newest))
            assert same(joined, Part(**{field.name: getattr(part, field.name) for field in fields(Part)} | {"newest": joined.newest}))
        assert sum(reject.count for each in taken for reject in each.rejects) == sum(reject.count for reject in expected.rejects)


@given(polls())
@settings(deadline=None)
def test_no_partition_speaks_twice_in_polls_taken_together(some: list[Poll]) -> None:
    groups = [*together(some, lanes=True)]
    assert [poll for group in groups for poll in group] == some
    for group in groups:
        partitions = [run.partition for poll in group for run in poll.runs]
        assert len(partitions) == len(set(partitions))


@given(polls(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_polls_taken_in_by_several_configurations_are_not_joined(some: list[Poll], chance: random.Random) -> None:
    """Rows of the one are other assets' in the other."""
    plain = [{"id": name, "scope_id": "mg-1", "category": "STORAGE"} for name in ASSETS if " " not in name]
    configs = [configuration(groups=[], assets=plain[first:]).after({}, first) for first in range(3)]
    at = [0]
    taking = _Taking(Intake(Rosters(lambda: configs[at[0]], CLOCK), 3, DeadLetterLimit(), uncounted), Meters("telemetry", clock=CLOCK))
    begun = list[Poll]()
    for poll in some:
        at[0] = max(at[0], chance.randrange(3))
        begun.append(replace(poll, taken=_Done(taking.prepare(poll)())))
    for group in taking.begun(begun):
        assert len({part.edition for one in group for part in one.parts}) == 1
    assert sum(map(len, taking.begun(begun))) == len(some)


class _Done:
    def __init__(self, taken: Taken) -> None:
        self._taken = taken

    def result(self) -> Taken:
        return self._taken


def hours() -> list[Poll]:
    """Two hours of readings every 10 s in three lanes, some late, some foreign; then silence."""
    found, offsets = list[Poll](), dict.fromkeys(range(3), 0)
    for minute in range(0, 120, 3):
        for partition, asset_id in enumerate(ASSETS[:3]):
            some = [encode(reading(asset_id, minute + second / 60, power_w=100.0 + minute)) for second in range(0, 180, 10)]
            if minute % 12 == 0:
                some += [b"foreign", encode(reading(asset_id, max(0, minute - 40), power_w=7.0, import_wh=float(minute)))]
            run = Run(partition, 0, len(some), range(offsets[partition], offsets[partition] + len(some)))
            offsets[partition] += len(some)
            found.append(Poll(packed(some), (run,), (), (0, 1, 2), T0 + timedelta(minutes=minute + 3)))
    return found


def told(config: Configuration, beside: Beside | None = None, ahead: Ahead | None = None) -> list[Any]:
    out, clock = list[Out | Outs](), FrozenClock(T0 + timedelta(hours=3))

    def source() -> Iterator[Poll]:
        for poll in hours():
            yield poll if ahead is None else ahead.begin(poll)

    flow = telemetry_flow(
        polls=TestingSource(source(), batch_size=3), out=TestingSink(out), clock=clock, config=FixedView(config), beside=beside, ahead=ahead
    )
    run_main(flow, epoch_interval=timedelta(0))
    return sorted((one.topic.name, one.key, one.value.model_dump_json()) for one in each(out))


def test_threads_change_nothing_of_what_a_flow_says() -> None:
    config = configuration()
    plain = told(config)
    assert len(plain) > 30
    assert told(config, Beside(2), Ahead()) == plain
    assert told(config, None, Ahead()) == plain


def test_an_error_in_a_thread_ends_the_flow() -> None:
    ahead = Ahead()
    rubbish = Poll(packed([b"rubbish"] * 20), (Run(0, 0, 20, range(20)),), (), (0,), T0)
    flow = telemetry_flow(
        polls=TestingSource(ahead.begin(rubbish) for _ in range(5)), out=TestingSink([]), clock=FrozenClock(T0), ahead=ahead,
        config=FixedView(configuration()), limit=DeadLetterLimit(run=50),
    )  # fmt: skip
    with pytest.raises(BaseException) as stopped:  # noqa: PT011 - the engine decides what it wraps the error in
        run_main(flow)
    assert "50" in repr(stopped.value) or isinstance(stopped.value, TooManyDeadLetters) or stopped.value.__cause__ is not None


def test_work_beside_raises_where_it_is_asked_for() -> None:
    def fail() -> None:
        raise ValueError("no")

    for beside in (Beside(), Beside(2)):
        with pytest.raises(ValueError, match="no"):
            beside.do(fail).result()


def test_no_more_threads_than_processors() -> None:
    assert [threads_for(processes, 2) for processes in (1, 2, 3)] == [2, 1, 1]
    assert [threads_for(processes, 16) for processes in (1, 4, 8)] == [4, 4, 2]


def test_what_is_held_back_counts_as_not_read(embedded_settings: KafkaSettings, closing: Any) -> None:
    """Killed, or stopped, before a poll was emitted, a flow reads it again."""
    create_topics(embedded_settings, [TELEMETRY])
    ahead, begun = Ahead(), list[int]()
    ahead.by(lambda poll: lambda: begun.append(len(poll.payloads)))
    source = PayloadSource(embedded_settings, TELEMETRY, clock=CLOCK, stop=threading.Event(), group="derms-test", ahead=ahead)
    part = closing(source.build_part("in", "lane-000", None))
    publish(embedded_settings, *((TELEMETRY, "asset", bytes([number])) for number in range(30)))
    seen = list[Poll]()

    def counted(polls: list[Poll]) -> bool:
        seen[:] = polls
        emitted = sum(len(poll.payloads) for poll in polls)
        assert sum(part.snapshot()["next"].values()) == emitted
        return emitted == 30

    drive(part, counted)
    assert all(poll.taken is not None for poll in seen if poll.payloads)
    assert sorted(payload[0] for poll in seen for payload in poll.payloads) == list(range(30))
