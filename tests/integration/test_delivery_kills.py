"""Dispatch, reporting and a real broker killed (SIGKILL) at seeded moments while quarters close and partners answer: exactly what was
owed is accepted, in order, and nothing comes again but what a death explains (semantics 8.1). At least thirty: `make soak-delivery`."""

import random
from pathlib import Path

import pytest

from sinks.settings import KafkaSettings
from tests.integration.delivering import Scene
from tests.integration.owed import unrecorded
from tests.kafka.broker import ApacheKafka
from tests.soak.delivery import SPEED, WHICH, Killing, law, members, stream, table

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SEED = 20261122


def test_a_kill_of_each_loses_nothing_and_repeats_only_what_it_explains(own_kafka: ApacheKafka, tmp_path: Path) -> None:
    dice = random.Random(SEED)
    settings = KafkaSettings(bootstrap=own_kafka.bootstrap, replication=1, min_insync=1)
    scene = Scene(settings, tmp_path / "site", members(4, tmp_path), speed=SPEED)
    killing = Killing(scene, own_kafka, dice)
    try:
        scene.start()
        stream(scene)
        for which in dice.sample(WHICH, len(WHICH)):
            killing.kill(which)
        scene.rows.stop()
        scene.settled(60)
        assert law(scene) == [], table(scene, killing)
        assert {name for name, _ in scene.deaths} >= {"dispatch", "reporting"}
        for name in scene.members:
            books, requests = scene.books(name), scene.witnesses[name].owed_ones()
            assert len(books.messages) >= 4 * 4
            assert unrecorded(books, requests) <= 4 * len(scene.deaths)
    finally:
        scene.stop()
