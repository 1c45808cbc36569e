"""One course of a run: feeding, killing at seeded moments, changing the number of processes, and what all that took."""

import random
import time
from dataclasses import dataclass, field
from itertools import count

from sinks.settings import KafkaSettings
from tests.soak.load import PARTITIONS, Load, probe, probed
from tests.soak.rows import Reader
from tests.soak.running import Feed, Flow, until

_NUMBERS = count(1)


@dataclass
class Course:
    """A flow under test, what feeds it, and who watches. Seconds are wall time."""

    settings: KafkaSettings
    load: Load
    flow: Flow
    dice: random.Random
    chunk: int = 500
    breath_s: float = 0.02
    come_back_s: float = 60.0
    fed: int = 0
    kills: list[str] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    """From each kill until everything that had been sent when it fell was read."""
    drained_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.feed, self.reader = Feed(self.settings), Reader(self.settings)

    def feed_to(self, share: float, burst: bool = False) -> None:
        """Send what is missing up to a share of the messages, reading meanwhile; in a burst without pauses."""
        end = round(share * len(self.load.messages))
        while self.fed < end:
            size = min(end - self.fed, self.chunk)
            self.feed.send(self.load.messages[self.fed : self.fed + size])
            self.fed += size
            if not burst:
                self.reader.read(self.breath_s)

    def feed_some(self, most: int) -> None:
        """Send a seeded number of chunks, up to `most`."""
        now = self.fed / len(self.load.messages)
        self.feed_to(min(1.0, now + self.dice.randint(1, most) * self.chunk / len(self.load.messages)))

    def caught_up(self, within_s: float | None = None) -> float:
        """Wait until the flow has read all that was sent before; how long that took."""
        begun, number = time.monotonic(), next(_NUMBERS)
        self.feed.send(probe(number, partition) for partition in range(PARTITIONS))
        self.feed.flush(self.come_back_s)
        self.reader.until(lambda rows: probed(number) <= rows.probes, self.flow.said, within_s or self.come_back_s)
        return time.monotonic() - begun

    def start(self, processes: int | None) -> None:
        """Start the flow and wait until it works."""
        self.feed_to(max(PARTITIONS, self.fed) / len(self.load.messages))
        self.flow.start(processes)
        self.caught_up()

    def kill(self, *, everything: bool = False) -> None:
        """SIGKILL at this moment: one process, or (`everything`) the supervisor as well; then wait until all was read.

        What has no supervisor is started again at once. A cluster must have processes anew within 5 s.
        """
        processes, before = self.flow.processes, self.flow.members()
        begun = time.monotonic()
        if everything and processes is not None:
            self.flow.kill_all()
        else:
            self.flow.kill(self.dice.randrange(8))
        self.kills.append(f"{'all of ' if everything else ''}{processes or 'the only'}")
        if self.flow.process is None:
            self.flow.start(processes)
        else:
            until(lambda: _anew(self.flow.members(), before), self.flow.said, 5.0 if len(self.kills) < 3 else 40.0)
        self.caught_up()
        self.back_s.append(time.monotonic() - begun)

    def change_to(self, processes: int | None) -> None:
        """Drain, and go on with the same store in another number of processes."""
        self.drained_s.append(self.flow.drain())
        self.start(processes)

    def finish(self, within_s: float = 120.0) -> None:
        """Bring event time past everything, wait for all rows, and drain."""
        self.feed_to(1.0)
        self.feed.send(self.load.pace)
        self.feed.flush()
        self.reader.until(lambda rows: rows.complete(self.load), self.flow.said, within_s)
        self.drained_s.append(self.flow.drain())
        self.reader.rest()

    def close(self) -> None:
        """End the flow, if it still runs, and the connections."""
        self.flow.stop()
        self.reader.close()


def _anew(members: list[int], before: list[int]) -> bool:
    return len(members) == len(before) and not set(members) & set(before)
