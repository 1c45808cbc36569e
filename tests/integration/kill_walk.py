"""A walk through the points of a connection's life at which a process can be killed (semantics 6, 8.1).

`kill_points.POINTS` are the points; a `Walk` is the installation they are reached in, `Walk.life` the life of one partner with a kill
at one of them. Nothing in the product knows of this: a point is reached by holding what passes between the processes and the broker
or the peer, or a process itself.
"""

import json
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.connection import CommandKind, Connection, InboundMessage
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import CONNECTIONS, DELIVERIES, INBOUND, OUTBOUND
from schemas.units import rfc3339
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings
from tests.integration.broker_gate import BrokerGate
from tests.integration.installed import Process, Site, Topics, hurried, partners
from tests.integration.plain_peer import PeerSide, Voice, required
from tests.kafka.driving import publish
from tests.soak.running import SECRET, until

REGISTER, HANDSHAKE, BEAT = "register", "handshake", "heartbeat"
STAGES = (REGISTER, HANDSHAKE, BEAT)
PEER_STARTS, WE_START = "the peer starts", "we start"
OURS = {REGISTER: Action.REGISTER, HANDSHAKE: Action.HANDSHAKE_ACKNOWLEDGE, BEAT: Action.HEARTBEAT}
PATHS = {REGISTER: "register", HANDSHAKE: "handshake_acknowledge", BEAT: "heartbeat"}
BEAT_S = 5.0
WANTS = {"heartbeat_interval": "PT10M", "measurement_configuration": ["INTERMITTENT"]}
GATEWAY, LIFECYCLE, DISPATCH = "gateway", "lifecycle", "dispatch"


Reached = Callable[[], Any]


@dataclass(frozen=True)
class Point:
    """A point at which `process` is killed. `reached(walk, partner_id, stage)` is a context that brings it about, and tells when
    it is there; it ends after the kill. `gated` points need a gate in front of the broker."""

    name: str
    process: str
    reached: Callable[["Walk", str, str], Any]
    gated: bool = False
    stages: tuple[str, ...] = STAGES

    def __str__(self) -> str:
        return self.name


class Post:
    """A process that there has to be one of: it is killed, and another one takes its place: a new one, or one that stood by."""

    def __init__(self, site: Site, name: str, *, standby: bool) -> None:
        self._site, self.name, self._standby, self._number = site, name, standby, 0
        self.live, self._next = self._made(), None  # type: Process, Process | None

    def _made(self) -> Process:
        self._number += 1
        return self._site.process(f"{self.name}-{self._number}").start()

    def ready(self) -> "Post":
        """Wait until it runs; then another one may stand by."""
        self.live.says(f"{self.name} is running")
        if self._standby:
            self._next = self._made()
        return self

    def kill(self) -> None:
        """SIGKILL, whatever it is doing."""
        self.live.kill()

    def comes_back(self) -> None:
        """Wait until another one runs in the killed one's place."""
        if self._next is None:
            self.live.start()
        else:
            self.live = self._next
        self.ready()

    def hold(self) -> None:
        """It stands still from here on."""
        self.live.signal(signal.SIGSTOP)


@dataclass
class Walk:
    """Processes on one broker, peers, and what is on the topics. `gate` is None where the broker is reached without one."""

    site: Site
    side: PeerSide
    gate: BrokerGate | None
    posts: dict[str, Post]
    seen: Topics
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    @property
    def settings(self) -> KafkaSettings:
        return self.site.settings

    def connection(self, partner_id: str) -> Connection | None:
        return next(iter(self.seen.of(Connection, partner_id)[::-1]), None)

    def state(self, partner_id: str) -> str:
        found = self.connection(partner_id)
        return found.state.value if found else ""

    def sent(self, partner_id: str, stage: str) -> list[OutboundMessage]:
        """What the lifecycle has put on the topic for a stage."""
        return [message for message in self.seen.of(OutboundMessage, partner_id) if message.action == OURS[stage]]

    def delivered(self, partner_id: str, stage: str) -> list[Delivery]:
        found = self.seen.of(Delivery, partner_id)
        return [each for each in found if each.action == OURS[stage] and each.outcome is Outcome.DELIVERED]

    def life(self, partner_id: str, direction: str, stage: str, point: Point) -> None:
        """Register, shake hands, beat, with a kill at a point of a stage; AssertionError unless it ends as if nothing had been."""
        life = Life(self, partner_id, direction)
        for each in STAGES:
            life.before(each)
            if each == stage:
                self._killed_at(point, life, stage)
            else:
                life.answered(self.pool.submit(life.speak, each))
            life.after(each)
        life.law()
        self.site.order(partner_id, CommandKind.SUSPEND)
        until(lambda: self.state(partner_id) == "SUSPENDED", "it is quiet", 30)

    def _killed_at(self, point: Point, life: "Life", stage: str) -> None:
        post = self.posts[point.process]
        with point.reached(self, life.partner_id, stage) as reached:
            speaking = self.pool.submit(life.speak, stage)
            until(lambda: reached() or _failed(speaking), lambda: f"the point is reached; {post.live.said()[-800:]}", 30)
            _failed(speaking)
            life.owe()
            post.kill()
        post.comes_back()
        life.answered(speaking)

    def stop(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        self.seen.stop()
        self.site.stop()


def _failed(speaking: "Future[Any]") -> bool:
    """Raises what went wrong with a request that is under way; False."""
    if speaking.done():
        speaking.result()
    return False


@dataclass
class Life:
    """One partner's side of its life."""

    walk: Walk
    partner_id: str
    direction: str
    owed: list[str] = field(default_factory=list)
    voice: Voice = field(init=False)
    beats_before: int = 0

    def __post_init__(self) -> None:
        self.voice = Voice(self.partner_id, self.walk.side, lambda: self.walk.posts[GATEWAY].live.port)

    def before(self, stage: str) -> None:
        """What has to be so before a stage begins."""
        walk, partner_id = self.walk, self.partner_id
        if stage == REGISTER:
            until(lambda: walk.connection(partner_id) or True, "", 1)
            if self.direction == PEER_STARTS:
                walk.side.tokens[partner_id] = walk.site.token(partner_id)
                until(lambda: (found := walk.connection(partner_id)) and found.credentials, "A is valid", 30)
            else:
                walk.side.tokens[partner_id] = ""
        self.beats_before = len(walk.side.of(partner_id, "heartbeat"))

    def speak(self, stage: str) -> int:
        """What the partner (or an operator) does in a stage; the status the partner's request is answered with in the end."""
        walk, side, partner_id = self.walk, self.walk.side, self.partner_id
        if stage == HANDSHAKE:
            return self.voice.surely("/handshake", required(BEAT_S))
        if stage == BEAT:
            return self.voice.surely("/heartbeat", {"offline_mode_at": rfc3339(datetime.now(UTC) + timedelta(hours=12))})
        if self.direction == PEER_STARTS:
            return self.voice.surely("/register", self.voice.register_body())
        hidden = Secrets.from_base64(SECRET).encrypt("initial", partner_id)
        walk.site.order(partner_id, CommandKind.REGISTER, json.dumps({"base_url": side.url(partner_id), "peer_token": hidden}))
        (ours,) = until(lambda: side.of(partner_id, "register")[:1], "our Register", 60)
        return self.voice.surely("/register", self.voice.register_body(), correlation_id=ours.request_id)

    def answered(self, speaking: "Future[int]") -> None:
        """Whatever happened, in the end it is answered 204."""
        assert speaking.result(90) == 204, self.voice.statuses

    def after(self, stage: str) -> None:
        """What must follow by itself."""
        walk, side, partner_id = self.walk, self.walk.side, self.partner_id
        if stage == REGISTER:
            until(lambda: side.of(partner_id, "register"), lambda: f"our Register; {self._stands()}", 60)
        elif stage == HANDSHAKE:
            until(lambda: side.of(partner_id, "handshake_acknowledge"), lambda: f"our acknowledgement; {self._stands()}", 60)
            until(lambda: walk.state(partner_id) == "ONLINE", lambda: f"ONLINE; {self._stands()}", 60)
        else:
            wanted = self.beats_before + 1
            until(lambda: len(side.of(partner_id, "heartbeat")) >= wanted, lambda: f"our beats; {self._stands()}", 60)

    def _stands(self) -> str:
        words = {name: post.live.said()[-500:] for name, post in self.walk.posts.items()}
        return f"{self.partner_id} is {self.walk.state(self.partner_id)}; {words}"

    def owe(self) -> None:
        """At the moment of the kill something else is owed to the partner, if it is known where it is."""
        connection = self.walk.connection(self.partner_id)
        if connection is None or connection.peer_base_url is None:
            return
        now, number = datetime.now(UTC), len(self.owed)
        energy = {"value": 1.0, "phase": "ALL", "unit": "KWH", "direction": "NET", "measure_time": "2026-10-20T10:00:00Z"}
        message = OutboundMessage(
            event_id=f"owed-{self.partner_id}-{number}", at=now, message_id=f"owed-{self.partner_id}-{number}",
            partner_id=self.partner_id, action=Action.UPDATE_GROUP_MEASUREMENTS, group_id=f"G-{self.partner_id}",
            body=json.dumps({"group_id": f"G-{self.partner_id}", "measurements": [energy]}), not_before=now,
            expires_at=now + timedelta(days=1),
        )  # fmt: skip
        publish(self.walk.settings, (OUTBOUND, self.partner_id, message))
        self.owed.append(message.message_id)

    def law(self) -> None:
        """As if nothing had been."""
        walk, side, partner_id = self.walk, self.walk.side, self.partner_id
        paths = {"update_group_measurements"}
        until(lambda: set(self.owed) <= {each.request_id for path in paths for each in side.of(partner_id, path)}, "what was owed", 30)
        assert self.voice.once("/heartbeat", {"offline_mode_at": rfc3339(datetime.now(UTC) + timedelta(hours=12))}) == 204
        walk.seen.catch_up()
        assert walk.state(partner_id) == "ONLINE"
        assert set(self.voice.statuses) <= {204, 503}
        # One fact, one X-Request-ID, on the topic and as the peer saw it; and one X-Request-ID, one fact.
        facts, copies = defaultdict[Any, set[str]](set), defaultdict[str, set[Any]](set)
        for message in walk.seen.of(OutboundMessage, partner_id):
            about = message.not_before if message.action == Action.HEARTBEAT else message.correlation_id
            facts[message.action, message.cause_id, about].add(message.message_id)
            copies[message.message_id].add((message.action, message.body, message.not_before, message.correlation_id))
        assert {len(ids) for ids in facts.values()} <= {1}, facts
        assert {len(same) for same in copies.values()} == {1}
        for stage in (REGISTER, HANDSHAKE):
            assert len({each.request_id for each in side.of(partner_id, PATHS[stage])}) == 1
        beats = defaultdict[str, set[str]](set)
        for beat in side.of(partner_id, "heartbeat"):
            beats[beat.body["offline_mode_at"]].add(beat.request_id)
        assert {len(ids) for ids in beats.values()} == {1}
        assert len({each for ids in beats.values() for each in ids}) == len(beats)
        kept = [message.request_id for message in walk.seen.of(InboundMessage, partner_id)]
        assert len(set(kept)) == 4, kept  # what it said, each under one id
        assert {each.authorization for each in side.of(partner_id, "heartbeat")} == {f"Token B-{partner_id}-0"}


@contextmanager
def walking(settings: KafkaSettings, directory: Path, side: PeerSide, names: list[str], gate: BrokerGate | None = None) -> Iterator[Walk]:
    """An installation for partners `names`, ready to be walked through."""
    site = Site(settings, directory, partners(names, wants=WANTS), hurried())
    seen = Topics(settings, INBOUND, CONNECTIONS, OUTBOUND, DELIVERIES)
    posts = {name: Post(site, name, standby=name != GATEWAY) for name in (GATEWAY, LIFECYCLE, DISPATCH)}
    walk = Walk(site, side, gate, posts, seen)
    try:
        for post in posts.values():
            post.ready()
        yield walk
    finally:
        with suppress(Exception):
            walk.stop()
