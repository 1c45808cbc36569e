"""The envelopes' and circuits' part of `make bench`: its scenes on one Kafka, and the table of what was asked and measured."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from schemas.capacity import PieceKind
from sinks.settings import KafkaSettings
from tests.benchmarks.capacity.forecasts import PARTNERS, STEP, Told
from tests.benchmarks.capacity.installation import Installation, installed
from tests.benchmarks.capacity.states import largest_state
from tests.benchmarks.capacity.watching import Sender, Watcher
from tests.benchmarks.front_door.scenes import quantile
from tests.benchmarks.processes import busy_s
from tests.benchmarks.report import Asked, table

KIB = 1024
AFTER_S = 25.0
"""The boundary comes so long after the last of the day-ahead forecasts: time to be done with them."""


@dataclass(frozen=True)
class Plan:
    """How many and how long (seconds)."""

    groups: int = 10_000
    arriving_s: float = 60.0
    paced_s: float = 60.0
    rate: int = 50


@dataclass
class Capacity:
    """What was seen; seconds."""

    groups: int = 0
    arriving_s: float = 0.0
    behind_s: float = 0.0
    day_ahead: list[float] = field(default_factory=list)
    paced: list[float] = field(default_factory=list)
    boundary: list[float] = field(default_factory=list)
    away: list[float] = field(default_factory=list)
    state_bytes: int = 0
    kept_bytes: float = 0.0
    cpu: dict[str, dict[str, float]] = field(default_factory=dict)
    rss: int = 0
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON: quantiles in ms."""

        def of(values: list[float]) -> dict[str, float]:
            return {name: round(quantile(values, share) * 1000, 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))} | {
                "n": len(values)
            }

        return {
            "groups": self.groups, "behind_s": round(self.behind_s, 3), "state_bytes": self.state_bytes,
            "day_ahead_ms": of(self.day_ahead), "boundary_ms": of(self.boundary), "paced_ms": of(self.paced), "away_ms": of(self.away),
            "kept_bytes_a_group": round(self.kept_bytes), "cpu": self.cpu, "rss_mb": self.rss // 2**20, "problems": self.problems,
        }  # fmt: skip

    def table(self) -> str:
        """What was seen, for people: ms from what causes a change to the change, cores."""
        scenes = {
            f"{self.groups:,} forecasts in {self.arriving_s:.0f} s": ("day_ahead", self.day_ahead),
            "forecasts at a pace, each for now": ("paced", self.paced),
            f"{self.groups:,} boundaries at one instant": ("boundary", self.boundary),
            f"a partner of {len(self.away):,} groups goes away": ("away", self.away),
        }
        head = ["envelopes and circuits", "changes", "p50 ms", "p99 ms", "longest ms", "flow, cores", "machine, cores"]
        rows = [
            [
                name, f"{len(values):,}", *(f"{quantile(values, share) * 1000:,.0f}" for share in (0.5, 0.99, 1.0)),
                *(f"{self.cpu[scene][who]:.2f}" for who in ("flow", "machine")),
            ]
            for name, (scene, values) in scenes.items()
        ]  # fmt: skip
        store = f"{self.kept_bytes / KIB:.1f} KiB here"
        return f"{table(head, rows)}\nstate {self.state_bytes / KIB:.1f} KiB a group at most, {store}; resident {self.rss // 2**20} MiB"

    def asked(self) -> list[Asked]:
        """Beside what was asked. What is wrong is not reached, however fast."""
        right = float(not self.problems)

        def most(what: str, value: float, limit: float, words: str, asked: str) -> Asked:
            return Asked(what, asked, words, right * limit / value if value > 0 else 0.0)

        p99, last = quantile(self.paced, 0.99), quantile(self.boundary, 1.0)
        many = f"{self.groups:,} groups with 96 blocks in {self.arriving_s:.0f} s: all right after the last"
        return [
            most(many, self.behind_s, 10.0, f"{self.behind_s:.2f} s", "<= 10 s"),
            most("p99 from a forecast to the circuit's value, 50 a second", p99, 0.5, f"{p99 * 1000:.0f} ms", "< 500 ms"),
            most(f"{self.groups:,} boundaries at one instant: the last value", last, 2.0, f"{last:.2f} s", "<= 2 s"),
            most("state a group", self.state_bytes, 16 * KIB, f"{self.state_bytes / KIB:.1f} KiB", "<= 16 KiB"),
            Asked("envelopes and circuit values that are wrong", "0", str(len(self.problems)), right),
        ]


def measured(kafka: KafkaSettings, directory: Path, plan: Plan) -> Capacity:
    """Run all scenes. Blocks for some minutes. RuntimeError where nothing comes."""
    found = Capacity(groups=plan.groups, arriving_s=plan.arriving_s)
    found.state_bytes = largest_state()
    with installed(kafka, directory, plan.groups) as installation, Watcher(installation.settings) as watcher:
        sender = Sender(installation.settings)
        sender.send([Told(0, 9999, datetime.now(UTC) + timedelta(days=9))], 0.1)  # the first of all costs many times those after it
        watcher.wait(0, 1)
        boundary = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=plan.arriving_s + AFTER_S)
        # Every group gets a plan that covers now; its second block begins at the boundary, for all at once.
        told = [Told(group, 0, boundary - STEP) for group in range(plan.groups)]
        with _watched(installation, found, "day_ahead"):
            sender.send(told, plan.arriving_s)
            watcher.wait(plan.groups, 1 + plan.groups)
        time.sleep(max(0.0, boundary.timestamp() - 1.0 - time.time()))
        with _watched(installation, found, "boundary"):
            watcher.wait(2 * plan.groups, 0)
        # One after the other, each for another group, and for now.
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
        paced = [Told(number % plan.groups, 1 + number // plan.groups, start) for number in range(int(plan.rate * plan.paced_s))]
        with _watched(installation, found, "paced"):
            sender.send(paced, plan.paced_s)
            watcher.wait(2 * plan.groups + len(paced), 1 + plan.groups + len(paced))
        gone, last = "cp-0", watcher.counts()[0]
        with _watched(installation, found, "away"):
            since = sender.gone(gone)
            watcher.wait(last + len(range(0, plan.groups, PARTNERS)), 0)
        installation.tree.terminate()
        found.kept_bytes = installation.kept_bytes() / plan.groups
        _judge_day_ahead(watcher, sender, told, found)
        _judge_boundary(watcher, boundary, told, found)
        _judge_paced(watcher, sender, paced, found)
        _judge_away(watcher, last, since, found)
    return found


def _judge_day_ahead(watcher: Watcher, sender: Sender, told: list[Told], found: Capacity) -> None:
    capacities, envelopes = watcher.capacities(0, len(told)), watcher.envelopes(1, 1 + len(told))
    said = {value.circuit_id: value for _, value in capacities}
    pieces = {value.scope_id: value for _, value in envelopes}
    for one in told:
        value, envelope = said.get(f"feeder-{one.group}"), pieces.get(f"mg-{one.group}")
        received_at = sender.received[one.request_id]
        if value is None or (value.available_import_w, value.effective_from) != (one.value_w(0), received_at):
            found.problems.append(f"feeder-{one.group} has {value and value.available_import_w} W at first, not {one.value_w(0)}")
        expected = one.pieces(received_at)
        if envelope is None or [(p.start, p.end, p.import_limit_w, p.kind.value) for p in envelope.pieces][: len(expected)] != expected:
            found.problems.append(f"the envelope of mg-{one.group} is not the plan's")
    last = max(sender.appended[one.request_id] for one in told)
    found.behind_s = max(0.001, max(at for at, _ in (*capacities, *envelopes)) - last)
    found.day_ahead = [at - sender.appended[value.cause] for at, value in capacities if value.cause in sender.appended]


def _judge_boundary(watcher: Watcher, boundary: datetime, told: list[Told], found: Capacity) -> None:
    changes = watcher.capacities(len(told), 2 * len(told))
    said = {value.circuit_id: value for _, value in changes}
    for one in told:
        value, expected = said.get(f"feeder-{one.group}"), (one.value_w(1), one.value_w(0), boundary)
        if value is None or (value.available_import_w, value.previous_import_w, value.effective_from) != expected:
            found.problems.append(f"feeder-{one.group} did not change as it should at the boundary")
    found.boundary = [at - boundary.timestamp() for at, _ in changes]


def _judge_paced(watcher: Watcher, sender: Sender, told: list[Told], found: Capacity) -> None:
    said = {value.cause: (at, value) for at, value in watcher.capacities(2 * found.groups, 2 * found.groups + len(told))}
    for one in told:
        at, value = said.get(one.request_id, (0.0, None))
        if value is None or value.available_import_w != one.value_w(0):
            found.problems.append(f"feeder-{one.group} has {value and value.available_import_w} W for now, not {one.value_w(0)}")
        else:
            found.paced.append(at - sender.appended[one.request_id])


def _judge_away(watcher: Watcher, first: int, since: float, found: Capacity) -> None:
    changes = watcher.capacities(first)
    expected = {f"feeder-{number}" for number in range(0, found.groups, PARTNERS)}
    if {value.circuit_id for _, value in changes} != expected or {value.kind for _, value in changes} != {PieceKind.HELD}:
        found.problems.append("not exactly the groups of the partner that went away are held at what they had")
    found.away = [at - since for at, _ in changes]


@contextmanager
def _watched(installation: Installation, found: Capacity, scene: str) -> Iterator[None]:
    """What the flow and the machine use meanwhile: cores, and at most resident."""
    began, busy = time.time(), busy_s()
    yield
    ended = time.time()
    used = installation.tree.between(began, ended)
    found.cpu[scene] = {"flow": round(used.cpu_s / (ended - began), 2), "machine": round((busy_s() - busy) / (ended - began), 2)}
    found.rss = max(found.rss, used.rss)
