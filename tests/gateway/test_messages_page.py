"""The pages of messages: what is owed and why, found by conditions in the address; a message sent again or given up by a plain form."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway import picture as p
from gateway.auth import Role
from gateway.past import SLOW
from gateway.past_messages import MessageCount
from schemas.connection import CommandKind
from schemas.flows import QueueStanding
from schemas.outbound import Outcome
from schemas.topics import COMMANDS
from tests.gateway.facts import NOW, WALL, delivery
from tests.gateway.operations_world import World
from tests.gateway.test_api_messages import DAY, MEASURED, MINUTE, MessagePast, owed, world_of
from tests.gateway.test_pages import EVIL, tags_of, text_of

GOOD, PARKED, WAITING = owed(9 * MINUTE), owed(8 * MINUTE), owed(7 * MINUTE, group_id="VEC-0002")
REFUSED = owed(6 * MINUTE, action="GroupCapacityComplianceError", correlation_id="forecast-1")
STANDING = (
    QueueStanding(
        partner_id="vector", waiting=642, parked=1, breaker="OPEN", oldest_at=NOW - 7 * DAY, token_at=WALL - 20 * MINUTE,
        token_until=WALL + 38 * MINUTE,
    ),
    QueueStanding(partner_id="idle"),
    QueueStanding(partner_id="shut", waiting=1, held=f"answered 403: {EVIL}"),
)  # fmt: skip


@pytest.fixture
def past() -> MessagePast:
    counts = [MessageCount("vector", MEASURED, owed=98, delivered=95, waiting=2, parked=1, p50_ms=86, p99_ms=2400)]
    return MessagePast((owed(5 * DAY, message_id="old-1"), ()), counts=counts)


@pytest.fixture
def world(tmp_path: Path, past: MessagePast) -> World:
    said = [
        delivery(GOOD),
        delivery(PARKED, Outcome.PARKED, 500, attempt=10, words="failed 10 times while others were delivered"),
        delivery(REFUSED, Outcome.REFUSED, 400, words=f"answered 400: {(EVIL * 9)[:300]}"),
    ]
    return world_of(tmp_path, GOOD, PARKED, WAITING, REFUSED, *said, standing=STANDING, past=past)


def html(world: World, path: str = "/messages", role: Role = Role.VIEWER, status: int = 200) -> str:
    answer = world.ask("GET", path, role)
    assert answer.status_code == status, answer.text
    tags = tags_of(answer.text)
    ids = [attributes["id"] for _, attributes in tags.seen if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert not [name for _, attributes in tags.seen for name in attributes if name == "style" or name.startswith("on")]
    assert "<img src=x" not in answer.text
    return answer.text


def text(world: World, path: str = "/messages", role: Role = Role.VIEWER) -> str:
    return text_of(html(world, path, role))


def test_what_partners_are_owed_stands_first(world: World) -> None:
    found = text(world)
    assert "Vector left alone 642 waiting, 1 set aside the oldest was made Sat 2 Jun 20:26:40 7 d ago" in found
    assert "It fails and is left alone until one message on trial goes through. OAuth token 20 min old, renewed in 38 min" in found
    assert found.index("642 waiting") < found.index("shut held 1 waiting Answered 403: &lt;script&gt;")
    assert "idle" not in found
    assert "Dispatch" not in found


def test_who_hears_nothing_of_dispatch_says_so(tmp_path: Path) -> None:
    silent = world_of(tmp_path, GOOD)
    assert "Dispatch has not said yet how its queues stand." in text(silent)
    still = world_of(tmp_path, standing=STANDING[1:2])
    assert "every partner has what it is owed" in text(still)
    still.wall.at += timedelta(minutes=5)
    assert "Dispatch last said 5 min ago" in text(still)


def test_the_list_says_where_each_stands_and_why(world: World) -> None:
    found = text(world)
    assert "refused 400 GroupCapacityComplianceError Vector · VEC-0001 Answered 400: &lt;script&gt;alert(1)" in found
    assert "waiting UpdateAssetMeasurements Vector · VEC-0002 Not tried yet; the partner fails and is left alone" in found
    assert "10 waits 8 min" in found
    assert "delivered 204 UpdateAssetMeasurements Vector · VEC-0001 1 in 2.0 s" in found
    assert found.index("refused 400") < found.index("delivered 204 Up")
    assert "95 2 1 86 ms 2.4 s" in found
    assert "Older" not in found


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("state=waiting", 3),
        ("state=parked", 1),
        ("state=delivered", 1),
        ("partner=vector", 5),
        ("partner=other", 0),
        ("group=VEC-0002", 1),
        ("action=GroupCapacityComplianceError", 1),
        ("id=forecast-1", 1),
        (f"id={GOOD.message_id[:10]}", 1),
        ("from=2007-06-09", 4),
        ("to=2007-06-08", 1),
        ("state=waiting&group=VEC-0002&from=2007-06-09&to=2007-06-09", 1),
    ],
)
def test_conditions_stand_in_the_address(world: World, query: str, count: int) -> None:
    found = html(world, f"/messages?{query}")
    assert found.count('<th scope="row" class="what">') == count
    assert ("No message fits." in found) is (count == 0)


def test_conditions_that_mean_nothing_are_left_out_and_said(world: World) -> None:
    found = text(world, "/messages?state=odd&from=yesterday&before=never")
    assert "is no state; it is one of waiting, delivered" in found
    assert "is no day; write it as 2026-10-25; this condition was left out" in found
    assert "The part that was asked for is none" in found
    assert "refused 400" in found


def test_a_long_list_comes_in_parts_and_a_history_that_is_away_is_said(tmp_path: Path) -> None:
    many = [owed(15 * number * MINUTE) for number in range(1, p.KEEP_MESSAGES + 60)]
    past = MessagePast(*((each, ()) for each in many))
    world = world_of(tmp_path, *many[: p.KEEP_MESSAGES], past=past)
    found = html(world, "/messages?partner=vector")
    older = f'href="/messages?partner=vector&amp;before={int(many[49].at.timestamp() * 1000)}.{many[49].message_id}"'
    assert older in found
    cursor = f"{int(many[199].at.timestamp() * 1000)}.{many[199].message_id}"
    assert "within 31 days" not in text(world, f"/messages?before={cursor}")
    past.away = True
    assert SLOW in text(world, f"/messages?before={cursor}")
    assert SLOW in text(world)  # of the counts


def test_one_message_whole(world: World) -> None:
    found = text(world, f"/messages/{PARKED.message_id}", Role.OPERATOR)
    assert "UpdateAssetMeasurements parked 500" in found
    assert "Set aside so that others can go: failed 10 times while others were delivered; send it again, or give it up." in found
    assert "a closed or revised quarter hour of its group" in found
    assert "Send again" in found
    assert "Give up…" in found
    viewers = html(world, f"/messages/{PARKED.message_id}")
    assert "Send again" not in viewers
    assert 'method="post" action="/messages' not in viewers
    assert "Send again" not in text(world, f"/messages/{GOOD.message_id}", Role.OPERATOR)
    assert "It has not been tried yet." in text(world, "/messages/old-1")
    html(world, "/messages/none", status=404)


def commands(world: World) -> list[tuple[CommandKind, str]]:
    return [(each.kind, json.loads(each.payload)["message_id"]) for each in world.appender.values(COMMANDS)]


def test_an_operator_sends_again_and_gives_up_after_a_question(world: World) -> None:
    cookies, csrf = world.signed_in(Role.OPERATOR)

    def post(message_id: str, **fields: str) -> Any:
        return world.ask("POST", f"/messages/{message_id}", cookies=cookies, data={"csrf": csrf, **fields})

    here = f"/messages/{PARKED.message_id}"
    assert post(PARKED.message_id, action="retry").headers["location"] == f"{here}?done=retry"
    assert post(PARKED.message_id, action="drop").headers["location"] == f"{here}?confirm=drop"
    assert commands(world) == [(CommandKind.RETRY_MESSAGE, PARKED.message_id)]
    question = world.ask("GET", f"{here}?confirm=drop", cookies=cookies).text
    assert "nothing makes up for it" in question
    assert 'name="confirmed" value="yes"' in question
    assert post(PARKED.message_id, action="drop", confirmed="yes").status_code == 303
    assert commands(world)[-1] == (CommandKind.DROP_MESSAGE, PARKED.message_id)
    assert "It was asked for that it is given up." in world.ask("GET", f"{here}?done=drop", cookies=cookies).text
    late = post(GOOD.message_id, action="retry")
    assert (late.status_code, "is delivered already" in late.text) == (409, True)
    assert post("none", action="retry").status_code == 404
    assert post(PARKED.message_id, action="burn").status_code == 400
    assert world.ask("GET", f"{here}?confirm=retry", cookies=cookies).status_code == 404
    assert len(commands(world)) == 2


def test_rights(world: World) -> None:
    cookies, csrf = world.signed_in(Role.VIEWER)
    here = f"/messages/{PARKED.message_id}"
    assert world.ask("POST", here, cookies=cookies, data={"csrf": csrf, "action": "retry"}).status_code == 403
    assert world.ask("GET", f"{here}?confirm=drop", cookies=cookies).status_code == 403
    assert world.ask("POST", here, cookies=world.signed_in(Role.OPERATOR)[0], data={"action": "retry"}).status_code == 403
    for path in ("/messages", here):
        assert world.ask("GET", path).headers["location"] == "/sign-in"
        assert world.ask("GET", path, Role.PRODUCER).status_code == 403
    assert commands(world) == []
