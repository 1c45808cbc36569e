"""A partner's side of the lifecycle rule for tests: feeds it messages, deliveries, commands and time, and keeps what it says."""

import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.records import Out, Tick
from pipelines.rules.lifecycle import Item, LifecycleRule
from pipelines.rules.lifecycle_state import PartnerState
from pipelines.rules.lifecycle_turn import Surroundings
from schemas.clock import FrozenClock
from schemas.config import ConfigChange, Partner
from schemas.connection import Command, CommandKind, Connection, Event, InboundMessage
from schemas.facts import derived_id, digest
from schemas.oscp.v20 import MODELS, Action
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.units import rfc3339
from tests.builders import T0

OUR_URL = "https://derms.example/oscp/fp/2.0"
PEER_URL = "https://cp.example/oscp/cp/2.0"
REGISTER, ACK, HEARTBEAT = Action.REGISTER, Action.HANDSHAKE_ACKNOWLEDGE, Action.HEARTBEAT


def token(partner_id: str, cause: str) -> str:
    return f"token of {partner_id} from {cause}"


def token_digest(partner_id: str, cause: str) -> str:
    return digest(token(partner_id, cause))


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


class World:
    """One partner and the rule. `outs` is everything said so far; `connection` the last one said."""

    def __init__(self, partner: Partner | None = None, at: datetime = T0, token_digest: Callable[[str, str], str] = token_digest) -> None:
        self.clock = FrozenClock(at)
        self.partner: Partner | None = partner or Partner(id="vector", name="Vector")
        around = Surroundings(
            partner=lambda _: self.partner,
            token_digest=token_digest,
            base_url=OUR_URL,
            allowance=self.clock.allowance,
            started_at=at - timedelta(hours=1),
            local_zone=UTC,
        )
        self.rule = LifecycleRule(around)
        self.state: PartnerState = self.rule.start("vector")
        self.outs: list[Out] = []
        self.count = 0
        self.requests: dict[str, str] = {}
        self.taken_in: list[InboundMessage] = []

    # What happened -------------------------------------------------------------------------------------------------

    def step(self, item: Item | Tick) -> list[Out]:
        said = list(self.rule.step(self.state, item, self.clock.now()))
        self.outs += said
        return said

    def restart(self) -> None:
        """The state goes to the recovery store and comes back."""
        self.state = pickle.loads(pickle.dumps(self.state))

    def advance(self, duration: timedelta) -> None:
        """Let time pass, with a tick whenever the rule wants one."""
        until = self.clock.now() + duration
        while (due := self.rule.due(self.state)) is not None and due <= until:
            self.clock.set(max(due, self.clock.now()))
            self.step(Tick())
        self.clock.set(until)

    def inbound(self, action: Action, body: Any = None, *, method: str = "POST", cred: str | None = None, **more: Any) -> list[Out]:
        """The partner sends something with the token made from `cred` (default: the newest it has been given)."""
        self.count += 1
        text = json.dumps(body or {})
        request_id = more.pop("request_id", f"peer-{self.count}")
        presented = cred or self.state.credentials[-1].cause
        message = InboundMessage(
            event_id=derived_id("inbound", method, action, request_id, digest(text), self.clock.now()),
            at=self.clock.now(),
            partner_id="vector",
            action=action,
            method=method,
            request_id=request_id,
            received_at=more.pop("received_at", self.clock.now()),
            body=text,
            body_digest=digest(text),
            credential_digest=token_digest("vector", presented),
            **more,
        )
        self.requests[request_id] = message.repeat_key
        self.taken_in.append(message)
        return self.step(message)

    def took(self, request_id: str) -> bool:
        """Whether the connection says that a request has taken effect."""
        return self.requests[request_id] in self.connection.taken

    def register(self, *, peer_token: str = "B", url: str = PEER_URL, **more: Any) -> list[Out]:
        return self.inbound(Action.REGISTER, {"token": peer_token, "version_url": [{"version": "2.0", "base_url": url}]}, **more)

    def handshake(self, *styles: str, heartbeat: float | None = None, **more: Any) -> list[Out]:
        behaviour: dict[str, Any] = {"measurement_configuration": list(styles or ("INTERMITTENT",))}
        if heartbeat is not None:
            behaviour["heartbeat_interval"] = heartbeat
        return self.inbound(Action.HANDSHAKE, {"required_behaviour": behaviour}, **more)

    def heartbeat(self, ahead: timedelta, **more: Any) -> list[Out]:
        return self.inbound(Action.HEARTBEAT, {"offline_mode_at": rfc3339(self.clock.now() + ahead)}, **more)

    def command(self, kind: CommandKind, **payload: str) -> Command:
        self.count += 1
        command = Command(
            event_id=f"command-{self.count}",
            at=self.clock.now(),
            partner_id="vector",
            kind=kind,
            by="ana",
            payload=json.dumps(payload),
        )
        self.step(command)
        return command

    def deliver(self, message: OutboundMessage, outcome: Outcome = Outcome.DELIVERED, words: str = "") -> list[Out]:
        self.count += 1
        delivery = Delivery(
            event_id=f"delivery-{self.count}",
            at=self.clock.now(),
            message_id=message.message_id,
            partner_id="vector",
            action=message.action,
            attempt=1,
            outcome=outcome,
            words=words,
        )
        return self.step(delivery)

    def configured(self, partner: Partner | None) -> list[Out]:
        self.count += 1
        self.partner = partner
        body = None if partner is None else partner.model_dump_json()
        change = ConfigChange(
            event_id=f"c-{self.count}", at=self.clock.now(), kind="partners", id="vector", body=body, revision=self.count, by="ana"
        )
        return self.step(change)

    # What was said -------------------------------------------------------------------------------------------------

    @property
    def connection(self) -> Connection:
        return next(out.value for out in reversed(self.outs) if isinstance(out.value, Connection))

    @property
    def connections(self) -> list[Connection]:
        return [out.value for out in self.outs if isinstance(out.value, Connection)]

    @property
    def states(self) -> list[str]:
        """The states in their order, each once."""
        found: list[str] = []
        for connection in self.connections:
            if not found or found[-1] != connection.state:
                found.append(connection.state.value)
        return found

    def sent(self, action: Action) -> list[OutboundMessage]:
        return [out.value for out in self.outs if isinstance(out.value, OutboundMessage) and out.value.action == action]

    @property
    def withdrawn(self) -> list[str]:
        """The messages dispatch was told to drop."""
        return [json.loads(out.value.payload)["message_id"] for out in self.outs if isinstance(out.value, Command)]

    @property
    def events(self) -> list[Event]:
        return [out.value for out in self.outs if isinstance(out.value, Event)]

    def accepts(self, cause: str) -> bool:
        """Whether the gateway would let in the token made from `cause`: it knows what was said last."""
        return any(c.digest == token_digest("vector", cause) for c in self.connection.credentials)

    # Shortcuts -----------------------------------------------------------------------------------------------------

    def registered(self) -> "World":
        """A partner that registered with A and has C."""
        self.command(CommandKind.ISSUE_TOKEN)
        self.register()
        self.advance(seconds(1))
        self.deliver(self.sent(Action.REGISTER)[-1])
        return self

    def online(self, *styles: str, heartbeat: float | None = None) -> "World":
        """A registered partner whose handshake we acknowledged."""
        self.registered()
        self.handshake(*styles, heartbeat=heartbeat)
        self.advance(seconds(1))
        self.deliver(self.sent(Action.HANDSHAKE_ACKNOWLEDGE)[-1])
        assert self.connection.state == "ONLINE"
        return self


def body_of(message: OutboundMessage) -> Any:
    """The message's body, checked against its model (a token reference stands for a token)."""
    found = json.loads(message.body)
    if message.action == Action.REGISTER:
        assert found["token"].keys() == {"$token"}
        MODELS[Action.REGISTER].model_validate({**found, "token": "a token"})
    else:
        MODELS[message.action].model_validate(found)
    return found


def with_settings(partner: Partner, **changes: Any) -> Partner:
    return Partner.model_validate({**partner.model_dump(), **changes})
