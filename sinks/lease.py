"""Leases: of several processes that could do something, the one that may (semantics 8.1).

- `sinks.lease_file.FileLease` is a lock on a file: one machine, one directory, and no time to it.
- `sinks.lease_kafka.KafkaLease` is membership in a consumer group, known to be good only for a while.

Whoever acts under a lease asks `good_for` immediately before and ends before that time is over.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_seconds() -> float:
    """A wall reading in seconds that only rises, and goes on while the machine sleeps: a lease ends meanwhile."""
    return time.clock_gettime(_CLOCK)


def this_process() -> str:
    """How people find this process."""
    return f"{socket.gethostname()}, process {os.getpid()}"


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has or had a lease: `process` differs for each process, `store` names the state it goes on from; `who` is for people.

    `released` says that it gave the lease up in order.
    """

    process: str
    store: str = ""
    who: str = ""
    released: bool = False


@dataclass(frozen=True, slots=True)
class Timing:
    """Of a lease that ends by itself, in wall seconds. `session_s` is Kafka's lowest by default; `margin_s` is what a write
    under way may take to reach the broker."""

    session_s: float = 6.0
    margin_s: float = 2.0
    renew_s: float = 1.0


class Lease(Protocol):
    """The right to be the only one. Any thread may ask; `acquire` and `release` are for who has it made."""

    def acquire(self, stop: threading.Event) -> bool:
        """Block until it is held (true) or `stop` is set (false). Raises Misconfigured where only a person can help."""

    def good_for(self) -> float:
        """For how many seconds from now nobody else can have it; 0 while that is not known. Cheap."""

    def held(self) -> bool:
        """Whether `good_for` says anything above 0."""

    def write_within_s(self) -> float:
        """What a write may take (wall) so that it cannot arrive when another already has it; infinite where nobody takes it away."""

    def lost(self) -> bool:
        """Whether it was held and another has had it since: it does not come back."""

    def release(self) -> None:
        """Give it up, so that another has it at once. Harmless twice; blocks at most a few seconds."""


def write_within_s(lease: Lease | None, most_s: float) -> float:
    """The time-out (wall) for writes of who holds `lease`, or of who needs none: `most_s`, or less where the lease asks for it."""
    return most_s if lease is None else min(most_s, lease.write_within_s())


@dataclass(frozen=True, slots=True)
class Spokesman:
    """Whom a lease tells what happens to it. All are called from the lease's own thread (or `acquire`'s) and must not block long.

    `stands_by` is told once, with words, that another has it; `lost`, with words, that it is lost for good. `store` is told who had
    it last (None: nobody known) before it counts as held, and says which state we go on from.
    """

    stands_by: Callable[[str], None] = field(default=lambda words: None)
    lost: Callable[[str], None] = field(default=lambda words: None)
    store: Callable[[Holder | None], str] = field(default=lambda before: "")
