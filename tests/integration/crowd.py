"""Many simulated Capacity Providers in one event loop beside one `derms up`, each with quirks of its own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from gateway.instance_files import Endpoints
from gateway.simulator import SimulatedProvider
from gateway.simulator_config import SimulatorConfig, Starts
from gateway.simulator_switches import Switches
from schemas.units import rfc3339
from tests.integration.running import api, derms, reserved_port, until

T = TypeVar("T")
INTERVAL_S = 4


@dataclass(frozen=True)
class Scenario:
    """A peer: what is configured for it (`partner`), how it is (`sim`, `switches`), and the events people then find."""

    name: str
    switches: dict[str, Any] = field(default_factory=dict)
    sim: dict[str, Any] = field(default_factory=dict)
    partner: dict[str, Any] = field(default_factory=dict)
    events: frozenset[str] = frozenset()
    absent: frozenset[str] = frozenset({"dispatch.held", "register.failed", "acknowledgement.failed", "message.refused"})

    @property
    def starts(self) -> Starts:
        """Who begins the registration."""
        return Starts(self.sim.get("starts", "CP"))


def scenario(
    name: str, *events: str, switches: dict[str, Any] | None = None, partner: dict[str, Any] | None = None, **sim: Any
) -> Scenario:
    """A scenario that ends ONLINE; the events it must leave are expected, and usual alarms are not unless they are named."""
    plain = Scenario(name, switches or {}, sim, partner or {}, frozenset(events))
    return Scenario(plain.name, plain.switches, plain.sim, plain.partner, plain.events, plain.absent - plain.events)


class Crowd:
    """The peers, by name. Everything that is theirs happens in one thread."""

    def __init__(self, scenarios: Iterable[Scenario]) -> None:
        self.scenarios = {each.name: each for each in scenarios}
        self._reserved = {name: reserved_port() for name in self.scenarios}
        self.ports = {name: each.getsockname()[1] for name, each in self._reserved.items()}
        self.peers: dict[str, SimulatedProvider] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="crowd", daemon=True)
        self._thread.start()

    def site(self) -> dict[str, Any]:
        """The configuration file they need: each has a scope and a group of its own."""
        names = list(self.scenarios)
        return {
            "scopes": [{"id": f"s-{name}"} for name in names],
            "partners": [
                {
                    "id": name,
                    "allow_private_addresses": True,
                    "wants": {"heartbeat_interval": f"PT{INTERVAL_S}S"},
                    **self.scenarios[name].partner,
                }
                for name in names
            ],
            "groups": [{"partner_id": name, "group_id": group_of(name), "scope_id": f"s-{name}"} for name in names],
        }

    def url(self, name: str) -> str:
        """Where a peer is."""
        return f"http://127.0.0.1:{self.ports[name]}/oscp/cp/2.0"

    def arrive(self, endpoints: Endpoints) -> None:
        """All of them begin: with a token we issue, or waiting for us to register with the one of theirs."""
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda name: self._one_arrives(endpoints, name), self.scenarios))

    def _one_arrives(self, endpoints: Endpoints, name: str) -> None:
        wanted = self.scenarios[name]
        plain: dict[str, Any] = {
            "fp_base_url": endpoints.oscp_url,
            "group_id": group_of(name),
            "heartbeat_interval_s": INTERVAL_S,
            "port": self.ports[name],
            "switches": wanted.switches,
            **wanted.sim,
        }
        if wanted.starts is not Starts.FP:
            plain["token_a"] = api(endpoints, "POST", f"/partners/{name}/token")["token"]
        if wanted.starts is not Starts.CP:
            plain["initial_token"] = f"initial-{name}-{'x' * 20}"
        self.peers[name] = self.call(self._begin(SimulatorConfig.model_validate(plain)))
        if wanted.starts is not Starts.CP:
            self.begun_by_us(endpoints, name, plain["initial_token"])

    def begun_by_us(self, endpoints: Endpoints, name: str, initial_token: str) -> None:
        """What `derms partner register` does, with the peer's token."""
        api(endpoints, "POST", f"/partners/{name}/register", {"base_url": self.url(name), "token": initial_token})

    @staticmethod
    async def _begin(config: SimulatorConfig) -> SimulatedProvider:
        peer = SimulatedProvider(config)
        await peer.start()
        return peer

    def call(self, work: Awaitable[T]) -> T:
        """Run something in the peers' loop and wait for it."""

        async def waited() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(waited(), self._loop).result(30)

    def do(self, act: Callable[[], T]) -> T:
        """As `call`, for what does not wait."""

        async def done() -> T:
            return act()

        return self.call(done())

    def report(self, name: str) -> dict[str, Any]:
        """What a peer says of us."""
        return self.do(self.peers[name].report)

    def switch(self, name: str, **wanted: Any) -> None:
        """Throw a peer's switches."""
        reception = self.peers[name].reception
        self.do(lambda: setattr(reception, "switches", Switches.model_validate(wanted)))

    def act(self, name: str, what: str) -> None:
        """Let a peer do something: `shake_hands`, `renew`, `deregister`; returns when it is done."""
        self.call(getattr(self.peers[name].life, what)())

    def close(self) -> None:
        """End them all."""

        async def end() -> None:
            await asyncio.gather(*(peer.stop() for peer in self.peers.values()))

        self.call(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        for kept in self._reserved.values():
            kept.close()


def group_of(name: str) -> str:
    """A peer's group."""
    return f"G-{name}"


@dataclass
class World:
    """The running instance, in `directory`, and the peers."""

    directory: Path
    endpoints: Endpoints
    crowd: Crowd
    wishes: int = 0

    def partner(self, name: str) -> dict[str, Any]:
        """A partner as the API shows it."""
        found: dict[str, Any] = api(self.endpoints, "GET", f"/partners/{name}")
        return found

    def until_state(self, name: str, state: str, timeout_s: float = 60) -> None:
        """Wait for a connection's state."""
        until(lambda: self.partner(name)["state"] == state, f"{name} is {state}", timeout_s)

    def until_online(self, name: str, timeout_s: float = 60) -> None:
        """Wait until both sides know that the link is up."""
        self.until_state(name, "ONLINE", timeout_s)
        until(lambda: self.crowd.report(name)["state"] == "ONLINE", f"{name} knows that it is online", timeout_s)

    def timeline(self, name: str) -> list[dict[str, Any]]:
        """The lines of a partner's timeline, the newest first."""
        items: list[dict[str, Any]] = api(self.endpoints, "GET", f"/partners/{name}/timeline?limit=1000")["items"]
        return items

    def kinds(self, name: str) -> set[str]:
        """The kinds of events people find there."""
        return {line["kind"] for line in self.timeline(name)}

    def command(self, *arguments: str) -> str:
        """The last line of what a `derms` command prints; it has to succeed."""
        done = derms(*arguments, data=self.directory)
        assert done.returncode == 0, done.stderr
        return (done.stdout.splitlines() or [""])[-1]

    def wish(self, name: str, count: int = 2) -> None:
        """Owe a partner `count` messages that are all different."""
        for _ in range(count):
            self.wishes += 1
            start = datetime.now(UTC).replace(microsecond=0)
            block = {"capacity": self.wishes, "phase": "ALL", "unit": "KW"}
            block |= {"start_time": rfc3339(start), "end_time": rfc3339(start + timedelta(hours=1))}
            body = {"partner_id": name, "group_id": group_of(name), "type": "CONSUMPTION", "forecasted_blocks": [block]}
            api(self.endpoints, "POST", "/commands/adjust", body)

    def until_heard(self, name: str, wishes: int, timeout_s: float = 60) -> None:
        """Wait until so many wishes have arrived and nothing is owed."""

        def arrived() -> bool:
            report = self.crowd.report(name)
            return len(report["adjustments"]) == wishes and not report["owed"]

        until(arrived, f"{name} has heard {wishes} wishes", timeout_s)

    def until_event(self, name: str, kind: str, timeout_s: float = 30) -> None:
        """Wait for an event people would read."""
        until(lambda: kind in self.kinds(name), f"{kind} on the timeline of {name}", timeout_s)

    def capacities_kw(self, name: str) -> list[float]:
        """The different import limits in the envelope of a partner's scope, in their order (the last is held on for a while)."""
        envelope = api(self.endpoints, "GET", f"/scopes/s-{name}")["envelope"]
        limits = [] if envelope is None else [piece["import_limit_w"] for piece in envelope["pieces"]]
        return list(dict.fromkeys(limit / 1000 for limit in limits if limit is not None))
