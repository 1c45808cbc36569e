"""The legacy circuit platform of the demo: the stand-in as a process of its own, and whether it has what it should have."""

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gateway.instance_files import write_private
from schemas.capacity import CircuitCapacity
from schemas.units import W_PER_KW, rfc3339
from sinks.errors import OutsideError, Unavailable
from sinks.http import fetch
from sinks.settings import CircuitsSettings

READY_WITHIN_S = 15.0
TOLERANCE_KW = 1e-6


class DemoPlatform:
    """The process. It is started before the instance, which has to know its address, and asks that one for names and ratings."""

    def __init__(self, directory: Path) -> None:
        run, log = directory / "run", directory / "logs" / "circuit-platform.log"
        for path in (run, log.parent):
            path.mkdir(parents=True, exist_ok=True)
        ready, token_file = run / "circuit-platform.ready", run / "circuit-platform.token"
        ready.unlink(missing_ok=True)
        token_file.unlink(missing_ok=True)
        self._token = secrets.token_urlsafe(24)
        write_private(token_file, self._token)
        arguments = [sys.executable, "-m", "gateway.circuit_platform", "--data", str(directory)]
        arguments += ["--token-file", str(token_file), "--ready", str(ready)]
        with log.open("ab") as words:
            self._process = subprocess.Popen(  # noqa: S603 - our own arguments
                arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=words, start_new_session=True
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"the circuit platform did not start; see {log}")
            time.sleep(0.05)
        endpoints = json.loads(ready.read_text())
        self.page_url: str = endpoints["page_url"]
        self._url, self._report_url = endpoints["url"], endpoints["report_url"]

    def settings(self) -> CircuitsSettings:
        """How the instance reaches it."""
        return CircuitsSettings(url=self._url, token=SecretStr(self._token))

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


def unwritten(changes: Iterable[CircuitCapacity], platform: Mapping[str, Any]) -> list[str]:
    """Where the platform's values are not those of the last change of each circuit, or it found something wrong, in words."""
    has = {circuit["id"]: circuit for circuit in platform.get("circuits", [])}
    last: dict[str, CircuitCapacity] = {}
    for change in changes:
        known = last.get(change.circuit_id)
        if known is None or known.effective_from <= change.effective_from:
            last[change.circuit_id] = change
    found = []
    for name, change in sorted(last.items()):
        circuit = has.get(name)
        if circuit is None:
            found.append(f"the circuit platform was told nothing of {name}")
            continue
        want = {"import": change.available_import_w, "export": change.available_export_w}
        for direction, watts in want.items():
            got = circuit[f"available_{direction}_kw"]
            if watts is not None and (got is None or abs(got - watts / W_PER_KW) > TOLERANCE_KW):
                found.append(f"the circuit platform has {got} kW {direction} for {name}, the last change says {watts / W_PER_KW:g} kW")
        if circuit["effective_from"] != rfc3339(change.effective_from):
            found.append(
                f"the circuit platform has a value of {circuit['effective_from']} for {name}, not {rfc3339(change.effective_from)}"
            )
    return found + [f"the circuit platform found: {problem}" for problem in platform.get("problems", [])]
