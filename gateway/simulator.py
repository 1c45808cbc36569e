"""A simulated Capacity Provider: registers with us, shakes hands, sends forecasts, checks everything it hears.

Run as `derms simulator --config FILE` or `python -m gateway.simulator --config FILE` with the JSON of a `SimulatorConfig`; when
it serves it prints one JSON line with its addresses (and writes it to the `--ready` file), and it stops at SIGTERM. It is a peer
of its own: it shares the wire models and the clock with the gateway, and nothing else.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from starlette.types import Scope

from gateway.logs import configure_logging
from gateway.simulator_config import SimulatorConfig, Starts
from gateway.simulator_ledger import Ledger
from gateway.simulator_life import Life
from gateway.simulator_reception import BASE_PATH, TOKEN_PATH, Reception
from gateway.simulator_server import Listener, build_app
from gateway.supervisor import die_with_parent
from schemas.clock import Clock
from schemas.units import rfc3339

log = logging.getLogger(__name__)


class SimulatedProvider:
    """One Capacity Provider with its server and its life. All of it runs in one event loop.

    `start` serves and begins the life (register, handshake, heartbeats, forecasts); `stop` ends both. Whatever
    the Flexibility Provider does wrong is in `report()["problems"]`, in words.
    """

    def __init__(self, config: SimulatorConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or config.clock()
        self.public_url = config.public_url
        self.ledger = Ledger(
            group_id=config.group_id,
            clock=self.clock,
            heartbeat_interval_s=None,
            styles=frozenset(config.measurement_configuration),
            more_groups=frozenset(config.more_groups),
        )
        self.reception = Reception(config, self.ledger)
        self.life = Life(config, self.clock, self.ledger, self.reception, begin=self._begin, url=lambda: self.url)
        self._listener = Listener(build_app(self, self._hang_up), config.host, config.port)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where we are reached; known once started. `public_url` may be set to another place, and told by a renewal."""
        return self.public_url or f"http://{self.config.host}:{self._listener.port}"

    def endpoints(self) -> dict[str, str]:
        """Our addresses, by what they are for."""
        return {
            "url": self.url,
            "base_url": self.url + BASE_PATH,
            "token_url": self.url + TOKEN_PATH,
            "report_url": f"{self.url}/simulator/report",
        }

    async def start(self) -> None:
        """Serve, then begin to live. Returns as soon as requests are taken."""
        await self._listener.start()
        self._begin(self.life.run(self.config.token_a if self.config.starts is not Starts.FP else None), "life")

    async def stop(self) -> None:
        """End the life, then the server; requests under way are answered first."""
        await self._end_all()
        await self._listener.stop()
        await self.life.close()

    async def _end_all(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def go_down(self, seconds: float) -> None:
        """Close the port for that many wall seconds, as if the process had died; the life goes on."""

        async def down() -> None:
            await self._listener.stop()
            await asyncio.sleep(seconds)
            await self._listener.start()
            self.ledger.excuse()

        self._begin(down(), "down")

    async def lose_state(self) -> None:
        """Forget every token and address, as peers do that keep none through a restart: 403 to everybody from now on."""
        await self._end_all()
        self.reception.forget()
        self.ledger.excuse()
        self.life.forgot()

    async def begin_anew(self, token_a: str | None, initial_token: str | None) -> None:
        """A registration from the beginning: with the token we are told, or waiting for one with `initial_token`."""
        await self._end_all()
        if initial_token is not None:
            self.reception.credentials.admit(initial_token)
            self.life.expect()
        self.reception.deregistered = False
        self.reception.registered.clear()
        self.reception.acknowledged.clear()
        self.life.forgot()
        self._begin(self.life.run(token_a), "life")

    def do(self, what: Coroutine[Any, Any, None], name: str) -> None:
        """Begin something now, beside the life."""
        self._begin(what, name)

    def state(self) -> dict[str, Any]:
        """Where the life stands."""
        offline_at = self.ledger.partner_offline_at
        return {
            "state": "DEREGISTERED" if self.reception.deregistered else self.life.phase,
            "now": rfc3339(self.clock.now()),
            "fp_base_url": self.reception.peer.base_url if self.reception.peer else None,
            "partner_offline_at": rfc3339(offline_at) if offline_at else None,
            "switches": self.reception.switches.model_dump(mode="json"),
        }

    def report(self) -> dict[str, Any]:
        """Everything heard, said and found wrong, as plain JSON data; `problems` is empty when all was well."""
        return {**self.state(), **self.ledger.report(), "tokens_issued": self.reception.credentials.issued}

    def _hang_up(self, scope: Scope) -> None:
        self._listener.hang_up(scope)

    def _begin(self, life: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(life, name=f"simulator-{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ledger.problem(f"the simulator itself failed: {type(error).__name__}")
            log.error("%s failed", task.get_name(), exc_info=error)


async def serve(config: SimulatorConfig, ready: Path | None) -> None:
    """Run one until SIGTERM or SIGINT; its addresses go to standard output and, while it serves, to `ready`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    provider = SimulatedProvider(config)
    await provider.start()
    line = json.dumps(provider.endpoints()) + "\n"
    sys.stdout.write(line)
    sys.stdout.flush()
    if ready is not None:
        write_whole(ready, line)
    await stop.wait()
    await provider.stop()


def write_whole(file: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it."""
    draft = file.with_name(file.name + ".draft")
    draft.write_text(text)
    draft.replace(file)


def main(arguments: list[str] | None = None) -> int:
    """Run one simulated Capacity Provider until SIGTERM or SIGINT. Blocks."""
    parser = argparse.ArgumentParser(prog="python -m gateway.simulator", description="A simulated OSCP 2.0 Capacity Provider.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file of a SimulatorConfig")
    parser.add_argument("--ready", type=Path, help="file to write the addresses to once it serves")
    chosen = parser.parse_args(arguments)
    die_with_parent()
    run(SimulatorConfig.model_validate_json(chosen.config.read_bytes()), chosen.ready)
    return 0


def run(config: SimulatorConfig, ready: Path | None = None) -> None:
    """As `serve`, with a loop of its own. Blocks."""
    configure_logging("simulator")
    try:
        asyncio.run(serve(config, ready))
    finally:
        if ready is not None:
            ready.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
