"""A stand-in for the legacy circuit platform: takes PATCHes, shows a card for each circuit, misbehaves on request (docs/circuits.md).

Run as `derms circuit-platform` or `python -m gateway.circuit_platform`; when it serves it prints one JSON line with its addresses (and
writes it to the `--ready` file), and it stops at SIGTERM. What it was told is gone then.
"""

import argparse
import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.types import Scope

from gateway.circuit_platform_card import Cards
from gateway.circuit_platform_ledger import PlatformLedger, Switches
from gateway.logs import configure_logging
from gateway.simulator import write_whole
from gateway.simulator_reply import Answering, Close
from gateway.simulator_server import Listener
from gateway.supervisor import die_with_parent

PORT = 8490


@dataclass(frozen=True, slots=True)
class PlatformOptions:
    """Where it listens (port 0: a free one), the token that writers need (None: nobody needs any), and the directory of a running
    instance, which is asked for names, ratings and next changes (None: the cards do without)."""

    host: str = "127.0.0.1"
    port: int = PORT
    token: str | None = None
    data: Path | None = None


class CircuitPlatform:
    """One platform with its server, in one event loop."""

    def __init__(self, options: PlatformOptions) -> None:
        self.options, self.ledger = options, PlatformLedger(options.token)
        self._cards = Cards(self.ledger, options.data)
        self._listener = Listener(build_app(self, self._hang_up), options.host, options.port)
        self._tasks: set[asyncio.Task[None]] = set()

    def endpoints(self) -> dict[str, str]:
        """Its addresses, by what they are for."""
        url = f"http://{self.options.host}:{self._listener.port}"
        return {"url": url, "page_url": f"{url}/", "report_url": f"{url}/platform/report"}

    async def start(self) -> None:
        """Serve. Returns as soon as requests are taken; OSError where the port is not free."""
        await self._listener.start()

    async def stop(self) -> None:
        """End; requests under way are answered first."""
        for task in self._tasks:
            task.cancel()
        await self._listener.stop()

    def go_down(self, seconds: float) -> None:
        """Close the port for that many wall seconds, as if the process had died; what it was told stays."""

        async def down() -> None:
            await self._listener.stop()
            await asyncio.sleep(seconds)
            await self._listener.start()

        task = asyncio.create_task(down())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def page(self, circuit_id: str | None = None) -> str | None:
        """The card of a circuit, or those of all; None for one that was never told anything. Blocks while an instance is asked."""
        return self._cards.page(circuit_id)

    def _hang_up(self, scope: Scope) -> None:
        self._listener.hang_up(scope)


def build_app(platform: CircuitPlatform, hang_up: Close) -> FastAPI:
    """The platform's API, its pages, and `/platform/*` for whoever runs it. `hang_up` closes a request's connection."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)

    @app.patch("/circuits/{circuit_id:path}")
    async def write(circuit_id: str, request: Request) -> Response:
        return Answering(platform.ledger.patch(circuit_id, request.headers, await request.body()), hang_up)

    @app.get("/circuits")
    async def all_circuits() -> dict[str, Any]:
        return {"items": platform.ledger.report()["circuits"]}

    @app.get("/circuits/{circuit_id:path}", response_model=None)
    async def one_circuit(circuit_id: str) -> dict[str, Any] | Response:
        if circuit_id not in platform.ledger.circuits:
            return Response(json.dumps({"message": "no such circuit"}), 404, media_type="application/json")
        return platform.ledger.view(circuit_id)

    @app.get("/")
    def cards() -> HTMLResponse:
        return HTMLResponse(platform.page())

    @app.get("/cards/{circuit_id:path}")
    def card(circuit_id: str) -> HTMLResponse:
        found = platform.page(circuit_id)
        return HTMLResponse("<!doctype html><title>404</title><p>No such circuit", 404) if found is None else HTMLResponse(found)

    @app.get("/platform/report")
    async def report() -> dict[str, Any]:
        return platform.ledger.report()

    @app.get("/platform/log")
    async def log() -> dict[str, Any]:
        return {"items": list(platform.ledger.log)}

    @app.post("/platform/switches", status_code=204)
    async def switches(wanted: Switches) -> None:
        platform.ledger.switches = wanted

    @app.post("/platform/down", status_code=202)
    async def down(seconds: float = Query(gt=0, le=3600)) -> None:
        platform.go_down(seconds)

    return app


async def _serve(options: PlatformOptions, ready: Path | None) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    platform = CircuitPlatform(options)
    await platform.start()
    line = json.dumps(platform.endpoints()) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    if ready is not None:
        write_whole(ready, line)
    await stop.wait()
    await platform.stop()


def run(options: PlatformOptions, ready: Path | None = None) -> None:
    """Serve until SIGTERM or SIGINT; the addresses go to standard output and, while it serves, to `ready`. Blocks."""
    configure_logging("circuit-platform")
    try:
        asyncio.run(_serve(options, ready))
    finally:
        if ready is not None:
            ready.unlink(missing_ok=True)


def main(arguments: list[str] | None = None) -> int:
    """Run one that ends with its parent. Blocks."""
    parser = argparse.ArgumentParser(prog="python -m gateway.circuit_platform", description="A stand-in for the legacy circuit platform.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-file", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--ready", type=Path)
    chosen = parser.parse_args(arguments)
    die_with_parent()
    token = chosen.token_file.read_text().strip() if chosen.token_file else None
    run(PlatformOptions(port=chosen.port, token=token, data=chosen.data), chosen.ready)
    return 0


if __name__ == "__main__":
    sys.exit(main())
