"""Listener and lifecycle together, with real tokens: a peer that only sees HTTP lives a whole life (semantics 6)."""

import asyncio
import json
from datetime import timedelta

import httpx
import pytest

from schemas.connection import CommandKind, Connection, InboundMessage
from schemas.oscp.v20 import Action
from schemas.outbound import OutboundMessage
from sinks.secrets import Secrets
from tests.gateway.oscp_side import Side, forecast_body, register_body
from tests.rules.lifecycle_world import World, seconds

SECRETS = Secrets(bytes(range(32)))


class Life(Side):
    """The listener before a lifecycle rule. `token` is what the peer holds of ours; dispatch is played by `deliver`."""

    def __init__(self) -> None:
        self.world = World(token_digest=SECRETS.token_digest)
        super().__init__()
        self.clock = self.world.clock
        self.connections.known = {}
        self.broker.effect = self._lifecycle
        self.token = ""

    def _lifecycle(self, message: InboundMessage) -> None:
        self.world.step(message)
        self.show()

    def show(self) -> None:
        self.connections.known = {"vector": self.world.connection} if self.world.connections else {}

    def issue(self) -> None:
        command = self.world.command(CommandKind.ISSUE_TOKEN)
        self.token = SECRETS.token("vector", command.event_id)
        self.show()

    def ask(self, method: str, path: str, body=None, **more) -> httpx.Response:
        more.setdefault("request_id", f"peer-{self.world.count}-{len(self.broker.inbound)}")
        return asyncio.run(self.send(method, path, body, token=f"Token {self.token}", **more))

    def status(self, method: str, path: str, body=None, **more) -> int:
        return self.ask(method, path, body, **more).status_code

    def deliver(self, action: Action, *, learns: bool = True) -> OutboundMessage:
        """The newest message of an action reaches the peer, which learns the token in it."""
        message = self.world.sent(action)[-1]
        self.world.advance(max(message.not_before - self.clock.now(), timedelta(0)))
        if action is Action.REGISTER and learns:
            self.token = SECRETS.token("vector", json.loads(message.body)["token"]["$token"])
        self.world.deliver(message)
        self.show()
        return message

    @property
    def connection(self) -> Connection:
        return self.world.connection


@pytest.fixture
def life() -> Life:
    return Life()


def test_a_whole_life(life: Life):
    life.issue()
    a = life.token
    assert life.status("POST", "/register", register_body("B"), request_id="reg") == 204
    assert life.status("POST", "/handshake", {}) == 204, "A still works"
    register = life.deliver(Action.REGISTER)
    assert register.correlation_id == "reg"
    assert life.token != a
    assert len(life.token) == 43
    assert life.status("POST", "/handshake", {"required_behaviour": {"measurement_configuration": [], "heartbeat_interval": 60}}) == 204
    life.deliver(Action.HANDSHAKE_ACKNOWLEDGE)
    assert life.connection.state == "ONLINE"
    assert life.status("POST", "/heartbeat", {"offline_mode_at": "2026-10-20T10:30:00Z"}) == 204
    assert life.status("POST", "/update_group_capacity_forecast", forecast_body()) == 204
    assert life.status("PUT", "/register", register_body("B2", url="/other")) == 204
    assert life.connection.peer_base_url == "https://cp.example/other"
    assert life.status("DELETE", "/register") == 204
    assert life.connection.state == "DEREGISTERED"
    assert life.status("POST", "/handshake", {}) == 403
    life.token = a
    assert life.status("POST", "/handshake", {}) == 403


def test_a_put_sent_again_is_answered_again_and_applied_once(life: Life):
    life.issue()
    for number in range(3):
        assert life.status("PUT", "/register", register_body("B2"), request_id="same") == 204
        tokens = {connection.peer_token for connection in life.world.connections if connection.peer_token}
        assert len(tokens) == 1, number


def test_a_peer_that_never_learns_c_goes_on_with_a(life: Life):
    life.issue()
    for number in range(5):
        assert life.status("POST", "/register", register_body(f"B{number}")) == 204
        life.world.advance(seconds(3600))
    assert life.status("POST", "/handshake", {}) == 204


def test_our_own_start_with_a_peer_that_calls_back_before_it_answers(life: Life):
    command = life.world.command(CommandKind.REGISTER, base_url="https://cp.example/x", peer_token="sealed initial")
    life.show()
    ours = life.world.sent(Action.REGISTER)[-1]
    life.token = SECRETS.token("vector", json.loads(ours.body)["token"]["$token"])
    assert command.event_id == json.loads(ours.body)["token"]["$token"]
    assert life.status("POST", "/register", register_body("B"), headers={"X-Correlation-ID": ours.message_id}) == 204
    life.world.deliver(ours)
    life.show()
    assert life.connection.state == "REGISTERED"
    assert life.status("POST", "/handshake", {}) == 204


def test_our_own_handshake_and_its_acknowledgement_twice(life: Life):
    life.issue()
    assert life.status("POST", "/register", register_body()) == 204
    life.deliver(Action.REGISTER)
    assert life.status("POST", "/handshake_acknowledge", {}) == 409
    life.world.command(CommandKind.HANDSHAKE)
    life.show()
    assert life.status("POST", "/handshake_acknowledgment", {"required_behaviour": {"heartbeat_interval": 5}}, request_id="ack") == 204
    assert life.connection.state == "ONLINE"
    body = {"required_behaviour": {"heartbeat_interval": 5}}
    assert life.status("POST", "/handshake_acknowledgment", body, request_id="ack") == 204
    assert life.status("POST", "/handshake_acknowledge", body) == 409
