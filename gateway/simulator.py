"""A simulated Capacity Provider: registers with us, shakes hands, sends forecasts, checks everything it hears.

Run as `python -m gateway.simulator --config FILE` with the JSON of a `SimulatorConfig`; when it serves it prints
one JSON line with its addresses (and writes it to the `--ready` file), and it stops at SIGTERM. It is a peer of its own:
it shares the wire models and the clock with the gateway, and nothing else.
"""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.logs import configure_logging
from gateway.simulator_config import PlannedForecast, SimulatorConfig
from gateway.simulator_ledger import Ledger
from gateway.simulator_reception import BASE_PATH, TOKEN_PATH, Peer, Reception
from gateway.simulator_server import Listener, build_app
from gateway.simulator_voice import Voice, new_id
from gateway.supervisor import die_with_parent
from schemas.clock import Clock
from schemas.oscp import v20
from schemas.units import EPOCH, rfc3339

log = logging.getLogger(__name__)


class SimulatedProvider:
    """One Capacity Provider with its server and its life. All of it runs in one event loop.

    `start` serves and begins the life (register, handshake, heartbeats, forecasts); `stop` ends both. Whatever
    the Flexibility Provider does wrong is in `report()["problems"]`, in words.
    """

    def __init__(self, config: SimulatorConfig, clock: Clock | None = None) -> None:
        self.config = config
        self.clock: Clock = clock or config.clock()
        self.ledger = Ledger(
            group_id=config.group_id,
            clock=self.clock,
            heartbeat_interval_s=None,
            styles=frozenset(config.measurement_configuration),
        )
        self.reception = Reception(config, self.ledger)
        self._listener = Listener(build_app(self), config.host, config.port)
        self._voice = Voice(self.ledger)
        self._tasks: list[asyncio.Task[None]] = []
        self._phase = "STARTING"

    @property
    def url(self) -> str:
        """Where we are reached; known once started."""
        return f"http://{self.config.host}:{self._listener.port}"

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
        self._begin(self._live(), "life")

    async def stop(self) -> None:
        """End the life, then the server; requests under way are answered first."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._listener.stop()
        await self._voice.close()

    def go_down(self, seconds: float) -> None:
        """Close the port for that many wall seconds, as if the process had died; the life goes on."""

        async def down() -> None:
            await self._listener.stop()
            await asyncio.sleep(seconds)
            await self._listener.start()
            self.ledger.excuse()

        self._begin(down(), "down")

    def state(self) -> dict[str, Any]:
        """Where the life stands."""
        offline_at = self.ledger.partner_offline_at
        return {
            "state": "DEREGISTERED" if self.reception.deregistered else self._phase,
            "now": rfc3339(self.clock.now()),
            "fp_base_url": self.reception.peer.base_url if self.reception.peer else None,
            "partner_offline_at": rfc3339(offline_at) if offline_at else None,
            "switches": self.reception.switches.model_dump(mode="json"),
        }

    def report(self) -> dict[str, Any]:
        """Everything heard, said and found wrong, as plain JSON data; `problems` is empty when all was well."""
        return {**self.state(), **self.ledger.report(), "tokens_issued": self.reception.tokens_issued}

    def _begin(self, life: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(life, name=f"simulator-{name}")
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ledger.problem(f"the simulator itself failed: {type(error).__name__}")
            log.error("%s failed", task.get_name(), exc_info=error)

    async def _live(self) -> None:
        self._phase = "REGISTERING"
        registration = v20.Register(
            token=self.reception.token_b,
            version_url=[v20.VersionUrl(version=v20.VERSION, base_url=self.url + BASE_PATH)],
        )
        to = Peer(self.config.fp_base_url.rstrip("/"), self.config.token_a)
        request_id = new_id()
        self.ledger.registrations.add(request_id)
        await self._voice.tell(v20.Action.REGISTER, registration, to, request_id)
        self._phase = "AWAITING_REGISTER"
        await self.reception.registered.wait()
        await self._shake_hands()
        self._phase = "ONLINE"
        self._begin(self._beat(), "heartbeats")
        for planned in sorted(self.config.forecasts, key=lambda each: each.at or EPOCH):
            await self._forecast(planned)

    async def _shake_hands(self) -> None:
        self._phase = "HANDSHAKING"
        wanted = v20.RequiredBehaviour(
            heartbeat_interval=self.config.heartbeat_interval_s, measurement_configuration=self.config.measurement_configuration
        )
        self.ledger.heartbeat_interval_s = self.config.heartbeat_interval_s
        request_id = new_id()
        self.ledger.handshakes.add(request_id)
        await self._voice.tell(v20.Action.HANDSHAKE, v20.Handshake(required_behaviour=wanted), self.reception.partner(), request_id)
        self._phase = "AWAITING_ACKNOWLEDGE"
        await self.reception.acknowledged.wait()

    async def _forecast(self, planned: PlannedForecast) -> None:
        if planned.at is not None:
            await self._until(planned.at)
        message = v20.UpdateGroupCapacityForecast(group_id=self.config.group_id, type=planned.type, forecasted_blocks=planned.blocks)
        request_id = new_id()
        self.ledger.forecasts[request_id] = (self.clock.now(), message)  # before it is sent: an answer may overtake its 204
        await self._voice.tell(v20.Action.UPDATE_GROUP_CAPACITY_FORECAST, message, self.reception.partner(), request_id)

    async def _beat(self) -> None:
        """Heartbeats at the interval the acknowledgement asked for, with a horizon of three; none if it asked for none."""
        due = self.clock.now()
        while not self.reception.deregistered:
            acknowledged = self.ledger.acknowledged
            wanted = acknowledged.required_behaviour if acknowledged else None
            if wanted is None or wanted.heartbeat_interval is None:
                return
            interval = timedelta(seconds=wanted.heartbeat_interval)
            beat = v20.Heartbeat(offline_mode_at=self.clock.now() + 3 * interval)
            await self._voice.say(v20.Action.HEARTBEAT, beat, self.reception.partner())
            due = max(due + interval, self.clock.now())  # a beat that was missed is not made up
            await self._until(due)

    async def _until(self, instant: datetime) -> None:
        await asyncio.sleep(max(0.0, (self.clock.wall_at(instant) - datetime.now(UTC)).total_seconds()))


async def _serve(config: SimulatorConfig, ready: Path | None) -> None:
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
    configure_logging("simulator")
    try:
        asyncio.run(_serve(SimulatorConfig.model_validate_json(chosen.config.read_bytes()), chosen.ready))
    finally:
        if chosen.ready is not None:
            chosen.ready.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
