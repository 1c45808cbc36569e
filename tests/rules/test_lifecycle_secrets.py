"""A new installation secret: what a connection keeps is encrypted anew, and no partner notices (semantics 6.2)."""

import pickle
from dataclasses import fields, replace

import pytest

from pipelines.records import Tick
from pipelines.rules.lifecycle import LifecycleRule
from pipelines.rules.lifecycle_state import PartnerState
from schemas.connection import CommandKind
from schemas.oscp.v20 import Action
from sinks.secrets import Secrets, WrongSecret, key_id_of
from tests.rules.lifecycle_world import World

OLD, NEW = bytes(range(32)), bytes(range(32, 64))


def under(world: World, secrets: Secrets) -> World:
    """The same partner, its flow started again with `secrets`."""
    around = replace(
        world.rule._around, key_id=secrets.key_id, renewed=secrets.renewed, token_digest=secrets.token_digest, started_at=world.clock.now()
    )
    world.rule = LifecycleRule(around)
    world.restart()
    return world


def woken(world: World) -> None:
    """What the engine does when it has read the state: ask when the rule is due, and tell it if that is past."""
    due = world.rule.due(world.state)
    if due is not None and due <= world.clock.now():
        world.step(Tick())


@pytest.fixture
def world() -> World:
    old = Secrets(OLD)
    made = World(token_digest=old.token_digest)
    made.online(heartbeat=60.0)
    made.state.peer_token = old.encrypt("B", "vector")
    return under(made, old)


def test_a_connections_token_is_encrypted_anew_at_the_first_start_with_a_new_secret(world: World):
    before, credentials = world.state.peer_token, list(world.state.credentials)
    new = Secrets(NEW, Secrets(OLD))
    under(world, new)
    woken(world)
    assert world.connection.peer_token != before
    assert key_id_of(world.connection.peer_token or "") == new.key_id
    assert Secrets(NEW).decrypt(world.connection.peer_token or "", "vector") == "B"
    assert [credential.digest for credential in world.connection.credentials] == [credential.digest for credential in credentials]
    said = len(world.outs)
    woken(world)
    assert len(world.outs) == said
    assert "secret.renewed" in [event.kind for event in world.events]


def test_a_partner_goes_on_with_the_token_it_has(world: World):
    cause = world.state.credentials[-1].cause
    under(world, Secrets(NEW, Secrets(OLD)))
    woken(world)
    assert world.state.credentials[-1].digest == Secrets(OLD).token_digest("vector", cause)
    assert world.connection.state == "ONLINE"


def test_without_the_secret_before_a_person_is_told_once(world: World):
    before = world.state.peer_token
    under(world, Secrets(NEW))
    for _ in range(3):
        woken(world)
    assert [event.kind for event in world.events].count("secret.missing") == 1
    assert world.state.peer_token == before
    assert world.rule.due(world.state) != world.rule._around.started_at
    under(world, Secrets(OLD))
    assert not [event for event in world.events if event.kind == "secret.renewed"]


def test_a_registration_under_way_takes_a_token_of_either_secret():
    old = Secrets(OLD)
    world = under(World(token_digest=old.token_digest), old)
    world.command(CommandKind.ISSUE_TOKEN)
    world.register(peer_token=old.encrypt("B", "vector"))
    (ours,) = world.sent(Action.REGISTER)
    cause = world.state.notes.answer.about if world.state.notes.answer else ""
    new = Secrets(NEW, old)
    under(world, new)
    woken(world)
    valid = {credential.digest for credential in world.connection.credentials}
    assert {old.token_digest("vector", cause), new.token_digest("vector", cause)} <= valid
    assert new.token_among("vector", cause, valid) == new.token("vector", cause)
    world.deliver(ours)
    assert world.connection.state == "REGISTERED"
    assert old.token_digest("vector", cause) in {credential.digest for credential in world.connection.credentials}


def test_a_register_body_that_was_encrypted_before_but_read_after_the_change_is_renewed_too(world: World):
    old = Secrets(OLD)
    under(world, Secrets(NEW, old))
    woken(world)
    world.register(peer_token=old.encrypt("B2", "vector"))
    assert Secrets(NEW).decrypt(world.connection.peer_token or "", "vector") == "B2"


def test_what_was_made_under_the_previous_secret_is_understood_and_under_no_other():
    old, new = Secrets(OLD), Secrets(NEW, Secrets(OLD))
    sealed = old.encrypt("B", "vector")
    assert new.decrypt(sealed, "vector") == "B"
    assert new.renewed(mine := new.encrypt("x", "vector"), "vector") == mine
    promised = {old.token_digest("vector", "c")}
    assert new.token_among("vector", "c", promised) == old.token("vector", "c")
    assert new.token_among("vector", "c", set()) == new.token("vector", "c")
    with pytest.raises(WrongSecret):
        Secrets(NEW).decrypt(sealed, "vector")
    with pytest.raises(WrongSecret):
        new.decrypt(Secrets(bytes(32)).encrypt("x", "vector"), "vector")


def test_a_state_of_an_earlier_version_is_read_with_defaults_for_what_it_did_not_know():
    class Earlier(PartnerState):
        def __reduce__(self):
            kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "unrenewed"}
            return PartnerState, ("",), (None, kept)

    state = pickle.loads(pickle.dumps(Earlier("vector", words="as it was")))
    assert (state.partner_id, state.words, state.unrenewed) == ("vector", "as it was", "")
