"""The points of a connection's life at which a process can be killed, and how each is brought about from outside (semantics 6, 8.1)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from schemas.connection import InboundMessage
from schemas.oscp.v20 import Action
from schemas.topics import CONNECTIONS, DELIVERIES, INBOUND, OUTBOUND, Topic
from tests.integration.broker_gate import OFFSET_COMMIT, PRODUCE
from tests.integration.kill_walk import (
    BEAT,
    DISPATCH,
    GATEWAY,
    HANDSHAKE,
    LIFECYCLE,
    PATHS,
    PEER_STARTS,
    REGISTER,
    WE_START,
    Point,
    Reached,
    Walk,
)
from tests.integration.plain_peer import Heard


def _held(client: str, topic: Topic | None, *, answer: bool = False, api: int = PRODUCE) -> Callable[[Walk, str, str], Any]:
    @contextmanager
    def reached(walk: Walk, partner_id: str, stage: str) -> Iterator[Reached]:
        assert walk.gate is not None
        hold = walk.gate.hold(client, api, walk.settings, topic, answer=answer)
        try:
            yield hold.reached.is_set
        finally:
            walk.gate.drop(hold)

    return reached


def _standing(process: str, then: Callable[[Walk, str, str, int], Any]) -> Callable[[Walk, str, str], Any]:
    """The process stands still while what comes before it goes on."""

    @contextmanager
    def reached(walk: Walk, partner_id: str, stage: str) -> Iterator[Reached]:
        before = _count(walk, partner_id, stage)
        walk.posts[process].hold()
        yield lambda: then(walk, partner_id, stage, before)

    return reached


def _count(walk: Walk, partner_id: str, stage: str) -> int:
    return len(walk.sent(partner_id, stage))


def _kept(walk: Walk, partner_id: str, stage: str, before: int) -> bool:
    """The gateway has the message of the stage on the topic, so its 204 is given or about to be."""
    actions = {REGISTER: Action.REGISTER, HANDSHAKE: Action.HANDSHAKE, BEAT: Action.HEARTBEAT}
    return any(message.action == actions[stage] for message in walk.seen.of(InboundMessage, partner_id))


def _written(walk: Walk, partner_id: str, stage: str, before: int) -> bool:
    return len(walk.sent(partner_id, stage)) > before


@contextmanager
def _about_to_send(walk: Walk, partner_id: str, stage: str) -> Iterator[Reached]:
    """The connection to the peer is there, and nothing has passed over it: the kill comes first."""
    there: list[bool] = []

    def connected() -> None:
        if not there:
            walk.posts[DISPATCH].kill()
            there.append(True)

    walk.side.connected = connected
    try:
        yield lambda: there
    finally:
        walk.side.connected = None


def _asked(action: Callable[[Walk], None]) -> Callable[[Walk, str, str], Any]:
    """The peer has the message of the stage and has not answered yet; `action` comes first."""

    @contextmanager
    def reached(walk: Walk, partner_id: str, stage: str) -> Iterator[Reached]:
        there: list[bool] = []

        def asked(heard: Heard) -> None:
            if heard.partner_id == partner_id and heard.path == PATHS[stage] and not there:
                action(walk)
                there.append(True)

        walk.side.asked = asked
        try:
            yield lambda: there
        finally:
            walk.side.asked = None

    return reached


@contextmanager
def _delivered_unread(walk: Walk, partner_id: str, stage: str) -> Iterator[Reached]:
    """The lifecycle stands still from before the peer's answer on; the delivery is on the topic."""
    before = len(walk.delivered(partner_id, stage))
    with _asked(lambda walk: walk.posts[LIFECYCLE].hold())(walk, partner_id, stage) as asked:
        yield lambda: asked() and len(walk.delivered(partner_id, stage)) > before


@contextmanager
def _not_kept(walk: Walk, partner_id: str, stage: str) -> Iterator[Reached]:
    """The positions of dispatch stay where they were, although the delivery is on the topic."""
    assert walk.gate is not None
    before = len(walk.delivered(partner_id, stage))
    hold = walk.gate.hold("derms-dispatch-progress-positions", OFFSET_COMMIT, walk.settings)
    try:
        yield lambda: len(walk.delivered(partner_id, stage)) > before
    finally:
        walk.gate.drop(hold)


EXCHANGES = (REGISTER, HANDSHAKE)
POINTS = [
    Point("a request is in, not appended", GATEWAY, _held("derms-gateway", INBOUND), gated=True),
    Point("appended, the 204 not sent", GATEWAY, _held("derms-gateway", INBOUND, answer=True), gated=True),
    Point("the 204 sent, the lifecycle has not read it", LIFECYCLE, _standing(LIFECYCLE, _kept), stages=(HANDSHAKE, BEAT)),
    Point("stepped, nothing written", LIFECYCLE, _held("derms-lifecycle-0", CONNECTIONS), gated=True, stages=EXCHANGES),
    Point("the connection is said, the message is not", LIFECYCLE, _held("derms-lifecycle-0", OUTBOUND), gated=True),
    Point("the message is written, no snapshot", LIFECYCLE, _held("derms-lifecycle-0", OUTBOUND, answer=True), gated=True),
    Point("written, dispatch has not taken it", DISPATCH, _standing(DISPATCH, _written)),
    Point("about to be sent", DISPATCH, _about_to_send),
    Point("the peer has it, its answer is not there", DISPATCH, _asked(lambda walk: walk.posts[DISPATCH].kill())),
    Point("answered, the delivery not appended", DISPATCH, _held("derms-dispatch", DELIVERIES), gated=True),
    Point("the delivery appended, dispatch does not know", DISPATCH, _held("derms-dispatch", DELIVERIES, answer=True), gated=True),
    Point("delivered, the positions not kept", DISPATCH, _not_kept, gated=True),
    Point("delivered, the lifecycle has not read it", LIFECYCLE, _delivered_unread),
]
Step = tuple[str, str, Point]


def steps(*, gated: bool = True) -> list[Step]:
    """Every point in every stage, in both directions."""
    found = [(direction, stage, point) for direction in (PEER_STARTS, WE_START) for point in POINTS for stage in point.stages]
    return [step for step in found if gated or not step[2].gated]


def named(step: Step) -> str:
    """A step in words."""
    return ", ".join(map(str, step))
