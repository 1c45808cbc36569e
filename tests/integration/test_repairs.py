"""Late readings, late configuration and data from before, on a running instance: what the history and the partner see of it."""

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
import yaml

from gateway.commands.target import Target
from gateway.instance_files import Endpoints
from schemas.intervals import QUARTER, quarter_of
from schemas.units import rfc3339
from sinks.http import fetch
from tests.integration.running import api, call, derms, free_port, process, until, up

pytestmark = [pytest.mark.xdist_group("repairs"), pytest.mark.slow]
HERE = Path(__file__).parent
SPEED = 120
"""A quarter hour takes 7.5 s, a quarter leaves the correction horizon 12 s after its end."""
MINUTE = timedelta(minutes=1)


def site() -> dict[str, Any]:
    partner = {
        "id": "vector", "allow_private_addresses": True, "legacy": ["NAIVE_HEARTBEAT_TIME"], "wants": {"heartbeat_interval": None},
        "paths": {"HandshakeAcknowledge": "/handshake_acknowledgment"},
        "measurements": {"messages": ["GROUP"], "unit": "WH", "directions": {"group": ["IMPORT"]}},
    }  # fmt: skip
    return {
        "scopes": [{"id": "mg-1"}, {"id": "mg-2"}],
        "assets": [{"id": "load", "scope_id": "mg-1", "category": "CONSUMPTION"}],
        "partners": [partner],
        "groups": [{"partner_id": "vector", "group_id": "V-1", "scope_id": "mg-1"}],
        "timing": {"lateness": "PT1S", "idle_after": "PT1S", "max_interpolation": "PT15M", "correction_horizon": "PT15M"},
    }


@dataclass
class World:
    """A running instance, its history and its partner (pyoscp)."""

    folder: Path
    endpoints: Endpoints
    peer: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def now(self) -> datetime:
        return Target(self.data).clock.now()

    def ask(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Rows of the history."""
        host, port = self.endpoints.clickhouse_url.removeprefix("http://").split(":")
        client = clickhouse_connect.get_client(host=host, port=int(port), database="derms", tz_mode="aware")
        try:
            return list(client.query(sql, parameters=parameters).named_results())
        finally:
            client.close()

    def rows(self, name: str, first: datetime, last: datetime, revision: int | None = None) -> list[dict[str, Any]]:
        """The last rows of an asset or group in a stretch of time, or those of them that are of a revision."""
        fields = "start, import_wh, revision, origin, samples"
        found = self.ask(f"SELECT {fields} FROM v_quarter_hours WHERE id = {{name:String}} ORDER BY start", name=name)
        return [row for row in found if first <= row["start"] < last and revision in (None, row["revision"])]

    def post(self, asset: str, readings: dict[datetime, float]) -> None:
        posted = [{"asset_id": asset, "measured_at": rfc3339(at), "power_w": power} for at, power in readings.items()]
        assert call(self.endpoints, "POST", "/telemetry", {"measurements": posted}).status == 202

    def control(self, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = fetch("GET" if body is None else "POST", self.peer + path, headers=headers, content=content)
        return json.loads(answer.body) if answer.body else None

    def told(self) -> list[tuple[str, float]]:
        """Start and energy of every entry the partner got."""
        messages = self.control("/control/seen")["measurements"]
        return [(entry["initial_measure_time"], entry["value"]) for message in messages for entry in message["measurements"]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, port = tmp_path_factory.mktemp("repairs"), free_port()
    (folder / "site.yaml").write_text(yaml.safe_dump(site()))
    (folder / "peer").mkdir()
    with contextlib.ExitStack() as stack:
        command = [sys.executable, str(HERE / "pyoscp_peer.py"), str(port), str(folder / "peer")]
        stack.enter_context(process(command, folder / "peer.log"))
        endpoints = stack.enter_context(up(folder / "data", "--config", str(folder / "site.yaml"), "--speed", str(SPEED)))
        yield World(folder, endpoints, f"http://127.0.0.1:{port}")


def test_a_backfill_makes_rows_and_tells_nobody(world: World) -> None:
    begin = quarter_of(world.now()) - timedelta(days=30)
    lines = [f"load,{rfc3339(begin + n * MINUTE)},,{1000 + 20 * n}," for n in range(0, 61, 5)]
    file = world.folder / "before.csv"
    file.write_text("\n".join(["asset_id,measured_at,power_w,import_wh,export_wh", *reversed(lines), "load,yesterday,1,,"]))
    loaded = derms("telemetry", "backfill", str(file), "--skip-bad", "--batch", "5", data=world.data)
    assert loaded.returncode == 0, loaded.stderr
    assert "line 15, measured_at" in loaded.stdout
    assert "13 readings of 1 assets sent" in loaded.stdout
    assert "4 rows of assets and 4 of groups written" in loaded.stdout
    for name in ("load", "V-1"):
        rows = until(partial(world.rows, name, begin, begin + 4 * QUARTER), f"rows of {name}")
        assert [(row["import_wh"], row["revision"], row["origin"]) for row in rows] == [(300.0, 1, "BACKFILL")] * 4
    again = derms("telemetry", "backfill", str(file), "--skip-bad", data=world.data)
    assert "0 rows of assets and 0 of groups written" in again.stdout, again.stderr
    assert api(world.endpoints, "GET", "/messages")["items"] == []


def test_an_asset_that_is_configured_late_gets_its_quarters(world: World) -> None:
    begin = quarter_of(world.now()) - timedelta(hours=5)
    world.post("new", {begin + n * MINUTE: 600.0 for n in range(30)})
    configured = site()
    configured["assets"].append({"id": "new", "scope_id": "mg-2", "category": "CONSUMPTION"})
    (world.folder / "more.yaml").write_text(yaml.safe_dump(configured))
    assert derms("config", "apply", str(world.folder / "more.yaml"), data=world.data).returncode == 0
    end = begin + timedelta(hours=1)
    repaired = derms("telemetry", "repair", "--from", rfc3339(begin), "--to", rfc3339(end), "--asset", "new", data=world.data)
    assert repaired.returncode == 0, repaired.stderr
    assert "2 rows of assets and 0 of groups written" in repaired.stdout
    rows = until(lambda: world.rows("new", begin, end), "rows of the new asset")
    assert [(row["import_wh"], row["revision"], row["origin"]) for row in rows] == [(150.0, 1, "REPAIR")] * 2


def test_late_readings_repair_their_quarter_and_the_partner_hears_of_it(world: World) -> None:
    token = derms("partner", "token", "vector", data=world.data).stdout.splitlines()[-1]
    world.control("/control/register", {"own_token": "b" * 40, "token": token, "base_url": world.endpoints.oscp_url})
    until(lambda: api(world.endpoints, "GET", "/partners/vector")["state"] == "REGISTERED", "registered")
    handshake = {"required_behaviour": {"measurement_configuration": ["INTERMITTENT"]}}
    assert world.control("/control/say", {"path": "/handshake", "body": handshake})["status"] == 204
    until(lambda: api(world.endpoints, "GET", "/partners/vector")["state"] == "ONLINE", "online")

    quarter = quarter_of(world.now()) + QUARTER
    until(lambda: world.now() >= quarter + QUARTER, "the quarter is over")
    world.post("load", {quarter + n * MINUTE: 1200.0 for n in range(15)})
    until(lambda: (rfc3339(quarter), 300.0) in world.told(), "the quarter is told")
    until(lambda: world.now() >= quarter + timedelta(minutes=38), "the quarter has left the horizon")
    # The first brings event time along.
    world.post("load", {world.now(): 1200.0, quarter + 14 * MINUTE + timedelta(seconds=30): 13200.0})
    for name in ("load", "V-1"):
        [row] = until(partial(world.rows, name, quarter, quarter + QUARTER, revision=2), f"{name} is repaired")
        assert (row["import_wh"], row["origin"], row["samples"]) == (400.0, "REPAIR", 16)
    until(lambda: (rfc3339(quarter), 400.0) in world.told(), "the correction is told")
    assert [value for start, value in world.told() if start == rfc3339(quarter)] == [300.0, 400.0]
    told = until(lambda: world.ask("SELECT words FROM v_connection_events WHERE kind = 'quarters_repaired'"), "an event")
    assert [event["words"] for event in told] == [f"load: late readings changed the quarter hour from {rfc3339(quarter)}"]
