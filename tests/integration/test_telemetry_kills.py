"""The telemetry flow on a real Kafka, killed at seeded moments and moved between one process and two: the rows of an
undisturbed run (semantics 1.11). The full series is `make soak`."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.clock import ScaledClock
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.soak.course import Course
from tests.soak.load import Plan, load
from tests.soak.rows import difference, undisturbed
from tests.soak.running import DRAIN_S, Flow, prepare

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SEED = 20261122


def test_three_kills_and_two_changes_of_processes_change_no_row(real_kafka: KafkaSettings, tmp_path: Path) -> None:
    settings, wanted, dice = unique(real_kafka), load(Plan(sites=24, hours=2, every_s=3, seed=SEED)), random.Random(SEED)
    prepare(settings, wanted)
    course = Course(settings, wanted, Flow(settings, tmp_path / "flow", wanted.clock_origin, epoch_s=1), dice)
    try:
        course.start(None)
        course.feed_to(0.2)
        course.feed_some(20)
        course.kill()
        course.feed_to(0.4)
        course.change_to(2)
        course.feed_some(20)
        course.kill()
        course.feed_to(0.7)
        course.feed_some(20)
        course.kill(everything=True)
        course.change_to(None)
        course.finish()
    finally:
        course.close()
    rows = course.reader.rows
    assert rows.miscounted(wanted) == []
    same = difference(rows, undisturbed(settings, wanted, ScaledClock(wanted.clock_origin, datetime.now(UTC), 1.0)))
    assert same.none, str(same)
    assert len(rows.best) > 24 * 6 * 8
    assert max(course.drained_s) < DRAIN_S
