"""The web process: the OSCP listener and the operations listener, in one event loop."""

import asyncio
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvloop

from gateway.auth import Operators
from gateway.collecting import collecting
from gateway.following import Following
from gateway.listener import OPERATIONS_REFUSALS, OSCP_HEADERS, OSCP_REFUSALS, Listener
from gateway.operations import operations_app
from gateway.oscp_v20 import oscp_app
from gateway.past import AskedHistory, Client
from gateway.places import room_for
from gateway.process_report import processes_of
from gateway.proxies import networks
from gateway.secret_use import SecretReporter
from gateway.settings import Settings, clock_of, public_url, secrets_of
from gateway.tls import SIDES, certificates_of
from pipelines.views import ConfigChangesView, ConnectionsView
from sinks.errors import Misconfigured
from sinks.kafka import AsyncAppender

READY_WITHIN_S = 20.0
HISTORY_WITHIN_S = 5
SWITCH_S = 0.0005
"""So long a thread that follows Kafka may go on while a request waits; Python's usual 5 ms would be the slowest answers' time."""


def serve_gateway(settings: Settings, stop: threading.Event, ready: Callable[[], None]) -> int:
    """Serve the OSCP and the operations listener until `stop` is set. Blocks; 0 when it ended in order.

    Raises Misconfigured for missing settings or a taken port, Unavailable where Kafka does not answer.
    """
    secrets = secrets_of(settings)
    if settings.operators_file is None:
        raise Misconfigured("DERMS_OPERATORS_FILE", "is not set", "a file made by: derms operator add NAME --role admin --file FILE")
    gateway = settings.gateway
    certificates = {side: certificates_of(gateway, side) for side in SIDES}  # before anything is started
    clock, kafka = clock_of(settings), settings.kafka
    config, connections = ConfigChangesView(kafka, clock), ConnectionsView(kafka, clock)
    following = Following(kafka, clock)
    using = SecretReporter(kafka, f"gateway:{gateway.oscp_port}", secrets.key_id)
    parts = (config, connections, following)
    appender = AsyncAppender(kafka, "derms-gateway")
    try:
        for part in parts:
            part.start()
        for part in parts:
            part.wait_ready(READY_WITHIN_S)
        partners_side = oscp_app(
            config=config, connections=connections, appender=appender, secrets=secrets, clock=clock, public_url=public_url(settings)
        )
        operators_side = operations_app(
            projection=following.projection,
            config=config,
            config_changes=config.changes,
            connections=connections,
            appender=appender,
            secrets=secrets,
            clock=clock,
            operators=Operators(settings.operators_file),
            checks={"live picture": following.check, "configuration": config.check},
            processes=_processes(settings.data),
            attribution=settings.attribution,
            past=_past(settings),
            writes_circuits=settings.circuits.url is not None,
            hosts=gateway.operations_hosts,
        )
        trusted = networks(gateway.trusted_proxies)
        for_partners, for_operators = room_for(gateway.oscp_max_connections, gateway.operations_max_connections)
        listeners = [
            Listener(
                partners_side,
                "OSCP",
                gateway.oscp_host,
                gateway.oscp_port,
                refusals=OSCP_REFUSALS,
                headers=OSCP_HEADERS,
                certificates=certificates["OSCP"],
                trusted=trusted,
                connections=for_partners,
            ),
            Listener(
                operators_side,
                "operations",
                gateway.operations_host,
                gateway.operations_port,
                refusals=OPERATIONS_REFUSALS,
                certificates=certificates["OPERATIONS"],
                trusted=trusted,
                connections=for_operators,
            ),
        ]
        sys.setswitchinterval(SWITCH_S)
        using.start()
        with collecting(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(serve(listeners, stop, ready))
    finally:
        using.stop()
        for part in parts:
            part.stop()
        appender.close()


def _past(settings: Settings) -> AskedHistory | None:
    """The history, where there is one; its client is only loaded once it is asked."""
    if not settings.clickhouse.url:
        return None

    def connect() -> Client:
        from sinks.clickhouse.client import connected

        return connected(settings.clickhouse, timeout_s=HISTORY_WITHIN_S)

    return AskedHistory(connect)


def _processes(data: Path | None) -> Callable[[], Mapping[str, Any]]:
    """What the supervisor of `derms up` says runs; nothing where there is none."""
    return lambda: {} if data is None else processes_of(data / "run" / "processes.json")


async def serve(listeners: Sequence[Listener], stop: threading.Event, ready: Callable[[], None]) -> int:
    """Run `listeners` until `stop`; one that cannot listen ends all, with its Misconfigured."""
    running = [asyncio.create_task(listener.serve()) for listener in listeners]
    told = False
    while not stop.is_set() and not any(task.done() for task in running):
        if not told and all(listener.started for listener in listeners):
            told = True
            ready()
        await asyncio.sleep(0.05)
    for listener in listeners:
        listener.should_exit = True
    results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return 0 if stop.is_set() else 1
