"""The processes of an instance: which flows share one, and how each starts and ends.

Run as `python -m gateway.processes ROLE --ready FILE`, with the settings in the environment. The telemetry flow has
a process of its own (it is where the load is), the history's flow lives with the store it alone may open, the
control flows share one, since each costs little and an interpreter costs memory.
"""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from gateway.hosting import Host, outside_cause, recovery_store, stop_on_signals
from gateway.logs import configure_logging
from gateway.settings import Settings, load
from gateway.supervisor import EXIT_MISCONFIGURED, die_with_parent
from sinks.errors import Misconfigured, OutsideError

log = logging.getLogger(__name__)

CONTROL = ("lifecycle", "envelopes", "circuits", "compliance", "reporting", "dispatch")
FLOWS = ("telemetry", *CONTROL, "archive")
DRAIN_S = 8.0


def run_flows(names: tuple[str, ...], settings: Settings, stop: threading.Event, ready: Callable[[], None]) -> int:
    """Run the named flows until `stop`; 0 when they drained, 1 when one failed or would not end. Blocks."""
    from gateway.composition import flows

    host = Host(stop)
    with flows(names, settings, stop) as built:
        for flow in built:
            keeps_state = flow.flow_id != "dispatch"
            host.start(flow, recovery_store(_data(settings), flow.flow_id, settings.incarnation) if keeps_state else None)
        ready()
        stop.wait()
        left = host.join(DRAIN_S)
    for name in left:
        log.error("flow %s did not end within %g s", name, DRAIN_S)
    if any(isinstance(outside_cause(error), Misconfigured) for error in host.failures.values()):
        return EXIT_MISCONFIGURED
    return 1 if host.failures or left else 0


def _data(settings: Settings) -> Path:
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
        return run_flows(("archive",), settings, stop, ready)


ROLES: dict[str, Callable[[Settings, threading.Event, Callable[[], None]], int]] = {
    "history": run_history,
    "archive": lambda settings, stop, ready: run_flows(("archive",), settings, stop, ready),
    "telemetry": lambda settings, stop, ready: run_flows(("telemetry",), settings, stop, ready),
    "control": lambda settings, stop, ready: run_flows(CONTROL, settings, stop, ready),
    "gateway": run_gateway,
}


def main(arguments: list[str] | None = None) -> int:
    """Run one role of an instance in this process."""
    parser = argparse.ArgumentParser(prog="python -m gateway.processes")
    parser.add_argument("role", choices=ROLES)
    parser.add_argument("--ready", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    die_with_parent()
    configure_logging(chosen.role)
    stop = threading.Event()
    stop_on_signals(stop)

    def ready() -> None:
        chosen.ready.write_text(str(os.getpid()))
        log.info("ready")

    try:
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
    sys.exit(main())
