"""Registration, handshake and the end of a connection, as a partner sees them (semantics 6.1 to 6.4)."""

import json
from datetime import timedelta

import pytest

from pipelines.records import Tick
from schemas.config import ConfigChange
from schemas.connection import CommandKind, Severity
from schemas.oscp.v20 import Action
from schemas.outbound import Outcome
from schemas.topics import CONNECTIONS, EVENTS, OUTBOUND
from tests.builders import T0
from tests.rules.lifecycle_world import ACK, HEARTBEAT, OUR_URL, PEER_URL, REGISTER, World, body_of, seconds


def test_the_good_path_from_a_token_to_online():
    world = World()
    world.configured(world.partner)
    world.advance(seconds(2))
    a = world.command(CommandKind.ISSUE_TOKEN)
    world.register(cred=a.event_id)
    (register,) = world.sent(REGISTER)
    world.advance(seconds(1))
    world.deliver(register)
    world.handshake("INTERMITTENT", heartbeat=60)
    (acknowledgement,) = world.sent(ACK)
    world.advance(seconds(1))
    world.deliver(acknowledgement)
    assert world.states == ["NEW", "AWAITING_REGISTER", "REPLYING", "REGISTERED", "ACKING", "ONLINE"]
    assert [event.kind for event in world.events if event.kind.startswith("connection.")] == [
        "connection.awaiting_register", "connection.replying", "connection.registered", "connection.acking", "connection.online",
    ]  # fmt: skip
    assert all("Vector" in event.words for event in world.events)
    assert {out.topic for out in world.outs} == {CONNECTIONS, OUTBOUND, EVENTS}
    assert {out.key for out in world.outs} == {"vector"}
    last = world.connection
    assert last.peer_base_url == PEER_URL
    assert last.peer_token == "B"
    assert last.peer_required_heartbeat_s == 60
    assert last.our_required_heartbeat_s == 300
    assert last.first_acknowledged_at == world.clock.now()


def test_our_register_names_a_token_by_reference_and_answers_the_request_after_its_204():
    world = World().registered()
    (register,) = world.sent(REGISTER)
    assert body_of(register) == {
        "token": {"$token": register.cause_id},
        "version_url": [{"version": "2.0", "base_url": OUR_URL}],
    }
    assert register.method == "POST"
    assert register.correlation_id == "peer-2"
    assert register.not_before == T0 + seconds(1)
    assert register.expires_at == T0 + timedelta(hours=12)


def test_a_stays_valid_until_the_peer_answers_our_register():
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    world.register(cred=a)
    (register,) = world.sent(REGISTER)
    c = register.cause_id
    assert c is not None
    assert world.accepts(a)
    assert world.accepts(c)
    world.deliver(register, Outcome.RETRY, "503")
    assert world.accepts(a)
    world.deliver(register)
    assert not world.accepts(a)
    assert world.accepts(c)


@pytest.mark.parametrize("action", [Action.HEARTBEAT, Action.UPDATE_GROUP_CAPACITY_FORECAST, Action.HANDSHAKE])
def test_the_first_use_of_c_completes_the_exchange_whatever_uses_it(action: Action):
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    world.register(cred=a)
    c = world.sent(REGISTER)[0].cause_id
    body = {"offline_mode_at": "2026-10-20T11:00:00Z"} if action is Action.HEARTBEAT else {}
    world.inbound(action, body, cred=c)
    assert world.connection.state == ("ACKING" if action is Action.HANDSHAKE else "REGISTERED")
    assert not world.accepts(a)
    world.deliver(world.sent(REGISTER)[0], Outcome.EXPIRED)
    assert world.connection.state != "FAILED"


def test_a_register_that_is_refused_leaves_a_valid_and_can_be_tried_again():
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    world.register(cred=a)
    world.deliver(world.sent(REGISTER)[0], Outcome.REFUSED, "404: no such path")
    assert world.connection.state == "FAILED"
    assert "404: no such path" in world.connection.words
    assert world.events[-1].severity is Severity.ALARM or world.events[-2].severity is Severity.ALARM
    assert world.accepts(a)
    world.command(CommandKind.RESUME)
    first, second = world.sent(REGISTER)
    assert world.connection.state == "REPLYING"
    assert first.message_id != second.message_id
    assert first.body == second.body
    world.deliver(second)
    assert world.connection.state == "REGISTERED"


def test_a_failed_registration_recovers_when_the_peer_registers_again_or_uses_c_after_all():
    for recover in ("register", "use"):
        world = World()
        a = world.command(CommandKind.ISSUE_TOKEN).event_id
        world.register(cred=a)
        register = world.sent(REGISTER)[0]
        world.deliver(register, Outcome.EXPIRED)
        if recover == "register":
            world.register(cred=a)
            assert world.connection.state == "REPLYING"
        else:
            world.handshake(cred=register.cause_id)
            assert world.connection.state == "ACKING"


def test_a_handshake_with_a_valid_token_is_taken_even_where_our_register_never_arrived():
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    world.register(cred=a)
    world.deliver(world.sent(REGISTER)[0], Outcome.REFUSED, "500")
    world.handshake(cred=a)
    assert world.connection.state == "ACKING"
    world.deliver(world.sent(ACK)[0])
    assert world.connection.state == "ONLINE"
    assert world.accepts(a)


def test_rotation_by_post_keeps_the_link_and_the_old_token_until_the_new_one_is_known():
    world = World().online()
    old = world.connection.credentials[-1].cause
    world.register(peer_token="B2", cred=old)
    new = world.sent(REGISTER)[-1].cause_id
    assert new is not None
    assert world.connection.state == "ONLINE"
    assert world.connection.peer_token == "B2"
    assert [c.role for c in world.connection.credentials] == ["PREVIOUS", "CURRENT"]
    world.deliver(world.sent(REGISTER)[-1], Outcome.EXPIRED)
    assert world.connection.state == "ONLINE"
    assert world.accepts(old)
    assert world.accepts(new)
    world.heartbeat(seconds(600), cred=new)
    assert not world.accepts(old)


def test_put_replaces_token_and_address_without_an_answer():
    world = World().online()
    sent = len(world.sent(REGISTER))
    world.register(method="PUT", peer_token="B2", url="https://other.example/cp", request_id="put-1")
    assert world.connection.state == "ONLINE"
    assert world.connection.peer_token == "B2"
    assert world.connection.peer_base_url == "https://other.example/cp"
    assert world.took("put-1")
    assert len(world.sent(REGISTER)) == sent


def test_delete_ends_the_connection_and_voids_every_token():
    world = World().online(heartbeat=60)
    world.inbound(REGISTER, method="DELETE", request_id="bye")
    last = world.connection
    assert last.state == "DEREGISTERED"
    assert last.credentials == []
    assert last.peer_token is None
    assert last.first_acknowledged_at is None
    assert world.took("bye")
    said = len(world.outs)
    world.advance(timedelta(hours=1))
    assert world.outs[said:] == []
    again = world.command(CommandKind.ISSUE_TOKEN)
    assert world.connection.state == "AWAITING_REGISTER"
    assert world.accepts(again.event_id)


def test_our_own_farewell_is_a_delete_with_a_register_and_forgets_the_peers_token_once_it_is_through():
    world = World().online()
    world.command(CommandKind.DEREGISTER)
    assert world.connection.state == "DEREGISTERED"
    assert world.connection.credentials == []
    farewell = world.sent(REGISTER)[-1]
    assert farewell.method == "DELETE"
    body_of(farewell)
    assert world.connection.peer_token == "B"
    world.deliver(farewell)
    assert world.connection.peer_token is None


def test_a_partner_that_registers_again_after_our_farewell_keeps_its_new_token():
    world = World().online()
    world.command(CommandKind.DEREGISTER)
    farewell = world.sent(REGISTER)[-1]
    world.command(CommandKind.ISSUE_TOKEN)
    world.register(peer_token="B9")
    assert world.withdrawn == [farewell.message_id]
    world.deliver(farewell, Outcome.DROPPED)
    assert world.connection.peer_token == "B9"


def test_of_two_answers_only_the_newest_is_still_sent_and_after_the_end_none():
    world = World()
    world.command(CommandKind.ISSUE_TOKEN)
    a = world.connection.credentials[0].cause
    world.register(cred=a)
    world.register(cred=a, peer_token="B2")
    first, second = world.sent(REGISTER)
    assert world.withdrawn == [first.message_id]
    assert world.accepts(str(first.cause_id)), "it may have arrived all the same"
    world.inbound(REGISTER, method="DELETE", cred=a)
    assert world.withdrawn == [first.message_id, second.message_id]


def test_a_failed_acknowledgement_does_not_stop_a_registration_under_way():
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    world.register(cred=a)
    world.handshake(cred=a)
    world.deliver(world.sent(ACK)[-1], Outcome.REFUSED, "404")
    assert world.connection.state == "REPLYING"


def test_a_repeated_request_is_applied_once_but_shown_as_taken():
    world = World()
    world.command(CommandKind.ISSUE_TOKEN)
    cause = world.state.credentials[0].cause
    world.register(request_id="r-1", cred=cause)
    world.advance(seconds(30))
    world.register(request_id="r-1", cred=cause)
    assert len(world.sent(REGISTER)) == 1
    assert len(world.connection.taken) == 1
    assert world.took("r-1")


@pytest.mark.parametrize("ended", ["deregistered", "failed"])
def test_a_peer_with_the_same_id_for_every_register_can_begin_anew(ended: str):
    world = World()
    world.command(CommandKind.ISSUE_TOKEN)
    world.register(request_id="always-the-same")
    (first,) = world.sent(Action.REGISTER)
    if ended == "failed":
        world.deliver(first, Outcome.REFUSED, "answered 501")
        assert world.connection.state == "FAILED"
    else:
        world.deliver(first)
        world.command(CommandKind.DEREGISTER)
        world.command(CommandKind.ISSUE_TOKEN)
    world.advance(seconds(60))
    given = world.connection.credentials[0].cause
    world.register(request_id="always-the-same", cred=given)
    assert world.connection.state == "REPLYING"
    assert len([message for message in world.sent(Action.REGISTER) if message.method == "POST"]) == 2
    world.register(request_id="always-the-same", cred=given)
    assert len([message for message in world.sent(Action.REGISTER) if message.method == "POST"]) == 2


def test_an_id_used_for_two_bodies_is_two_messages_and_an_event():
    world = World().registered()
    world.handshake("INTERMITTENT", request_id="h")
    world.handshake("CONTINUOUS", request_id="h")
    assert len(world.sent(ACK)) == 2
    assert "request-id.reused" in [event.kind for event in world.events]


def test_what_is_repeated_after_seven_days_is_new():
    world = World().registered()
    world.handshake(request_id="h")
    world.advance(timedelta(days=8))
    world.handshake(request_id="h")
    assert len(world.sent(ACK)) == 2


def test_suspended_sends_nothing_takes_everything_and_catches_up_when_resumed():
    world = World().online(heartbeat=10)
    world.command(CommandKind.SUSPEND)
    sent = len(world.sent(HEARTBEAT))
    held = world.connection.credentials[-1].cause
    world.heartbeat(seconds(900), cred=held)
    world.register(peer_token="B2", cred=held)
    world.handshake(heartbeat=10, cred=held)
    world.advance(seconds(60))
    assert world.connection.state == "SUSPENDED"
    assert world.connection.peer_token == "B2"
    assert (len(world.sent(HEARTBEAT)), len(world.sent(REGISTER)), len(world.sent(ACK))) == (sent, 1, 1)
    world.command(CommandKind.RESUME)
    assert world.connection.state == "ONLINE"
    assert (len(world.sent(REGISTER)), len(world.sent(ACK))) == (2, 2)
    assert len(world.sent(HEARTBEAT)) == sent + 1


def test_a_partner_taken_out_of_the_configuration_is_let_go():
    world = World().online(heartbeat=10)
    world.configured(None)
    world.advance(seconds(2))
    assert world.connection.state == "DEREGISTERED"
    assert world.connection.credentials == []
    said = len(world.outs)
    world.advance(timedelta(hours=1))
    assert world.outs[said:] == []


def test_an_old_removal_read_again_does_not_let_go_a_partner_that_is_configured():
    world = World().online()
    before = world.connection
    world.step(ConfigChange(event_id="old", at=T0, kind="partners", id="vector", body=None, revision=1, by="ana"))
    world.advance(seconds(10))
    assert world.connection == before


def test_a_configured_partner_is_announced_after_its_connection_had_time_to_be_read_back():
    world = World()
    world.configured(world.partner)
    assert world.outs == []
    known = World().online().connection
    world.step(known)
    world.advance(seconds(5))
    assert world.connections == []
    assert world.state.credentials == known.credentials


def test_nothing_secret_is_said():
    world = World()
    a = world.command(CommandKind.ISSUE_TOKEN).event_id
    world.register(cred=a)
    said = " ".join(out.value.model_dump_json() for out in world.outs)
    assert "token of vector" not in said
    assert '"token":"B"' not in said


def test_messages_that_came_in_before_the_end_but_are_read_after_it_do_nothing():
    world = World().online()
    cause = world.connection.credentials[-1].cause
    world.inbound(REGISTER, method="DELETE")
    said = len(world.outs)
    world.heartbeat(seconds(60), cred=cause)
    world.register(cred=cause)
    assert world.outs[said:] == []
    assert world.step(Tick()) == []


def test_the_memory_of_a_connection_is_json_without_secrets():
    memory = json.loads(World().online().connection.memory)
    assert memory["registration"] == "REGISTERED"
    assert "peer_token" not in memory
