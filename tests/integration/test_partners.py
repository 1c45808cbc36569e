"""Partners as they are, at the same time beside one `derms up`: each ends as it should, loses nothing, and people can read why."""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from sinks.http import fetch
from tests.integration.crowd import Crowd, World, group_of
from tests.integration.peers import PLAIN, TOLD
from tests.integration.running import api, free_port, process, until, up

pytestmark = [pytest.mark.xdist_group("partners"), pytest.mark.slow]
PYOSCP = ("pyoscp", "pyoscp-ours")
TWICE = frozenset({"silent-beats", "cuts", "trickle"})
"""Peers that take a message and do not say so: they get it again, under the same id."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("partners")
    crowd = Crowd([*PLAIN, *TOLD])
    site = crowd.site()
    partners = {partner["id"]: partner for partner in site["partners"]}
    partners["relative"]["base_url"] = crowd.url("relative")
    partners["lost-state-ours"]["initial_token_file"] = str(folder / "initial-token")
    for name in PYOSCP:
        site["partners"].append(
            {
                "id": name,
                "allow_private_addresses": True,
                "legacy": ["NAIVE_HEARTBEAT_TIME"],
                "paths": {"HandshakeAcknowledge": "/handshake_acknowledgment"},
                "initial_token_file": str(folder / f"initial-token-{name}"),
            }
        )
        site["groups"].append({"partner_id": name, "group_id": group_of(name), "scope_id": "s-optimum"})
    (folder / "site.yaml").write_text(yaml.safe_dump(site))
    with contextlib.ExitStack() as stack:
        endpoints = stack.enter_context(up(folder / "data", "--config", str(folder / "site.yaml")))
        stack.callback(crowd.close)
        crowd.arrive(endpoints)
        yield World(folder / "data", endpoints, crowd)


def nothing_wrong(world: World, name: str) -> None:
    """The peer finds nothing wrong with us, and people find the events they should and no others of note."""
    report, expected = world.crowd.report(name), world.crowd.scenarios[name]
    assert report["problems"] == []
    assert report["owed"] == {}
    for kind in expected.events:
        world.until_event(name, kind)
    assert not world.kinds(name) & expected.absent


@pytest.mark.parametrize("name", [each.name for each in PLAIN])
def test_it_comes_online_by_itself_and_hears_everything(world: World, name: str) -> None:
    world.until_online(name)
    refused = 1 if name == "status-404-once" else 0
    world.wish(name, 2 + refused)
    world.until_heard(name, 2)
    if name not in ("empty",):
        until(lambda: world.crowd.report(name)["heard"].get("Heartbeat", 0) >= 2, f"{name} hears heartbeats")
    report = world.crowd.report(name)
    assert report["duplicates"] == 0 or name in TWICE
    assert len(report["refused"]) == refused
    nothing_wrong(world, name)
    assert world.partner(name)["state"] == "ONLINE"


def test_a_two_hundred_is_flagged(world: World) -> None:
    outs = [line["exchange"] for line in world.timeline("two-hundred") if line["exchange"] and line["exchange"]["direction"] == "out"]
    assert outs
    assert all(line["status"] == 200 and "204 was expected" in line["words"] for line in outs)


@pytest.mark.parametrize("name", ["segments-first", "segments-before", "segments-alone"])
def test_a_forecast_in_segments_applies_as_one(world: World, name: str) -> None:
    until(lambda: world.capacities_kw(name) == [1, 2, 3, 4, 5], f"the limits of {name}: {world.capacities_kw(name)}")


def test_a_forecast_with_a_segment_missing_does_not_apply(world: World) -> None:
    assert world.crowd.report("segments-short")["said"]["UpdateGroupCapacityForecast 204"] == 2
    assert world.capacities_kw("segments-short") == []


def test_a_repeated_forecast_and_one_with_unknown_properties_apply(world: World) -> None:
    for name in ("repeats", "unknown"):
        until(lambda name=name: world.capacities_kw(name) == [7], f"the limits of {name}")


def test_what_is_refused_with_a_reason_is_said_to_people_too(world: World) -> None:
    refusals = [line["words"] for line in world.timeline("wrong") if line["kind"] == "message.refused"]
    assert {status for status in (400, 404, 413, 415) if any(f"refused with {status}" in words for words in refusals)} == {
        400,
        404,
        413,
        415,
    }


def test_an_optimum_is_kept_and_shown_and_limits_nothing(world: World) -> None:
    until(lambda: world.capacities_kw("optimum") == [6], "the limits are those of the other forecast")
    received = [
        line for line in world.timeline("optimum") if line["exchange"] and line["exchange"]["action"] == "UpdateGroupCapacityForecast"
    ]
    kept = [api(world.endpoints, "GET", f"/partners/optimum/exchanges/{line['request_id']}")["messages"][0]["body"] for line in received]
    assert {body["type"] for body in kept} == {"CONSUMPTION", "OPTIMUM"}


@pytest.mark.parametrize("name", ["bare-ack", "pyoscp-ack"])
def test_an_acknowledgement_of_ours_by_another_path_without_what_it_must_have_is_taken(world: World, name: str) -> None:
    world.until_state(name, "REGISTERED")
    world.command("partner", "handshake", name)
    world.until_online(name)
    world.wish(name)
    world.until_heard(name, 2)
    nothing_wrong(world, name)


@pytest.mark.parametrize("name", ["unauthorised", "forbidden"])
def test_credentials_that_were_refused_once_hold_the_queue_until_it_is_resumed(world: World, name: str) -> None:
    if name == "unauthorised":
        world.until_online(name)
    world.wish(name)
    world.until_event(name, "dispatch.held")
    assert world.crowd.report(name)["adjustments"] == []
    world.command("partner", "resume", name)
    world.until_heard(name, 2)
    world.until_online(name)
    nothing_wrong(world, name)


def test_a_registration_that_is_refused_is_an_alarm_and_resuming_tries_it_again(world: World) -> None:
    world.until_state("refuses-register", "FAILED")
    assert "answered 501" in world.partner("refuses-register")["words"]
    world.command("partner", "resume", "refuses-register")
    world.until_online("refuses-register")
    nothing_wrong(world, "refuses-register")


@pytest.mark.parametrize("name", ["lost-state", "lost-state-ours"])
def test_a_peer_that_lost_its_state_is_mended_by_one_command_and_gets_all_it_is_owed(world: World, name: str) -> None:
    world.until_online(name)
    peer = world.crowd.peers[name]
    world.wish(name)
    world.until_heard(name, 2)
    world.crowd.call(peer.lose_state())
    world.wish(name, 5)
    world.until_event(name, "dispatch.held")
    held = [line for line in world.timeline(name) if line["kind"] == "dispatch.held"]
    assert held[0]["severity"] == "ALARM"
    assert "answered 403: invalid token" in held[0]["words"]
    owed = set(world.crowd.report(name)["owed"])
    assert owed
    if name == "lost-state":
        world.crowd.call(peer.begin_anew(world.command("partner", "token", name), None))
    else:
        token = "another-initial-token-of-the-peer"
        (world.directory.parent / "initial-token").write_text(token)
        world.crowd.call(peer.begin_anew(None, token))
        world.command("partner", "register", name)
    world.until_heard(name, 7)
    world.until_online(name)
    assert len(world.crowd.report(name)["adjustments"]) == 7
    nothing_wrong(world, name)


def test_silence_is_told_and_a_heartbeat_brings_it_back(world: World) -> None:
    world.until_online("falls-silent")
    world.crowd.switch("falls-silent", heartbeats=False)
    world.until_state("falls-silent", "OFFLINE")
    assert "no heartbeat" in world.partner("falls-silent")["words"]
    world.wish("falls-silent")
    world.until_heard("falls-silent", 2)
    world.crowd.switch("falls-silent")
    world.until_state("falls-silent", "ONLINE")
    nothing_wrong(world, "falls-silent")


@pytest.mark.parametrize("name", ["renews", "renews-put"])
def test_a_peer_renews_its_token(world: World, name: str) -> None:
    world.until_online(name)
    before = world.crowd.peers[name].reception.credentials.newest
    world.crowd.act(name, "renew")
    assert world.crowd.peers[name].reception.credentials.newest != before
    world.wish(name)
    world.until_heard(name, 2)
    until(lambda: world.crowd.report(name)["heard"]["Register"] == (1 if name == "renews-put" else 2), f"{name} is answered, or not")
    beats = world.crowd.report(name)["said"]["Heartbeat 204"]
    until(lambda: world.crowd.report(name)["said"]["Heartbeat 204"] > beats + 1, f"{name} goes on beating")
    nothing_wrong(world, name)


def test_a_peer_leaves_and_comes_back(world: World) -> None:
    world.until_online("leaves")
    peer = world.crowd.peers["leaves"]
    token = peer.reception.partner().token
    world.crowd.act("leaves", "deregister")
    world.until_state("leaves", "DEREGISTERED")
    headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
    beat = fetch("POST", f"{world.endpoints.oscp_url}/heartbeat", headers=headers, content=b"{}")
    assert beat.status == 403
    world.crowd.call(peer.begin_anew(world.command("partner", "token", "leaves"), None))
    world.until_online("leaves")
    world.wish("leaves")
    world.until_heard("leaves", 2)
    nothing_wrong(world, "leaves")


@pytest.mark.parametrize("name", PYOSCP)
def test_pyoscp_forgets_everything_when_it_restarts_and_is_mended_by_one_command(world: World, tmp_path: Path, name: str) -> None:
    """It writes an empty file over its registrations at start; `pyoscp` begins the registration, `pyoscp-ours` is begun with."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("pyoscp_peer.py")), str(port), str(tmp_path)]

    def control(path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        answer = fetch("GET" if body is None else "POST", f"http://127.0.0.1:{port}/control{path}", headers=headers, content=content)
        assert answer.status < 300, answer.body
        return json.loads(answer.body) if answer.body else None

    def registered(own_token: str) -> None:
        until(lambda: control("/seen") is not None, "pyoscp runs")
        if name == "pyoscp":
            token = world.command("partner", "token", name)
            control("/register", {"own_token": own_token, "token": token, "base_url": world.endpoints.oscp_url})
        else:
            (world.directory.parent / f"initial-token-{name}").write_text(own_token)
            control("/expect", {"token": own_token})
            base_url = {"base_url": f"http://127.0.0.1:{port}/oscp/cp/2.0", "token": own_token}
            if world.partner(name)["peer_base_url"] is None:
                api(world.endpoints, "POST", f"/partners/{name}/register", base_url)
            else:
                world.command("partner", "register", name)

    def shakes_hands() -> None:
        handshake = {"required_behaviour": {"heartbeat_interval": 2, "measurement_configuration": ["INTERMITTENT"]}}
        until(lambda: control("/say", {"path": "/handshake", "body": handshake})["status"] == 204, "a handshake is taken")
        world.until_state(name, "ONLINE")

    with process(command, tmp_path / "first.log"):
        registered("the-first-token-of-pyoscp")
        world.until_state(name, "REGISTERED")
        shakes_hands()
        until(lambda: world.partner(name)["last_heartbeat_delivered_at"], "our heartbeats arrive")
    with process(command, tmp_path / "second.log"):
        world.wish(name, 3)
        world.until_event(name, "dispatch.held")
        assert "answered 403: invalid token" in next(line["words"] for line in world.timeline(name) if line["kind"] == "dispatch.held")
        registered("the-second-token-of-pyoscp")
        until(lambda: len(control("/seen")["adjustments"]) == 3, "all that is owed arrives")
        shakes_hands()
        assert len(control("/seen")["adjustments"]) == 3
    world.until_event(name, "dispatch.resumed")
