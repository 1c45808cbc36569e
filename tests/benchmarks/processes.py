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
    """What a tree had used at a wall instant (s since 1970): CPU seconds, user and system, waited-for dead included; resident bytes."""

    at: float
    cpu_s: float
    rss: int


class Tree:
    """A command and all its descendants, sampled ten times a second by a thread until it is ended."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str], directory: Path | None = None) -> None:
        self.log = log
        with log.open("ab") as out:
            self._root = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(environment), cwd=directory,
                preexec_fn=die_with_parent, start_new_session=True,
            )  # fmt: skip
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def exited(self) -> bool:
        return self._root.poll() is not None

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

    def sample(self, pids: Sequence[int] | None = None) -> Sample:
        """What the tree has used by now."""
        cpu, rss = 0, 0
        for pid in self.pids() if pids is None else pids:
            if (fields := _stat(pid)) is not None:
                cpu += sum(map(int, fields[11:15]))
                rss += int(fields[21])
        return Sample(time.time(), cpu * TICK_S, rss * PAGE)

    def _watch(self) -> None:
        number, pids = 0, [self._root.pid]
        while not self._over.wait(SAMPLE_S):
            if number % _LISTED_EVERY == 0:
                pids = self.pids()
            number += 1
            self.samples.append(self.sample(pids))

    def between(self, begin: float, end: float) -> tuple[float, int]:
        """CPU seconds used from `begin` to `end` (interpolated between samples), and the most that was resident."""
        inside = [one for one in self.samples if begin <= one.at <= end]
        return self._cpu_at(end) - self._cpu_at(begin), max((one.rss for one in inside), default=0)

    def _cpu_at(self, at: float) -> float:
        before = next((one for one in reversed(self.samples) if one.at <= at), self.samples[0])
        after = next((one for one in self.samples if one.at >= at), self.samples[-1])
        if after.at <= before.at:
            return before.cpu_s
        return before.cpu_s + (after.cpu_s - before.cpu_s) * (at - before.at) / (after.at - before.at)

    def kill(self) -> None:
        """SIGKILL for all, children first: a supervisor that is gone restarts nobody, but neither may it leave orphans."""
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
