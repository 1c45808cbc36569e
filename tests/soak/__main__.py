"""`make soak`: the telemetry flow under load on a real Kafka, through kills, changes of processes and broker failures.

At the end every final row must have the content that an undisturbed run over the same topic gives it, every reading must
be counted, and each SIGTERM must have drained within 10 s. Takes about ten minutes; prints a table and writes JSON.
"""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from schemas.clock import ScaledClock
from sinks.settings import KafkaSettings
from tests.kafka.broker import ApacheKafka, missing_tools
from tests.soak.course import Course
from tests.soak.load import Load, Plan, load
from tests.soak.rows import difference, undisturbed
from tests.soak.running import DRAIN_S, Flow, prepare


@dataclass
class Stage:
    """What happened in one part of the series, for the table."""

    name: str
    seconds: float
    kills: int
    back_s: list[float]
    drained_s: list[float]


class Series:
    """The stages, in order. `share` of the load is fed evenly over all events."""

    def __init__(self, course: Course, broker: ApacheKafka, kills: int, outage_s: float) -> None:
        self.course, self.broker, self.outage_s = course, broker, outage_s
        self.stages: list[Stage] = []
        self.outages: list[dict[str, float | str]] = []
        share = max(1, kills // 5)
        self._plan: list[tuple[str, Callable[[], None]]] = [
            ("one process", lambda: self._kills(None, share)),
            ("two processes", lambda: self._kills(2, share)),
            ("two, the supervisor killed as well", lambda: self._kills(2, max(1, share // 2), everything=True)),
            ("two, the broker fails", lambda: self._failures(2)),
            ("one, supervised", lambda: self._kills(1, share)),
            ("one, supervised, the broker fails", lambda: self._failures(1)),
            ("two again", lambda: self._kills(2, share)),
            ("one again", lambda: self._kills(None, max(1, kills - 4 * share - max(1, share // 2)))),
        ]
        self._events, self._done = kills + 2 * 3 + 2, 0

    def run(self) -> None:
        """All stages, and the end of the load."""
        self.course.start(None)
        for name, stage in self._plan:
            self._told(name, stage)
        self._told("the rest", lambda: self.course.finish(600))

    def _told(self, name: str, stage: Callable[[], None]) -> None:
        course, begun = self.course, time.monotonic()
        before = len(course.kills), len(course.back_s), len(course.drained_s)
        stage()
        kills, back, drained = course.kills[before[0] :], course.back_s[before[1] :], course.drained_s[before[2] :]
        self.stages.append(Stage(name, round(time.monotonic() - begun, 1), len(kills), _rounded(back), _rounded(drained)))
        print(_line(self.stages[-1]), flush=True)

    def _next(self) -> None:
        """Feed up to the next event, sometimes as fast as it goes, and a seeded bit more."""
        self._done += 1
        self.course.feed_to(min(0.97, self._done / self._events), burst=self.course.dice.random() < 0.5)
        self.course.feed_some(20)

    def _kills(self, processes: int | None, count: int, *, everything: bool = False) -> None:
        if self.course.flow.processes != processes:
            self.course.change_to(processes)
        for _ in range(count):
            self._next()
            self.course.kill(everything=everything)

    def _failures(self, processes: int) -> None:
        if self.course.flow.processes != processes:
            self.course.change_to(processes)
        for kind in ("SIGTERM", "SIGSTOP", "SIGKILL"):
            self._next()
            self._outage(kind)

    def _outage(self, kind: str) -> None:
        """The broker is gone for a while; the producers go on."""
        pid = self.broker.pid
        assert pid is not None
        match kind:
            case "SIGTERM":
                self.broker.stop()
            case "SIGSTOP":
                os.kill(pid, signal.SIGSTOP)
            case _:
                self.broker.kill()
        self.course.feed_some(5)
        time.sleep(self.outage_s)
        begun = time.monotonic()
        if kind == "SIGSTOP":
            os.kill(pid, signal.SIGCONT)
        else:
            self.broker.start()
        self.course.caught_up(300)
        self.outages.append({"broker": kind, "away_s": self.outage_s, "caught_up_s": round(time.monotonic() - begun, 1)})


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 2) for value in values]


def _line(stage: Stage) -> str:
    back = f"{median(stage.back_s):5.1f} {max(stage.back_s):5.1f}" if stage.back_s else "    -     -"
    drained = f"{max(stage.drained_s):5.1f}" if stage.drained_s else "    -"
    return f"{stage.name:36} {stage.seconds:7.1f} {stage.kills:5} {back} {drained}"


def main() -> int:
    """Run the series; 0 when nothing differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="else one by the clock; it is printed")
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--sites", type=int, default=126)
    parser.add_argument("--hours", type=float, default=4.0)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between two readings of an asset")
    parser.add_argument("--outage", type=float, default=20.0, help="seconds for which the broker is away")
    parser.add_argument("--epoch", type=float, default=None, help="seconds between snapshots; the flow's own where not given")
    parser.add_argument("--json", type=Path, default=Path(".cache/soak.json"))
    chosen = parser.parse_args()
    if (reason := missing_tools()) is not None:
        print(reason, file=sys.stderr)
        return 1
    seed = chosen.seed if chosen.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    wanted = load(Plan(chosen.sites, chosen.hours, chosen.every, seed))
    print(f"{wanted.readings} readings in {len(wanted.messages)} messages", flush=True)
    with tempfile.TemporaryDirectory(prefix="derms-soak-") as directory:
        broker = ApacheKafka(Path(directory) / "kafka")
        settings = KafkaSettings(bootstrap=broker.start(), replication=1, min_insync=1)
        try:
            return _run(chosen, seed, wanted, broker, settings, Path(directory) / "flow")
        finally:
            broker.stop()


def _run(chosen: argparse.Namespace, seed: int, wanted: Load, broker: ApacheKafka, settings: KafkaSettings, directory: Path) -> int:
    prepare(settings, wanted)
    flow = Flow(settings, directory, wanted.clock_origin, epoch_s=chosen.epoch)
    course = Course(settings, wanted, flow, random.Random(seed), come_back_s=300.0)
    series, begun = Series(course, broker, chosen.kills, chosen.outage), time.monotonic()
    print(f"{'stage':36} {'seconds':>7} kills  back: median, worst  drained (s)", flush=True)
    try:
        series.run()
        rows = course.reader.rows
        seconds = time.monotonic() - begun
        print("an undisturbed run over the same topic ...", flush=True)
        same = difference(rows, undisturbed(settings, wanted, ScaledClock(wanted.clock_origin, datetime.now(UTC), 1.0)))
    except AssertionError:
        print(flow.said(), file=sys.stderr)
        raise
    finally:
        course.close()
    miscounted = rows.miscounted(wanted)
    good = same.none and not miscounted and max(course.drained_s) <= DRAIN_S
    found = {
        "seed": seed, "good": good, "readings": wanted.readings, "messages": len(wanted.messages), "seconds": round(seconds, 1),
        "kills": course.kills, "back_s": _rounded(course.back_s), "drained_s": _rounded(course.drained_s), "outages": series.outages,
        "final_rows": len(rows.best), "rows_written": rows.written, "late": len(rows.late), "miscounted": miscounted[:20],
        "missing": len(same.missing), "surplus": len(same.surplus), "differ": same.other[:20],
        "late_in_one": len(same.late), "not_to_the_bit": same.inexact,
        "stages": [asdict(stage) for stage in series.stages],
    }  # fmt: skip
    chosen.json.parent.mkdir(parents=True, exist_ok=True)
    chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    for outage in series.outages:
        print(f"broker {outage['broker']} for {outage['away_s']} s: caught up {outage['caught_up_s']} s after it was back")
    print(f"{len(course.kills)} kills, {len(rows.best)} final rows of {rows.written} written: {same}")
    print(f"readings counted wrongly in {len(miscounted)} rows, told too late: {len(rows.late)}; details in {chosen.json}")
    print("the same as undisturbed" if good else "NOT the same as undisturbed")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
