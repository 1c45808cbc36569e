"""One flow in several processes (`derms run telemetry --processes N`): they start, end and start again together.

The engine's processes know each other by address from their start and go down with each other (engine.md 5), so there
is no replacing one of them: whichever dies first takes all along, and all start again with the same recovery store.
Any number of processes may go on with a store, by stop and start (engine.md 4).
"""

import logging
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from signal import SIGKILL, SIGTERM, Signals

from gateway.ports import HOST, free_port
from gateway.processes import data_of
from gateway.recovery import claim
from gateway.settings import Settings, environment_of
from gateway.supervisor import BACK_OFF_S, EXIT_MISCONFIGURED, EXIT_PEER_GONE, LAST_WORDS
from schemas.clock import wall_seconds

log = logging.getLogger(__name__)

CLUSTERED = ("telemetry",)
"""Flows that more than one process can share; the others have one reader, and their load is small."""
DRAIN_S = 9.0
PEERS_WITHIN_S = 1.0
"""So long (wall) the others may take to notice that one is gone, before they are killed: what they have done since their
last snapshot will be done again."""
CULPRIT_WITHIN_S = 4.0
"""The same where only a follower has ended yet: the one it followed is closing what it has open and will tell why."""
STEADY_S = 15.0
"""A run that lasted so long (wall) came to a snapshot: its end is no part of a crash loop."""
_LOOK_S = 0.1
_EVENT = re.compile(r' event=(?:"(?P<quoted>.*?)"|(?P<plain>[^ "]+))(?= \w+=|$)')


@dataclass
class Member:
    """One process of the cluster; what it says goes on to our standard error, and its last line is kept."""

    name: str
    process: subprocess.Popen[bytes]
    ready_file: Path
    words: deque[str] = field(default_factory=lambda: deque(maxlen=1))
    code: int | None = None
    killed: bool = False

    def send(self, number: Signals) -> None:
        """Signal it, if it still runs."""
        if self.code is None:
            self.process.send_signal(number)


class Cluster:
    """`processes` processes of one flow under one supervisor. `run` blocks; call it from the main thread."""

    def __init__(
        self, flow: str, processes: int, settings: Settings, *, say: Callable[[str], None] = print, epoch_s: float | None = None
    ) -> None:
        self.flow, self.processes = flow, processes
        self._settings, self._say, self._epoch_s = settings, say, epoch_s
        self._ended: SimpleQueue[Member] = SimpleQueue()
        self._claimed: tuple[int, ...] = ()
        self._run = data_of(settings) / "run"

    def run(self, stop: threading.Event) -> int:
        """Run until `stop`: 0 when all drained, 1 when one had to be killed, 78 when only a person can help.

        Raises Misconfigured without a data directory, Unavailable while another run has the recovery store.
        """
        # The members inherit the claim: if we are killed, the next run waits until the last of them is gone.
        self._claimed = (claim(data_of(self._settings), self.flow, self._settings.incarnation),)
        self._run.mkdir(exist_ok=True)
        deaths = 0
        try:
            while not stop.is_set():
                started = wall_seconds()
                members = self._start()
                first = self._watch(members, stop)
                if first is None:
                    return self._drain(members)
                self._end(members, first)
                culprit = _culprit(members, first)
                if culprit.code == EXIT_MISCONFIGURED:
                    self._say(f"{culprit.name} cannot go on: {_last(culprit)}")
                    return EXIT_MISCONFIGURED
                deaths = 1 if wall_seconds() - started > STEADY_S else deaths + 1
                pause = BACK_OFF_S[min(deaths, len(BACK_OFF_S)) - 1]
                self._say(f"{culprit.name} {_how(culprit)}, all {self.processes} start again in {pause:g} s: {_last(culprit)}")
                stop.wait(pause)
            return 0
        finally:
            os.close(self._claimed[0])

    def _start(self) -> list[Member]:
        addresses = _addresses(self.processes)
        self._ended = SimpleQueue()
        return [self._member(index, addresses) for index in range(self.processes)]

    def _member(self, index: int, addresses: list[str]) -> Member:
        name = f"{self.flow}-{index}"
        ready = self._run / name
        ready.unlink(missing_ok=True)
        process = subprocess.Popen(  # noqa: S603 - our own arguments
            self._arguments(index, ready, addresses),
            env={name: value for name, value in os.environ.items() if not name.startswith("DERMS_")} | environment_of(self._settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=self._claimed,
        )
        member = Member(name, process, ready)
        threading.Thread(target=self._listen, args=(member, self._ended), name=name, daemon=True).start()
        return member

    def _arguments(self, index: int, ready: Path, addresses: list[str]) -> list[str]:
        found = [sys.executable, "-m", "gateway.processes", self.flow, "--ready", str(ready), "--member", str(index)]
        found += [word for address in addresses for word in ("--address", address)]
        return found + (["--epoch", str(self._epoch_s)] if self._epoch_s else [])

    def _listen(self, member: Member, ended: "SimpleQueue[Member]") -> None:
        """Pass on what a member says until it is gone; a thread each."""
        assert member.process.stdout is not None  # noqa: S101 - it is a pipe
        with member.process.stdout as lines:
            for line in lines:
                text = line.decode("utf-8", "replace")
                with suppress(OSError, ValueError):  # nobody listens to us any more: the members work on
                    sys.stderr.write(text)
                    sys.stderr.flush()
                if text.strip():
                    member.words.append(text.strip())
        member.code = member.process.wait()
        ended.put(member)

    def _watch(self, members: list[Member], stop: threading.Event) -> Member | None:
        """Wait until one has ended, and say which; None where `stop` came first."""
        told = False
        while not stop.is_set():
            if not told and all(member.ready_file.exists() for member in members):
                told = True
                self._say(f"{self.flow} is running in {self.processes} process{'es' if self.processes > 1 else ''}")
            try:
                return self._ended.get(timeout=_LOOK_S)
            except Empty:
                continue
        return None

    def _gone(self, members: list[Member], within_s: float) -> bool:
        """Wait until all have ended; whether they did."""
        deadline = wall_seconds() + within_s
        while any(member.code is None for member in members):
            try:
                self._ended.get(timeout=max(0.0, deadline - wall_seconds()))
            except Empty:
                return all(member.code is not None for member in members)
        return True

    def _end(self, members: list[Member], first: Member) -> None:
        if not self._gone(members, CULPRIT_WITHIN_S if first.code == EXIT_PEER_GONE else PEERS_WITHIN_S):
            self._kill(members)

    def _kill(self, members: list[Member]) -> None:
        for member in members:
            member.killed = member.code is None
            member.send(SIGKILL)
        self._gone(members, DRAIN_S)

    def _drain(self, members: list[Member]) -> int:
        for member in members:
            member.send(SIGTERM)
        if not self._gone(members, DRAIN_S):
            late = [member.name for member in members if member.code is None]
            self._kill(members)
            self._say(f"had to kill: {', '.join(late)}")
        return 0 if all(member.code == 0 for member in members) else 1


def _addresses(count: int) -> list[str]:
    """Free loopback ports; another process may still be quicker, then the start fails and the next one has others."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return [f"{HOST}:{port}" for port in sorted(ports)]


def _culprit(members: list[Member], first: Member) -> Member:
    """Who began it: one that only a person can help, else the first to end, unless that one only followed another."""
    for member in members:
        if member.code == EXIT_MISCONFIGURED:
            return member
    if first.code == EXIT_PEER_GONE:
        return next((member for member in members if not member.killed and member.code not in (0, EXIT_PEER_GONE)), first)
    return first


def _how(member: Member) -> str:
    code = member.code or 0
    return f"was killed ({Signals(-code).name})" if code < 0 else f"ended with {code}"


def _last(member: Member) -> str:
    """What it said last, without the log line around it."""
    if not member.words:
        return "it said nothing"
    found = _EVENT.search(member.words[-1])
    return (found["quoted"] or found["plain"] if found else member.words[-1])[-LAST_WORDS:]
