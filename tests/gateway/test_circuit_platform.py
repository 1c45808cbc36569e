"""The stand-in for the legacy circuit platform: what it takes, refuses and notices; its cards; and what doctor says of a platform."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.circuit_platform import CircuitPlatform, PlatformOptions
from gateway.circuit_platform_card import card_of
from gateway.circuit_platform_ledger import Misbehaviour, PlatformLedger, Switches
from gateway.commands.setup import _circuit_platform
from gateway.rendering import render
from gateway.simulator_switches import Kind
from sinks.http import Answer, HttpClient
from sinks.settings import CircuitsSettings
from tests.sinks.circuit_world import fake_partner

BODY = {"available_import_kw": 20.0, "available_export_kw": 4.0, "effective_from": "2026-10-20T10:00:00.000Z", "source": "forecast"}
TOKEN = "hush"
HEADERS = {"authorization": f"Bearer {TOKEN}"}


def told(ledger: PlatformLedger, key: str = "k", name: str = "feeder-17", headers: dict[str, str] = HEADERS, **changes: Any) -> int:
    body = json.dumps({**BODY, **changes}).encode()
    return ledger.patch(name, headers | ({"idempotency-key": key} if key else {}), body).status


def test_a_key_is_applied_once_and_answered_alike() -> None:
    ledger = PlatformLedger(TOKEN)
    assert told(ledger, "a") == 200
    assert told(ledger, "b", available_import_kw=30.0, effective_from="2026-10-20T10:15:00Z") == 200
    assert told(ledger, "a") == 200  # comes late: not applied again
    assert ledger.view("feeder-17")["available_import_kw"] == 30.0
    assert told(ledger, "a", available_import_kw=1.0) == 422
    assert ledger.counts == {"requests": 4, "applied": 2, "repeated": 1}
    assert ledger.problems == ["feeder-17: the key a came again with another body"]


def test_what_is_not_said_stays() -> None:
    ledger = PlatformLedger()
    told(ledger, "a")
    told(ledger, "b", available_export_kw=None, source="unknown")
    assert ledger.view("feeder-17")["available_export_kw"] == 4.0


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"key": ""}, 400, "without Idempotency-Key"),
        ({"headers": {}}, 401, "without the right token"),
        ({"more": 1}, 422, "more"),
        ({"available_import_kw": -1}, 422, "available_import_kw"),
        ({"effective_from": "2026-10-20T10:00:00"}, 422, "effective_from"),
    ],
)
def test_what_is_wrong_is_refused_and_noticed(changes: dict[str, Any], status: int, problem: str) -> None:
    ledger = PlatformLedger(TOKEN)
    assert told(ledger, **changes) == status
    assert problem in ledger.problems[0]
    assert ledger.circuits == {}


def test_going_back_in_time_is_noticed() -> None:
    ledger = PlatformLedger()
    told(ledger, "a")
    told(ledger, "b", effective_from="2026-10-20T09:00:00Z")
    assert "went back" in ledger.problems[0]


def test_switches_concern_circuits_and_count() -> None:
    ledger = PlatformLedger(switches=Switches(answers=[Misbehaviour(status=500, count=2, circuits=["a"]), Misbehaviour(kind=Kind.SLOW)]))
    assert [told(ledger, str(number), "a") for number in range(4)] == [500, 500, 200, 200]
    assert [line["manner"] for line in ledger.log] == ["STATUS", "STATUS", "SLOW", None]
    assert ledger.counts["applied"] == 2
    with pytest.raises(ValidationError):
        Switches.model_validate({"answers": [{"nonsense": 1}]})


def scene(act: Callable[[CircuitPlatform, Callable[..., Awaitable[Answer]]], Awaitable[None]]) -> None:
    """Run a platform over a real socket, and what a test does with it."""

    async def run() -> None:
        platform = CircuitPlatform(PlatformOptions(port=0, token=TOKEN))
        await platform.start()
        url = platform.endpoints()["url"]
        async with HttpClient(allow_private=True) as client:

            async def call(method: str, path: str, body: Any = None, **headers: str) -> Answer:
                content = None if body is None else json.dumps(body).encode()
                sent = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}", **headers}
                return await client.request(method, url + path, headers=sent, content=content, timeout_s=10)

            await act(platform, call)
        await platform.stop()

    asyncio.run(run())


def test_it_serves_and_shows_what_it_was_told() -> None:
    async def act(platform: CircuitPlatform, call: Callable[..., Awaitable[Answer]]) -> None:
        assert (await call("PATCH", "/circuits/feeder%2F17", BODY, **{"Idempotency-Key": "a"})).status == 200
        assert json.loads((await call("GET", "/circuits/feeder%2F17")).body)["available_import_kw"] == 20.0
        assert [each["id"] for each in json.loads((await call("GET", "/circuits")).body)["items"]] == ["feeder/17"]
        assert (await call("GET", "/circuits/other")).status == 404
        assert b"20 kW" in (await call("GET", "/")).body
        page = (await call("GET", "/cards/feeder%2F17")).body.decode()
        assert "20 Oct 2026 10:00:00 UTC" in page
        assert "forecast" in page
        assert (await call("GET", "/cards/other")).status == 404
        assert (await call("POST", "/platform/switches", {"answers": [{"status": 429, "retry_after_s": 2}]})).status == 204
        refused = await call("PATCH", "/circuits/x", BODY, **{"Idempotency-Key": "b"})
        assert (refused.status, refused.headers["retry-after"]) == (429, "2")
        report = json.loads((await call("GET", "/platform/report")).body)
        assert (report["requests"], report["applied"], report["problems"]) == (2, 1, [])
        log = json.loads((await call("GET", "/platform/log")).body)["items"]
        assert [(line["circuit_id"], line["status"], line["key"]) for line in log] == [("feeder/17", 200, "a"), ("x", 429, "b")]

    scene(act)


def test_a_card_has_name_ratings_and_the_next_change_where_an_instance_tells_them() -> None:
    ledger = PlatformLedger()
    told(ledger)
    known = {
        "circuit": {"id": "feeder-17", "name": "<Harbour> feeder", "rated_import_kw": 80, "rated_export_kw": 4},
        "next": {"at": "2026-10-20T10:15:00.000Z", "available_import_w": 25_000.0, "available_export_w": None},
    }
    card = card_of(ledger.view("feeder-17"), known)
    assert [(level.value, level.rated, level.share) for level in card.levels] == [("20 kW", "80 kW", 25.0), ("4 kW", "4 kW", 100.0)]
    assert card.next == "25 kW import, unknown export from 20 Oct 2026 10:15:00 UTC"
    page = render("circuit_platform.html", cards=[card], one=True, refresh=3)
    assert "&lt;Harbour&gt; feeder" in page
    assert "<Harbour>" not in page
    bare = card_of(ledger.view("feeder-17"), None)
    assert (bare.name, bare.next, bare.levels[0].rated) == ("feeder-17", "", "")


@contextmanager
def answering(status: int) -> Iterator[str]:
    with fake_partner(lambda request: status) as partner:
        yield partner.url


def test_doctor_says_whether_the_platform_is_there(tmp_path: Path) -> None:
    assert _circuit_platform(CircuitsSettings())[0][2] == ""
    with answering(404) as url:
        assert _circuit_platform(CircuitsSettings(url=url)) == [("circuit platform", "answers 404", "")]
        wrong = CircuitsSettings(url=url, ca_file=tmp_path / "none.pem")
        assert "DERMS_CIRCUITS__CA_FILE" in _circuit_platform(wrong)[0][2]
    assert "DERMS_CIRCUITS__URL" in _circuit_platform(CircuitsSettings(url=url))[0][2]
    with answering(503) as url:
        assert "platform's own log" in _circuit_platform(CircuitsSettings(url=url))[0][2]


@pytest.mark.parametrize("url", ["ftp://x", "platform", "http://", "http://user:pass@x", "http://x?a=1", "http://x#y", "http://x:99999"])
def test_an_address_that_is_none_is_refused_at_the_start(url: str) -> None:
    with pytest.raises(ValidationError):
        CircuitsSettings(url=url)
