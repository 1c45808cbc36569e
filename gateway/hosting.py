"""Runs dataflows in this process: each in a thread of its own, with its recovery store, until told to stop.

The engine kills a process at SIGTERM without closing anything (engine.md 5), so the signal only sets the stop
event; sources then end, the flows snapshot and their threads return.
"""

import logging
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType

from bytewax.dataflow import Dataflow
from bytewax.recovery import InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError, RecoveryConfig
from bytewax.run import cli_main

from gateway.heard import listen
from gateway.recovery import cure_of
from sinks.errors import Misconfigured, OutsideError

log = logging.getLogger(__name__)

EPOCH_S = {"telemetry": 10, "archive": 2, "repair": 10}
"""Epochs of 10 s for the flow whose snapshots are large (engine.md 7) and the one that mostly waits, of 2 s where an epoch ends
with inserts, else of 1 s."""


_BROKEN_STORE = (InconsistentPartitionsError, MissingPartitionsError, NoPartitionsError)


@dataclass(frozen=True, slots=True)
class Place:
    """Which process of a cluster this is: number `index` of those that listen at `addresses` (host:port)."""

    index: int
    addresses: tuple[str, ...]


class PeerGone(RuntimeError):
    """The flow ended because another process of its cluster did."""


class Host:
    """Flows of one process. A flow that fails stops the others: the supervisor starts the process again."""

    def __init__(self, stop: threading.Event, place: Place | None = None, epoch_s: float | None = None) -> None:
        self.stop = stop
        self.failures: dict[str, BaseException] = {}
        self.lost: list[str] = []
        self._place, self._epoch_s = place, epoch_s
        self._threads: dict[str, threading.Thread] = {}

    def start(self, flow: Dataflow, recovery: Path | None) -> None:
        """Run `flow` in a thread. Without `recovery` it keeps no engine state (dispatch)."""
        thread = threading.Thread(target=self._run, args=(flow, recovery), name=flow.flow_id, daemon=True)
        self._threads[flow.flow_id] = thread
        thread.start()

    def fail(self, flow_id: str, cause: BaseException) -> None:
        """Take note that a flow could not be started; the others end, too."""
        self._failed(flow_id, cause)
        self.stop.set()

    def lose(self, flow_id: str, words: str) -> None:
        """Take note that another process runs a flow that ran here: everything ends, to start again and stand by."""
        log.warning("%s ends here: %s", flow_id, words)
        self.lost.append(flow_id)
        self.stop.set()

    def _run(self, flow: Dataflow, recovery: Path | None) -> None:
        seconds = self._epoch_s or EPOCH_S.get(flow.flow_id, 1)
        raised: list[BaseException] = []
        options: dict[str, object] = {"epoch_interval": timedelta(seconds=seconds)}
        if recovery is not None:
            options["recovery_config"] = RecoveryConfig(recovery)
        if self._place is not None:
            listen(flow, raised.append)
            options |= {"process_id": self._place.index, "addresses": list(self._place.addresses)}
        try:
            cli_main(flow, **options)
        except BaseException as error:  # noqa: BLE001 - the engine's panics are no Exceptions; all are told in `failures`
            self._failed(flow.flow_id, self._cause(error, raised, recovery))
        else:
            if not self.stop.is_set():
                self.failures[flow.flow_id] = RuntimeError("the flow ended by itself")
        self.stop.set()

    def _cause(self, error: BaseException, raised: list[BaseException], recovery: Path | None) -> BaseException:
        if isinstance(error, _BROKEN_STORE) and recovery is not None:
            return Misconfigured(f"the recovery store {recovery}", f"cannot be used: {error}", cure_of(recovery))
        if raised:
            return raised[0]
        if self._place is not None and type(error).__name__ == "PanicException":
            return PeerGone("another process of the cluster ended")
        return error

    def _failed(self, flow_id: str, cause: BaseException) -> None:
        self.failures[flow_id] = cause
        outside = outside_cause(cause)
        if outside is not None or isinstance(cause, PeerGone):
            log.error("flow %s ended: %s", flow_id, outside or cause)
        else:
            log.error("flow %s failed", flow_id, exc_info=cause)

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
