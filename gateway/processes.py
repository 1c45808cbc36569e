"""The processes of an instance: which flows share one, and how each starts and ends.

Run as `python -m gateway.processes ROLE --ready FILE`, with the settings in the environment. The telemetry flow has
a process of its own (it is where the load is), the history's flow lives with the store it alone may open and with the
flow that computes from it, the control flows share one, since each costs little and an interpreter costs memory. With
`--member` the process is one of a cluster that runs one flow (`gateway.cluster`), which then is the role.
"""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.collecting import collecting
from gateway.hosting import Host, PeerGone, Place, outside_cause, stop_on_signals
from gateway.logs import configure_logging
from gateway.recovery import claim, recovery_store
from gateway.settings import Settings, load
from gateway.supervisor import EXIT_MISCONFIGURED, EXIT_PEER_GONE, die_with_parent
from schemas.facts import digest
from sinks.errors import Misconfigured, OutsideError

if TYPE_CHECKING:
    from gateway.leasing import Candidacy

log = logging.getLogger(__name__)

CONTROL = ("lifecycle", "envelopes", "circuits", "compliance", "reporting", "dispatch")
HISTORY = ("archive", "repair")
FLOWS = ("telemetry", *CONTROL, *HISTORY)
KEEP_TOKENS = frozenset({"lifecycle", "dispatch"})
"""Flows that work with what the installation secret makes."""
STATELESS = ("dispatch",)
"""Flows without a recovery store: what they have done is on Kafka."""
LEASED = ("lifecycle", "circuits", "dispatch")
"""Flows of which only one process runs each at a time; another stands by (semantics 8.1)."""
DRAIN_S = 8.0


def run_flows(
    names: tuple[str, ...],
    settings: Settings,
    stop: threading.Event,
    ready: Callable[[], None],
    *,
    place: Place | None = None,
    epoch_s: float | None = None,
    say: Callable[[str], None] = log.info,
) -> int:
    """Run the named flows until `stop`; 0 when they drained, 1 when one failed or would not end. Blocks.

    Of the flows under a lease (`gateway.leasing`) those that another process runs stand by, which `say` is told; ready means
    that each flow runs or is known to stand by. With a `place` in a cluster its supervisor has the recovery stores claimed.
    `epoch_s` are the seconds between snapshots.
    """
    from gateway.composition import flow_of, kinds_for
    from gateway.leasing import candidacies
    from gateway.wiring import wiring

    host = Host(stop, place, epoch_s)
    worker, workers = (0, 1) if place is None else (place.index, len(place.addresses))
    under_lease = tuple(name for name in names if name in LEASED)
    root = data_of(settings) if settings.kafka.embedded else settings.data
    keeps_tokens = _role(tuple(name for name in names if name in KEEP_TOKENS), settings)
    with (
        collecting(),
        candidacies(under_lease, settings, root, host.lose, say) as leased,
        wiring(settings, stop, worker, workers, keeps_tokens, kinds_for(names)) as wired,
    ):
        building = threading.Lock()
        for name in names:
            if name not in LEASED:
                host.start(flow_of(wired, name), _store_of(name, settings, place))
        wired.report()

        def stand(each: "Candidacy") -> None:
            try:
                if each.lease.acquire(stop):
                    with building:
                        store = _store_of(each.flow, settings, place)
                        host.start(flow_of(wired, each.flow, each.lease, each.start()), store)
                        wired.report()
                    each.tell()
            except Exception as error:  # noqa: BLE001 - whatever it is, the process must hear of it and end
                host.fail(each.flow, error)
            finally:
                each.settled.set()

        standing = [threading.Thread(target=stand, args=(each,), name=f"{each.flow}-stands-by", daemon=True) for each in leased]
        for thread in standing:
            thread.start()
        while not stop.is_set() and not all(each.settled.wait(0.05) for each in leased):
            pass
        if not stop.is_set():
            ready()
        stop.wait()
        for thread in standing:
            thread.join(DRAIN_S)
        left = host.join(DRAIN_S)
    for name in left:
        log.error("flow %s did not end within %g s", name, DRAIN_S)
    return _exit_code(host, left)


def _store_of(flow: str, settings: Settings, place: Place | None) -> Path | None:
    """The flow's recovery store, which from here on is this process's; None where it has none."""
    from gateway.composition import layout_of

    if flow in STATELESS:
        return None
    root, life = data_of(settings), settings.incarnation
    if place is None:
        claim(root, flow, life)
    return recovery_store(root, flow, life, layout_of(flow, settings))


def _role(names: tuple[str, ...], settings: Settings) -> str:
    """What a process with these flows does, told apart from another one on the same machine; "" for none."""
    return f"{','.join(names)}:{digest(str(settings.data))[:6]}" if names else ""


def _exit_code(host: Host, left: list[str]) -> int:
    failures = list(host.failures.values())
    if any(isinstance(outside_cause(error), Misconfigured) for error in failures):
        return EXIT_MISCONFIGURED
    if host.lost or (failures and all(isinstance(error, PeerGone) for error in failures)):
        return EXIT_PEER_GONE
    return 1 if failures or left else 0


def data_of(settings: Settings) -> Path:
    """The directory of recovery stores. Raises Misconfigured where none is set."""
    if settings.data is None:
        raise Misconfigured("DERMS_DATA", "is not set", "a directory for the flows' recovery stores, such as /var/lib/derms")
    return settings.data


def run_gateway(settings: Settings, stop: threading.Event, ready: Callable[[], None]) -> int:
    """Serve both listeners until `stop`. Blocks."""
    from gateway.serving import serve_gateway

    return serve_gateway(settings, stop, ready)


def run_history(settings: Settings, stop: threading.Event, ready: Callable[[], None]) -> int:
    """Own the embedded store: fill it from every topic and serve it read-only. Blocks."""
    from gateway.history import serving_history

    with serving_history(settings.clickhouse):
        return run_flows(HISTORY, settings, stop, ready)


ROLES: dict[str, Callable[[Settings, threading.Event, Callable[[], None]], int]] = {
    "history": run_history,
    "archive": lambda settings, stop, ready: run_flows(HISTORY, settings, stop, ready),
    "telemetry": lambda settings, stop, ready: run_flows(("telemetry",), settings, stop, ready),
    "control": lambda settings, stop, ready: run_flows(CONTROL, settings, stop, ready),
    "gateway": run_gateway,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one role of an instance, or one member of a flow's cluster, in this process."""
    parser = argparse.ArgumentParser(prog="python -m gateway.processes")
    parser.add_argument("role", choices=sorted({*ROLES, *FLOWS}))
    parser.add_argument("--ready", type=Path, required=True)
    parser.add_argument("--member", type=int, help="number of this process in its cluster")
    parser.add_argument("--address", action="append", default=[], help="host:port of each process of the cluster, in order")
    parser.add_argument("--epoch", type=float, help="seconds between snapshots")
    chosen = parser.parse_args(arguments)
    place = None if chosen.member is None else Place(chosen.member, tuple(chosen.address))
    die_with_parent()
    configure_logging(chosen.role if place is None else f"{chosen.role}-{place.index}")
    stop = threading.Event()
    stop_on_signals(stop)

    def ready() -> None:
        chosen.ready.write_text(str(os.getpid()))
        log.info("ready")

    try:
        if place is not None:
            return run_flows((chosen.role,), load(), stop, ready, place=place, epoch_s=chosen.epoch)
        return ROLES[chosen.role](load(), stop, ready)
    except Misconfigured as error:
        log.error("%s", error)
        return EXIT_MISCONFIGURED
    except OutsideError as error:
        log.error("%s", error)
        return 1
    finally:
        chosen.ready.unlink(missing_ok=True)


if __name__ == "__main__":
    code = main()
    if "--member" in sys.argv:  # the threads of a cluster's engine outlive a failure, and an interpreter that ends aborts on them
        logging.shutdown()
        os._exit(code)
    sys.exit(code)
