"""Runs dataflows in this process: each in a thread of its own, with its recovery store, until told to stop.

The engine kills a process at SIGTERM without closing anything (engine.md 5), so the signal only sets the stop
event; sources then end, the flows snapshot and their threads return.
"""

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import FrameType

from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from sinks.errors import OutsideError

log = logging.getLogger(__name__)

EPOCH_S = {"telemetry": 10, "archive": 2}
"""Epochs of 10 s for the flow whose snapshots are large (engine.md 7), of 2 s where an epoch ends with inserts, else of 1 s."""


def recovery_store(root: Path, flow: str, incarnation: str) -> Path:
    """The flow's recovery directory, made where missing. A broker that forgot (another incarnation) gets a new one."""
    path = root / "recovery" / incarnation / flow
    path.mkdir(parents=True, exist_ok=True)
    if not any(path.iterdir()):
        init_db_dir(path, 1)
    return path


class Host:
    """Flows of one process. A flow that fails stops the others: the supervisor starts the process again."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop = stop
        self.failures: dict[str, BaseException] = {}
        self._threads: dict[str, threading.Thread] = {}

    def start(self, flow: Dataflow, recovery: Path | None) -> None:
        """Run `flow` in a thread. Without `recovery` it keeps no engine state (dispatch)."""
        thread = threading.Thread(target=self._run, args=(flow, recovery), name=flow.flow_id, daemon=True)
        self._threads[flow.flow_id] = thread
        thread.start()

    def _run(self, flow: Dataflow, recovery: Path | None) -> None:
        config = None if recovery is None else RecoveryConfig(recovery)
        seconds = EPOCH_S.get(flow.flow_id, 1)
        try:
            cli_main(flow, epoch_interval=timedelta(seconds=seconds), recovery_config=config)
        except BaseException as error:
            self.failures[flow.flow_id] = error
            outside = outside_cause(error)
            if outside is not None:
                log.error("flow %s ended: %s", flow.flow_id, outside)
            else:
                log.exception("flow %s failed", flow.flow_id)
        else:
            if not self.stop.is_set():
                self.failures[flow.flow_id] = RuntimeError("the flow ended by itself")
        self.stop.set()

    def join(self, timeout_s: float) -> list[str]:
        """Wait for all threads; the names of those still running."""
        for thread in self._threads.values():
            thread.join(timeout_s)
        return [name for name, thread in self._threads.items() if thread.is_alive()]

    def alive(self) -> Mapping[str, bool]:
        """Which flows are running."""
        return {name: thread.is_alive() for name, thread in self._threads.items()}


def outside_cause(error: BaseException) -> OutsideError | None:
    """The error of the outside that the engine wrapped, if that is what it was."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OutsideError):
            return seen
        seen = seen.__cause__
    return None


def stop_on_signals(stop: threading.Event, also: Callable[[], None] = lambda: None) -> None:
    """Set `stop` at SIGTERM and SIGINT. Call in the main thread, after nothing else installs handlers."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        also()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
