"""A TCP gate in front of a broker that understands just enough of Kafka's protocol to hold one request, or one answer, of one client."""

import asyncio
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from gateway.embedded import HOST, EmbeddedBroker, die_with_parent
from gateway.ports import free_port
from schemas.topics import Topic
from sinks.kafka import client_config, topic_name
from sinks.settings import KafkaSettings
from tests.kafka.broker import ApacheKafka

PRODUCE, OFFSET_COMMIT = 0, 8


@dataclass
class Hold:
    """What is waited for: a request of an API by a client, about a topic if one is given; or the `answer` to it.

    `reached` is set when it is there; it goes no further then, nor does what comes behind it. `drop` ends its connection.
    """

    client: str
    api: int
    topic: tuple[bytes, ...] = (b"",)
    answer: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    dropped: asyncio.Event = field(default_factory=asyncio.Event)

    def is_about(self, api: int, client: str, frame: bytes) -> bool:
        return api == self.api and client == self.client and any(name in frame for name in self.topic)


class BrokerGate:
    """Listens at `port` and passes everything on to `behind`."""

    def __init__(self) -> None:
        self.port, self.behind = free_port(), 0
        self._holds: list[Hold] = []
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="broker-gate", daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def hold(self, client: str, api: int, settings: KafkaSettings, topic: Topic | None = None, *, answer: bool = False) -> Hold:
        """From now on the first such request is held, or its answer."""
        made = Hold(client, api, names_of(settings, topic) if topic else (b"",), answer)
        self._holds.append(made)
        return made

    def drop(self, hold: Hold) -> None:
        """End what is held, and hold nothing for it any more."""
        self._holds.remove(hold)
        self._loop.call_soon_threadsafe(hold.dropped.set)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, HOST, self.port, backlog=256)
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers = [writer]
        try:
            from_broker, to_broker = await asyncio.open_connection(HOST, self.behind)
            writers.append(to_broker)
            asked: dict[int, tuple[int, str, bytes]] = {}
            ways = [self._requests(reader, to_broker, asked), self._answers(from_broker, writer, asked)]
            _, left = await asyncio.wait([asyncio.create_task(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
            for task in left:
                task.cancel()
        except OSError:
            pass
        finally:
            for each in writers:
                each.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, Any]) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                api, _, number, length = struct.unpack(">hhih", frame[:10])
                client = frame[10 : 10 + length].decode() if length > 0 else ""
                if any(hold.is_about(api, client, frame) for hold in self._holds if hold.answer):
                    asked[number] = (api, client, frame)
                for hold in list(self._holds):
                    if not hold.answer and hold.is_about(api, client, frame):
                        hold.reached.set()
                        await hold.dropped.wait()
                        return
                writer.write(struct.pack(">i", len(frame)) + frame)
                await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: dict[int, Any]) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame = await _frame(reader)
                request = asked.pop(struct.unpack(">i", frame[:4])[0], None)
                for hold in list(self._holds):
                    if hold.answer and request is not None and hold.is_about(*request):
                        hold.reached.set()
                        await hold.dropped.wait()
                        return
                writer.write(struct.pack(">i", len(frame)) + frame)
                await writer.drain()


def names_of(settings: KafkaSettings, topic: Topic) -> tuple[bytes, ...]:
    """What a request may call a topic: its name or, to newer brokers, its id."""
    name = topic_name(settings, topic)
    if settings.embedded:
        return (name.encode(),)
    admin = AdminClient(client_config(settings, "broker-gate"))
    found = admin.describe_topics(TopicCollection([name]))[name].result(10).topic_id
    number = (found.get_most_significant_bits() % 2**64 << 64) + found.get_least_significant_bits() % 2**64
    return name.encode(), number.to_bytes(16, "big")


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


class _Behind(EmbeddedBroker):
    """An embedded broker that tells its clients to come through the gate."""

    def __init__(self, gate: BrokerGate, log: Path) -> None:
        super().__init__(log=log)
        self._gate = gate

    def _spawn(self, executable: Path, port: int) -> "subprocess.Popen[bytes]":
        self._gate.behind = port
        own, told = f"tcp://{HOST}:{port}", f"tcp://{HOST}:{self._gate.port}"
        arguments = ["broker", "--listener-url", own, "--advertised-listener-url", told, "--storage-engine", "memory://tansu/", "--silent"]
        nothing = subprocess.DEVNULL
        return subprocess.Popen(
            [str(executable), *arguments], stdin=nothing, stdout=nothing, stderr=nothing, preexec_fn=die_with_parent, start_new_session=True
        )


@contextmanager
def gated_embedded(directory: Path) -> Iterator[tuple[BrokerGate, KafkaSettings]]:
    """An embedded broker behind a gate."""
    gate = BrokerGate()
    try:
        with _Behind(gate, directory / "broker.log"):
            yield gate, KafkaSettings(bootstrap=f"{HOST}:{gate.port}", replication=1, min_insync=1, embedded=True)
    finally:
        gate.stop()


@contextmanager
def gated_kafka(directory: Path) -> Iterator[tuple[BrokerGate, KafkaSettings]]:
    """An Apache Kafka behind a gate; needs java and mvn."""
    gate = BrokerGate()
    broker = ApacheKafka(directory / "kafka", advertised=gate.port)
    gate.behind = broker.port
    try:
        broker.start()
        yield gate, KafkaSettings(bootstrap=f"{HOST}:{gate.port}", replication=1, min_insync=1)
    finally:
        broker.stop()
        gate.stop()
