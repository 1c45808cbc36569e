"""Two of what there is to be one of, over Apache Kafka: one works, the other stands by and takes over when the first is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.config import Partner
from schemas.connection import Command, CommandKind, Connection, ConnectionState, Event
from schemas.facts import Value
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import COMMANDS, CONNECTIONS, DELIVERIES, EVENTS, OUTBOUND, Topic
from sinks.codec import decode
from sinks.kafka import Follower, RawRecord, create_topics
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings
from tests.builders import configuration
from tests.conftest import unique
from tests.integration.running import CLEAN
from tests.kafka.driving import publish
from tests.rules.lifecycle_world import World, seconds
from tests.sinks.partner_server import Request, fake_partner
from tests.soak.running import SECRET, configure, until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
TAKEN_OVER_WITHIN_S = 15.0
MESSAGES = 120
BEAT_S = 2.0


class Machine:
    """A machine that runs one flow: a directory of its own, and a process that is killed and started again."""

    def __init__(self, settings: KafkaSettings, directory: Path, flow: str) -> None:
        self.settings, self.directory, self.flow = settings, directory, flow
        self.log = directory.with_suffix(".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Machine":
        """Start the flow; what an earlier process said is forgotten."""
        environment = CLEAN | {
            "DERMS_KAFKA__BOOTSTRAP": self.settings.bootstrap,
            "DERMS_KAFKA__TOPIC_PREFIX": self.settings.topic_prefix,
            "DERMS_KAFKA__REPLICATION": "1",
            "DERMS_KAFKA__MIN_INSYNC": "1",
            "DERMS_SECRET": SECRET,
            "DERMS_DATA": str(self.directory),
        }
        with self.log.open("wb") as words:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gateway.cli", "run", self.flow], env=environment, stdout=words, stderr=words
            )
        return self

    def says(self, words: str, within_s: float = 60.0) -> None:
        until(lambda: words in self.said(), lambda: f"{words!r}; it said: {self.said()}", within_s)

    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> float:
        """Kill it; the monotonic instant."""
        assert self.process is not None
        at = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(20)
        return at

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Topics:
    """Everything on some topics, in order within a partition, as it comes."""

    def __init__(self, settings: KafkaSettings, *topics: Topic) -> None:
        self.values: list[Value] = []
        self._by_name = {topic.name: topic for topic in topics}
        self._follower = Follower(settings, topics, self._take)
        self._follower.start()

    def _take(self, records: list[RawRecord]) -> None:
        self.values += [decode(record.raw, self._by_name[record.topic]) for record in records]

    def of(self, kind: type[Any]) -> list[Any]:
        return [value for value in list(self.values) if isinstance(value, kind)]

    def stop(self) -> None:
        self._follower.stop()


Make = Callable[[str, str], Machine]


@pytest.fixture
def settings(real_kafka: KafkaSettings) -> KafkaSettings:
    found = unique(real_kafka)
    create_topics(found)
    return found


@pytest.fixture
def machine(settings: KafkaSettings, tmp_path: Path) -> Iterator[Make]:
    made: list[Machine] = []

    def make(name: str, flow: str) -> Machine:
        made.append(Machine(settings, tmp_path / name, flow))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def owed(number: int) -> OutboundMessage:
    now = datetime.now(UTC)
    energy = {"value": 1.0, "phase": "ALL", "unit": "KWH", "direction": "NET", "measure_time": "2026-10-20T10:00:00Z"}
    body = json.dumps({"group_id": f"group {number % 5}", "measurements": [energy]})
    return OutboundMessage(
        event_id=f"m{number}", at=now, message_id=f"m{number}", partner_id="vector", action=Action.UPDATE_GROUP_MEASUREMENTS,
        group_id=f"group {number % 5}", body=body, not_before=now, expires_at=now + timedelta(hours=1),
    )  # fmt: skip


def test_of_two_dispatches_one_sends_and_the_other_goes_on_where_it_was_killed(
    settings: KafkaSettings, machine: Make, closing: Callable[[Any], Any]
) -> None:
    outcomes = closing(Topics(settings, DELIVERIES, EVENTS))
    seen: Counter[str] = Counter()

    def answer(request: Request) -> int:
        time.sleep(0.03)
        seen[request.id] += 1
        return 503 if seen[request.id] == 1 and int(request.id[1:]) % 40 == 7 else 204

    with fake_partner(answer) as partner:
        configure(settings, {}, configuration(groups=[]))
        now = datetime.now(UTC)
        token = Secrets.from_base64(SECRET).encrypt("peer", "vector")
        online = Connection(
            event_id="c", at=now, partner_id="vector", state=ConnectionState.ONLINE, since=now, peer_base_url=partner.url, peer_token=token
        )
        publish(settings, (CONNECTIONS, "vector", online))
        first = machine("a", "dispatch").start()
        first.says("dispatch is running")
        second = machine("b", "dispatch").start()
        second.says("dispatch stands by: ")
        assert "is running" not in second.said()

        publish(settings, *((OUTBOUND, "vector", owed(number)) for number in range(MESSAGES)))
        until(lambda: len(partner.ids(204)) >= MESSAGES // 4, lambda: f"some were sent {outcomes.values[:4]} {len(partner.ids())}", 20)
        killed = first.kill()
        assert len(partner.ids()) < MESSAGES
        second.says("dispatch is running", TAKEN_OVER_WITHIN_S)
        taken_over = time.monotonic() - killed
        begun = len(partner.ids())

        def delivered() -> Counter[str]:
            return Counter(each.message_id for each in outcomes.of(Delivery) if each.outcome is Outcome.DELIVERED)

        until(lambda: len(delivered()) == MESSAGES, "all were delivered", 60)
        second.kill(signal.SIGTERM)
        assert len(partner.ids()) > begun  # the last one before was long over by then
        # Each under its own id; what was recorded as delivered was not sent again, so nothing is on record twice.
        assert set(partner.ids()) == {f"m{number}" for number in range(MESSAGES)}
        assert set(delivered().values()) == {1}
        twice = [each for each, times in Counter(partner.ids(204)).items() if times > 1]
        assert len(twice) <= 7  # what was under way at the kill
        assert [each.kind for each in outcomes.of(Event) if each.subject_id == "dispatch"] == ["lease.taken-over"]
        for group in range(5):
            order = list(dict.fromkeys(each for each in partner.ids(204) if int(each[1:]) % 5 == group))
            assert order == sorted(order, key=lambda each: int(each[1:]))
    print(f"the second dispatch ran {taken_over:.2f} s after the first was killed; {len(twice)} messages went twice")


def began(settings: KafkaSettings, partner: Partner) -> None:
    """A partner that is ONLINE and wants a heartbeat every `BEAT_S`, as the lifecycle would have left it on the topics."""
    world = World(partner, at=datetime.now(UTC) - timedelta(seconds=10)).online(heartbeat=BEAT_S)
    world.advance(seconds(5))
    publish(settings, (CONNECTIONS, "vector", world.connection))


def test_of_two_lifecycles_one_beats_and_neither_goes_back_to_what_it_knew(
    settings: KafkaSettings, machine: Make, closing: Callable[[Any], Any]
) -> None:
    said = closing(Topics(settings, OUTBOUND, CONNECTIONS))
    config = configuration(groups=[])
    configure(settings, {}, config)
    (partner,) = config.partners
    began(settings, partner)

    def beats() -> list[OutboundMessage]:
        return [each for each in said.of(OutboundMessage) if each.action == Action.HEARTBEAT]

    def states() -> list[str]:
        found = [each.state.value for each in said.of(Connection)]
        return [state for index, state in enumerate(found) if found[index - 1 : index] != [state]]

    first = machine("a", "lifecycle").start()
    first.says("lifecycle is running")
    second = machine("b", "lifecycle").start()
    second.says("lifecycle stands by: ")
    begun = len(beats())
    until(lambda: len(beats()) >= begun + 2, "it beats", 20)
    killed, count = first.kill(), len(beats())
    until(lambda: len(beats()) > count, second.said, TAKEN_OVER_WITHIN_S)
    taken_over = time.monotonic() - killed

    # While the first is away something changes, which its recovery store knows nothing of.
    publish(settings, (COMMANDS, "vector", order(CommandKind.SUSPEND)))
    until(lambda: states()[-1] == "SUSPENDED", "it is suspended", 20)
    first.start().says("lifecycle stands by: ")
    changes = len(said.of(Connection))
    gave_up = second.kill(signal.SIGTERM)
    first.says("lifecycle is running", TAKEN_OVER_WITHIN_S)
    handed_over = time.monotonic() - gave_up
    assert "put aside" in first.said()
    assert (first.directory / "recovery" / "kafka" / "lifecycle.aside").is_dir()
    publish(settings, (COMMANDS, "vector", order(CommandKind.RESUME)))
    count = len(beats())
    until(lambda: len(beats()) > count, first.said, 30)
    assert "SUSPENDED" not in [each.state.value for each in said.of(Connection)[changes:]]
    assert len(said.of(Connection)) <= changes + 2  # nothing old was said again

    slots: dict[datetime, set[str]] = defaultdict(set)
    for beat in beats():
        slots[beat.not_before].add(beat.message_id)
    assert all(len(ids) == 1 for ids in slots.values())
    assert len({beat.message_id for beat in beats()}) == len(slots)
    print(f"the second lifecycle beat {taken_over:.2f} s after the first was killed, and was replaced in {handed_over:.2f} s in order")


def order(kind: CommandKind) -> Command:
    return Command(
        event_id=f"c-{os.urandom(4).hex()}", at=datetime.now(UTC), partner_id="vector", kind=kind, by="ana", payload=json.dumps({})
    )
