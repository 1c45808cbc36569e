"""The journal of `derms up`: the embedded broker forgets, so the compacted topics are kept in a file and given back (contract 2).

The file: a magic line, then for each record its length and CRC-32 (4 bytes each, big-endian) and its content: append
time (8 bytes, ms), topic and key (2 and 4 bytes of length before the UTF-8), the value's bytes (none: removed). A tail torn
by SIGKILL or a full disk is cut off at the next start; what is on disk is forced there about once a second.
"""

import hashlib
import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from schemas.clock import wall_seconds
from schemas.topics import BY_NAME, CONFIG, CONNECTIONS, DELIVERIES, Topic
from schemas.units import to_ms
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import Follower, Producer, RawRecord
from sinks.settings import KafkaSettings

log = logging.getLogger(__name__)

JOURNALED: tuple[Topic, ...] = (CONFIG, CONNECTIONS, DELIVERIES)
MAGIC = b"vector-derms journal 1\n"
SYNC_S = 1.0
_FRAME = struct.Struct(">II")
_HEAD = struct.Struct(">qHI")
_LARGEST = 64 * 1024 * 1024

Key = tuple[str, str]
"""A topic's plain name and a key."""


def frame(record: RawRecord) -> bytes:
    """A record as it stands in the file."""
    topic, key = record.topic.encode(), record.key.encode()
    content = _HEAD.pack(to_ms(record.appended_at), len(topic), len(key)) + topic + key + record.raw
    return _FRAME.pack(len(content), zlib.crc32(content)) + content


def frames(file: BinaryIO) -> Iterator[tuple[int, int, Key, bytes]]:
    """(where the record ends in the file, append time in ms, key, value) of each whole record; stops at the first that is not."""
    if file.read(len(MAGIC)) != MAGIC:
        return
    end = len(MAGIC)
    while len(lead := file.read(_FRAME.size)) == _FRAME.size:
        length, crc = _FRAME.unpack(lead)
        if not _HEAD.size <= length <= _LARGEST:
            return
        content = file.read(length)
        if len(content) < length or zlib.crc32(content) != crc:
            return
        end += _FRAME.size + length
        at_ms, topic_length, key_length = _HEAD.unpack_from(content)
        split = _HEAD.size + topic_length
        topic, key = content[_HEAD.size : split].decode(), content[split : split + key_length].decode()
        yield end, at_ms, (topic, key), content[split + key_length :]


class Journal:
    """Kept in `path` (a file; its folder is made). Use: `restore` into a new life of the broker, then `follow` it, then `stop`.

    `failure` has a sentence for people while it cannot be written (disk full); what comes meanwhile is kept in memory and
    written as soon as that works again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failure: str | None = None
        self._known: dict[Key, bytes] = {}
        self._file: BinaryIO | None = None
        self._good = 0
        self._waiting: list[bytes] = []
        self._synced = 0.0
        self._follower: Follower | None = None

    def restore(self, settings: KafkaSettings) -> int:
        """Compact the file and append its last values to the broker, in the order of their writing; returns how many.

        Blocks until acknowledged. Raises `Unavailable` (broker), `Misconfigured` (the folder cannot be written).
        """
        latest = self.compact(datetime.now(UTC))
        producer = Producer(settings, "derms-journal")
        for (topic, key), (_, raw) in latest.items():
            producer.send(BY_NAME[topic], key, raw)
        producer.close()
        return len(latest)

    def compact(self, now: datetime) -> dict[Key, tuple[int, bytes]]:
        """Rewrite the file with the last value of each key that its topic would still keep, and return them.

        A torn tail is cut off, with a warning; bytes after damage in the middle are put aside as `<name>.damaged`.
        """
        latest: dict[Key, tuple[int, bytes]] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if self.path.exists():
                self._read(latest)
            kept = {key: found for key, found in latest.items() if _kept(key, found, now)}
            fresh = self.path.with_name(self.path.name + ".new")
            with fresh.open("wb") as file:
                file.write(MAGIC)
                for (topic, key), (at_ms, raw) in kept.items():
                    file.write(frame(RawRecord(topic, 0, 0, _instant(at_ms), key, raw)))
                file.flush()
                os.fsync(file.fileno())
                self._good = file.tell()
            fresh.replace(self.path)
            self._file = self.path.open("r+b", buffering=0)
        except OSError as error:
            raise Misconfigured(f"the journal {self.path}", str(error.strerror), "make room, or make the folder writable") from error
        self._known = {key: _print(raw) for key, (_, raw) in kept.items()}
        return kept

    def _read(self, latest: dict[Key, tuple[int, bytes]]) -> None:
        end = 0
        with self.path.open("rb") as file:
            for end, at_ms, key, raw in frames(file):  # noqa: B007 - the last one's end is needed
                latest.pop(key, None)  # so that the order is that of the last writing
                if raw and key[0] in BY_NAME:
                    latest[key] = (at_ms, raw)
            file.seek(end)
            rest = file.read()
        if rest and rest != MAGIC:
            aside = self.path.with_name(self.path.name + ".damaged")
            aside.write_bytes(rest)
            log.warning("the last %d bytes of %s are torn or damaged and left out; they are in %s", len(rest), self.path, aside.name)

    def follow(self, settings: KafkaSettings, topics: Sequence[Topic] = JOURNALED) -> None:
        """From now on write down what is appended to the topics. After `restore` (or `compact`)."""
        self._follower = Follower(settings, topics, self.write, client_id="derms-journal")
        self._follower.start()

    def wait_ready(self, timeout_s: float) -> None:
        """Block until all that was on the broker has been written down; raises `Unavailable` after `timeout_s`."""
        if self._follower is not None:
            self._follower.wait_ready(timeout_s)

    def write(self, records: Sequence[RawRecord]) -> None:
        """Write down what differs from the last value of its key. Does not raise: see `failure`."""
        for record in records:
            known = _print(record.raw)
            if self._known.get((record.topic, record.key)) != known:  # what was restored comes back as it is
                self._known[record.topic, record.key] = known
                self._waiting.append(frame(record))
        self._flush()

    def _flush(self) -> None:
        if self._file is None or not self._waiting:
            return
        try:
            self._file.seek(self._good)  # over what a failed write may have left
            content = b"".join(self._waiting)
            while content:
                content = content[self._file.write(content) or 0 :]
            if wall_seconds() - self._synced > SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = wall_seconds()
        except OSError as error:
            if self.failure is None:
                log.error("the journal %s cannot be written: %s", self.path, error.strerror)
            self.failure = f"the journal {self.path} cannot be written ({error.strerror}); make room, or a restart loses the latest changes"
            return
        self._good = self._file.tell()
        self._waiting.clear()
        self.failure = None

    def stop(self) -> None:
        """Write down what is left, force it to disk and close. Raises `Unavailable` if it could not be written."""
        if self._follower is not None:
            try:
                # What was acknowledged a moment ago is still on its way to us.
                self._follower.catch_up(2.0)
            except Unavailable as error:
                log.warning("the journal could not be brought up to date: %s", error)
            self._follower.stop()
        self._flush()
        file, self._file = self._file, None
        if file is not None:
            with file:
                if self.failure is None:
                    os.fsync(file.fileno())
        if self.failure is not None:
            raise Unavailable(self.failure)


def _print(raw: bytes) -> bytes:
    """What is remembered of a value, to know it again."""
    return hashlib.blake2b(raw, digest_size=16).digest()


def _instant(at_ms: int) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _kept(key: Key, found: tuple[int, bytes], now: datetime) -> bool:
    retention: timedelta | None = BY_NAME[key[0]].retention
    return retention is None or _instant(found[0]) >= now - retention
