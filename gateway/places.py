"""How many connections a listener holds, so that idle ones never use up what the process may have open."""

import logging
import resource
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.clock import wall_seconds

log = logging.getLogger(__name__)

KEPT_FOR_OTHERS = 200
"""Files of the process that are no connections of its listeners: Kafka, logs, modules."""
SAY_EVERY_S = 60.0


@dataclass(eq=False, slots=True)
class Place:
    """One connection's place. `shed` closes the connection at once; it is called only while the place is idle."""

    places: "Places"
    address: str
    shed: Callable[[], None] = lambda: None
    taken: bool = True

    def idle(self) -> None:
        """Nothing of a request is under way: the connection may be closed for a new one."""
        if self.taken:
            self.places.waiting[self] = None
            self.places.waiting.move_to_end(self)

    def busy(self) -> None:
        """A request is being answered."""
        self.places.waiting.pop(self, None)

    def free(self) -> None:
        """The connection is gone. May be called twice."""
        if self.taken:
            self.taken = False
            self.busy()
            self.places.left(self.address)


@dataclass
class Places:
    """At most `most` connections, at most half of them from one address (but for `shared` ones: trusted proxies).

    When all are taken, the connection that has been idle longest makes room; where none is idle, the new one is
    turned away. A connection is idle between requests and until its request's head is complete.
    """

    name: str
    most: int
    shared: Callable[[str], bool] = lambda _: False
    waiting: "OrderedDict[Place, None]" = field(default_factory=OrderedDict)
    _taken: int = 0
    _of: dict[str, int] = field(default_factory=dict)
    _said: float | None = None

    def take(self, address: str) -> Place | None:
        """A place for a new connection from `address`, or None to turn it away."""
        if self._of.get(address, 0) >= max(1, self.most // 2) and not self.shared(address):
            self._say(f"{address} has {self._of[address]} connections; more are turned away")
            return None
        if self._taken >= self.most:
            self._say(f"all {self.most} connections are in use; idle ones are closed for new ones")
            if not self.waiting:
                return None
            longest, _ = self.waiting.popitem(last=False)
            longest.shed()
            longest.free()
        self._taken += 1
        self._of[address] = self._of.get(address, 0) + 1
        return Place(self, address)

    def left(self, address: str) -> None:
        """A connection from `address` is gone."""
        self._taken -= 1
        self._of[address] -= 1
        if not self._of[address]:
            del self._of[address]

    def _say(self, words: str) -> None:
        now = wall_seconds()
        if self._said is None or now - self._said >= SAY_EVERY_S:
            self._said = now
            log.warning("%s listener: %s", self.name, words)


def room_for(oscp: int, operations: int) -> tuple[int, int]:
    """So many connections of the two listeners as the process can have open files for; raises its own limit as far as it may."""
    wanted = oscp + operations + KEPT_FOR_OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return oscp, operations
    possible = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
    if possible > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (possible, hard))
        soft = possible
    if soft >= wanted:
        return oscp, operations
    left = max(4, soft - KEPT_FOR_OTHERS)
    log.warning("this process may open %d files only: its listeners take %d connections instead of %d", soft, left, oscp + operations)
    share = max(1, left * operations // (oscp + operations))
    return left - share, share
