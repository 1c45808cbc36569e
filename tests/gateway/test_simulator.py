"""The simulated Capacity Provider against a tiny Flexibility Provider on loopback: its life, and what it finds wrong."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response

from gateway.simulator import SimulatedProvider
from gateway.simulator_config import SimulatorConfig, day_ahead, emergency
from gateway.simulator_ledger import Ledger
from gateway.simulator_reception import BASE_PATH, Reception
from gateway.simulator_server import Listener
from gateway.simulator_switches import Misanswer, Switches
from schemas.clock import FrozenClock
from schemas.intervals import QUARTER
from schemas.oscp.v20 import Action, ForecastType, MeasurementConfiguration, UpdateGroupCapacityForecast
from schemas.units import rfc3339
from sinks.errors import Unavailable
from sinks.http import Answer, HttpClient, fetch
from tests.builders import T0
from tests.schemas.golden import oscp_example

SPEED = 3600.0
INTERVAL_S = 360.0  # a tenth of a wall second at that speed
DEADLINE_S = 10.0


class FlexibilityProvider:
    """Just enough of one: takes a registration, calls back, acknowledges, keeps what it hears."""

    def __init__(self, asks_heartbeats: float | None = INTERVAL_S) -> None:
        self.heard: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.asks_heartbeats = asks_heartbeats
        self.unavailable = 0
        self.peer_url = self.peer_token = ""
        self.client = HttpClient(allow_private=True)
        self.background: set[asyncio.Task[Answer]] = set()
        app = FastAPI()
        app.add_api_route("/oscp/fp/2.0/{action}", self.take, methods=["POST"])
        self.listener = Listener(app, "127.0.0.1", 0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}/oscp/fp/2.0"

    async def take(self, action: str, request: Request) -> Response:
        if self.unavailable:
            self.unavailable -= 1
            return Response(b'{"message":"starting"}', status_code=503, headers={"Retry-After": "0"})
        body = await request.json()
        token = {"register": "token-a"}.get(action, "token-c")
        if request.headers.get("authorization") != f"Token {token}":
            return Response(b'{"message":"invalid token"}', status_code=403)
        self.heard.append((action, dict(request.headers), body))
        if action == "register":
            self.peer_url, self.peer_token = body["version_url"][0]["base_url"], body["token"]
            register = {"token": "token-c", "version_url": [{"version": "2.0", "base_url": self.url}]}
            self.later("register", register, request.headers.get("x-request-id", "made up"))
        if action == "handshake":
            behaviour: dict[str, Any] = {"measurement_configuration": ["INTERMITTENT"]}
            if self.asks_heartbeats:
                behaviour["heartbeat_interval"] = self.asks_heartbeats
            self.later("handshake_acknowledge", {"required_behaviour": behaviour}, request.headers.get("x-request-id", "made up"))
        return Response(status_code=204)

    def later(self, action: str, body: dict[str, Any], correlation: str) -> None:
        task = asyncio.create_task(self.send(action, body, correlation=correlation))
        self.background.add(task)

    async def send(
        self, action: str, body: Any, *, correlation: str | None = None, request_id: str | None = None, **headers: str
    ) -> Answer:
        plain = {"Authorization": f"Token {self.peer_token}", "Content-Type": "application/json"}
        plain["X-Request-ID"] = request_id or f"id-{os.urandom(6).hex()}"
        if correlation:
            plain["X-Correlation-ID"] = correlation
        return await self.client.request(
            "POST", f"{self.peer_url}/{action}", headers={**plain, **headers}, content=json.dumps(body).encode()
        )

    def actions(self, name: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
        return [(headers, body) for action, headers, body in self.heard if action == name]


async def eventually(holds: Callable[[], Any], words: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, words
        await asyncio.sleep(0.01)


def config(fp_url: str, **changes: Any) -> SimulatorConfig:
    plain: dict[str, Any] = {
        "fp_base_url": fp_url,
        "token_a": "token-a",
        "group_id": "VEC-0001",
        "origin": T0,
        "started": datetime.now(UTC),
        "speed": SPEED,
        "heartbeat_interval_s": 36_000,
    }
    return SimulatorConfig.model_validate({**plain, **changes})


def played(story: Callable[[FlexibilityProvider, SimulatedProvider], Awaitable[None]], **changes: Any) -> None:
    """Run a story with both sides up."""

    async def run() -> None:
        fp = FlexibilityProvider(changes.pop("asks_heartbeats", INTERVAL_S))
        await fp.listener.start()
        simulated = SimulatedProvider(config(fp.url, **changes))
        await simulated.start()
        try:
            await story(fp, simulated)
        finally:
            await simulated.stop()
            await asyncio.gather(*fp.background)
            await fp.client.aclose()
            await fp.listener.stop()

    asyncio.run(run())


def energies(start: datetime = T0 - QUARTER, value: float = 1.05, **changes: Any) -> dict[str, Any]:
    energy = {
        "value": value,
        "phase": "ALL",
        "unit": "KWH",
        "direction": "EXPORT",
        "measure_time": rfc3339(start + QUARTER),
        "initial_measure_time": rfc3339(start),
        **changes,
    }
    entry = {
        "asset_id": "mg-1-pv",
        "asset_category": "GENERATION",
        "energy_measurement": {k: v for k, v in energy.items() if v is not None},
    }
    return {"group_id": "VEC-0001", "measurements": [entry]}


def test_the_whole_story():
    breach_at = T0 + timedelta(minutes=30)
    forecasts = [
        day_ahead(T0, 60),
        day_ahead(T0, 40, ForecastType.GENERATION),
        emergency(breach_at, breach_at + timedelta(hours=1), 5),
    ]

    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: len(fp.actions("update_group_capacity_forecast")) == 3, "three forecasts")
        await eventually(lambda: len(fp.actions("heartbeat")) >= 3, "three heartbeats")
        (register_headers, register_body), *_ = fp.actions("register")
        assert register_body["token"] == simulated.reception.credentials.newest
        assert register_headers["x-request-id"]
        assert fp.actions("handshake")[0][1] == {
            "required_behaviour": {"heartbeat_interval": 36000.0, "measurement_configuration": ["INTERMITTENT"]}
        }
        (_, day), (_, generation), (emergency_headers, sudden) = fp.actions("update_group_capacity_forecast")
        assert (day["type"], len(day["forecasted_blocks"])) == ("CONSUMPTION", 96)
        assert (generation["type"], generation["forecasted_blocks"][95]["end_time"]) == ("GENERATION", rfc3339(T0 + timedelta(days=1)))
        assert sudden["forecasted_blocks"] == [
            {
                "capacity": 5.0,
                "phase": "ALL",
                "unit": "KW",
                "start_time": rfc3339(breach_at),
                "end_time": rfc3339(breach_at + timedelta(hours=1)),
            }
        ]
        assert simulated.ledger.forecasts[emergency_headers["x-request-id"]][0] >= breach_at

        assert (await fp.send("update_asset_measurements", energies(value=1))).status == 204
        assert (await fp.send("update_asset_measurements", energies(value=1.05))).status == 204
        error = {"message": "too much", "forecasted_blocks": [{**sudden["forecasted_blocks"][0], "end_time": rfc3339(breach_at + QUARTER)}]}
        forecast_id = emergency_headers["x-request-id"]
        assert (await fp.send("group_capacity_compliance_error", error, correlation=forecast_id)).status == 204
        beat = {"offline_mode_at": rfc3339(simulated.clock.now() + timedelta(hours=30))}
        assert (await fp.send("heartbeat", beat)).status == 204
        report = json.loads((await fp.client.request("GET", f"{simulated.url}/simulator/report")).body)
        assert report["problems"] == []
        assert report["state"] == "ONLINE"
        assert report["fp_base_url"] == fp.url
        assert report["heard"] == {
            "Register": 1,
            "HandshakeAcknowledge": 1,
            "UpdateAssetMeasurements": 2,
            "GroupCapacityComplianceError": 1,
            "Heartbeat": 1,
        }
        assert report["said"]["Register 204"] == report["said"]["Handshake 204"] == 1
        assert report["said"]["UpdateGroupCapacityForecast 204"] == 3
        assert report["energies"] == [{"id": "mg-1-pv", "direction": "EXPORT", "start": rfc3339(T0 - QUARTER), "wh": 1050.0}]
        assert [each["correlation_id"] for each in report["compliance_errors"]] == [forecast_id]
        assert [each["type"] for each in report["forecasts"]] == ["CONSUMPTION", "GENERATION", "CONSUMPTION"]
        assert json.loads((await fp.client.request("GET", f"{simulated.url}/simulator/state")).body)["state"] == "ONLINE"

    played(story, forecasts=forecasts)


def test_heartbeats_come_at_the_interval_asked_and_promise_three():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: len(fp.actions("heartbeat")) >= 4, "four heartbeats")
        promises = [datetime.fromisoformat(body["offline_mode_at"]) for _, body in fp.actions("heartbeat")]
        interval = timedelta(seconds=INTERVAL_S)
        assert all(later - earlier >= interval / 2 for earlier, later in pairwise(promises))
        assert promises[-1] <= simulated.clock.now() + 3 * interval

    played(story)


def test_no_heartbeats_where_none_are_asked():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: fp.actions("update_group_capacity_forecast"), "the forecast, which comes after the first heartbeat would")
        assert not fp.actions("heartbeat")

    played(story, asks_heartbeats=None, forecasts=[day_ahead(T0, 60, at=T0 + timedelta(minutes=5))])


def test_registration_is_tried_until_the_provider_is_there():
    async def run() -> None:
        fp = FlexibilityProvider()
        await fp.listener.start()  # learns a free port, which nobody serves now
        await fp.listener.stop()
        simulated = SimulatedProvider(config(fp.url))
        await simulated.start()
        await eventually(lambda: simulated.ledger.said["Register unavailable"], "a first attempt in vain")
        fp.unavailable = 2
        await fp.listener.start()
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        assert simulated.ledger.said["Register 503"] == 2
        assert simulated.report()["problems"] == []
        assert len({headers["x-request-id"] for headers, _ in fp.actions("register")}) == 1
        await simulated.stop()
        await asyncio.gather(*fp.background)
        await fp.client.aclose()
        await fp.listener.stop()

    asyncio.run(run())


def test_a_refused_registration_is_a_problem_in_the_providers_words():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.report()["problems"], "a problem")
        assert simulated.report()["problems"] == ["our Register was answered 403: invalid token"]
        assert simulated.state()["state"] == "AWAITING_REGISTER"

    played(story, token_a="another")


def test_it_can_go_away_and_come_back_on_its_port():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        assert (await fp.client.request("POST", f"{simulated.url}/simulator/down?seconds=0.2")).status == 202

        async def outcome() -> int | None:
            try:
                return (await fp.send("update_asset_measurements", energies(), request_id="same")).status
            except Unavailable:
                return None

        async def until(wanted: int | None) -> None:
            deadline = time.monotonic() + DEADLINE_S
            while await outcome() != wanted:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)

        await until(None)
        await until(204)
        assert simulated.report()["problems"] == []

    played(story)


def test_switches_are_thrown_from_outside():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        actions = ["UpdateAssetMeasurements"]
        wanted = {"answers": [{"actions": actions}, {"status": 429, "retry_after_s": 7, "actions": actions}]}
        headers = {"Content-Type": "application/json"}
        set_ = await fp.client.request("POST", f"{simulated.url}/simulator/switches", headers=headers, content=json.dumps(wanted).encode())
        assert set_.status == 204
        first = await fp.send("update_asset_measurements", energies(), request_id="m1")
        assert (first.status, json.loads(first.body)) == (500, {"message": "told to misbehave"})
        assert simulated.report()["owed"] == {"m1": "UpdateAssetMeasurements"}
        second = await fp.send("update_asset_measurements", energies(), request_id="m1")
        assert (second.status, second.headers["retry-after"]) == (429, "7")
        assert (await fp.send("update_asset_measurements", energies(), request_id="m1")).status == 204
        assert simulated.report()["owed"] == {}
        assert simulated.report()["duplicates"] == 0
        assert simulated.report()["problems"] == []

    played(story)


# From here on without sockets: what is answered to one request, and what is written into the books.


class Desk:
    """A reception with a frozen clock, a forecast sent and a handshake and registration begun."""

    def __init__(self, **changes: Any) -> None:
        self.clock = FrozenClock(T0)
        settings = config("http://127.0.0.1:1/oscp/fp/2.0", **changes)
        self.ledger = Ledger("VEC-0001", self.clock, 300.0, frozenset({MeasurementConfiguration.INTERMITTENT}))
        self.reception = Reception(settings, self.ledger)
        planned = day_ahead(T0, 40).blocks
        self.ledger.forecasts["forecast-1"] = (
            T0,
            UpdateGroupCapacityForecast(group_id="VEC-0001", type=ForecastType.CONSUMPTION, forecasted_blocks=planned),
        )
        self.ledger.handshakes.add("handshake-1")
        self.ledger.registrations.add("register-1")

    def post(self, path: str, body: Any, *, method: str = "POST", drop: str = "", **headers: str) -> int:
        plain = {
            "authorization": f"Token {self.reception.credentials.newest}",
            "content-type": "application/json",
            "x-request-id": f"id-{len(self.ledger.heard)}-{sum(self.ledger.heard.values())}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        plain.pop(drop, None)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.reception.answer(method, path, plain, text).status


MEASURE = "/update_asset_measurements"
ERROR = "/group_capacity_compliance_error"
BLOCK = {"capacity": 40, "phase": "ALL", "unit": "KW", "start_time": rfc3339(T0), "end_time": rfc3339(T0 + QUARTER)}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "words"),
    [
        (MEASURE, energies(), {"drop": "authorization"}, 401, "no Authorization"),
        (MEASURE, energies(), {"authorization": "Token"}, 401, "no Authorization"),
        (MEASURE, energies(), {"authorization": "Token wrong"}, 403, "not what we gave out"),
        (MEASURE, energies(), {"authorization": "Bearer wrong"}, 403, "not what we gave out"),
        (MEASURE, energies(), {"drop": "x-request-id"}, 400, "X-Request-ID is missing"),
        (MEASURE, energies(), {"content_type": "text/plain"}, 415, "Content-Type"),
        (MEASURE, b"{", {}, 400, "not JSON"),
        (MEASURE, {"group_id": "VEC-0001", "measurements": []}, {}, 400, "measurements"),
        (MEASURE, energies(unit="KW"), {}, 400, "unit"),
        (MEASURE, {**energies(), "group_id": "other"}, {}, 404, "no group 'other'"),
        (MEASURE, {**energies(), "surprise": 1}, {}, 204, "does not know"),
        (MEASURE, energies(measure_time="2026-10-20T10:00:00.000000Z"), {}, 204, "another form"),
        (MEASURE, energies(initial_measure_time=None), {}, 204, "initial_measure_time is missing"),
        (MEASURE, energies(initial_measure_time=rfc3339(T0 - 2 * QUARTER)), {}, 204, "no quarter hour"),
        (MEASURE, energies(start=T0), {}, 204, "in the future"),
        (MEASURE, energies(value=-1), {}, 204, "negative"),
        (MEASURE, {"group_id": "VEC-0001", "measurements": 2 * energies()["measurements"]}, {}, 204, "twice in one message"),
        (ERROR, {"message": "m"}, {}, 400, "None is no forecast of ours"),
        (ERROR, {"message": "m"}, {"x_correlation_id": "forecast-9"}, 400, "'forecast-9' is no forecast of ours"),
        (ERROR, {"message": "m", "forecasted_blocks": [{**BLOCK, "capacity": 41}]}, {"x_correlation_id": "forecast-1"}, 204, "not part of"),
        ("/handshake_acknowledge", {}, {"x_correlation_id": "handshake-9"}, 409, "'handshake-9' is no handshake of ours"),
        ("/handshake_acknowledge", {}, {"x_correlation_id": "handshake-1"}, 204, "required_behaviour is missing"),
        ("/register", json.loads(oscp_example("Register")), {}, 204, "no request id of our registration"),
        ("/heartbeat", {"offline_mode_at": rfc3339(T0)}, {}, 204, "was past when it came"),
        ("/handshake", {}, {}, 404, "not for a Capacity Provider"),
        ("/metering", {}, {}, 404, "nothing a Capacity Provider serves"),
        (MEASURE, energies(), {"method": "PUT"}, 405, "nothing a Capacity Provider serves"),
    ],
)
def test_what_is_wrong_is_answered_and_written_down(path: str, body: Any, headers: dict[str, str], status: int, words: str):
    desk = Desk()
    assert desk.post(path, body, **headers) == status
    (problem,) = desk.ledger.problems
    assert words in problem


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        (MEASURE, energies(), {}),
        (MEASURE, energies(direction="NET", value=-1), {}),
        ("/update_group_measurements", {"group_id": "VEC-0001", "measurements": [energies()["measurements"][0]["energy_measurement"]]}, {}),
        (ERROR, {"message": "m"}, {"x_correlation_id": "forecast-1"}),
        (ERROR, {"message": "m", "forecasted_blocks": [BLOCK]}, {"x_correlation_id": "forecast-1"}),
        ("/adjust_group_capacity_forecast", {"group_id": "VEC-0001", "type": "CONSUMPTION", "forecasted_blocks": [BLOCK]}, {}),
        ("/handshake_acknowledge", json.loads(oscp_example("HandshakeAcknowledge")), {"x_correlation_id": "handshake-1"}),
        ("/register", json.loads(oscp_example("Register")), {"x_correlation_id": "register-1"}),
        ("/heartbeat", {"offline_mode_at": rfc3339(T0 + timedelta(minutes=15))}, {}),
    ],
)
def test_what_is_right_is_taken_without_a_word(path: str, body: Any, headers: dict[str, str]):
    desk = Desk()
    assert desk.post(path, body, **headers) == 204
    assert desk.ledger.report()["problems"] == []


def test_the_same_message_twice_counts_once():
    desk = Desk()
    assert [desk.post(MEASURE, energies(), x_request_id="m1") for _ in range(2)] == [204, 204]
    assert (desk.ledger.duplicates, desk.ledger.heard["UpdateAssetMeasurements"], desk.ledger.problems) == (1, 1, [])
    assert desk.post(MEASURE, energies(value=2), x_request_id="m1") == 204
    assert "came before with another body" in desk.ledger.problems[0]


def test_the_end_of_a_registration():
    desk = Desk()
    assert desk.post("/register", json.loads(oscp_example("Register")), method="PUT", x_correlation_id="register-1") == 204
    assert desk.reception.partner().base_url == "https://cp.example/oscp/cp/2.0"
    assert desk.post("/register", b"", method="DELETE", x_request_id="end") == 204
    assert desk.reception.deregistered
    assert desk.ledger.problems == []


def test_a_path_for_a_base_url_is_resolved_against_the_address_we_called():
    desk = Desk()
    body = {"token": "c", "version_url": [{"version": "2.0", "base_url": "/flex/"}]}
    assert desk.post("/register", body, x_correlation_id="register-1") == 204
    assert desk.reception.partner().base_url == "http://127.0.0.1:1/flex"
    with pytest.raises(RuntimeError):
        Desk().reception.partner()


def test_silence_is_noticed_a_grace_after_the_interval_and_excused_where_it_is_our_fault():
    desk = Desk()
    desk.post("/handshake_acknowledge", json.loads(oscp_example("HandshakeAcknowledge")), x_correlation_id="handshake-1")
    desk.clock.advance(timedelta(seconds=390))
    assert desk.ledger.report()["problems"] == []
    desk.clock.advance(timedelta(seconds=1))
    assert desk.ledger.report()["problems"] == [f"Heartbeat: none came by {rfc3339(T0 + timedelta(minutes=5))}"]
    desk.ledger.excuse()
    assert desk.ledger.report()["problems"] == []
    desk.clock.advance(timedelta(hours=1))
    desk.post("/heartbeat", {"offline_mode_at": rfc3339(desk.clock.now() + timedelta(hours=1))})
    assert len(desk.ledger.report()["problems"]) == 1


OAUTH = {"client_id": "derms", "client_secret": "s3:cret", "expires_in_s": 60}
FORM = b"grant_type=client_credentials&client_id=derms&client_secret=s3%3Acret"
BASIC = "Basic " + base64.b64encode(b"derms:s3%3Acret").decode()


def test_oauth_by_form_or_basic_and_then_bearer_only(monkeypatch: pytest.MonkeyPatch):
    desk = Desk(oauth=OAUTH, required_headers={"Ocp-Apim-Subscription-Key": "key"})
    key = {"ocp-apim-subscription-key": "key"}
    by_form = desk.reception.credentials.bearer(key, FORM)
    by_basic = desk.reception.credentials.bearer({**key, "authorization": BASIC}, b"grant_type=client_credentials")
    assert (by_form.status, by_basic.status, desk.reception.credentials.issued) == (200, 200, 2)
    assert by_form.body is not None
    assert (by_form.body["token_type"], by_form.body["expires_in"]) == ("Bearer", 60)
    bearer = f"Bearer {by_form.body['access_token']}"
    assert desk.post(MEASURE, energies(), authorization=bearer, ocp_apim_subscription_key="key") == 204
    assert desk.ledger.problems == []

    assert desk.post(MEASURE, energies(), authorization=bearer) == 403  # the subscription key is missing
    assert desk.post(MEASURE, energies(), ocp_apim_subscription_key="key") == 403  # Token, where Bearer is wanted
    assert desk.reception.credentials.bearer({}, FORM).status == 403
    assert desk.reception.credentials.bearer(key, FORM.replace(b"s3", b"s4")).status == 401
    assert desk.reception.credentials.bearer({**key, "authorization": "Basic ?"}, b"grant_type=client_credentials").status == 401
    assert desk.reception.credentials.bearer(key, FORM.replace(b"client_credentials", b"password")).status == 400
    assert len(desk.ledger.problems) == 5

    later = time.monotonic() + 61
    monkeypatch.setattr("gateway.simulator_credentials.time.monotonic", lambda: later)
    assert desk.post(MEASURE, energies(), authorization=bearer, ocp_apim_subscription_key="key") == 401
    assert len(desk.ledger.problems) == 5  # a token that expired is nobody's fault
    assert Desk().reception.credentials.bearer({}, FORM).status == 404


def test_switches_concern_the_actions_they_name():
    desk = Desk(switches=Switches(answers=[Misanswer(actions=[Action.HEARTBEAT])]))
    assert desk.post(MEASURE, energies()) == 204
    beat = {"offline_mode_at": rfc3339(T0 + timedelta(minutes=15))}
    assert [desk.post("/heartbeat", beat), desk.post("/heartbeat", beat)] == [500, 204]
    assert desk.ledger.owed == {}


def test_a_clock_needs_both_ends():
    with pytest.raises(ValueError, match="go together"):
        config("http://127.0.0.1:1", started=None)
    assert config("http://127.0.0.1:1", origin=None, started=None, speed=1).clock().speed == 1


def test_secrets_are_not_in_what_is_printed():
    shown = repr(config("http://127.0.0.1:1", oauth=OAUTH))
    assert "token-a" not in shown
    assert "s3:cret" not in shown


def test_a_process_of_its_own_says_where_it_is_and_ends_at_sigterm(tmp_path: Path):
    file, ready = tmp_path / "simulator.json", tmp_path / "ready.json"
    file.write_text(config("http://127.0.0.1:9/oscp/fp/2.0").model_dump_json())
    command = [sys.executable, "-m", "gateway.simulator", "--config", str(file), "--ready", str(ready)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        endpoints = json.loads(process.stdout.readline())
        assert endpoints["base_url"] == endpoints["url"] + BASE_PATH
        report = json.loads(fetch("GET", endpoints["report_url"]).body)
        assert (report["state"], report["problems"]) == ("REGISTERING", [])
        assert json.loads(ready.read_text()) == endpoints
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0
        assert not ready.exists()
    finally:
        process.kill()
        process.communicate()
