"""One round of one variant, the same for all (README, "What a round is")."""

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.broker import Broker, Message, Round
from tests.benchmarks.processes import Tree
from tests.benchmarks.readings import QUARTER_MS, Fleet
from tests.benchmarks.tools import PEERS
from tests.benchmarks.variants import FLOOR, Pipeline, Variant

WARM_ASSETS, WARM_READINGS = 200, 20_000
WARM_WITHIN_S = 150.0
SETTLED_S = 0.5
POLL_S = 0.1
HOUR_MS = 3_600_000


class RoundFailed(RuntimeError):
    """A variant did not start, ended by itself or wrote something wrong; the words say what."""


@dataclass(frozen=True)
class Result:
    """What one round of one variant came to. `readings` are those of `seconds`; `others` the cores that others had meanwhile."""

    variant: str
    assets: int
    readings: int
    seconds: float
    cpu_s: float
    rss: int
    rows: int
    finished: bool
    others: float = 0.0

    @property
    def rate(self) -> float:
        """Readings a second."""
        return self.readings / self.seconds

    @property
    def cpu_per_million(self) -> float:
        """CPU seconds, user and system, for a million readings."""
        return self.cpu_s / self.readings * 1e6

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "rate": self.rate, "cpu_s_per_million": self.cpu_per_million}


def warm_up(fleet: Fleet) -> Fleet:
    """Other assets, at least two hours earlier: everything has been loaded and compiled once, nothing of the fleet is known."""
    end = fleet.start // QUARTER_MS * QUARTER_MS - 2 * HOUR_MS
    return Fleet(WARM_ASSETS, WARM_READINGS, end=end, name="warm")


class Runner:
    """Runs variants on a broker, each in topics and a directory of its own that go when the round is over."""

    def __init__(self, broker: Broker, directory: Path) -> None:
        self._broker, self._directory = broker, directory
        self._number = 0

    def run(self, variant: Variant, fleet: Fleet, warm_rounds: Sequence[Round], rounds: Sequence[Round], limit_s: float) -> Result:
        """Warm up, halt, append, go, wait for the last row, judge. Raises `RoundFailed`."""
        self._number += 1
        prefix = f"b{self._number:04d}."
        directory = self._directory / f"{self._number:04d}-{variant.name}-{fleet.assets}"
        directory.mkdir(parents=True)
        warm = warm_up(fleet)
        pipeline = variant.make(self._broker, prefix, directory, (fleet, warm))
        self._broker.append(pipeline.source, warm_rounds)
        tree = Tree(pipeline.command, directory / "log", pipeline.environment, self._broker.pid)
        try:
            before = self._settled(tree, pipeline, pipeline.warm_rows(warm))
            tree.halt()
            self._broker.append(pipeline.source, rounds)
            began = tree.resume()
            result = self._finish(tree, pipeline, variant, fleet, warm, before, began, limit_s)
        finally:
            tree.kill()
            self._broker.delete(prefix)
        shutil.rmtree(directory)
        return result

    def floor(self, fleet: Fleet, rounds: Sequence[Round]) -> Result:
        """Raw consumption of single messages."""
        self._number += 1
        prefix = f"b{self._number:04d}."
        self._broker.create([f"{prefix}in"])
        try:
            self._broker.append(f"{prefix}in", rounds)
            arguments = [sys.executable, str(PEERS / "floor.py"), self._broker.bootstrap, f"{prefix}in", str(fleet.total)]
            tree = Tree(arguments, self._directory / f"{self._number:04d}-{FLOOR}", dict(os.environ), self._broker.pid)
            try:
                tree.wait(300)
            finally:
                tree.kill()
        finally:
            self._broker.delete(prefix)
        try:
            found = json.loads(tree.words())
        except ValueError:
            raise RoundFailed(f"{FLOOR}: {tree.words()}") from None
        used = tree.between(found["began"], found["ended"])
        seconds = found["ended"] - found["began"]
        return Result(FLOOR, fleet.assets, found["messages"], seconds, found["cpu_s"], used.rss, 0, True, used.others)

    def _settled(self, tree: Tree, pipeline: Pipeline, least: int) -> list[int]:
        """Wait until the warm-up's rows are there and no more come; where the sink then ends."""
        deadline, last, since = time.monotonic() + WARM_WITHIN_S, -1, 0.0
        while True:
            ends = self._broker.ends(pipeline.sink)
            if sum(ends) != last:
                last, since = sum(ends), time.monotonic()
            elif last >= least and time.monotonic() - since > SETTLED_S:
                return ends
            if tree.exited() or time.monotonic() > deadline:
                raise RoundFailed(f"no warm-up rows ({last} of {least}): {tree.words()}")
            time.sleep(POLL_S)

    def _finish(
        self, tree: Tree, pipeline: Pipeline, variant: Variant, fleet: Fleet, warm: Fleet, before: list[int], began: float, limit_s: float
    ) -> Result:
        """Wait until all rows are there or time is up. Rows are only counted while it runs; they are read and judged afterwards."""
        least, looked, last, since = sum(before) + fleet.assets * len(fleet.quarters), -1, -1, 0.0
        while True:
            ends = self._broker.ends(pipeline.sink)
            if sum(ends) != last:
                last, since = sum(ends), time.time()
            late = time.time() - began > limit_s
            if late or (last >= least and time.time() - since > SETTLED_S and last != looked):
                looked = last
                messages = self._broker.read(pipeline.sink, before, ends)
                finding = pipeline.judge(fleet, messages)
                if finding.complete:
                    used, seconds = tree.between(began, finding.last_at), finding.last_at - began
                    return Result(variant.name, fleet.assets, fleet.total, seconds, used.cpu_s, used.rss, len(messages), True, used.others)
            if tree.exited():
                raise RoundFailed(f"{variant.name} ended by itself: {tree.words()}")
            if late and finding.wrong:
                raise RoundFailed(f"{variant.name}: {len(finding.wrong)} wrong rows, such as {finding.wrong[:3]}")
            if late:
                return self._unfinished(tree, variant, fleet, warm, began, messages)
            time.sleep(POLL_S)

    def _unfinished(self, tree: Tree, variant: Variant, fleet: Fleet, warm: Fleet, began: float, messages: Sequence[Message]) -> Result:
        """How far it came: what a peer last printed about its progress."""
        told = [line.split() for line in tree.log.read_text(errors="replace").splitlines() if line.startswith("progress ")]
        if not told or int(told[-1][2]) <= warm.total:
            raise RoundFailed(f"{variant.name}: not finished, {len(messages)} rows: {tree.words()}")
        at, readings = int(told[-1][1]) / 1000, int(told[-1][2]) - warm.total
        used = tree.between(began, at)
        return Result(variant.name, fleet.assets, readings, at - began, used.cpu_s, used.rss, len(messages), False, used.others)
