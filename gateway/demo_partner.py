"""The simulated Capacity Provider of the demo, as a process of its own, and what it is told to do."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gateway.commands.target import Target
from gateway.simulator_config import PlannedForecast, SimulatorConfig, blocks, emergency
from gateway.simulator_switches import Agreement, Switches
from schemas.oscp.v20 import ForecastType
from sinks.errors import OutsideError, Unavailable
from sinks.http import fetch

PARTNER, GROUP = "vector", "VEC-0001"
DAY = datetime(2007, 6, 9, tzinfo=UTC)
EMERGENCY_AT, EMERGENCY_UNTIL, EMERGENCY_KW = DAY + timedelta(hours=16, minutes=40), DAY + timedelta(hours=17, minutes=45), 1.0
HEARTBEAT_S = 1800.0
READY_WITHIN_S = 15.0


def day_plan() -> list[PlannedForecast]:
    """A day of 96 quarter-hour blocks each way, lower in the afternoon, and the emergency block that the house breaches."""
    import_kw = [2.5 if 56 <= quarter < 72 else 3.5 for quarter in range(96)]
    return [
        PlannedForecast(type=ForecastType.CONSUMPTION, blocks=blocks(DAY, import_kw)),
        PlannedForecast(type=ForecastType.GENERATION, blocks=blocks(DAY, [4.0] * 96)),
        emergency(EMERGENCY_AT, EMERGENCY_UNTIL, EMERGENCY_KW),
    ]


class SimulatedPartner:
    """The process. `report` is what it heard and found wrong."""

    def __init__(self, directory: Path, oscp_url: str, token: str, clock: dict[str, Any]) -> None:
        config = SimulatorConfig(
            fp_base_url=oscp_url,
            token_a=token,
            group_id=GROUP,
            origin=datetime.fromisoformat(clock["origin"]),
            started=datetime.fromisoformat(clock["started"]),
            speed=clock["speed"],
            heartbeat_interval_s=HEARTBEAT_S,
            forecasts=day_plan(),
            switches=Switches(agrees=Agreement.NAMED),
        )
        file, ready = directory / "run" / "simulator.json", directory / "run" / "simulator.ready"
        ready.unlink(missing_ok=True)
        file.touch(mode=0o600)
        file.write_text(config.model_dump_json())
        with (directory / "logs" / "simulator.log").open("ab") as words:
            arguments = [sys.executable, "-m", "gateway.simulator", "--config", str(file), "--ready", str(ready)]
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words, start_new_session=True
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"the simulated partner did not start; see {directory / 'logs' / 'simulator.log'}")
            time.sleep(0.05)
        self._report_url = json.loads(ready.read_text())["report_url"]

    @classmethod
    def start(cls, directory: Path) -> "SimulatedPartner":
        """Ask the instance in `directory` for a registration token and start a partner with it. Blocks until it serves."""
        target = Target(directory)
        endpoints = target.endpoints
        if endpoints is None:
            raise Unavailable("the instance is not running")
        token = target.operations("POST", f"/partners/{PARTNER}/token")["token"]
        return cls(directory, endpoints.oscp_url, token, endpoints.clock)

    def report(self) -> dict[str, Any]:
        """What it says itself; empty while it does not answer."""
        try:
            found = json.loads(fetch("GET", self._report_url, timeout_s=5).body)
        except (OutsideError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def stop(self) -> None:
        """End the process."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(8)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(2)
