"""Starts this system's processes, starts again those that die, and ends them all in order."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sinks.errors import Misconfigured

log = logging.getLogger(__name__)

BACK_OFF_S = (0.5, 1, 2, 5, 10, 30)
STEADY_S = 60.0
LAST_WORDS = 400
EXIT_MISCONFIGURED = 78
"""What a process ends with when only a person can help (sysexits' EX_CONFIG)."""
EXIT_PEER_GONE = 75
"""What a process of a cluster ends with when another one's end took it down (sysexits' EX_TEMPFAIL)."""
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask Linux to send SIGTERM when the parent is gone, so that even its SIGKILL leaves no process behind."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass(slots=True)
class Child:
    """One process: how to start it, where its words go, and the file by which it says that it is ready."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    log_file: Path
    ready_file: Path
    process: subprocess.Popen[bytes] | None = None
    deaths: int = 0
    started_at: float = 0.0
    next_start: float = field(default=0.0)

    said_before: int = 0
    cause: str = ""

    def last_words(self, lines: int = 1) -> str:
        """The end of what it said since its last start, for saying why it died; at most a few hundred characters."""
        try:
            with self.log_file.open("rb") as file:
                file.seek(self.said_before)
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return ""
        return " | ".join(line.strip() for line in text.splitlines()[-lines:])[-LAST_WORDS:]


class Supervisor:
    """Children in order of start. `tick` is to be called a few times a second."""

    def __init__(self, children: list[Child]) -> None:
        self.children = children

    def start(self) -> None:
        """Start every child."""
        for child in self.children:
            self._start(child)

    def _start(self, child: Child) -> None:
        child.ready_file.unlink(missing_ok=True)
        child.log_file.parent.mkdir(parents=True, exist_ok=True)
        with child.log_file.open("ab") as words:
            child.said_before = words.tell()
            child.process = subprocess.Popen(  # noqa: S603 - our own arguments
                child.arguments,
                env=child.environment,
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        child.started_at = time.monotonic()

    def ready(self) -> bool:
        """Whether every child has said that it is ready."""
        return all(child.ready_file.exists() for child in self.children)

    def tick(self) -> list[str]:
        """Start again what died, later each time it dies soon; the words about it, if any."""
        words = []
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.next_start:
                    self._start(child)
                continue
            code = child.process.poll()
            if code is None:
                continue
            if code == EXIT_MISCONFIGURED:
                child.cause = child.last_words()
            child.deaths = 1 if now - child.started_at > STEADY_S else child.deaths + 1
            pause = BACK_OFF_S[min(child.deaths, len(BACK_OFF_S)) - 1]
            child.next_start, child.process = now + pause, None
            words.append(f"{child.name} ended with {code}, starting again in {pause:g} s: {child.last_words()}")
        return words

    def demand_possible(self) -> None:
        """Raises Misconfigured if a child has ended because only a person can help; starting it again would not."""
        for child in self.children:
            if child.cause:
                raise Misconfigured(child.name, child.cause, "correct it and start again")

    def report(self) -> list[dict[str, Any]]:
        """What runs, as plain data for people to look at."""
        return [
            {
                "name": child.name,
                "pid": child.process.pid if child.process is not None else None,
                "deaths": child.deaths,
                "running": child.process is not None,
                "ready": child.ready_file.exists(),
                "last_words": child.last_words() if child.process is None else "",
            }
            for child in self.children
        ]

    def stop(self, timeout_s: float) -> list[str]:
        """SIGTERM to all at once, SIGKILL to what is left at the time-out; the names of those that were killed."""
        running = [child for child in self.children if child.process is not None and child.process.poll() is None]
        for child in running:
            self._signal(child, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        killed = []
        for child in running:
            assert child.process is not None  # noqa: S101 - filtered above
            try:
                child.process.wait(max(0.05, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._signal(child, signal.SIGKILL)
                child.process.wait(2)
                killed.append(child.name)
        return killed

    @staticmethod
    def _signal(child: Child, number: int) -> None:
        if child.process is not None:
            child.process.send_signal(number)
