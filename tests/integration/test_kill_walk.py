"""Gateway, lifecycle and dispatch killed (SIGKILL) at the points of registration, handshake and heartbeat: every connection ends
ONLINE by itself, and nothing is said twice under two X-Request-IDs (semantics 6, 8.1). All points in all stages: `make soak-lives`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.integration.broker_gate import gated_embedded
from tests.integration.kill_points import POINTS, Step, named, steps
from tests.integration.kill_walk import BEAT, HANDSHAKE, PEER_STARTS, REGISTER, WE_START, Walk, walking
from tests.integration.plain_peer import peer_side

pytestmark = pytest.mark.slow


def chosen() -> list[Step]:
    """Every point once, the stages and directions in turn."""
    found: list[Step] = []
    for number, point in enumerate(POINTS):
        stage = point.stages[number % len(point.stages)]
        found.append(((PEER_STARTS, WE_START)[number % 2], stage, point))
    return found


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walk]:
    directory = tmp_path_factory.mktemp("walk")
    names = [f"peer-{number}" for number in range(len(chosen()))]
    with (
        gated_embedded(directory) as (gate, settings),
        peer_side() as side,
        walking(settings, directory / "site", side, names, gate) as made,
    ):
        yield made


@pytest.mark.xdist_group("kill-walk")
@pytest.mark.parametrize("number", range(len(POINTS)), ids=[named(step) for step in chosen()])
def test_a_kill_at_each_point_ends_online(walk: Walk, number: int) -> None:
    direction, stage, point = chosen()[number]
    walk.life(f"peer-{number}", direction, stage, point)


def test_every_stage_and_direction_is_walked() -> None:
    assert {step[1] for step in chosen()} == {REGISTER, HANDSHAKE, BEAT}
    assert len(steps()) > 60


@pytest.mark.kafka
def test_one_kill_of_each_over_kafka(real_kafka: KafkaSettings, tmp_path: Path) -> None:
    by_name = {point.name: point for point in POINTS}
    found = [
        (PEER_STARTS, REGISTER, by_name["the peer has it, its answer is not there"]),
        (WE_START, HANDSHAKE, by_name["delivered, the lifecycle has not read it"]),
    ]
    names = [f"peer-{number}" for number in range(len(found))]
    with peer_side() as side, walking(unique(real_kafka), tmp_path / "site", side, names) as walk:
        for name, step in zip(names, found, strict=True):
            walk.life(name, *step)
