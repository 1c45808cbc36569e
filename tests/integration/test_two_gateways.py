"""Two gateways behind one address are as one: whichever a request meets, it knows what the other one did (semantics 6.3, 8.1)."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.connection import CommandKind, Connection, InboundMessage
from schemas.topics import CONNECTIONS, INBOUND, OUTBOUND
from schemas.units import rfc3339
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.integration.installed import Process, Site, Topics, hurried, partners
from tests.integration.plain_peer import PeerSide, RoundRobin, Voice, ask, peer_side, required
from tests.kafka.broker import missing_tools
from tests.soak.running import until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("two-gateways")]
NAMES = ("harbour", "mill", "quay", "ridge")


class Pair:
    """Two gateways on one broker, the flows behind them, and peers in front of them."""

    def __init__(self, settings: KafkaSettings, directory: Path, side: PeerSide) -> None:
        self.side = side
        self.site = Site(settings, directory, partners(NAMES), hurried())
        self.gateways: list[Process] = []
        for name in ("gateway", "gateway-2"):
            self.gateways.append(self.site.process(name).start())
        for name in ("lifecycle", "dispatch"):
            self.site.process(name).start().says(f"{name} is running")
        for each in self.gateways:
            each.says("gateway is running")
        self.address = RoundRobin([each.port for each in self.gateways])
        self.seen = Topics(settings, INBOUND, CONNECTIONS, OUTBOUND)

    def voice(self, partner_id: str) -> Voice:
        return Voice(partner_id, self.side, lambda: self.address.port)

    def connection(self, partner_id: str) -> Connection | None:
        return next(iter(self.seen.of(Connection, partner_id)[::-1]), None)

    def asks(self, number: int, partner_id: str, token: str, path: str = "/heartbeat", request_id: str = "") -> int:
        """A request to one of the two."""
        body = beat() if path == "/heartbeat" else None
        return ask(self.gateways[number].port, token, path, body, request_id=request_id or f"{partner_id}-{time.monotonic_ns()}")

    def registered(self, partner_id: str) -> Voice:
        voice = self.voice(partner_id)
        self.side.tokens[partner_id] = first = self.site.token(partner_id)
        until(lambda: self.connection(partner_id) and self.connection(partner_id).credentials, "A is valid", 30)  # type: ignore[union-attr]
        assert voice.once("/register", voice.register_body()) == 204
        until(lambda: self.side.tokens[partner_id] != first, "C arrives", 30)
        return voice

    def stop(self) -> None:
        self.address.stop()
        self.seen.stop()
        self.site.stop()


def beat() -> dict[str, str]:
    return {"offline_mode_at": rfc3339(datetime.now(UTC) + timedelta(minutes=15))}


def forecast(partner_id: str) -> dict[str, object]:
    start = datetime.now(UTC)
    block = {"capacity": 5.0, "phase": "ALL", "unit": "KW", "start_time": rfc3339(start), "end_time": rfc3339(start + timedelta(hours=1))}
    return {"group_id": f"G-{partner_id}", "type": "CONSUMPTION", "forecasted_blocks": [block]}


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Over Apache Kafka; over the embedded broker only where that cannot run."""
    settings: KafkaSettings = request.getfixturevalue("embedded_broker" if missing_tools() else "real_kafka")
    with peer_side() as side:
        made = Pair(unique(settings), tmp_path_factory.mktemp("pair") / "site", side)
        try:
            yield made
        finally:
            made.stop()


def test_a_life_with_every_request_at_the_other_gateway(pair: Pair) -> None:
    voice = pair.registered("harbour")
    assert voice.once("/handshake", required(5)) == 204  # at once with C: either knows it, or catches up first
    for number in (0, 1):
        assert pair.asks(number, "harbour", pair.side.tokens["harbour"]) == 204
    until(lambda: pair.side.of("harbour", "handshake_acknowledge"), "the acknowledgement", 30)
    until(lambda: len(pair.side.of("harbour", "heartbeat")) >= 2, "our beats", 30)
    for _ in range(6):
        assert voice.once("/heartbeat", beat()) == 204
        assert voice.once("/update_group_capacity_forecast", forecast("harbour")) == 204
    pair.seen.catch_up()
    assert pair.connection("harbour").state == "ONLINE"
    assert set(voice.statuses) == {204}
    assert len({heard.request_id for heard in pair.side.of("harbour", "register")}) == 1
    pair.site.order("harbour", CommandKind.SUSPEND)


def test_what_both_are_sent_at_once_is_applied_once(pair: Pair) -> None:
    voice = pair.registered("mill")
    body, token = required(None), pair.side.tokens["mill"]
    for turn in range(3):
        request_id, start = f"twice-{turn}", threading.Barrier(2)

        def one(number: int, request_id: str = request_id, start: threading.Barrier = start) -> int:
            start.wait()
            return ask(pair.gateways[number].port, token, "/handshake", body, request_id=request_id)

        with ThreadPoolExecutor(2) as both:
            assert list(both.map(one, (0, 1))) == [204, 204]
        until(lambda wanted=turn + 1: len(pair.side.of("mill", "handshake_acknowledge")) >= wanted, "acknowledged", 30)
    answers = Counter(heard.correlation_id for heard in pair.side.of("mill", "handshake_acknowledge"))
    assert answers == Counter({f"twice-{turn}": 1 for turn in range(3)})
    pair.seen.catch_up()
    assert pair.connection("mill").state == "ONLINE"
    assert voice.statuses == [204]


@pytest.mark.parametrize("turn", range(4))
def test_after_the_204_of_a_delete_the_token_is_dead_at_the_other_gateway_too(pair: Pair, turn: int) -> None:
    pair.registered("quay")
    token, (here, there) = pair.side.tokens["quay"], ((0, 1), (1, 0))[turn % 2]
    assert pair.asks(there, "quay", token) == 204
    assert ask(pair.gateways[here].port, token, "/register", None, request_id=f"end-{turn}", method="DELETE") == 204
    assert [pair.asks(number, "quay", token) for number in (there, here)] == [403, 403]


def test_a_gateway_that_stood_still_meanwhile_does_not_take_the_dead_token(pair: Pair) -> None:
    pair.registered("quay")
    token, (here, there) = pair.side.tokens["quay"], pair.gateways
    there.signal(signal.SIGSTOP)
    try:
        assert ask(here.port, token, "/register", None, request_id="end-held", method="DELETE") == 204
        with ThreadPoolExecutor(1) as asking:
            answer = asking.submit(pair.asks, 1, "quay", token)
            there.signal(signal.SIGCONT)
            assert answer.result() == 403
    finally:
        there.signal(signal.SIGCONT)


def test_after_the_204_of_a_put_both_know_it(pair: Pair) -> None:
    voice = pair.registered("ridge")
    assert voice.once("/register", voice.register_body(2), method="PUT") == 204
    assert voice.once("/handshake", required(None)) == 204
    until(lambda: pair.side.of("ridge", "handshake_acknowledge"), "the acknowledgement", 30)
    assert pair.side.of("ridge", "handshake_acknowledge")[-1].authorization == "Token B-ridge-2"
    # The exchange anew: both tokens are good until the new one is used, at whichever of them.
    before = pair.side.tokens["ridge"]
    assert voice.once("/register", voice.register_body(3)) == 204
    until(lambda: pair.side.tokens["ridge"] != before, "the next C", 30)
    assert [pair.asks(number, "ridge", pair.side.tokens["ridge"]) for number in (1, 0)] == [204, 204]


def test_one_killed_under_load_loses_nothing_it_has_answered_and_the_other_serves_on(pair: Pair) -> None:
    voice = pair.registered("ridge") if "ridge" not in pair.side.tokens else pair.voice("ridge")
    taken: list[str] = []
    over, killed = threading.Event(), threading.Event()
    after: Counter[int] = Counter()

    def load(number: int) -> None:
        count = 0
        while not over.is_set():
            count += 1
            request_id = f"load-{number}-{count}"
            status = voice.surely("/update_group_capacity_forecast", forecast("ridge"), request_id=request_id)
            if status == 204:
                taken.append(request_id)
            if killed.is_set():
                after[status] += 1

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(load, number) for number in range(4)]
        until(lambda: len(taken) >= 60, "some are taken", 60)
        pair.gateways[0].kill()
        killed.set()
        until(lambda: after[204] >= 60, "the other one serves on", 60)
        over.set()
        for each in running:
            each.result()
    pair.seen.catch_up()
    kept = {message.request_id for message in pair.seen.of(InboundMessage, "ridge")}
    assert set(taken) <= kept
    assert set(after) == {204}
    pair.gateways[0].start().says("gateway is running")
