"""Health for machines, and metrics."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.auth import Role
from gateway.circuit_owed import OWED_CATALOGUE
from gateway.flow_metrics import FLOW_CATALOGUE
from gateway.metrics import CATALOGUE
from gateway.partner_metrics import PARTNER_CATALOGUE
from gateway.process_report import processes_of
from gateway.readiness import Readiness
from sinks.errors import Unavailable
from tests.gateway.operations_world import World


async def well() -> None:
    return


async def away() -> None:
    raise Unavailable("10.0.0.7:9092 does not answer")


async def slow() -> None:
    await asyncio.sleep(5)


def test_live_and_ready_are_open(tmp_path: Path) -> None:
    world = World(tmp_path, checks={"history": well})
    assert world.ask("GET", "/health/live").json() == {"status": "ok"}
    answer = world.ask("GET", "/health/ready", host="http://anything")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "checks": {"broker": "ok", "history": "ok"}})


def test_a_check_that_breaks_is_not_ready_rather_than_an_error(tmp_path: Path) -> None:
    async def broken() -> None:
        raise KeyError("a defect of ours")

    answer = World(tmp_path, checks={"picture": broken}).ask("GET", "/health/ready")
    assert (answer.status_code, answer.json()["checks"]["picture"]) == (503, "failed")


def test_however_many_ask_the_checks_run_once_at_a_time() -> None:
    ran = 0

    async def counted() -> None:
        nonlocal ran
        ran += 1
        await asyncio.sleep(0)

    async def scene() -> None:
        readiness = Readiness()
        found = await asyncio.gather(*(readiness.answers({"broker": counted}) for _ in range(50)))
        assert found == [{"broker": "ok"}] * 50
        assert ran == 1
        await readiness.answers({"broker": counted})
        assert ran == 2

    asyncio.run(scene())


def test_what_does_not_answer_is_named_without_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.readiness.CHECK_WITHIN_S", 0.05)
    world = World(tmp_path, checks={"broker": away, "history": slow, "picture": well})
    answer = world.ask("GET", "/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"] == {"broker": "unavailable", "history": "no answer within 0.05 s", "picture": "ok"}
    assert "10.0.0.7" not in answer.text
    status = world.ask("GET", "/api/v1/status", Role.VIEWER).json()
    assert (status["ready"], status["checks"]["broker"]) == (False, "unavailable")


def test_the_broker_is_always_asked(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.connections.away = True
    assert world.ask("GET", "/health/ready").json() == {"status": "unavailable", "checks": {"broker": "unavailable"}}


def process(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "pid": 4711, "deaths": 0, "running": True, "ready": True, "last_words": ""} | changes


def test_a_process_that_does_not_run_is_named(tmp_path: Path) -> None:
    file = tmp_path / "processes.json"
    world = World(tmp_path, processes=lambda: processes_of(file))
    assert world.ask("GET", "/health/ready").json() == {"status": "ok", "checks": {"broker": "ok"}}
    assert world.ask("GET", "/api/v1/status", Role.VIEWER).json()["processes"] is None

    dead = process("archive", pid=None, deaths=3, running=False, ready=False, last_words="10.0.0.7:8123 refused")
    file.write_text(json.dumps({"processes": [process("telemetry"), dead, process("control", ready=False)]}))
    answer = world.ask("GET", "/health/ready")
    assert answer.status_code == 503
    seen = {"broker": "ok", "process telemetry": "ok", "process archive": "is not running", "process control": "is starting"}
    assert answer.json()["checks"] == seen
    assert "10.0.0.7" not in answer.text
    status = world.ask("GET", "/api/v1/status", Role.VIEWER).json()
    assert status["ready"] is False
    assert status["checks"] == seen | {"process archive": "is not running: 10.0.0.7:8123 refused"}
    assert status["processes"]["archive"]["restarts"] == 3
    assert status["processes"]["telemetry"]["pid"] == 4711

    file.write_text(json.dumps({"processes": [process("archive", deaths=3)]}))
    assert world.ask("GET", "/health/ready").status_code == 200


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"processes": 1}', '{"processes": [{"name": "x"}]}', '{"processes": [7]}'])
def test_a_torn_report_says_nothing(tmp_path: Path, text: str) -> None:
    assert processes_of(tmp_path / "absent.json") == {}
    (tmp_path / "processes.json").write_text(text)
    assert processes_of(tmp_path / "processes.json") == {}


def test_metrics_are_prometheus_text_of_the_whole_catalogue(tmp_path: Path) -> None:
    answer = World(tmp_path).ask("GET", "/metrics")
    assert answer.status_code == 200
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert set(families) == {metered.name for metered in (*CATALOGUE, *PARTNER_CATALOGUE, *OWED_CATALOGUE, *FLOW_CATALOGUE)}

    def value(name: str, **labels: str) -> float:
        return next(sample.value for sample in families[name].samples if sample.labels == labels)

    assert value("derms_partner_state", partner="vector", state="ONLINE") == 1
    assert value("derms_open_breaches") == 1
    assert value("derms_event_time_lag_seconds") == 700
    assert value("derms_circuit_available_watts", circuit="sceaux-feeder", direction="import") == 1100
    assert value("derms_dead_letters", reason="unknown asset") == 15
    assert value("derms_delivery_attempts", partner="vector", action="GroupCapacityComplianceError", outcome="DELIVERED") == 6
    assert value("derms_heartbeat_age_seconds", partner="vector", direction="in") == 110


def test_metrics_from_another_machine_need_a_viewer(tmp_path: Path) -> None:
    world = World(tmp_path, hosts=["derms.example"])
    far = {"address": "10.1.2.3", "host": "http://derms.example"}
    assert world.ask("GET", "/metrics", **far).status_code == 401
    assert world.ask("GET", "/metrics", Role.PRODUCER, **far).status_code == 403
    assert world.ask("GET", "/metrics", Role.VIEWER, **far).status_code == 200
    assert world.ask("GET", "/metrics", headers={"X-Forwarded-For": "10.1.2.3"}).status_code == 401
    assert world.ask("GET", "/metrics", address="::1").status_code == 200
