"""Registrations that we start, and renewals: who answers whom, and what is left where they fail (semantics 6.3)."""

from datetime import timedelta

import pytest

from schemas.config import OAuth, Partner
from schemas.connection import Command, CommandKind, Severity
from schemas.outbound import Outcome
from tests.builders import T0
from tests.rules.lifecycle_world import PEER_URL, REGISTER, World


@pytest.mark.parametrize("callback_first", [True, False])
@pytest.mark.parametrize("correlated", [True, False])
def test_our_own_start_whichever_way_the_peer_answers(callback_first: bool, correlated: bool):
    world = World()
    start = world.command(CommandKind.REGISTER, base_url=PEER_URL + "/", peer_token="initial")
    (register,) = world.sent(REGISTER)
    assert register.correlation_id is None
    assert world.connection.state == "SENDING_REGISTER"
    assert world.connection.peer_base_url == PEER_URL
    assert world.connection.peer_token == "initial"
    more = {"correlation_id": register.message_id} if correlated else {}
    if callback_first:
        world.register(peer_token="B", cred=start.event_id, **more)
        world.deliver(register)
    else:
        world.deliver(register)
        assert world.connection.state == "AWAITING_REGISTER_REPLY"
        world.register(peer_token="B", cred=start.event_id, **more)
    assert world.connection.state == "REGISTERED"
    assert world.connection.peer_token == "B"
    assert len(world.sent(REGISTER)) == 1
    world.register(peer_token="B", cred=start.event_id, **more)
    assert len(world.sent(REGISTER)) == (1 if correlated else 2)


def test_both_sides_start_at_once_and_both_are_served():
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    start = world.command(CommandKind.REGISTER, base_url=PEER_URL, peer_token="initial").event_id
    world.register(peer_token="B1", cred=a)
    assert [bool(m.correlation_id) for m in world.sent(REGISTER)] == [False, True]
    world.register(peer_token="B2", cred=start, correlation_id=world.sent(REGISTER)[0].message_id)
    for register in world.sent(REGISTER):
        world.deliver(register)
    assert world.connection.state == "REGISTERED"
    assert len(world.sent(REGISTER)) == 2


def test_an_unanswered_start_is_given_up_after_twelve_hours_and_its_answer_still_taken():
    world = World()
    start = world.command(CommandKind.REGISTER, base_url=PEER_URL, peer_token="initial")
    world.deliver(world.sent(REGISTER)[0])
    world.advance(timedelta(hours=13))
    assert world.connection.state == "FAILED"
    assert world.connection.since == T0 + timedelta(hours=12)
    world.register(cred=start.event_id)
    assert world.connection.state == "REGISTERED"


def test_a_start_without_address_or_token_is_an_alarm_not_a_message():
    world = World()
    world.command(CommandKind.REGISTER)
    assert world.sent(REGISTER) == []
    assert "base_url" in world.events[-1].words
    assert world.events[-1].severity is Severity.ALARM


@pytest.mark.parametrize("payload", ["", "[]", "null", "{", '{"base_url": 7}'])
def test_a_payload_that_is_none_is_as_good_as_empty(payload):
    world = World()
    command = Command(event_id="c", at=T0, partner_id="vector", kind=CommandKind.REGISTER, by="ana", payload=payload)
    world.step(command)
    assert world.events[-1].kind == "register.impossible"


def test_with_oauth_no_token_of_the_peers_is_needed():
    oauth = OAuth(token_url="https://login.example/t", client_id="us", client_secret_file="/run/secret")
    world = World(Partner(id="vector", base_url=PEER_URL, oauth=oauth))
    world.command(CommandKind.REGISTER)
    assert len(world.sent(REGISTER)) == 1


def test_a_failed_renewal_goes_back_to_the_address_and_token_that_worked():
    world = World().online()
    world.command(CommandKind.REGISTER, base_url="https://wrong.example/cp", peer_token="wrong")
    world.deliver(world.sent(REGISTER)[-1], Outcome.REFUSED, "404")
    assert world.connection.state == "ONLINE"
    assert (world.connection.peer_base_url, world.connection.peer_token) == (PEER_URL, "B")


def test_a_peer_that_answers_every_register_does_not_play_ping_pong():
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    world.register(cred=a)
    c = world.sent(REGISTER)[0].cause_id
    world.register(peer_token="B2", cred=c)
    world.register(peer_token="B3", cred=c, correlation_id=world.sent(REGISTER)[0].message_id)
    assert len(world.sent(REGISTER)) == 1
    assert world.connection.peer_token == "B3"


def test_a_peer_that_registers_at_every_start_is_answered_every_time():
    world = World()
    world.command(CommandKind.ISSUE_TOKEN)
    for number in range(1, 4):
        world.register(peer_token=f"B{number}")
        assert len(world.sent(REGISTER)) == number
        world.deliver(world.sent(REGISTER)[-1])
        world.advance(timedelta(hours=1))
