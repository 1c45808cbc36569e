"""The lifecycle flow killed behind every single write of a whole life: registration both ways, handshake both ways, heartbeats.

Whatever is on the topics then, it goes on to ONLINE by itself, and says nothing a second time under another id (semantics 6, 8.1).
"""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from schemas.connection import CommandKind
from schemas.oscp.v20 import Action
from schemas.topics import OUTBOUND
from tests.flows.lifecycle_lives import BEATS, Lives, Script
from tests.rules.lifecycle_world import PEER_URL, token_digest

Story = Callable[[Lives], Script]
SEED = 20261122
MEMORY = Path("/dev/shm")


def the_peer_starts(world: Lives) -> Script:
    """It registers, shakes hands and beats, and later changes its token, exchanges tokens anew and shakes hands once more."""
    peer = world.peer
    yield from world.until(lambda: world.log.connection() is not None)
    peer.token = world.command(CommandKind.ISSUE_TOKEN)
    yield from world.until(lambda: world.log.connection().credentials)
    peer.registers()
    yield from world.until(lambda: peer.heard(Action.REGISTER))
    peer.shakes_hands()
    yield from world.until(lambda: len(peer.heard(Action.HEARTBEAT)) >= BEATS)
    peer.forecasts()
    peer.registers(method="PUT")
    yield True
    peer.registers()
    yield from world.until(lambda: len(peer.heard(Action.REGISTER)) >= 2)
    peer.shakes_hands()
    yield from again_online(world)


def we_start(world: Lives) -> Script:
    """We register and the peer answers; it shakes hands; later we shake hands with it."""
    peer = world.peer
    yield from world.until(lambda: world.log.connection() is not None)
    world.command(CommandKind.REGISTER, base_url=PEER_URL, peer_token="initial")
    yield from world.until(lambda: peer.heard(Action.REGISTER))
    (ours,) = peer.heard(Action.REGISTER)
    peer.registers(correlation_id=ours.message_id)
    yield True
    peer.shakes_hands()
    yield from world.until(lambda: len(peer.heard(Action.HEARTBEAT)) >= BEATS)
    world.command(CommandKind.HANDSHAKE)
    yield from world.until(lambda: peer.heard(Action.HANDSHAKE))
    peer.acknowledges(peer.heard(Action.HANDSHAKE)[-1])
    yield from again_online(world)


def again_online(world: Lives) -> Script:
    beats = len(world.peer.heard(Action.HEARTBEAT))
    yield from world.until(lambda: world.is_online() and len(world.peer.heard(Action.HEARTBEAT)) >= beats + 2)


def exchange(world: Lives) -> list[str]:
    """The ids of our messages but heartbeats that reached the peer, in their order."""
    return list(dict.fromkeys(message.message_id for message in world.peer.got if message.action != Action.HEARTBEAT))


def law(world: Lives, undisturbed: Lives) -> None:
    """What holds however often it was killed."""
    connection = world.log.connection()
    assert connection is not None
    assert connection.state == "ONLINE"
    assert token_digest("vector", world.peer.token) in {each.digest for each in connection.credentials}
    assert connection.peer_token == world.peer.given
    slots, copies = defaultdict[object, set[str]](set), defaultdict[str, set[object]](set)
    for message in world.log.of(OUTBOUND):
        about = message.not_before if message.action == Action.HEARTBEAT else message.correlation_id
        slots[message.action, message.method, message.cause_id, about].add(message.message_id)
        copies[message.message_id].add((message.body, message.not_before, message.correlation_id, message.action))
    assert {len(ids) for ids in slots.values()} == {1}
    assert {len(same) for same in copies.values()} == {1}
    assert exchange(world) == exchange(undisturbed)


STORIES = [the_peer_starts, we_start]


@pytest.fixture
def place() -> Iterator[Path]:
    """In memory where there is such a place: the engine waits for the disk at every step, and nothing here outlives its process."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
@pytest.mark.parametrize(
    ("snapshots", "once_more"), [(True, False), (False, True)], ids=["with its store", "with the topics alone, every message twice"],
)  # fmt: skip
def test_a_life_with_a_kill_behind_every_write(place: Path, story: Story, snapshots: bool, once_more: bool) -> None:
    undisturbed = Lives(place / "undisturbed", story, snapshots=False, once_more=once_more).run()
    assert undisturbed.life == 0
    law(undisturbed, undisturbed)
    for number in range(1, undisturbed.writes + 1):
        world = Lives(place / f"{number}", story, kill_at=[number], snapshots=snapshots, once_more=once_more).run()
        assert world.life == 1, f"not killed at write {number}"
        law(world, undisturbed)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_life_with_a_kill_long_after_the_last_snapshot(place: Path, story: Story) -> None:
    undisturbed = Lives(place / "undisturbed", story, snapshots=False).run()
    for first in range(1, undisturbed.writes, 4):
        for later in (5, 14):
            # The store is that of the first life; what was written behind it in the second one is all done again in the third.
            world = Lives(place / f"{first}-{later}", story, kill_at=[first, later], snapshots=1).run()
            law(world, undisturbed)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_a_life_with_kills_in_a_row(place: Path, story: Story) -> None:
    undisturbed, dice = Lives(place / "undisturbed", story, snapshots=False).run(), random.Random(SEED)
    for number in range(4):
        kills = [dice.randint(1, 12) for _ in range(8)]
        world = Lives(place / f"{number}", story, kill_at=kills, snapshots=number % 2 == 0).run()
        law(world, undisturbed)
