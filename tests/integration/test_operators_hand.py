"""The operator's hand as people use it: wishes, errors and limits by commands, with a whole instance and a peer (semantics 7.4)."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.commands.target import Target
from gateway.instance_files import Endpoints
from gateway.process_report import processes_of
from gateway.simulator_config import SimulatorConfig, day_ahead
from schemas.units import rfc3339
from sinks.http import fetch
from tests.integration.running import api, derms, process, until, up

pytestmark = [pytest.mark.xdist_group("hand"), pytest.mark.slow]
SPEED = 20
HOUR = timedelta(hours=1)
SITE = {
    "circuits": [{"id": "feeder-1", "rated_import_kw": 250, "rated_export_kw": 100}],
    "scopes": [{"id": "mg-1", "circuit_id": "feeder-1", "time_zone": "Pacific/Auckland"}],
    "assets": [{"id": "mg-1-grid", "scope_id": "mg-1", "category": "CONSUMPTION", "connection_meter": True}],
    "partners": [{"id": "vector", "allow_private_addresses": True, "wants": {"heartbeat_interval": "PT1H"}, "max_body": 1024}],
    "groups": [{"partner_id": "vector", "group_id": "V-1", "scope_id": "mg-1"}],
}


@dataclass
class World:
    """A running instance and its simulated partner, which has sent a day of 100 kW."""

    directory: Path
    endpoints: Endpoints
    peer_url: str

    def now(self) -> datetime:
        """The instance's clock."""
        return Target(self.directory).clock.now()

    def peer(self, path: str, body: Any = None) -> Any:
        """Call the peer's controls."""
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = fetch("GET" if body is None else "POST", f"{self.peer_url}/simulator{path}", headers=headers, content=content)
        assert answer.status < 300, answer.body
        return json.loads(answer.body) if answer.body else None

    def available(self) -> tuple[float | None, str]:
        """What the circuit may import now, and why."""
        now = api(self.endpoints, "GET", "/circuits/feeder-1")["now"]
        return (None, "") if now is None else (now["available_import_w"], now["import_kind"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("hand")
    (folder / "site.yaml").write_text(yaml.safe_dump(SITE))
    data, ready = folder / "data", folder / "simulator.ready"
    with up(data, "--config", str(folder / "site.yaml"), "--speed", str(SPEED)) as endpoints:
        token = derms("partner", "token", "vector", data=data).stdout.splitlines()[-1]
        clock = endpoints.clock
        begins = Target(data).clock.now().replace(minute=0, second=0, microsecond=0)
        config = SimulatorConfig(
            fp_base_url=endpoints.oscp_url,
            token_a=token,
            group_id="V-1",
            origin=datetime.fromisoformat(clock["origin"]),
            started=datetime.fromisoformat(clock["started"]),
            speed=clock["speed"],
            heartbeat_interval_s=3600,
            forecasts=[day_ahead(begins, 100)],
        )
        (folder / "simulator.json").write_text(config.model_dump_json())
        command = [sys.executable, "-m", "gateway.simulator", "--config", str(folder / "simulator.json"), "--ready", str(ready)]
        with process(command, folder / "simulator.log"):
            until(ready.exists, "the simulator is ready")
            found = World(data, endpoints, json.loads(ready.read_text())["url"])
            until(lambda: found.available() == (100_000, "FORECAST"), "the day's forecast is in force")
            yield found
            # nothing an operator asks for may end a flow: what does comes again after every start
            died = {name: each for name, each in processes_of(data / "run" / "processes.json").items() if each["restarts"]}
            assert not died, (folder / "up.log").read_text()


def wish(world: World, folder: Path, start: timedelta, end: timedelta, kw: float, *more: str) -> Any:
    """`derms adjust` for a time from now on."""
    now = world.now()
    times = {"start_time": rfc3339(now + start), "end_time": rfc3339(now + end)}
    file = folder / "blocks.yaml"
    file.write_text(yaml.safe_dump([{"capacity": kw, "phase": "ALL", "unit": "KW", **times}]))
    return derms("adjust", "vector", "V-1", "--type", "CONSUMPTION", "--file", str(file), *more, data=world.directory)


def standing(world: World, command_id: str) -> dict[str, Any]:
    items = api(world.endpoints, "GET", "/commands")["items"]
    return next((item["standing"] for item in items if item["id"] == command_id), {"state": "", "answer": None})


@pytest.mark.parametrize("agrees", ["NAMED", "UNNAMED"])
def test_a_wish_is_followed_to_the_forecast_that_answers_it(world: World, tmp_path: Path, agrees: str) -> None:
    world.peer("/switches", {"agrees": agrees})
    kw = 150.0 if agrees == "NAMED" else 160.0
    ended = wish(world, tmp_path, timedelta(0), HOUR, kw, "--follow")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1].startswith("answered: answered by forecast")
    until(lambda: world.available() == (kw * 1000, "FORECAST"), "the answer is in force")
    command_id = ended.stdout.splitlines()[0].split()[-1].rstrip(")")
    found = standing(world, command_id)
    heard = [each["body"] for each in world.peer("/report")["adjustments"]]
    assert heard[-1]["forecasted_blocks"][0]["capacity"] == kw
    kept = api(world.endpoints, "GET", "/forecasts?group_id=V-1&type=CONSUMPTION")
    assert found["answer"] in {line["forecast"] for line in kept["received"]}
    world.peer("/switches", {})


def test_a_wish_nobody_answers_is_over_with_its_time(world: World, tmp_path: Path) -> None:
    ended = wish(world, tmp_path, timedelta(0), timedelta(seconds=6 * SPEED), 120, "--follow")
    assert ended.returncode == 1
    assert ended.stdout.splitlines()[-1].startswith("expired: no forecast answered it by")
    assert api(world.endpoints, "GET", "/adjustments?state=EXPIRED")["items"][0]["group_id"] == "V-1"


def test_a_wish_too_long_for_the_partner_arrives_whole_in_segments(world: World, tmp_path: Path) -> None:
    world.peer("/switches", {"max_body": 1024})
    now, before = world.now(), world.peer("/report")["segmented"]
    starts = [now + number * HOUR for number in range(1, 21)]
    blocks = [
        {"capacity": 90, "phase": "ALL", "unit": "KW", "start_time": rfc3339(start), "end_time": rfc3339(start + HOUR)} for start in starts
    ]
    (tmp_path / "blocks.yaml").write_text(yaml.safe_dump(blocks))
    asked = derms("adjust", "vector", "V-1", "--type", "CONSUMPTION", "--file", str(tmp_path / "blocks.yaml"), data=world.directory)
    assert asked.returncode == 0, asked.stderr
    report = until(lambda: (found := world.peer("/report"))["segmented"] == before + 1 and found, "the wish arrived")
    assert len(report["adjustments"][-1]["body"]["forecasted_blocks"]) == 20
    assert report["problems"] == []
    delivered = "/messages?action=AdjustGroupCapacityForecast&outcome=DELIVERED"
    until(lambda: "segments" in api(world.endpoints, "GET", delivered)["items"][0]["words"], "the newest is known to have gone in segments")
    world.peer("/switches", {})


def test_an_error_by_hand_names_its_forecast(world: World) -> None:
    forecast = api(world.endpoints, "GET", "/forecasts?group_id=V-1&type=CONSUMPTION")["received"][-1]["forecast"]
    ended = derms(
        "compliance-error", "vector", "V-1", "--forecast", forecast, "--message", "the feeder is out", "--follow", data=world.directory
    )
    assert ended.returncode == 0, ended.stderr
    report = world.peer("/report")
    assert [each["correlation_id"] for each in report["compliance_errors"]] == [forecast]
    assert report["problems"] == []


def test_a_limit_of_our_own_is_the_lower_one_until_it_is_lifted(world: World) -> None:
    before = world.available()
    now = world.now()
    times = ("--from", rfc3339(now - HOUR), "--to", rfc3339(now + 2 * HOUR))
    ended = derms("limit", "mg-1", "--direction", "IMPORT", *times, "--kw", "30", "--why", "works", data=world.directory)
    assert ended.returncode == 0, ended.stderr
    until(lambda: world.available() == (30_000, "OPERATOR"), "our own limit holds")
    command_id = ended.stdout.split()[-1].rstrip(")")
    assert standing(world, command_id)["state"] == "IN_FORCE"
    assert derms("limit", "mg-1", "--direction", "IMPORT", *times, "--lift", data=world.directory).returncode == 0
    until(lambda: world.available()[1] == "FORECAST", "the partner's forecast alone holds again")
    assert before[1] == "FORECAST"
    listed = derms("requests", data=world.directory).stdout
    assert "Limit a scope" in listed


def error(world: World, message: str) -> str:
    """A compliance error asked for through the API; the id of its message."""
    forecast = api(world.endpoints, "GET", "/forecasts?group_id=V-1&type=CONSUMPTION")["received"][-1]["forecast"]
    body = {"partner_id": "vector", "group_id": "V-1", "forecast": forecast, "message": message}
    draft = api(world.endpoints, "POST", "/commands/compliance-error/preview", body)
    api(world.endpoints, "POST", "/commands/compliance-error", {**body, "command_id": draft["command_id"]})
    return str(draft["message_id"])


def message(world: World, message_id: str) -> dict[str, Any]:
    """How a message to the partner stands; nothing where it is not known yet."""
    found = {item["message_id"]: item for item in api(world.endpoints, "GET", "/messages?outcome=WAITING")["items"]}
    return found.get(message_id, {"stand": "", "why": ""})


def test_a_message_that_fails_is_given_up_or_sent_again_by_hand(world: World) -> None:
    world.peer("/switches", {"answers": [{"kind": "STATUS", "actions": ["GroupCapacityComplianceError"], "count": None}]})
    first, second = error(world, "given up"), error(world, "sent again")
    until(lambda: message(world, first)["stand"] == "RETRY", "the first failed")
    assert "tried" in message(world, first)["why"]
    until(lambda: message(world, second)["why"], "the second says why it waits")
    given_up = derms("messages", "drop", first, data=world.directory)
    assert (given_up.returncode, given_up.stdout.splitlines()[-1]) == (0, "dropped: dropped by instance"), given_up.stderr
    until(lambda: message(world, second)["stand"] == "RETRY", "its turn came, and it failed")
    assert api(world.endpoints, "POST", f"/messages/{second}/retry")["kind"] == "RETRY_MESSAGE"
    world.peer("/switches", {})
    until(lambda: api(world.endpoints, "GET", f"/messages/{second}")["outcome"] == "DELIVERED", "the second is delivered")
    told = [each["message"] for each in world.peer("/report")["compliance_errors"]]
    assert told[-1] == "sent again"
    assert "given up" not in told
    over = derms("messages", "retry", first, data=world.directory)
    assert (over.returncode, "dropped already" in over.stderr) == (1, True)
    listed = derms("messages", "list", "--action", "GroupCapacityComplianceError", "--state", "dropped", data=world.directory).stdout
    assert first in listed
