"""pyoscp as a Capacity Provider in a process of its own: `python pyoscp_peer.py PORT FOLDER`.

pyoscp sends only register, acknowledgement and heartbeat; what else a test wants said goes through `/control/say`.
"""

import logging
import sys
import threading
import warnings
from pathlib import Path

warnings.simplefilter("ignore")

import requests  # noqa: E402
from flask import Flask, jsonify, request  # noqa: E402
from oscp import createBlueprint  # noqa: E402
from oscp.RegistrationManager import RegistrationDictMan, createOscpHeader, lock  # noqa: E402


class Quick(RegistrationDictMan):
    """The stock manager with a tick of a fifth of a second instead of five."""

    def __init__(self, version_urls: list[dict[str, str]], filename: str) -> None:
        super().__init__(version_urls, filename)

        def tick() -> None:
            pause = threading.Event()
            while not pause.wait(0.2):
                self._background_job()

        self.t = threading.Thread(target=tick, daemon=True)


class Provider:
    """The handlers pyoscp asks its user for: they remember what came."""

    def __init__(self) -> None:
        self.measurements: list[dict[str, object]] = []
        self.errors: list[dict[str, object]] = []
        self.adjustments: list[dict[str, object]] = []

    def handleUpdateGroupMeasurements(self, payload: dict[str, object], token: str) -> None:
        self.measurements.append(payload)

    def handleGroupCapacityComplianceError(self, payload: dict[str, object], token: str) -> None:
        self.errors.append({**payload, "correlation": request.headers.get("X-Correlation-ID")})

    def handleAdjustGroupCapacityForecast(self, payload: dict[str, object], token: str) -> None:
        self.adjustments.append(payload)


def build(port: int, folder: Path) -> Flask:
    """The Flask app with pyoscp's blueprint and the test's controls."""
    provider = Provider()
    manager = Quick([{"version": "2.0", "base_url": f"http://127.0.0.1:{port}/oscp/cp/2.0"}], str(folder / "endpoints.json"))
    app = Flask("pyoscp-peer")
    app.register_blueprint(createBlueprint({"capacityprovider": provider, "registrationmanager": manager}, "cp"))

    @app.post("/control/expect")
    def expect() -> tuple[str, int]:
        """Know a token A that the other side will register with (it starts)."""
        manager._updateService(request.json["token"], None, None)
        return "", 204

    @app.post("/control/register")
    def register() -> tuple[str, int]:
        """Start the registration ourselves, with the other side's token A."""
        wanted = request.json
        with lock:
            endpoints = manager.readJson()
            endpoints[wanted["own_token"]] = {
                "register": {"base_url": wanted["base_url"], "token": wanted["token"]},
                "should_register": True,
            }
            manager.writeJson(endpoints)
        return "", 204

    @app.post("/control/say")
    def say() -> tuple[object, int]:
        """Send any message to the other side with the token it gave us; status 0 while it has given none."""
        wanted = request.json
        with lock:
            endpoint = next((known["register"] for known in manager.readJson().values() if "register" in known), None)
        if endpoint is None:
            return jsonify(status=0), 200
        headers = createOscpHeader(endpoint["token"])
        answer = requests.post(endpoint["base_url"] + wanted["path"], headers=headers, json=wanted["body"], timeout=10)
        return jsonify(status=answer.status_code, request_id=headers["X-Request-ID"], text=answer.text), 200

    @app.get("/control/seen")
    def seen() -> object:
        """Everything that came."""
        with lock:
            known = manager.readJson()
        return jsonify(endpoints=known, measurements=provider.measurements, errors=provider.errors, adjustments=provider.adjustments)

    manager.start()
    return app


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    build(int(sys.argv[1]), Path(sys.argv[2])).run("127.0.0.1", int(sys.argv[1]), threaded=True)
