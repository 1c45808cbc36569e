"""What the front door is measured at: forecasts as fast as they are taken, forecasts at a pace, heartbeats of thousands, a flood."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from schemas.units import rfc3339
from tests.benchmarks.front_door.fleet import Fleet, Peer
from tests.benchmarks.front_door.http_lines import Line, line_to

BLOCKS = 96


@dataclass
class Answers:
    """Seconds from sending to the answer of those taken (204), and how often each status came; `seconds` it all took."""

    took: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    def count(self, status: int, took: float) -> None:
        """Take note of an answer."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == 204:
            self.took.append(took)

    @property
    def rate(self) -> float:
        """Accepted a second."""
        return len(self.took) / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float:
        """Of `took`, in seconds."""
        return quantile(self.took, share)


def quantile(values: list[float], share: float) -> float:
    """The value that `share` of all do not exceed; 0 where there are none."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)] if values else 0.0


def forecast(group_id: str, start: datetime) -> bytes:
    """A day of quarter hours for one group."""
    step = timedelta(minutes=15)
    blocks = [
        {
            "capacity": 100.0 + n,
            "phase": "ALL",
            "unit": "KW",
            "start_time": rfc3339(start + n * step),
            "end_time": rfc3339(start + (n + 1) * step),
        }
        for n in range(BLOCKS)
    ]
    return json.dumps({"group_id": group_id, "type": "CONSUMPTION", "forecasted_blocks": blocks}).encode()


class Sender:
    """Forecasts of one peer over connections of its own."""

    def __init__(self, fleet: Fleet, peer: Peer, lines: list[Line]) -> None:
        self._fleet, self._peer, self.lines = fleet, peer, lines
        self._body = forecast(f"G-{peer.number}", datetime.now(UTC).replace(minute=0, second=0, microsecond=0))
        self._number, self.port = 0, fleet.gateway_port
        self.answers = Answers()

    @classmethod
    async def of(cls, fleet: Fleet, peer: Peer, port: int, lines: int) -> "Sender":
        """With so many connections."""
        return cls(fleet, peer, [await line_to(port) for _ in range(lines)])

    async def one(self, line: Line, due: float | None = None) -> None:
        """One forecast; its time counts from `due`, when it should have been sent, else from now."""
        began = time.monotonic() if due is None else due
        self._number += 1
        status = await self._fleet.send(
            self._peer, "/update_group_capacity_forecast", self._body, f"f{self._peer.number}-{self._number}", line
        )
        self.answers.count(status, time.monotonic() - began)

    def close(self) -> None:
        """End the connections."""
        for line in self.lines:
            line.close()


async def as_fast_as_taken(sender: Sender, seconds: float) -> Answers:
    """Every connection sends its next forecast when the last one is answered."""
    until = (began := time.monotonic()) + seconds

    async def run(line: Line) -> None:
        while time.monotonic() < until:
            await sender.one(line)

    await asyncio.gather(*(run(line) for line in sender.lines))
    sender.answers.seconds = time.monotonic() - began
    return sender.answers


async def at_pace(sender: Sender, rate: float, seconds: float) -> Answers:
    """So many a second whatever the answers take: time waiting for a free connection counts."""
    began, free = time.monotonic(), list(range(len(sender.lines)))
    running: set[asyncio.Task[None]] = set()

    async def one(due: float) -> None:
        index = free.pop() if free else 0
        try:
            if not sender.lines[index].open:  # a connection without a request is closed after a while
                sender.lines[index] = await line_to(sender.port)
            await sender.one(sender.lines[index], due)
        finally:
            free.append(index)

    for number in range(int(rate * seconds)):
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        task = asyncio.create_task(one(due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    sender.answers.seconds = time.monotonic() - began
    return sender.answers


async def beside_a_flood(calm: Callable[[], Awaitable[Answers]], flooding: Sender) -> tuple[Answers, Answers]:
    """The calm partner's answers while another sends as fast as it can, and those of the other."""
    over = asyncio.Event()

    async def flood(line: Line) -> None:
        while not over.is_set():
            try:
                await flooding.one(line)
            except ConnectionError:
                return

    began = time.monotonic()
    tasks = [asyncio.create_task(flood(line)) for line in flooding.lines]
    await asyncio.sleep(2.0)  # the burst it is allowed is over
    answers = await calm()
    over.set()
    await asyncio.gather(*tasks)
    flooding.answers.seconds = time.monotonic() - began
    return answers, flooding.answers
