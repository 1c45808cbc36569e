"""`derms up` as its users meet it: real processes, an independent OSCP peer (pyoscp), independent Kafka clients."""

import contextlib
import io
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import fastavro
import pytest
import yaml
from confluent_kafka import Producer

from gateway.commands.target import Target
from gateway.instance_files import Endpoints
from schemas.intervals import QUARTER, quarter_of
from schemas.units import rfc3339
from sinks.http import fetch
from sinks.settings import KafkaSettings
from tests.builders import T0
from tests.conftest import unique
from tests.integration.running import LIMIT_S, api, call, derms, free_port, process, until, up
from tests.integration.secrecy import found_in, places_of

pytestmark = [pytest.mark.xdist_group("up"), pytest.mark.slow]
HERE = Path(__file__).parent
AVSC = HERE.parents[1] / "schemas" / "avsc"
SPEED = 40
"""A quarter hour takes 23 s; pyoscp knows only the machine's clock, so it is asked for few heartbeats."""
INITIAL_TOKEN = "an-initial-token-from-the-second-partner"


def partner(name: str, **more: Any) -> dict[str, Any]:
    """A partner that is pyoscp: group messages, its heartbeat time, its acknowledgement path."""
    return {
        "id": name,
        "allow_private_addresses": True,
        "legacy": ["NAIVE_HEARTBEAT_TIME"],
        "wants": {"heartbeat_interval": "PT2H"},
        "paths": {"HandshakeAcknowledge": "/handshake_acknowledgment"},
        "measurements": {"messages": ["GROUP"], "unit": "WH", "directions": {"group": ["IMPORT"]}},
        **more,
    }


@dataclass
class World:
    """A running instance and its two pyoscp partners. `quarter` is the quarter hour in which both came online."""

    directory: Path
    endpoints: Endpoints
    peers: dict[str, str]
    quarter: datetime = T0
    secrets: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        """The instance's clock."""
        return Target(self.directory).clock.now()

    def peer(self, name: str, path: str, body: Any = None) -> Any:
        """Call a peer's controls."""
        content = None if body is None else json.dumps(body).encode()
        answer = fetch(
            "GET" if body is None else "POST", self.peers[name] + path, headers={"Content-Type": "application/json"}, content=content
        )
        return json.loads(answer.body) if answer.body else None

    def available_import_w(self) -> float | None:
        """What the circuit may import now."""
        now = api(self.endpoints, "GET", "/circuits/feeder-1")["now"]
        return None if now is None else float(now["available_import_w"])

    def state(self, name: str) -> str:
        """A partner's connection state."""
        return str(api(self.endpoints, "GET", f"/partners/{name}")["state"])


def broker_environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """What tells `derms up` which broker to use; nothing for the embedded one."""
    if request.param == "embedded":
        return {}
    kafka: KafkaSettings = unique(request.getfixturevalue("real_kafka"))
    return {
        "DERMS_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "DERMS_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "DERMS_KAFKA__REPLICATION": "1",
        "DERMS_KAFKA__MIN_INSYNC": "1",
    }


@pytest.fixture(scope="module", params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, broker = tmp_path_factory.mktemp("up"), broker_environment(request)
    ports = {"vector": free_port(), "helen": free_port()}
    (folder / "initial-token").write_text(INITIAL_TOKEN)
    configuration = {
        "circuits": [{"id": "feeder-1", "rated_import_kw": 50, "rated_export_kw": 20}],
        "scopes": [{"id": "mg-1", "circuit_id": "feeder-1"}, {"id": "mg-2"}],
        "assets": [
            {"id": "mg-1-grid", "scope_id": "mg-1", "category": "CONSUMPTION", "connection_meter": True},
            {"id": "mg-2-grid", "scope_id": "mg-2", "category": "CONSUMPTION", "connection_meter": True},
        ],
        "partners": [
            partner("vector"),
            partner("helen", base_url=f"http://127.0.0.1:{ports['helen']}/oscp/cp/2.0", initial_token_file=str(folder / "initial-token")),
        ],
        "groups": [
            {"partner_id": "vector", "group_id": "V-1", "scope_id": "mg-1"},
            {"partner_id": "helen", "group_id": "H-1", "scope_id": "mg-2"},
        ],
        "timing": {"lateness": "PT1S", "register_wait": "PT2S", "idle_after": "PT2S"},
    }
    (folder / "site.yaml").write_text(yaml.safe_dump(configuration))
    with contextlib.ExitStack() as stack:
        for name, port in ports.items():
            (folder / name).mkdir()
            command = [sys.executable, str(HERE / "pyoscp_peer.py"), str(port), str(folder / name)]
            stack.enter_context(process(command, folder / f"{name}.log"))
        endpoints = stack.enter_context(up(folder / "data", "--config", str(folder / "site.yaml"), "--speed", str(SPEED), **broker))
        peers = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        yield World(folder / "data", endpoints, peers)


def single_object(schema: Any, record: dict[str, Any]) -> bytes:
    """Avro single-object encoding by fastavro alone, as a producer elsewhere would do it."""
    # fastavro gives the fingerprint as hex of the bytes in little-endian order.
    head = b"\xc3\x01" + bytes.fromhex(fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO"))
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, record)
    return head + body.getvalue()


def test_both_ways_of_registration_end_online_and_measurements_arrive(world: World) -> None:
    token = derms("partner", "token", "vector", data=world.directory).stdout.splitlines()[-1]
    assert len(token) == 43
    world.secrets.append(token)
    world.peer("vector", "/control/register", {"own_token": "b" * 40, "token": token, "base_url": world.endpoints.oscp_url})
    world.peer("helen", "/control/expect", {"token": INITIAL_TOKEN})
    started = derms("partner", "register", "helen", data=world.directory)
    assert started.returncode == 0, started.stderr
    for name in world.peers:
        until(lambda name=name: world.state(name) == "REGISTERED", f"{name} registered")
        handshake = {"required_behaviour": {"heartbeat_interval": 100, "measurement_configuration": ["INTERMITTENT"]}}
        assert world.peer(name, "/control/say", {"path": "/handshake", "body": handshake})["status"] == 204
        until(lambda name=name: world.state(name) == "ONLINE", f"{name} online")
    world.quarter = quarter_of(world.now())
    for name, group in (("vector", "V-1"), ("helen", "H-1")):
        block = {
            "capacity": 40,
            "phase": "ALL",
            "unit": "KW",
            "start_time": rfc3339(world.quarter),
            "end_time": rfc3339(world.quarter + 4 * QUARTER),
        }
        forecast = {"group_id": group, "type": "CONSUMPTION", "forecasted_blocks": [block]}
        assert world.peer(name, "/control/say", {"path": "/update_group_capacity_forecast", "body": forecast})["status"] == 204
    until(lambda: world.available_import_w() == 40_000, "the circuit follows the forecast")

    schema = fastavro.parse_schema(json.loads((AVSC / "Measurement.avsc").read_text()))
    producer = Producer({"bootstrap.servers": world.endpoints.kafka_bootstrap, "partitioner": "murmur2_random"})
    topic = f"{world.endpoints.topic_prefix}derms.telemetry"
    producer.produce(topic, b"not avro at all", "mg-1-grid")
    # The reading at the end belongs to the next quarter hour, and lets this one close as soon as the clock is there.
    for at in (world.quarter + timedelta(minutes=minute) for minute in range(16)):
        until(lambda at=at: world.now() >= at, f"the clock reads {at}")
        record = {"asset_id": "mg-1-grid", "measured_at": at, "power_w": 6000.0, "import_wh": None, "export_wh": None, "stored_wh": None}
        producer.produce(topic, single_object(schema, {**record, "phase": "ALL", "quality": "GOOD"}), "mg-1-grid")
        assert producer.flush(10) == 0
        posted = [{"asset_id": "mg-2-grid", "measured_at": rfc3339(at), "power_w": 1200.0}]
        assert call(world.endpoints, "POST", "/telemetry", {"measurements": posted}).status == 202

    for name, group, energy_wh in (("vector", "V-1", 1500.0), ("helen", "H-1", 300.0)):
        [message] = until(lambda name=name: world.peer(name, "/control/seen")["measurements"], f"measurements at {name}", 90)
        [entry] = message["measurements"]
        assert message["group_id"] == group
        assert entry["value"] == energy_wh
        assert (entry["initial_measure_time"], entry["measure_time"]) == (rfc3339(world.quarter), rfc3339(world.quarter + QUARTER))
    until(
        lambda: any("decod" in reason or "Avro" in reason for reason in api(world.endpoints, "GET", "/dead-letters")["counts"]),
        "a dead letter",
    )
    least = Counter({("messages", "unreadable"): 1, ("readings", "taken"): 32, ("rows", ""): 2, ("group_rows", ""): 2})
    until(lambda: telemetry_counts(world) >= least, "the flow's report of all that")


def telemetry_counts(world: World) -> Counter[tuple[str, str]]:
    """What the telemetry flow's worker has counted by its last report."""
    flows = api(world.endpoints, "GET", "/status")["flows"]
    return Counter({(each["what"], each["outcome"]): each["count"] for flow in flows for each in flow["workers"][0]["tallies"]})


def test_heartbeats_go_both_ways(world: World) -> None:
    def both() -> bool:
        found = api(world.endpoints, "GET", "/partners/vector")
        return bool(found["last_heartbeat_received_at"] and found["last_heartbeat_delivered_at"])

    until(both, "a heartbeat in and one delivered")


def test_a_bad_forecast_names_the_field(world: World) -> None:
    block = {
        "capacity": -1,
        "phase": "ALL",
        "unit": "KW",
        "start_time": rfc3339(world.quarter),
        "end_time": rfc3339(world.quarter + QUARTER),
    }
    forecast = {"group_id": "V-1", "type": "CONSUMPTION", "forecasted_blocks": [block]}
    answer = world.peer("vector", "/control/say", {"path": "/update_group_capacity_forecast", "body": forecast})
    assert answer["status"] == 400
    found = json.loads(answer["text"])
    assert "message" in found
    assert found["errors"][0]["path"] == "forecasted_blocks[0].capacity"
    forecast = {"group_id": "H-1", "type": "CONSUMPTION", "forecasted_blocks": [{**block, "capacity": 1}]}
    assert world.peer("vector", "/control/say", {"path": "/update_group_capacity_forecast", "body": forecast})["status"] == 404


def test_an_unknown_token_is_refused(world: World) -> None:
    headers = {"Authorization": "Token nobody-has-this-one", "Content-Type": "application/json", "X-Request-ID": "r1"}
    answer = fetch("POST", f"{world.endpoints.oscp_url}/heartbeat", headers=headers, content=b'{"offline_mode_at":"2030-01-01T00:00:00Z"}')
    assert answer.status == 403
    assert "message" in json.loads(answer.body)


def test_the_history_answers_a_plain_client_while_everything_runs(world: World) -> None:
    host, port = world.endpoints.clickhouse_url.removeprefix("http://").split(":")
    client = clickhouse_connect.get_client(host=host, port=int(port), database="derms")
    try:
        until(lambda: client.query("SELECT count() FROM v_quarter_hours WHERE level = 'GROUP'").first_row[0] >= 2, "rows")
        assert client.query("SELECT count() FROM v_telemetry").first_row[0] == 32
    finally:
        client.close()
    asked = derms("sql", "SELECT count() AS n FROM v_telemetry", data=world.directory)
    assert asked.returncode == 0, asked.stderr
    assert "32" in asked.stdout


def processes_of(endpoints: Endpoints) -> list[int]:
    """The instance and its children, by what /proc says."""
    found = [endpoints.pid]
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == endpoints.pid:
                found.append(int(entry.parent.name))
    return found


def test_a_killed_process_comes_back_and_the_work_goes_on(world: World) -> None:
    control = int((world.directory / "run" / "control").read_text())
    os.kill(control, signal.SIGKILL)

    def again() -> bool:
        path = world.directory / "run" / "control"
        return path.exists() and path.read_text().strip() not in ("", str(control))

    until(again, "the control process is back")
    assert world.state("vector") == "ONLINE"
    status = derms("status", data=world.directory)
    assert status.returncode == 0, status.stderr
    assert "readings/s" in status.stdout


def test_a_new_secret_takes_the_old_ones_place_and_no_partner_notices(world: World) -> None:
    file = world.directory / "secret"
    old = file.read_text().strip()
    world.secrets.append(old)
    done = derms("secret", "rotate", data=world.directory, timeout_s=120)
    assert done.returncode == 0, done.stderr
    assert "the old one is removed" in done.stdout
    assert not file.with_name("secret.previous").exists()
    assert file.read_text().strip() not in (old, "")
    assert file.read_text().strip() not in done.stdout
    until(lambda: world.state("vector") == "ONLINE", "the partner is online under the new secret")
    since = world.now()

    def reached() -> bool:
        found = api(world.endpoints, "GET", "/partners/vector")["last_heartbeat_delivered_at"]
        return found is not None and datetime.fromisoformat(found) > since

    until(reached, "our heartbeats still reach it with its token, opened by the new secret")


def test_no_secret_is_in_logs_topics_history_or_pages(world: World) -> None:
    given = [str(known["register"]["token"]) for name in world.peers for known in world.peer(name, "/control/seen")["endpoints"].values()]
    assert len(given) == 2, "each peer has the token we gave it"
    secrets = [
        *given, *world.secrets, INITIAL_TOKEN, "b" * 40, world.endpoints.operator_token(), (world.directory / "secret").read_text().strip(),
    ]  # fmt: skip
    assert len(set(secrets)) == 8
    places = places_of(world.endpoints, world.directory, [world.directory.parent / "up.log"])
    seen = " | ".join(found_in(places, ["vector"]))  # so that what follows can be believed
    assert all(
        f"{place}" in seen for place in ("derms.inbound at", "derms.events at", "table inbound_messages", "answer to /partners/vector")
    )
    assert found_in(places, secrets) == []


def test_sigterm_ends_everything_in_time(world: World) -> None:
    pids = processes_of(world.endpoints)
    assert len(pids) >= 5
    began = time.monotonic()
    os.kill(world.endpoints.pid, signal.SIGTERM)

    def gone() -> bool:
        return not any(alive(pid) for pid in pids)

    until(gone, "all processes are gone", 15)
    assert time.monotonic() - began < 15
    assert not (world.directory / "endpoints.json").exists()


def alive(pid: int) -> bool:
    """Whether the process runs (one that ended and was not collected yet does not)."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_wrong_configuration_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("scopes: [{id: mg-1, circuit_id: nowhere}]\n")
    ended = derms("up", "--data", str(tmp_path / "data"), "--config", str(tmp_path / "bad.yaml"), timeout_s=LIMIT_S)
    assert ended.returncode == 1
    assert "scopes[0].circuit_id: there is no circuit 'nowhere'" in ended.stderr
    assert "Traceback" not in ended.stderr
