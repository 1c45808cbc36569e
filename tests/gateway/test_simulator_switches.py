"""What the simulated Capacity Provider does wrong when told to: on the wire, in its books, and in its own speech."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.commands.simulating import simulator
from gateway.simulator import SimulatedProvider
from gateway.simulator_config import Mistake, SegmentLink, Segments, SimulatorConfig, day_ahead
from gateway.simulator_forecasts import messages_of, mistaken
from gateway.simulator_switches import Misanswer, Switches
from schemas.oscp.v20 import ForecastType, UpdateGroupCapacityForecast
from schemas.units import rfc3339
from sinks.errors import Misconfigured, Unavailable
from sinks.http import Answer
from tests.builders import T0
from tests.gateway.test_simulator import FORM, MEASURE, OAUTH, Desk, FlexibilityProvider, config, energies, eventually, played


def told(fp: FlexibilityProvider, simulated: SimulatedProvider, **wanted: Any) -> None:
    simulated.reception.switches = Switches.model_validate(wanted)


def test_answers_misbehave_on_the_wire_and_in_the_books_it_is_its_own_fault():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")

        async def sent(kind: str, **more: Any) -> tuple[int | None, bytes]:
            told(fp, simulated, answers=[{"kind": kind, **more}])
            try:
                answer = await fp.send("update_asset_measurements", energies(), request_id=f"m-{kind}-{len(more)}")
            except Unavailable:
                return None, b""
            return answer.status, answer.body

        assert (await sent("STATUS", status=302))[0] == 302
        assert (await sent("STATUS", status=404, count=1))[0] == 404
        assert (await sent("DROP"))[0] is None
        assert (await sent("CUT"))[0] is None
        assert set(simulated.ledger.owed) == {"m-STATUS-1", "m-DROP-0", "m-CUT-0"}
        assert set(simulated.ledger.refused) == {"m-STATUS-2"}
        simulated.ledger.contents.clear()  # the same measurements under other ids are this test's doing
        status, page = await sent("HTML", status=200)
        assert (status, b"<h1>" in page) == (200, True)
        for kind in ("GARBAGE", "HUGE", "TRICKLE"):
            simulated.ledger.contents.clear()
            status, body = await sent(kind, seconds=0.1)
            assert status == 200
            assert body
        assert len((await sent("HUGE", seconds=0.2, status=200))[1]) == 1024 * 1024
        simulated.ledger.contents.clear()
        assert (await sent("SLOW", seconds=0.05, status=200))[0] == 204
        told(fp, simulated)
        for request_id in ("m-STATUS-1", "m-DROP-0", "m-CUT-0"):
            simulated.ledger.contents.clear()
            assert (await fp.send("update_asset_measurements", energies(), request_id=request_id)).status == 204
        assert simulated.ledger.owed == {}
        assert simulated.ledger.duplicates >= 1
        simulated.ledger.problems[:] = [each for each in simulated.ledger.problems if "is the same message as" not in each]
        assert simulated.report()["problems"] == []

    played(story)


def test_a_token_server_in_trouble_and_a_revoked_token_are_its_own_fault():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        told(fp, simulated, tokens=[{"status": 503, "retry_after_s": 7}, {"kind": "DROP"}])
        token_url, form = f"{simulated.url}/oauth/token", {"content-type": "application/x-www-form-urlencoded"}

        async def fetched() -> Answer:
            return await fp.client.request("POST", token_url, headers=form, content=FORM)

        away = await fetched()
        assert (away.status, away.headers["retry-after"]) == (503, "7")
        with pytest.raises(Unavailable):
            await fetched()
        bearer = {"Authorization": f"Bearer {json.loads((await fetched()).body)['access_token']}", "Content-Type": "application/json"}
        headers = {**bearer, "X-Request-ID": "m-1"}

        async def measured() -> int:
            content = json.dumps({**energies(), "group_id": "VEC-0002"}).encode()
            url = f"{simulated.url}/oscp/cp/2.0/update_asset_measurements"
            return (await fp.client.request("POST", url, headers=headers, content=content)).status

        assert await measured() == 204
        simulated.reception.credentials.revoke()
        assert await measured() == 401
        assert simulated.report()["problems"] == []
        simulated.public_url = "https://localhost:1"
        assert simulated.endpoints()["base_url"] == "https://localhost:1/oscp/cp/2.0"

    played(story, oauth=OAUTH, more_groups=["VEC-0002"], handshakes=False, starts="FP", initial_token="x")


def test_it_never_answers_where_it_is_silent():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        told(fp, simulated, answers=[{"kind": "SILENT", "count": None}])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fp.send("update_asset_measurements", energies(), request_id="m1"), 0.3)
        assert simulated.report()["owed"] == {"m1": "UpdateAssetMeasurements"}

    played(story)


def test_lost_state_answers_403_to_everybody_until_a_new_registration():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        old = fp.peer_token
        await fp.client.request("POST", f"{simulated.url}/simulator/lose-state")
        assert (await fp.send("update_asset_measurements", energies(), request_id="m1")).status == 403
        assert simulated.state()["state"] == "LOST_STATE"
        headers = {"Content-Type": "application/json"}
        content = json.dumps({"token_a": "token-a"}).encode()
        done = await fp.client.request("POST", f"{simulated.url}/simulator/register", headers=headers, content=content)
        assert done.status == 202
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online again")
        assert fp.peer_token != old
        assert (await fp.send("update_asset_measurements", energies(), request_id="m1")).status == 204
        assert simulated.report()["owed"] == {}
        assert simulated.report()["problems"] == []
        fp.peer_token = old
        assert (await fp.send("update_asset_measurements", energies(), request_id="m2")).status == 403
        assert simulated.report()["problems"] == ["UpdateAssetMeasurements: Authorization is not what we gave out"]
        assert not any(token in json.dumps(simulated.report()) for token in (old, "token-a"))

    played(story)


@pytest.mark.parametrize(
    ("switches", "headers", "body"),
    [
        ({"scheme": "TOKEN"}, {}, {}),
        ({"unknown_properties": True}, {}, {"x_vendor": {"region": ["north", 7]}}),
        ({"request_ids": False}, {"x-request-id": None}, {}),
        ({"handshake": "FLAT"}, {}, {"measurement_configuration": ["INTERMITTENT"]}),
    ],
)
def test_its_handshake_is_in_its_manners(switches: dict[str, Any], headers: dict[str, str | None], body: dict[str, Any]):
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        told(fp, simulated, **switches)
        fp.heard.clear()
        await simulated.life.shake_hands()
        if "scheme" in switches:  # a Flexibility Provider this small knows one spelling only
            assert simulated.ledger.said["Handshake 403"] == 1
            return
        ((seen, said),) = fp.actions("handshake")
        for name, value in headers.items():
            assert seen.get(name) == value
        assert body.items() <= said.items()

    played(story)


def test_messages_are_repeated_under_their_id_also_with_another_body():
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        told(fp, simulated, repeat=2)
        await simulated.life.forecast(day_ahead(T0, 5, quarters=4))
        told(fp, simulated, repeat=1, other_body=True)
        await simulated.life.forecast(day_ahead(T0, 6, quarters=4))
        came = [(headers["x-request-id"], body) for headers, body in fp.actions("update_group_capacity_forecast")]
        assert came[0] == came[1] == came[2]
        assert came[3][0] == came[4][0]
        assert came[4][1] == {**came[3][1], "x_again": True}

    played(story)


def forecast(blocks: int) -> UpdateGroupCapacityForecast:
    planned = day_ahead(T0, 5, quarters=blocks)
    return UpdateGroupCapacityForecast(group_id="g", type=ForecastType.CONSUMPTION, forecasted_blocks=planned.blocks)


@pytest.mark.parametrize("link", list(SegmentLink))
def test_segments_share_the_blocks_and_name_each_other(link: SegmentLink):
    sent = list(messages_of(forecast(7), "first", Segments(count=3, link=link, order=[3, 1, 2])))
    by_index = {each.headers["X-Segment-Index"]: each for each in sent}
    assert [each.headers["X-Segment-Index"] for each in sent] == ["3", "1", "2"]
    assert {each.headers["X-Segment-Count"] for each in sent} == {"3"}
    bodies = [by_index[index].body for index in "123"]
    starts = [block["start_time"] for body in bodies if isinstance(body, dict) for block in body["forecasted_blocks"]]
    assert starts == [rfc3339(T0 + number * timedelta(minutes=15)) for number in range(7)]
    assert (by_index["1"].request_id, by_index["1"].correlation_id) == ("first", None)
    expected = {
        SegmentLink.FIRST: ["first", "first"],
        SegmentLink.PREVIOUS: ["first", by_index["2"].request_id],
        SegmentLink.NONE: [None, None],
    }
    assert [by_index["2"].correlation_id, by_index["3"].correlation_id] == expected[link]


def test_more_segments_than_blocks_cannot_be():
    with pytest.raises(ValueError, match="cannot be sent in 5 segments"):
        list(messages_of(forecast(4), "first", Segments(count=5)))
    with pytest.raises(ValueError, match="from 1 to count"):
        Segments(count=2, order=[3])


def test_each_mistake_says_what_it_has_to_be_answered():
    assert {each: mistaken(each, "g", T0).expected for each in Mistake} == {
        Mistake.WRONG_GROUP: 404,
        Mistake.TOO_LARGE: 413,
        Mistake.CONTENT_TYPE: 415,
        Mistake.NO_JSON: 400,
        Mistake.BACKWARDS: 400,
    }


def test_a_bare_token_is_wanted_where_it_speaks_so():
    desk = Desk(switches=Switches(scheme=""))
    assert desk.post(MEASURE, energies(), authorization=desk.reception.credentials.newest) == 204
    assert desk.ledger.problems == []


def test_naive_heartbeat_times_are_wanted_where_it_speaks_so():
    desk = Desk(switches=Switches(naive_times=True))
    local = (T0 + timedelta(minutes=15)).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert desk.post("/heartbeat", {"offline_mode_at": local}) == 204
    assert desk.ledger.problems == []
    assert desk.post("/heartbeat", {"offline_mode_at": rfc3339(T0)}) == 400
    assert desk.post("/heartbeat", {}) == 400


def test_one_message_under_two_ids_is_our_mistake_but_two_heartbeats_are_not():
    desk = Desk()
    assert [desk.post(MEASURE, energies(), x_request_id=name) for name in ("m1", "m2")] == [204, 204]
    assert desk.ledger.problems == ["UpdateAssetMeasurements: m2 is the same message as m1"]
    beat = {"offline_mode_at": rfc3339(T0 + timedelta(minutes=15))}
    assert [desk.post("/heartbeat", beat, x_request_id=name) for name in ("b1", "b2")] == [204, 204]
    assert len(desk.ledger.problems) == 1


def test_two_messages_of_ours_under_one_id_may_be_answered_twice():
    desk = Desk()
    desk.ledger.reused["ours"] = ""
    for name, correlation in (("m1", "ours"), ("m2", "ours"), ("m2", "ours"), ("m3", "ours"), ("m4", "other"), ("m5", "other")):
        assert desk.post(MEASURE, energies(), x_request_id=name, x_correlation_id=correlation) == 204
    told = [f"UpdateAssetMeasurements: {later} is the same message as {first}" for later, first in (("m3", "m1"), ("m5", "m4"))]
    assert [each for each in desk.ledger.problems if "is the same" in each] == told


def test_a_heartbeat_after_the_last_promise_is_counted():
    desk = Desk()
    desk.post("/heartbeat", {"offline_mode_at": rfc3339(T0 + timedelta(seconds=10))})
    desk.clock.advance(timedelta(seconds=11))
    desk.post("/heartbeat", {"offline_mode_at": rfc3339(T0 + timedelta(minutes=1))})
    assert desk.ledger.report()["lapses"] == 1


@pytest.mark.parametrize(
    ("wanted", "status", "takes", "comes_again"),
    [
        ({}, 500, False, True),
        ({"status": 401}, 401, False, True),
        ({"status": 400}, 400, False, False),
        ({"status": 501}, 501, False, False),
        ({"status": 202}, 202, True, False),
        ({"kind": "SILENT"}, 200, False, True),
        ({"kind": "CUT"}, 200, True, True),
        ({"kind": "TRICKLE"}, 200, True, False),
    ],
)
def test_what_a_misanswer_means_for_the_message(wanted: dict[str, Any], status: int, takes: bool, comes_again: bool):
    found = Misanswer.model_validate(wanted)
    assert (found.status, found.takes, found.comes_again) == (status, takes, comes_again)


@pytest.mark.parametrize(
    ("changes", "words"), [({"token_a": None}, "token_a: is needed"), ({"starts": "BOTH"}, "initial_token: is needed")]
)
def test_who_starts_needs_a_token(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        config("http://127.0.0.1:1", **changes)
    assert isinstance(config("http://127.0.0.1:1", token_a=None, initial_token="t", starts="FP"), SimulatorConfig)


def test_the_command_names_what_is_wrong_with_its_file(tmp_path: Path):
    file = tmp_path / "simulator.json"
    with pytest.raises(Misconfigured, match="name a file that exists"):
        simulator(file)
    file.write_text('{"fp_base_url": "http://127.0.0.1:1", "group_id": "g", "token_a": "secret-a", "speed": 0}')
    with pytest.raises(Misconfigured, match="speed: ") as found:
        simulator(file)
    assert "secret-a" not in str(found.value)


@pytest.mark.parametrize("agrees", ["NAMED", "UNNAMED", "NEVER"])
def test_it_gives_what_a_wish_asks_for_when_it_agrees(agrees: str):
    async def story(fp: FlexibilityProvider, simulated: SimulatedProvider) -> None:
        await eventually(lambda: simulated.state()["state"] == "ONLINE", "online")
        told(fp, simulated, agrees=agrees)
        times = {"start_time": rfc3339(T0), "end_time": rfc3339(T0 + timedelta(hours=1))}
        wish = {
            "group_id": "VEC-0001", "type": "CONSUMPTION",
            "forecasted_blocks": [{"capacity": 7.5, "phase": "ALL", "unit": "KW", **times}],
        }  # fmt: skip
        assert (await fp.send("adjust_group_capacity_forecast", wish, request_id="wish-1")).status == 204
        if agrees == "NEVER":
            assert not [task for task in asyncio.all_tasks() if "agreeing" in task.get_name()]
            return
        await eventually(lambda: fp.actions("update_group_capacity_forecast"), "the forecast that was asked for")
        headers, body = fp.actions("update_group_capacity_forecast")[0]
        assert body == wish
        assert headers.get("x-correlation-id") == ("wish-1" if agrees == "NAMED" else None)
        assert simulated.report()["problems"] == []

    played(story)
