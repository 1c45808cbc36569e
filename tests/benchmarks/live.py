"""Our flow as it runs for months: a large fleet speaking every 5 s, more than an hour behind it, a kill, a quarter's end.

Everything is seen from outside: by what the flow writes (rows, probes that come back as late readings, its own reports),
by its memory, by when it is there again after SIGKILL.
"""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.flows import FlowReport
from schemas.telemetry import LateMeasurement
from schemas.topics import FLOW_REPORTS, LATE_TELEMETRY, QUARTER_HOURS, TELEMETRY
from sinks.codec import decode
from tests.benchmarks.broker import Broker, rounds_of
from tests.benchmarks.feed import Feed, Pace
from tests.benchmarks.processes import Tree
from tests.benchmarks.product import SCOPE, Product
from tests.benchmarks.readings import END_MS, EVERY_MS, QUARTER_MS, Fleet
from tests.benchmarks.rows import product_rows

SLOW = 0.01
"""The clock's speed while history is read: it must not run away from it."""
CAUGHT_UP_S = 1.0
BACK_WITHIN_S = 60.0


@dataclass(frozen=True)
class Plan:
    """How large and how long: `history_s` of event time, then live from `before_s` before the quarter's end."""

    assets: int = 100_000
    history_s: int = 3_900
    before_s: int = 75
    steady_s: int = 20
    lateness_s: int = 60


@dataclass
class Live:
    """What was seen; seconds and bytes."""

    assets: int
    history_readings: int = 0
    history_s: float = 0.0
    rss_after_history: int = 0
    peak_rss: int = 0
    drained_s: float = 0.0
    started_s: float = 0.0
    restart_s: float = 0.0
    usual_delay_s: float = 0.0
    longest_pause_s: float = 0.0
    row_delay_s: float = 0.0
    rows: int = 0
    cpu_share: float = 0.0
    feed_behind_s: float = 0.0
    stages: dict[str, dict[str, float]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def snapshot(self) -> dict[str, float] | None:
        """Share of the running time, longest run and mean run (s) of the snapshots, by the flow's own reports."""
        found = [stage for name, stage in self.stages.items() if "snapshot" in name]
        if not found:
            return None
        runs = sum(stage["runs"] for stage in found)
        return {
            "share": sum(stage["share"] for stage in found),
            "longest_s": max(stage["longest_s"] for stage in found),
            "mean_s": sum(stage["seconds"] for stage in found) / runs if runs else 0.0,
        }

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "snapshot": self.snapshot}


class Scene:
    """One instance under a live fleet."""

    def __init__(self, broker: Broker, directory: Path, plan: Plan, say: Callable[[str], None]) -> None:
        self._broker, self._plan, self._say, self._prefix = broker, plan, say, "live."
        ticks = (plan.history_s + plan.before_s + plan.lateness_s + 60) // (EVERY_MS // 1000)
        self._fleet = Fleet(plan.assets, plan.assets * ticks, end=END_MS)
        # The fleet's own end is `TAIL_MS` after the quarter's; here the quarter ends where the live part wants it.
        self._history = (self._fleet.end - (plan.before_s + 5) * 1000 - self._fleet.start) // EVERY_MS
        directory.mkdir(parents=True)
        self._directory = directory
        self._product = Product(broker, self._prefix, directory, (self._fleet,), plan.lateness_s)
        self._tree: Tree | None = None

    def run(self) -> Live:
        """History, restart, live, SIGKILL, end of the quarter."""
        found = Live(self._plan.assets)
        try:
            self._read_history(found)
            self._speak(found)
        finally:
            if self._tree is not None:
                self._tree.kill()
            self._broker.delete(self._prefix)
        return found

    def _start(self, origin_ms: int, speed: float) -> Pace:
        started = datetime.now(UTC)
        environment = self._product.environment(origin_ms, started) | {"DERMS_CLOCK__SPEED": str(speed)}
        self._tree = Tree(self._product.command(1), self._directory / "log", environment, self._broker.pid)
        return Pace(origin_ms, started.timestamp())

    def _read_history(self, found: Live) -> None:
        topic = self._name(TELEMETRY.name)
        self._say(f"live: appending {self._history * self._plan.assets / 1e6:.1f} M readings of history")
        self._broker.append(topic, rounds_of(self._fleet, "batches", self._history))
        before = self._history_rows()
        self._start(self._fleet.start + self._history * EVERY_MS + 10_000, SLOW)
        assert self._tree is not None
        began = time.time()
        self._wait(lambda: sum(self._broker.ends(self._name(QUARTER_HOURS.name))) >= before, 300, "the history's rows")
        ended = time.time()
        time.sleep(12)  # an epoch more: snapshots of the full state belong to what memory is needed for
        inside = [one for one in self._tree.samples if one.at >= began]
        found.history_readings, found.history_s = self._history * self._plan.assets, ended - began
        found.rss_after_history, found.peak_rss = inside[-1].rss, max(one.rss for one in inside)
        found.drained_s = self._tree.terminate()
        self._say(f"live: history read in {ended - began:.0f} s, {found.peak_rss / 2**20:.0f} MiB at most")

    def _history_rows(self) -> int:
        """Rows of assets and groups that the history's closed quarters lead to."""
        passed = self._fleet.start + self._history * EVERY_MS - self._plan.lateness_s * 1000
        closed = sum(1 for quarter in self._fleet.quarters.tolist() if quarter + QUARTER_MS < passed)
        return closed * (self._plan.assets + -(-self._plan.assets // SCOPE))

    def _speak(self, found: Live) -> None:
        end, plan = self._fleet.end, self._plan
        began = time.time()
        pace = self._start(end - plan.before_s * 1000, 1.0)
        tree = self._tree
        assert tree is not None
        feed = Feed(self._broker.bootstrap, self._name(TELEMETRY.name), self._fleet, self._history, pace)
        feed.start()
        try:
            first = self._caught_up(feed, began)
            found.started_s = first - began
            time.sleep(plan.steady_s)
            killed = time.time()
            self._kill_worker(tree)
            found.restart_s = self._caught_up(feed, killed) - killed
            passed = end + plan.lateness_s * 1000
            time.sleep(max(0.0, pace.wall(passed) - time.time() - 1))
            begins = self._broker.ends(self._name(QUARTER_HOURS.name))
            time.sleep(2)
            self._rows(found, begins, feed.appended_at(passed))
        finally:
            feed.stop()
        self._delays(found, feed, first + 2, killed)
        found.cpu_share = tree.between(first + 2, killed).cpu_s / (killed - first - 2)
        found.peak_rss = max(found.peak_rss, max(one.rss for one in tree.samples))
        found.feed_behind_s = feed.behind_s
        self._reports(found)

    def _kill_worker(self, tree: Tree) -> None:
        """SIGKILL for what the supervisor started; it starts that again by itself."""
        for pid in tree.pids()[1:]:
            os.kill(pid, signal.SIGKILL)

    def _late(self) -> dict[int, float]:
        """When (s since 1970) each probe came back first, by its offset."""
        topic = self._name(LATE_TELEMETRY.name)
        ends = self._broker.ends(topic, LATE_TELEMETRY.partitions)
        found: dict[int, float] = {}
        for one in self._broker.read(topic, [0] * len(ends), ends):
            value = decode(one.value)
            if isinstance(value, LateMeasurement):
                found[value.offset] = min(one.at, found.get(value.offset, one.at))
        return found

    def _caught_up(self, feed: Feed, since: float) -> float:
        """Wait until probes sent after `since` come back within a second; when the first of those did."""
        deadline = time.time() + BACK_WITHIN_S
        while time.time() < deadline:
            sent = {offset: at for offset, at in list(feed.probes.items()) if at > since}
            prompt = [back for offset, back in self._late().items() if offset in sent and back - sent[offset] <= CAUGHT_UP_S]
            if len(prompt) >= 5:
                return min(prompt)
            time.sleep(0.5)
        raise TimeoutError(f"not caught up within {BACK_WITHIN_S:.0f} s: {self._tree.words() if self._tree else ''}")

    def _delays(self, found: Live, feed: Feed, begin: float, end: float) -> None:
        """From a probe's append to its return, in steady state: the usual one, and the longest beyond it."""
        late = self._late()
        delays = sorted(late[offset] - at for offset, at in feed.probes.items() if begin < at < end - CAUGHT_UP_S and offset in late)
        missing = sum(1 for offset, at in feed.probes.items() if begin < at < end - CAUGHT_UP_S and offset not in late)
        if missing or not delays:
            found.problems.append(f"{missing} probes never came back")
            return
        found.usual_delay_s = delays[len(delays) // 2]
        found.longest_pause_s = delays[-1] - found.usual_delay_s

    def _rows(self, found: Live, begins: list[int], passed: float) -> None:
        """Wait for the quarter's rows; how long after its watermark had passed the broker had the last one."""
        topic, deadline = self._name(QUARTER_HOURS.name), time.time() + 60
        expected = self._plan.assets + -(-self._plan.assets // SCOPE)
        last, since = -1, 0.0
        while True:
            ends = self._broker.ends(topic)
            if sum(ends) != last:
                last, since = sum(ends), time.time()
            over = time.time() > deadline
            if over or (last - sum(begins) >= expected and time.time() - since > 1):
                finding = product_rows(self._fleet, self._broker.read(topic, begins, ends), [self._fleet.end - QUARTER_MS])
                if finding.complete or finding.wrong or over:
                    break
            time.sleep(0.2)
        found.rows, found.row_delay_s = finding.right, finding.last_at - passed
        if not finding.complete:
            found.problems.append(f"{finding.right} of {finding.expected} rows of the live quarter; {finding.wrong[:2]}")

    def _reports(self, found: Live) -> None:
        """What the flow says of its own time: each stage's share of the time it ran, from its last report."""
        topic = self._name(FLOW_REPORTS.name)
        ends = self._broker.ends(topic, FLOW_REPORTS.partitions)
        for one in sorted(self._broker.read(topic, [0] * len(ends), ends), key=lambda message: message.at):
            value = decode(one.value)
            if isinstance(value, FlowReport) and value.flow == "telemetry":
                ran = one.at - value.started_at.timestamp()
                for stage in value.stages:
                    found.stages[stage.stage] = {
                        "runs": stage.runs, "seconds": stage.seconds, "share": stage.seconds / ran, "longest_s": stage.longest_s,
                        "bytes": stage.size_bytes,
                    }  # fmt: skip

    def _wait(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            if self._tree is None or self._tree.exited() or time.monotonic() > deadline:
                raise TimeoutError(f"{what} did not come: {self._tree.words() if self._tree else ''}")
            time.sleep(0.2)

    def _name(self, topic: str) -> str:
        return self._prefix + topic
