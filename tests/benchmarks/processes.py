"""A variant as a tree of processes: started, halted and resumed as a whole, and watched from outside through /proc."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway.embedded import die_with_parent

TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_S = 0.1
_LISTED_EVERY = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """What a tree had used at a wall instant (s since 1970): CPU seconds, user and system, waited-for dead included; resident bytes.

    `others_s` is what the machine had spent on anything but the tree, the broker and the harness.
    """

    at: float
    cpu_s: float
    rss: int
    others_s: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree used in a stretch of time: CPU seconds, most resident bytes; cores that others had meanwhile."""

    cpu_s: float
    rss: int
    others: float


class Tree:
    """A command and all its descendants, sampled ten times a second by a thread until it is ended. `beside`: the broker's process."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], beside: int | None = None) -> None:
        self.log, self._beside = log, [os.getpid(), *([beside] if beside else [])]
        with log.open("ab") as out:
            self._root = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(environment),
                preexec_fn=die_with_parent, start_new_session=True,
            )  # fmt: skip
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def exited(self) -> bool:
        return self._root.poll() is not None

    def wait(self, timeout_s: float) -> None:
        """Until it ends by itself, at most so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._root.wait(timeout_s)

    def pids(self) -> list[int]:
        """The root and its living descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))) is not None:
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, queue = list[int](), [self._root.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            queue += children.get(pid, [])
        return found

    def halt(self) -> None:
        """SIGSTOP for all, parents first, so that nobody restarts anybody."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> float:
        """SIGCONT for all; the wall instant at which that began."""
        began = time.time()
        self._signal(signal.SIGCONT)
        return began

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _sample(self, pids: Sequence[int]) -> Sample:
        cpu, rss = 0, 0
        for pid in pids:
            if (fields := _stat(pid)) is not None:
                cpu += sum(map(int, fields[11:15]))
                rss += int(fields[21])
        beside = sum(sum(map(int, fields[11:13])) for fields in map(_stat, self._beside) if fields is not None)
        return Sample(time.time(), cpu * TICK_S, rss * PAGE, (_busy() - beside - cpu) * TICK_S)

    def _watch(self) -> None:
        number, pids = 0, [self._root.pid]
        while not self._over.wait(SAMPLE_S):
            if number % _LISTED_EVERY == 0:
                pids = self.pids()
            number += 1
            self.samples.append(self._sample(pids))

    def between(self, begin: float, end: float) -> Usage:
        """What was used from `begin` to `end`, interpolated between samples."""
        inside = [one for one in self.samples if begin <= one.at <= end]
        cpu, others = (self._at(end, which) - self._at(begin, which) for which in ("cpu_s", "others_s"))
        return Usage(cpu, max((one.rss for one in inside), default=0), max(0.0, others / (end - begin)))

    def _at(self, at: float, which: str) -> float:
        before = next((one for one in reversed(self.samples) if one.at <= at), self.samples[0])
        after = next((one for one in self.samples if one.at >= at), self.samples[-1])
        first, last = float(getattr(before, which)), float(getattr(after, which))
        return first if after.at <= before.at else first + (last - first) * (at - before.at) / (after.at - before.at)

    def kill(self) -> None:
        """SIGKILL for all, children first: a supervisor that is gone restarts nobody, but neither may it leave orphans."""
        if not self.exited():
            self.halt()
            for pid in reversed(self.pids()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._root.wait()
        self._end()

    def terminate(self, timeout_s: float = 20.0) -> float:
        """SIGTERM for the root; how many seconds it took to end (killed after `timeout_s`)."""
        began = time.monotonic()
        self._root.terminate()
        try:
            self._root.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self._end()
        return time.monotonic() - began

    def _end(self) -> None:
        self._over.set()
        self._watcher.join()

    def words(self, most: int = 2000) -> str:
        """The end of what it printed."""
        return self.log.read_text(errors="replace")[-most:]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the command's name: state, parent, ...; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _busy() -> int:
    """Ticks that all cores have spent on processes and interrupts."""
    user, nice, system, _, _, irq, softirq, *_ = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return int(user) + int(nice) + int(system) + int(irq) + int(softirq)


def busy_s() -> float:
    """Seconds that all cores together have worked since the machine began."""
    return _busy() * TICK_S
