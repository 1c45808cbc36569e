"""Two requests of Kafka's protocol, spoken by hand to the only broker there is: append ready-made batches, where do partitions end."""

import socket
import struct
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

_PRODUCE, _LIST_OFFSETS = (0, 7), (2, 1)
_IN_FLIGHT = 4
_LATEST = -1
_NO_LEADER_YET = {3, 5, 6}
_PRODUCED = struct.Struct(">ihqqq")
_LISTED = struct.Struct(">ihqq")


class BrokerRefused(RuntimeError):
    """The broker answered with an error, or not at all."""


class NoLeaderYet(BrokerRefused):
    """A topic is still being made."""


class Connection:
    """One connection, used by one thread. Everything blocks, at most a minute at a time."""

    def __init__(self, bootstrap: str) -> None:
        host, _, port = bootstrap.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open: deque[int] = deque()
        self._correlation = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def append(self, topic: str, rounds: Iterable[Sequence[tuple[int, bytes]]]) -> dict[int, tuple[int, float]]:
        """Append (partition, batch) pairs, at most one a partition in each round; returns once the leader has acknowledged all.

        Says for the last batch of each partition at which offset it begins, and when (s since 1970) the broker had it.
        """
        last: dict[int, tuple[int, float]] = {}
        for pairs in rounds:
            parts = [struct.pack(">hhii", -1, 1, 60_000, 1), _text(topic), struct.pack(">i", len(pairs))]
            for partition, batch in pairs:
                parts += [struct.pack(">ii", partition, len(batch)), batch]
            self._ask(_PRODUCE, parts)
            if len(self._open) >= _IN_FLIGHT:
                last.update(self._appended())
        while self._open:
            last.update(self._appended())
        return last

    def _appended(self) -> dict[int, tuple[int, float]]:
        return {answer[0]: (answer[2], answer[3] / 1000) for answer in self._answers(_PRODUCED)}

    def ends(self, topic: str, partitions: int) -> list[int]:
        """The offset of the next message in each partition. Raises `NoLeaderYet` for a topic that is being made."""
        parts = [struct.pack(">ii", -1, 1), _text(topic), struct.pack(">i", partitions)]
        self._ask(_LIST_OFFSETS, [*parts, *(struct.pack(">iq", partition, _LATEST) for partition in range(partitions))])
        found = {int(answer[0]): int(answer[3]) for answer in self._answers(_LISTED)}
        return [found[partition] for partition in range(partitions)]

    def _ask(self, api: tuple[int, int], parts: Sequence[bytes]) -> None:
        self._correlation += 1
        head = struct.pack(">hhi", *api, self._correlation) + _text("bench")
        self._socket.sendall(b"".join([struct.pack(">i", len(head) + sum(map(len, parts))), head, *parts]))
        self._open.append(self._correlation)

    def _answers(self, each: struct.Struct) -> list[tuple[int, ...]]:
        """What the oldest open question is answered for each partition of its one topic: partition, error, the rest."""
        (size,) = struct.unpack(">i", self._exactly(4))
        answer = self._exactly(size)
        correlation, _, length = struct.unpack_from(">iih", answer)
        if correlation != self._open.popleft():
            raise BrokerRefused("an answer to another question")
        at = 10 + length
        (count,) = struct.unpack_from(">i", answer, at)
        found = [each.unpack_from(answer, at + 4 + number * each.size) for number in range(count)]
        for partition, error, *_ in found:
            if error:
                raise (NoLeaderYet if error in _NO_LEADER_YET else BrokerRefused)(f"partition {partition}: Kafka's error {error}")
        return found

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            found = self._socket.recv(size - len(parts))
            if not found:
                raise BrokerRefused("the broker closed the connection")
            parts += found
        return bytes(parts)


def _text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()
