"""The simulated Capacity Provider's life: registers or is registered with, shakes hands, beats, and says what it was told to."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.simulator_config import BaseUrlForm, PlannedForecast, Segments, SimulatorConfig, Starts
from gateway.simulator_forecasts import messages_of, mistaken
from gateway.simulator_ledger import Heard, Ledger
from gateway.simulator_reception import BASE_PATH, Peer, Reception
from gateway.simulator_switches import Agreement, Behaviour
from gateway.simulator_voice import Message, Voice, new_id
from schemas.clock import Clock
from schemas.oscp import v20
from schemas.oscp.v20 import Action
from schemas.oscp.wire import NAIVE_FORMAT
from schemas.units import EPOCH, rfc3339

REPLY_AFTER_S = 0.2
"""Wall seconds between our 204 and the message that answers the one it was for."""
Begin = Callable[[Coroutine[Any, Any, None], str], None]


class Life:
    """What it does by itself. `begin` runs something beside; `url` says where we are reached."""

    def __init__(
        self, config: SimulatorConfig, clock: Clock, ledger: Ledger, reception: Reception, *, begin: Begin, url: Callable[[], str]
    ) -> None:
        self._config, self._clock, self._ledger, self._reception = config, clock, ledger, reception
        self._voice = Voice(ledger, lambda: reception.switches, lambda: reception.peer)
        self._begin, self._url = begin, url
        self._beating = False
        self.phase = "STARTING"
        ledger.expects_start = config.starts is not Starts.CP

    async def close(self) -> None:
        """Close all connections."""
        await self._voice.close()

    async def run(self, token_a: str | None) -> None:
        """The whole of it from the registration on. `token_a`: the one to register with; None where the other side begins."""
        if token_a is not None:
            self.phase = "REGISTERING"
            await self._register(Peer(self._config.fp_base_url.rstrip("/"), token_a), "POST", new_id())
        self.phase = "AWAITING_REGISTER"
        await self._reception.registered.wait()
        if self._config.handshakes:
            await self.shake_hands()
        self.phase = "AWAITING_ACKNOWLEDGE"
        await self._reception.acknowledged.wait()
        self.phase = "ONLINE"
        if not self._beating:
            self._beating = True
            self._begin(self._beat(), "heartbeats")
        for mistake in self._config.mistakes:
            await self._voice.tell(mistaken(mistake, self._config.group_id, self._clock.now()), self._reception.partner())
        for planned in sorted(self._config.forecasts, key=lambda each: each.at or EPOCH):
            await self.forecast(planned)

    def forgot(self) -> None:
        """Everything is lost but this: wait to be told a token, or to be registered with."""
        self.phase, self._beating = "LOST_STATE", False

    def expect(self) -> None:
        """The Flexibility Provider is going to begin."""
        self._ledger.expects_start = True

    async def _register(self, to: Peer, method: str, request_id: str, correlation_id: str | None = None) -> None:
        base_url = {
            BaseUrlForm.ABSOLUTE: self._url() + BASE_PATH,
            BaseUrlForm.SLASH: self._url() + BASE_PATH + "/",
            BaseUrlForm.RELATIVE: BASE_PATH,
        }[self._config.base_url_form]
        token = self._reception.credentials.fresh()
        body = {"token": token, "version_url": [{"version": v20.VERSION, "base_url": base_url}]}
        self._ledger.registrations.add(request_id)
        await self._voice.tell(Message(Action.REGISTER, body, request_id, correlation_id, method), to)

    async def heard(self, heard: Heard) -> None:
        """Something has come that wants an answering message; it is sent now, or soon after our 204."""
        if isinstance(heard.message, v20.Register):
            if heard.correlation_id is not None:
                self._exchanged()
                return
            to = self._reception.partner()
            if self._reception.switches.callback_first:
                await self._answer(heard, to)
            else:
                self._begin(self._later(self._answer(heard, to)), "answering-register")
        elif isinstance(heard.message, v20.Handshake) and heard.action is Action.HANDSHAKE:
            self._begin(self._later(self._acknowledge(heard, heard.message)), "acknowledging")
        elif isinstance(heard.message, v20.AdjustGroupCapacityForecast) and self._reception.switches.agrees is not Agreement.NEVER:
            named = self._reception.switches.agrees is Agreement.NAMED
            self._begin(self._later(self._send(heard.message, heard.request_id if named else None)), "agreeing")

    def _exchanged(self) -> None:
        self._reception.credentials.mended()
        self._reception.registered.set()

    async def _later(self, answering: Coroutine[Any, Any, None]) -> None:
        await asyncio.sleep(REPLY_AFTER_S)
        await answering

    async def _answer(self, heard: Heard, to: Peer) -> None:
        await self._register(to, "POST", new_id(), heard.request_id)
        self._exchanged()

    async def _acknowledge(self, heard: Heard, handshake: v20.Handshake) -> None:
        manners, request_id = self._reception.switches, new_id()
        body = self._behaviour(manners.acknowledgement)
        message = Message(Action.HANDSHAKE_ACKNOWLEDGE, body, request_id, heard.request_id, path=manners.acknowledge_path)
        await self._voice.tell(message, self._reception.partner())
        self._ledger.acknowledged = v20.HandshakeAcknowledge(required_behaviour=handshake.required_behaviour)
        self._reception.acknowledged.set()

    async def shake_hands(self) -> None:
        """Say what we want; returns when that is taken."""
        self.phase = "HANDSHAKING"
        request_id = new_id()
        body = self._behaviour(self._reception.switches.handshake)
        self._ledger.handshakes.add(request_id)
        await self._voice.tell(Message(Action.HANDSHAKE, body, request_id), self._reception.partner())
        self.phase = "ONLINE" if self._reception.acknowledged.is_set() else "AWAITING_ACKNOWLEDGE"

    def _behaviour(self, form: Behaviour) -> dict[str, Any]:
        """What we want, in a form that may leave some of it out: then it is not wanted."""
        interval = {} if self._config.heartbeat_interval_s is None else {"heartbeat_interval": self._config.heartbeat_interval_s}
        styles = [style.value for style in self._config.measurement_configuration]
        asked = form in (Behaviour.NESTED, Behaviour.FLAT, Behaviour.INTERVAL)
        self._ledger.heartbeat_interval_s = self._config.heartbeat_interval_s if asked else None
        match form:
            case Behaviour.NESTED:
                return {"required_behaviour": {**interval, "measurement_configuration": styles}}
            case Behaviour.FLAT:
                return {**interval, "measurement_configuration": styles}
            case Behaviour.INTERVAL:
                return {"required_behaviour": interval}
            case Behaviour.BARE:
                return {"required_behaviour": {}}
            case Behaviour.EMPTY:
                return {}

    async def renew(self) -> None:
        """Give the Flexibility Provider another token, with POST (it answers with one of its own) or PUT."""
        method = "PUT" if self._reception.switches.put_renewals else "POST"
        await self._register(self._reception.partner(), method, new_id())

    async def deregister(self) -> None:
        """End the connection from our side."""
        self._reception.deregistered = True
        await self._voice.tell(Message(Action.REGISTER, b"", new_id(), method="DELETE"), self._reception.partner())

    async def forecast(self, planned: PlannedForecast) -> None:
        """Send it when its time has come."""
        if planned.at is not None:
            await self._until(planned.at)
        whole = v20.UpdateGroupCapacityForecast(group_id=self._config.group_id, type=planned.type, forecasted_blocks=planned.blocks)
        await self._send(whole, segments=planned.segments)

    async def _send(
        self, whole: v20.UpdateGroupCapacityForecast, correlation_id: str | None = None, segments: Segments | None = None
    ) -> None:
        whole, request_id = v20.UpdateGroupCapacityForecast(**dict(whole)), new_id()
        self._ledger.forecasts[request_id] = (self._clock.now(), whole)  # before it is sent: an answer may overtake its 204
        for message in messages_of(whole, request_id, segments, correlation_id):
            await self._voice.tell(message, self._reception.partner())

    async def _beat(self) -> None:
        """Heartbeats at the interval that was asked for, as the switches say; none if none was asked for."""
        due = self._clock.now()
        while not self._reception.deregistered:
            acknowledged, manners = self._ledger.acknowledged, self._reception.switches
            wanted = acknowledged.required_behaviour if acknowledged else None
            if wanted is None or wanted.heartbeat_interval is None:
                self._beating = False
                return
            interval = timedelta(seconds=wanted.heartbeat_interval)
            if manners.heartbeats:
                promise = self._clock.now() + manners.heartbeat_horizon * interval
                text = promise.astimezone().strftime(NAIVE_FORMAT) if manners.naive_times else rfc3339(promise)
                await self._voice.say(Message(Action.HEARTBEAT, {"offline_mode_at": text}, new_id()), self._reception.partner())
            due = max(due + manners.heartbeat_every * interval, self._clock.now())  # a beat that was missed is not made up
            await self._until(due)

    async def _until(self, instant: datetime) -> None:
        await asyncio.sleep(max(0.0, (self._clock.wall_at(instant) - datetime.now(UTC)).total_seconds()))
