"""The front door's part of `make bench`: its scenes on one Kafka, and the table of what was asked and measured."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from sinks.settings import KafkaSettings
from tests.benchmarks.front_door.fleet import Fleet
from tests.benchmarks.front_door.installation import Installation, configuration, installed, went_offline
from tests.benchmarks.front_door.scenes import Answers, Sender, as_fast_as_taken, at_pace, beside_a_flood, quantile
from tests.benchmarks.processes import busy_s
from tests.benchmarks.report import Asked, table

INTERVAL_S = 10.0
FEW = 10
"""Partners where forecasts are measured."""
WARM_UP_S = 3.0
"""Both servers' first requests, and the broker's, cost many times those after them."""
FLOWS = ("lifecycle", "dispatch")
USERS = ("gateway", *FLOWS, "load", "machine")
"""What a connection's life needs. The flows that make envelopes and reports of forecasts have benchmarks of their own."""


@dataclass(frozen=True)
class Plan:
    """How many and how long (seconds)."""

    partners: int = 2_000
    forecasts_s: float = 15.0
    beats_s: float = 60.0
    flood_s: float = 15.0


@dataclass
class FrontDoor:
    """What was seen; seconds."""

    partners: int = 0
    connected_s: float = 0.0
    taken: Answers = field(default_factory=Answers)
    paced: Answers = field(default_factory=Answers)
    alone: Answers = field(default_factory=Answers)
    flooded: Answers = field(default_factory=Answers)
    flood: Answers = field(default_factory=Answers)
    late: list[float] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)
    beats_s: float = 0.0
    missed: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    offline: int = 0
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)
    rss: dict[str, int] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON: quantiles in ms."""

        def of(values: list[float]) -> dict[str, float]:
            return {name: round(quantile(values, share) * 1000, 2) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))} | {
                "n": len(values)
            }

        answers = {
            name: {"rate": round(each.rate, 1), "statuses": each.statuses, "ms": of(each.took)}
            for name, each in (
                ("taken", self.taken),
                ("paced", self.paced),
                ("alone", self.alone),
                ("flooded", self.flooded),
                ("flood", self.flood),
            )
        }
        return answers | {
            "partners": self.partners, "connected_s": round(self.connected_s, 1), "late_ms": of(self.late), "beats_ms": of(self.beats),
            "missed": self.missed, "statuses": self.statuses, "offline": self.offline,
            "cpu": self.cpu, "rss_mb": {name: value // 2**20 for name, value in self.rss.items()},
        }  # fmt: skip

    def table(self) -> str:
        """What was seen, for people: ms, and cores by process."""
        scenes = {
            "forecasts, as fast as taken": (self.taken.rate, self.taken.took, "taken"),
            "forecasts, 200 a second": (self.paced.rate, self.paced.took, "paced"),
            "forecasts, 20 a second": (self.alone.rate, self.alone.took, ""),
            "the same beside a flood": (self.flooded.rate, self.flooded.took, "flood"),
            "the flood itself": (self.flood.rate, self.flood.took, ""),
            f"heartbeats of {self.partners:,} partners": (len(self.beats) / self.beats_s if self.beats_s else 0.0, self.beats, "beats"),
            "our heartbeats: how late": (len(self.late) / self.beats_s if self.beats_s else 0.0, self.late, ""),
        }
        head = ["front door", "a second", "p50 ms", "p99 ms", "longest ms", *(f"{name}, cores" for name in USERS)]
        rows = [
            [
                name, f"{rate:,.0f}", *(f"{quantile(values, share) * 1000:.1f}" for share in (0.5, 0.99, 1.0)),
                *(f"{self.cpu[scene][process]:.2f}" if scene in self.cpu else "" for process in USERS),
            ]
            for name, (rate, values, scene) in scenes.items()
        ]  # fmt: skip
        return table(head, rows)

    def asked(self) -> list[Asked]:
        """Beside what was asked."""
        p99, paced, doubled = quantile(self.late, 0.99), self.paced.quantile(0.99), 2 * self.alone.quantile(0.99)
        answered, flooded = quantile(self.beats, 0.99), self.flooded.quantile(0.99)

        def below(limit: float, value: float) -> float:
            return limit / value if value else 0.0

        return [
            Asked("forecasts of 96 blocks accepted a second", "500", f"{self.taken.rate:,.0f}", self.taken.rate / 500),
            Asked("p99 of a forecast at 200 a second", "50 ms", f"{paced * 1000:.1f} ms", below(0.05, paced)),
            Asked(f"p99 lateness of our heartbeats, {self.partners:,} partners, every 8 s", "1 s", f"{p99:.3f} s", below(1.0, p99)),
            Asked("deadlines missed, ours and theirs", "0", f"{self.missed + self.offline}", float(self.missed + self.offline == 0)),
            Asked("p99 of the 204 to a heartbeat", "20 ms", f"{answered * 1000:.1f} ms", below(0.02, answered)),
            Asked("p99 beside a flooding partner", f"2 x {doubled * 500:.1f} ms", f"{flooded * 1000:.1f} ms", below(doubled, flooded)),
        ]


def measured(kafka: KafkaSettings, directory: Path, plan: Plan) -> FrontDoor:
    """Run all scenes. Blocks for some minutes."""
    found = FrontDoor(partners=plan.partners, beats_s=plan.beats_s)
    with installed(kafka, directory / "few", configuration(FEW, INTERVAL_S), FLOWS) as installation:
        uvloop.run(_forecasts(installation, plan, found))
    with installed(kafka, directory / "many", configuration(plan.partners, INTERVAL_S), FLOWS) as installation:
        uvloop.run(_heartbeats(installation, plan, found))
    return found


async def _connected(installation: Installation, partners: int) -> Fleet:
    tokens = await asyncio.to_thread(installation.tokens, [f"cp-{n}" for n in range(partners)])
    fleet = Fleet(tokens, installation.port, INTERVAL_S)
    await fleet.serve()
    await fleet.connect()
    return fleet


async def _forecasts(installation: Installation, plan: Plan, found: FrontDoor) -> None:
    fleet = await _connected(installation, FEW)
    port, first, second = installation.port, fleet.peers[0], fleet.peers[1]
    await as_fast_as_taken(await Sender.of(fleet, first, port, 16), WARM_UP_S)
    with _watched(installation, found, "taken"):
        found.taken = await as_fast_as_taken(await Sender.of(fleet, first, port, 16), plan.forecasts_s)
    with _watched(installation, found, "paced"):
        found.paced = await at_pace(await Sender.of(fleet, first, port, 32), 200, plan.forecasts_s)
    found.alone = await at_pace(await Sender.of(fleet, second, port, 8), 20, plan.flood_s)
    calm = await Sender.of(fleet, second, port, 8)
    with _watched(installation, found, "flood"):
        found.flooded, found.flood = await beside_a_flood(lambda: at_pace(calm, 20, plan.flood_s), await Sender.of(fleet, first, port, 64))
    await fleet.stop()


async def _heartbeats(installation: Installation, plan: Plan, found: FrontDoor) -> None:
    began = time.monotonic()
    fleet = await _connected(installation, plan.partners)
    found.connected_s = time.monotonic() - began
    print(f"{plan.partners} partners connected in {found.connected_s:.1f} s", flush=True)
    await asyncio.sleep(INTERVAL_S)
    with _watched(installation, found, "beats"):
        fleet.watching = True
        await asyncio.sleep(plan.beats_s)
        fleet.watching = False
    found.late, found.beats, found.missed, found.statuses = fleet.seen.late, fleet.seen.answers, fleet.seen.missed, fleet.seen.statuses
    found.offline = await asyncio.to_thread(went_offline, installation.settings)
    await fleet.stop()


@contextmanager
def _watched(installation: Installation, found: FrontDoor, scene: str) -> Iterator[None]:
    """What the processes use meanwhile: cores, and at most resident."""
    began, own, busy = time.time(), time.process_time(), busy_s()
    yield
    ended = time.time()
    seconds = ended - began
    found.cpu[scene] = {"load": round((time.process_time() - own) / seconds, 2), "machine": round((busy_s() - busy) / seconds, 2)}
    for name, tree in installation.processes.items():
        used = tree.between(began, ended)
        found.cpu[scene][name] = round(used.cpu_s / (ended - began), 2)
        found.rss[name] = max(found.rss.get(name, 0), used.rss)
