"""A partner's page: what it says, what its buttons do and for whom, and that the token is shown once and nowhere else."""

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.auth import Role
from schemas.connection import Command, CommandKind, Connection, ConnectionState
from schemas.outbound import DeadLetter, Outcome
from schemas.topics import COMMANDS
from schemas.units import rfc3339
from tests.gateway import story
from tests.gateway.exchanges import OUR_CAUSE, PEER_TOKEN, came, forecast, owed, said, sent, told
from tests.gateway.facts import NOW, connection, record
from tests.gateway.operations_world import HOST, World
from tests.gateway.test_pages import EVIL, tags_of, text_of

PAGE = "/partners/vector"
BEFORE = (ConnectionState.NEW, ConnectionState.AWAITING_REGISTER, ConnectionState.DEREGISTERED)
FROM_HERE = {"Origin": HOST, "Sec-Fetch-Site": "same-origin"}


def world_of(tmp_path: Path, *records: Any, state: ConnectionState = ConnectionState.ONLINE, **changes: Any) -> World:
    return World(tmp_path, records=[record(connection(state, **changes)), *records])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return world_of(tmp_path, *told())


def page_of(world: World, path: str = PAGE, role: Role = Role.VIEWER) -> str:
    answer = world.ask("GET", path, role)
    assert answer.status_code == 200, answer.text
    tags_of(answer.text)
    return answer.text


def pressed(world: World, role: Role = Role.OPERATOR, csrf: str | None = None, **fields: str) -> httpx.Response:
    cookies, own = world.signed_in(role)
    return world.ask("POST", PAGE, cookies=cookies, headers=FROM_HERE, data={"csrf": own if csrf is None else csrf, **fields})


def prominent(html: str) -> list[str]:
    """The actions that are advised."""
    return re.findall(r'class="" aria-describedby="about-(\w+)"', html)


def commands(world: World) -> list[Command]:
    return world.appender.values(COMMANDS)


def test_the_page_says_how_the_connection_stands(world: World) -> None:
    text = text_of(page_of(world))
    for words in (
        "Connected: both sides have shaken hands.",
        "a heartbeat every 5 min; intermittent measurements",
        "https://cp.example/oscp/cp/2.0",
        "Offline if silent at",
        "its last heartbeat vouched for 15 min ahead",
        "VEC-0001",
        "no connection: connection refused",
        "POST UpdateGroupCapacityForecast",
        "held 403",
        "Vector registered, to be reached at",
    ):
        assert words in text


def test_times_are_local_with_utc_beside(world: World) -> None:
    html = page_of(world)
    at = NOW - timedelta(seconds=59)
    assert f'datetime="{at:%Y-%m-%dT%H:%M:%S}.000Z" title="{at:%Y-%m-%dT%H:%M:%S}.000Z">20:25:41</time>' in html


def test_a_partner_that_answers_403_to_everything_can_be_mended_by_a_button(world: World) -> None:
    html = page_of(world, role=Role.OPERATOR)
    assert "The partner answers 403 to what we send" in html
    assert prominent(html) == ["token"]  # it registers with us: a token of its own that it has forgotten lets nobody in
    assert ">Resume<" in html
    assert "derms partner token vector and have the partner register with it" in html
    assert "derms partner resume vector tries at once" in html
    assert "The partner answers 403 to what we send" in text_of(page_of(world, "/"))
    message = owed(NOW, "Heartbeat", {})
    world.projection.take([record(message), record(sent(message))])
    assert "answers 403" not in page_of(world)


@pytest.mark.parametrize(
    ("settings", "cure"),
    [
        ({"initial_token_file": "/token", "base_url": "https://cp.example"}, "initial_token_file, then: derms partner register vector"),
        (
            {"oauth": {"token_url": "https://cp.example/t", "client_id": "us", "client_secret_file": "/s"}},
            "Register with it again: derms partner register vector",
        ),
    ],
)
def test_a_partner_we_register_with_is_registered_with_again(tmp_path: Path, settings: dict[str, Any], cure: str) -> None:
    plain = story.configuration().model_dump(mode="json") | {"partners": [{"id": "vector", **settings}]}
    configuration = type(story.configuration()).model_validate(plain)
    world = World(tmp_path, records=[record(connection()), *told()], configuration=configuration)
    html = page_of(world, role=Role.OPERATOR)
    assert prominent(html) == ["register"]
    assert cure in html


def test_what_is_held_back_by_something_of_ours_can_be_tried_at_once(tmp_path: Path) -> None:
    message = owed(NOW - timedelta(minutes=5), "UpdateAssetMeasurements", {})
    words = "headers.Key: the file /run/key cannot be read"
    held, beat = record(sent(message, 1, Outcome.HELD, None, words=words)), owed(NOW, "Heartbeat", {})
    world = world_of(tmp_path, record(message), held)
    again = record(sent(message, 60, Outcome.RETRY, 503, attempt=2))
    for records in ([], [record(beat), record(sent(beat))], [again]):
        world.projection.take(records)
        html = page_of(world, role=Role.OPERATOR)
        assert prominent(html) == ["resume"]
        assert f"held back ({words}). Correct that, then derms partner resume vector tries at once." in html
    assert pressed(world, action="resume").headers["location"] == f"{PAGE}?done=resume"
    world.projection.take([record(sent(message, 120, attempt=3))])
    html = page_of(world, role=Role.OPERATOR)
    assert prominent(html) == []
    assert ">Resume<" not in html
    assert "held back (" not in html


def test_what_failed_is_tried_again_by_a_button(tmp_path: Path) -> None:
    html = page_of(world_of(tmp_path, state=ConnectionState.FAILED), role=Role.OPERATOR)
    assert prominent(html) == ["resume"]
    assert "Correct the cause, then derms partner resume vector tries again" in html


def test_what_was_done_about_it_ends_the_advice(tmp_path: Path) -> None:
    message = owed(NOW - timedelta(minutes=5), "UpdateAssetMeasurements", {})
    held = [record(message), record(sent(message, 1, Outcome.HELD, 401))]
    assert "answers 401" in page_of(world_of(tmp_path, *held))
    (tmp_path / "again").mkdir()
    assert "answers 401" not in page_of(world_of(tmp_path / "again", *held, registered_at=NOW))


def test_bodies_are_there_without_secrets(world: World) -> None:
    html = page_of(world, f"{PAGE}?heartbeats=1")
    assert html.count("(removed)") == 3  # theirs, and ours for each attempt
    for secret in (PEER_TOKEN, OUR_CAUSE, "$token", world.secrets.key_id, "ciphertext-of-the-peer-token"):
        assert secret not in html


def test_what_partners_write_stays_text(tmp_path: Path) -> None:
    at = NOW - timedelta(minutes=1)
    values = [came(at, "Handshake", EVIL, {"name": EVIL}), *forecast(at)]
    message = owed(at, "Handshake", {EVIL: EVIL}, correlation_id=EVIL)
    records = [record(value) for value in (*values, message, sent(message, words=EVIL, url=f"https://{EVIL}"))]
    html = page_of(world_of(tmp_path, *records, words=EVIL, peer_base_url=EVIL))
    assert "<script>alert" not in html
    assert "<img src=x" not in html


def test_long_bodies_are_cut_and_very_long_ones_told(tmp_path: Path) -> None:
    message, longer = owed(NOW, "Handshake", {"x": "y" * 9000}), owed(NOW - timedelta(1), "Handshake", {"x": "z" * 400_000})
    html = page_of(world_of(tmp_path, *(record(value) for value in (message, sent(message), longer, sent(longer)))))
    assert "y" * 3000 in html
    assert "y" * 5000 not in html
    assert "zzzz" not in html
    assert "too long to be kept here" in html


def test_the_clock_of_a_partner_that_vouches_for_the_past_is_called_wrong(tmp_path: Path) -> None:
    beat = came(NOW, "Heartbeat", "b", {"offline_mode_at": (NOW - timedelta(hours=1)).isoformat()})
    assert "wrong by 1 h or more" in text_of(page_of(world_of(tmp_path, record(beat))))


def test_each_heartbeat_moves_the_deadline_the_connection_told_of(tmp_path: Path) -> None:
    long_ago = NOW - timedelta(hours=3)
    world = world_of(tmp_path, liveness_deadline=long_ago)
    assert world.ask("GET", "/api/v1/partners/vector", Role.VIEWER).json()["liveness_deadline"] == rfc3339(long_ago)
    beat = came(NOW, "Heartbeat", "b", {"offline_mode_at": rfc3339(NOW + timedelta(minutes=10))})
    world.projection.take([record(beat)])
    moved = NOW + timedelta(minutes=10, seconds=90)
    assert world.ask("GET", "/api/v1/partners/vector", Role.VIEWER).json()["liveness_deadline"] == rfc3339(moved)
    assert "in 11 min" in text_of(page_of(world))
    (tmp_path / "before").mkdir()
    earlier = world_of(tmp_path / "before", record(beat), liveness_deadline=long_ago, since=NOW + timedelta(seconds=1))
    assert earlier.ask("GET", "/api/v1/partners/vector", Role.VIEWER).json()["liveness_deadline"] == rfc3339(long_ago)


def test_older_lines_are_on_the_next_page(tmp_path: Path) -> None:
    messages = [owed(NOW - timedelta(minutes=n), "Handshake", {"n": n}) for n in range(70)]
    world = world_of(tmp_path, *(record(sent(message)) for message in messages))
    html = page_of(world)
    assert html.count("we ask it") == 50
    older = html.split("before=")[1].split('"')[0]
    rest = page_of(world, f"{PAGE}?before={older}")
    assert rest.count("we ask it") == 20
    assert ">Newest</a>" in rest
    assert world.ask("GET", f"{PAGE}?before=x", Role.VIEWER).status_code == 400


@pytest.mark.parametrize("state", ConnectionState)
def test_every_state_has_a_page(tmp_path: Path, state: ConnectionState) -> None:
    html = page_of(world_of(tmp_path, state=state), role=Role.OPERATOR)
    assert (">Resume<" in html) == (state in (ConnectionState.SUSPENDED, ConnectionState.FAILED))
    assert (">Suspend<" in html) == (state not in (*BEFORE, ConnectionState.SUSPENDED))
    assert "Issue a token…" in html


def test_a_partner_nothing_is_known_of_has_a_page(tmp_path: Path) -> None:
    text = text_of(page_of(World(tmp_path, records=[]), role=Role.OPERATOR))
    assert "Nothing has passed between us yet." in text
    assert "Deregister" not in text


def test_viewers_see_no_buttons_and_nobody_sees_it_unasked(world: World) -> None:
    html = page_of(world)
    assert "What you can do" not in html
    assert "Deregister" not in html
    asked = world.ask("GET", PAGE)
    assert (asked.status_code, asked.headers["location"]) == (303, "/sign-in")
    assert world.ask("GET", "/partners/nobody", Role.VIEWER).status_code == 404
    assert world.ask("GET", f"{PAGE}?confirm=token", Role.VIEWER).status_code == 403
    assert world.ask("GET", PAGE, Role.PRODUCER).status_code == 403


@pytest.mark.parametrize("action", ["handshake", "suspend", "resume", "register"])
def test_a_button_asks_and_comes_back_to_the_page(world: World, action: str) -> None:
    answer = pressed(world, action=action)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PAGE}?done={action}")
    (command,) = commands(world)
    assert (command.kind, command.by, command.partner_id) == (CommandKind(action.upper()), "operator-1", "vector")
    assert "What comes of it appears below." in page_of(world, answer.headers["location"])


def test_the_end_of_a_connection_is_asked_for_twice(world: World) -> None:
    answer = pressed(world, action="deregister")
    assert answer.headers["location"] == f"{PAGE}?confirm=deregister"
    assert commands(world) == []
    assert "its fallback forecasts hold" in page_of(world, answer.headers["location"], Role.OPERATOR)
    assert pressed(world, action="deregister", confirmed="yes").headers["location"] == f"{PAGE}?done=deregister"
    assert [command.kind for command in commands(world)] == [CommandKind.DEREGISTER]


def test_a_new_token_is_shown_once_and_stands_in_no_address(world: World) -> None:
    world.lifecycle_answers()
    assert pressed(world, action="token").headers["location"] == f"{PAGE}?confirm=token"
    answer = pressed(world, action="token", confirmed="yes")
    (command,) = commands(world)
    token = world.secrets.token("vector", command.event_id)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert token in answer.text
    tags_of(answer.text)
    for path in (PAGE, f"{PAGE}?heartbeats=1", "/", "/api/v1/commands", "/api/v1/partners/vector/timeline"):
        assert token not in world.ask("GET", path, Role.ADMIN).text


def test_without_a_lifecycle_no_token_is_shown(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.api_partners.TOKEN_WITHIN_S", 0.05)
    answer = pressed(world, action="token", confirmed="yes")
    assert answer.status_code == 503
    assert "No token yet" in answer.text


def test_an_address_and_a_token_may_come_with_the_registration(world: World) -> None:
    answer = pressed(world, action="register", base_url=" https://new.example/cp ", token=PEER_TOKEN)
    assert answer.status_code == 303
    assert PEER_TOKEN not in answer.headers["location"]
    payload = json.loads(commands(world)[0].payload)
    assert payload["base_url"] == "https://new.example/cp"
    assert world.secrets.decrypt(payload["peer_token"], "vector") == PEER_TOKEN
    refused = pressed(world, action="register", base_url="ftp://x", token=PEER_TOKEN)
    assert refused.status_code == 400
    assert "The address must be an http or https URL." in refused.text
    assert PEER_TOKEN not in refused.text
    refused = pressed(world, action="register", base_url="https://user:hunter2@cp.example/?key=s3cr3tkey")
    assert refused.status_code == 400
    assert "The address must not hold a user or password; give credentials in files." in refused.text
    assert "hunter2" not in refused.text
    assert "s3cr3tkey" not in refused.text
    assert len(commands(world)) == 1


def test_an_address_with_a_password_that_got_in_all_the_same_is_not_shown(tmp_path: Path) -> None:
    address = "https://user:hunter2@cp.example/oscp?key=s3cr3tkey"
    about = owed(NOW, "Handshake", {"base_url": address})
    values = [
        said(NOW, "register.started", f"operator-1 started the registration with Vector at {address}"),
        about,
        sent(about, outcome=Outcome.REFUSED, status=400, words=f"answered 400: not at {address}", url=address),
        Command(
            event_id="c", at=NOW, partner_id="vector", kind=CommandKind.REGISTER, by="operator-1", payload=json.dumps({"base_url": address})
        ),
        DeadLetter(
            event_id="d",
            at=NOW,
            reason=f"refused by vector: {address}",
            subject="s",
            topic="derms.outbound",
            partition=0,
            offset=1,
            raw=b"",
        ),
    ]
    world = world_of(tmp_path, *(record(value) for value in values), peer_base_url=address, words=f"it is at {address}")
    api = "/api/v1"
    vector = f"{api}/partners/vector"
    messages = [f"{api}/messages", f"{api}/messages/{about.message_id}", f"{api}/deliveries", f"{api}/dead-letters", f"{api}/commands"]
    exchanges = [f"{vector}/timeline", f"{vector}/exchanges/{about.message_id}"]
    for path in (PAGE, "/", vector, f"{api}/partners", f"{api}/status", *messages, *exchanges):
        answer = world.ask("GET", path, Role.ADMIN)
        assert answer.status_code == 200, path
        assert "cp.example" in answer.text, path
        assert "hunter2" not in answer.text, path
        assert "s3cr3tkey" not in answer.text, path


def test_other_sites_and_viewers_can_do_nothing(world: World) -> None:
    cookies, csrf = world.signed_in(Role.OPERATOR)
    fields = {"csrf": csrf, "action": "suspend"}
    foreign = world.ask("POST", PAGE, cookies=cookies, headers={"Origin": "https://evil.example"}, data=fields)
    assert foreign.status_code == 403
    assert pressed(world, csrf="", action="suspend").status_code == 403
    assert pressed(world, csrf="wrong", action="suspend").status_code == 403
    assert pressed(world, Role.VIEWER, action="suspend").status_code == 403
    assert world.ask("POST", PAGE, headers=FROM_HERE, data=fields).status_code == 303
    assert world.ask("POST", PAGE, cookies=cookies, headers=FROM_HERE, json=fields).status_code == 415
    assert pressed(world, action="explode").status_code == 400
    assert commands(world) == []


def test_ids_of_all_kinds_have_a_page(tmp_path: Path) -> None:
    plain = story.configuration().model_dump(mode="json")
    odd = 'north/"v"#1?&<b>'
    plain["partners"].append({"id": odd})
    world = World(tmp_path, configuration=type(story.configuration()).model_validate(plain))
    link = "/partners/north/%22v%22%231%3F%26%3Cb%3E"
    assert f'href="{link}"' in page_of(world, "/")
    assert "north/&#34;v&#34;#1?&amp;&lt;b&gt;" in page_of(world, link, Role.OPERATOR)
    cookies, csrf = world.signed_in(Role.OPERATOR)
    answer = world.ask("POST", link, cookies=cookies, headers=FROM_HERE, data={"csrf": csrf, "action": "register"})
    assert answer.headers["location"] == f"{link}?done=register"
    assert commands(world)[0].partner_id == odd


def test_a_partner_that_is_no_longer_configured_has_no_buttons(tmp_path: Path) -> None:
    gone = Connection.model_validate({**connection().model_dump(), "partner_id": "former"})
    world = World(tmp_path, records=[record(gone)])
    html = page_of(world, "/partners/former", Role.OPERATOR)
    assert "What you can do" not in html
