"""The web process: the OSCP listener and the operations listener, in one event loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from gateway.auth import Operators
from gateway.following import Following
from gateway.operations import operations_app
from gateway.oscp_v20 import oscp_app
from gateway.process_report import processes_of
from gateway.settings import Settings, clock_of, public_url
from pipelines.views import ConfigView, ConnectionsView
from sinks.errors import Misconfigured
from sinks.kafka import AsyncAppender
from sinks.secrets import Secrets

READY_WITHIN_S = 20.0
LAST_ANSWERS_S = 5


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _server(app: FastAPI, host: str, port: int) -> _Server:
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=LAST_ANSWERS_S,
        timeout_keep_alive=75,
    )
    return _Server(config)


def serve_gateway(settings: Settings, stop: threading.Event, ready: Callable[[], None]) -> int:
    """Serve the OSCP and the operations listener until `stop` is set. Blocks; 0 when it ended in order.

    Raises Misconfigured for missing settings or a taken port, Unavailable where Kafka does not answer.
    """
    if settings.secret is None:
        raise Misconfigured("DERMS_SECRET", "is not set", "32 bytes in base64, such as: openssl rand -base64 32")
    if settings.operators_file is None:
        raise Misconfigured("DERMS_OPERATORS_FILE", "is not set", "a file made by: derms operator add NAME --role admin --file FILE")
    clock, kafka = clock_of(settings), settings.kafka
    secrets = Secrets.from_base64(settings.secret.get_secret_value())
    config, connections = ConfigView(kafka, clock), ConnectionsView(kafka, clock)
    following = Following(kafka, clock)
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
            checks={"live picture": following.check},
            processes=_processes(settings.data),
            attribution=settings.attribution,
        )
        gateway = settings.gateway
        servers = [
            _server(partners_side, gateway.oscp_host, gateway.oscp_port),
            _server(operators_side, gateway.operations_host, gateway.operations_port),
        ]
        return asyncio.run(_serve(servers, stop, ready))
    finally:
        for part in parts:
            part.stop()
        appender.close()


def _processes(data: Path | None) -> Callable[[], Mapping[str, Any]]:
    """What the supervisor of `derms up` says runs; nothing where there is none."""
    return lambda: {} if data is None else processes_of(data / "run" / "processes.json")


async def _serve(servers: list[_Server], stop: threading.Event, ready: Callable[[], None]) -> int:
    """Run `servers` until `stop`; a listener that cannot listen ends all."""
    running = [asyncio.create_task(_run(server)) for server in servers]
    told = False
    while not stop.is_set() and not any(task.done() for task in running):
        if not told and all(server.started for server in servers):
            told = True
            ready()
        await asyncio.sleep(0.05)
    for server in servers:
        server.should_exit = True
    results = await asyncio.gather(*running, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return 0 if stop.is_set() else 1


async def _run(server: _Server) -> None:
    try:
        await server.serve()
    except SystemExit:
        port = f"{server.config.host}:{server.config.port}"
        raise Misconfigured(
            "DERMS_GATEWAY__OSCP_PORT or DERMS_GATEWAY__OPERATIONS_PORT", f"cannot listen on {port}", "free or change it"
        ) from None
