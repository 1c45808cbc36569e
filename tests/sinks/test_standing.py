"""How a queue stands: what dispatch says of each partner, and that saying it costs little however much waits (semantics 8.2 to 8.6)."""

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import pytest

from schemas.config import OAuth
from schemas.flows import FlowReport, QueueStanding
from schemas.outbound import Outcome
from schemas.topics import FLOW_REPORTS
from schemas.units import from_ms
from sinks.codec import encode
from sinks.errors import Unavailable
from sinks.http import Answer, HttpClient
from sinks.oscp.answers import Judgement
from sinks.oscp.client import OscpClient
from sinks.oscp.oauth import LEEWAY_S, OAuthTokens
from sinks.oscp.pace import Pace
from sinks.oscp.queues import PartnerQueue
from sinks.oscp.standing import LONGEST_HELD, standing_of
from sinks.oscp.waiting import Now, Waiting
from tests.sinks.partner_server import fake_partner
from tests.sinks.test_dispatcher import World, eventually, message
from tests.sinks.test_oscp_client import SECRETS, connection, oauth
from tests.sinks.test_oscp_client import TokenServer as TokenServed

T = 1_800_000_000_000
AT = datetime(2026, 10, 20, 10, 0, tzinfo=UTC)
MEASUREMENTS = "UpdateAssetMeasurements"
MINUTE_MS = 60_000


def queue_of(*messages: Waiting) -> PartnerQueue:
    queue = PartnerQueue(Pace(), lambda bound: bound)
    for each in messages:
        queue.add(each)
    return queue


def owed(number: int, *, age_ms: int = 0, group: str | None = "g1", action: str = MEASUREMENTS) -> Waiting:
    return Waiting(f"m{number}", 0, number, group, action, T - age_ms, T - age_ms, T + 7 * 86_400_000)


def stands(queue: PartnerQueue, wall: float = 1_000.0, **more: tuple[float, float]) -> QueueStanding:
    return standing_of("vector", queue, Now(wall, T), AT, **more)


def failed(queue: PartnerQueue, wall: float, times: int, outcome: Outcome = Outcome.RETRY, retry_after_s: float | None = None) -> None:
    for _ in range(times):
        sent = queue.next(Now(wall, T))
        assert sent is not None
        judgement = Judgement(outcome, None if outcome is Outcome.RETRY else 401, "no" * 300, retry_after_s)
        settled = queue.settle(sent, judgement, Now(wall, T))
        sent.due = 0.0
        queue.free(sent, settled.outcome)


def test_an_empty_queue() -> None:
    assert stands(queue_of()) == QueueStanding(partner_id="vector")


def test_the_oldest_is_that_of_all_lanes_parked_and_under_way_too_but_no_heartbeat() -> None:
    beat = owed(1, age_ms=50 * MINUTE_MS, group=None, action="Heartbeat")
    queue = queue_of(beat, owed(2, age_ms=3 * MINUTE_MS, group="g2"), owed(3, age_ms=5 * MINUTE_MS), owed(4, age_ms=MINUTE_MS))
    found = stands(queue)
    assert (found.waiting, found.parked, found.under_way, found.oldest_at) == (4, 0, 0, from_ms(T - 5 * MINUTE_MS))
    assert queue.next(Now(1_000.0, T)) is beat
    assert queue.next(Now(1_000.0, T)) is not None  # the oldest, which is on its way now
    assert (stands(queue).under_way, stands(queue).oldest_at) == (1, from_ms(T - 5 * MINUTE_MS))
    queue.add(owed(0, age_ms=9 * MINUTE_MS), parked=True)
    assert (stands(queue).parked, stands(queue).oldest_at) == (1, from_ms(T - 9 * MINUTE_MS))
    assert stands(queue_of(beat)).oldest_at is None


def test_a_breaker_says_until_when_it_is_open() -> None:
    queue = queue_of(owed(1))
    failed(queue, 1_000.0, 5)
    found = stands(queue, 1_010.0)
    assert (found.breaker, found.paused_until, found.held) == ("OPEN", AT + timedelta(seconds=20), "")
    assert stands(queue, 1_040.0).paused_until is None  # a probe may go
    assert queue.next(Now(1_040.0, T)) is not None
    assert stands(queue, 1_041.0).breaker == "HALF_OPEN"


def test_a_retry_after_is_a_pause_and_nothing_drains_meanwhile() -> None:
    queue = queue_of(owed(1, age_ms=60 * MINUTE_MS))
    assert stands(queue).draining
    failed(queue, 1_000.0, 1, retry_after_s=90.0)
    assert (stands(queue).breaker, stands(queue).paused_until, stands(queue).draining) == ("CLOSED", AT + timedelta(seconds=90), False)
    assert stands(queue, 1_090.0).draining
    queue.only = frozenset()  # suspended
    assert not stands(queue, 1_090.0).draining


def test_a_hold_is_told_in_few_words() -> None:
    queue = queue_of(owed(1))
    failed(queue, 1_000.0, 1, Outcome.HELD)
    assert stands(queue).held == ("no" * 300)[:LONGEST_HELD]


def test_the_tokens_times_are_told_as_instants() -> None:
    found = stands(queue_of(), token=(900.0, 4_470.25))
    assert (found.token_at, found.token_until) == (AT - timedelta(seconds=100), AT + timedelta(seconds=3_470))


def test_saying_it_costs_little_however_much_waits() -> None:
    queue = queue_of(*(owed(number, group=f"g{number % 5}") for number in range(200_000)))
    began = time.process_time()
    for _ in range(100):
        stands(queue)
    assert (time.process_time() - began) / 100 < 0.001


def test_two_hundred_partners_in_trouble_fit_one_report() -> None:
    queues = [
        QueueStanding(
            partner_id=f"partner-{number:03}", waiting=700_000, parked=900, under_way=7, oldest_at=AT, breaker="HALF_OPEN",
            held="x" * LONGEST_HELD, paused_until=AT, draining=True, token_at=AT, token_until=AT,
        )
        for number in range(200)
    ]  # fmt: skip
    report = FlowReport(event_id="r", at=AT, flow="dispatch", worker="0", started_at=AT, queues=queues)
    assert len(encode(report)) < 64 * 1024 < FLOW_REPORTS.max_bytes / 4


class TokenServer(HttpClient):
    """Answers each fetch with a token that lasts an hour."""

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str], content: bytes | None = None, timeout_s: float = 30
    ) -> Answer:
        return Answer(200, {}, b'{"access_token": "t", "token_type": "Bearer", "expires_in": 3600}', 1)


def test_the_token_in_use_has_its_times(tmp_path: Path) -> None:
    settings = OAuth(token_url="https://id.example/token", client_id="derms", client_secret_file=str(tmp_path / "secret"))

    async def told() -> list[tuple[float, float] | None]:
        tokens = OAuthTokens(settings, TokenServer(), client_secret=lambda: "s", wall=lambda: 500.0)
        before = tokens.times
        token = await tokens.token()
        held = tokens.times
        tokens.spent(token)
        return [before, held, tokens.times]

    assert asyncio.run(told()) == [None, (500.0, 500.0 + 3600.0 - LEEWAY_S), None]


def test_a_client_tells_the_times_of_a_token_once_something_was_sent(tmp_path: Path) -> None:
    with fake_partner() as cp:
        cp.answer = TokenServed()
        config, known = oauth(cp, tmp_path), connection(f"{cp.url}/cp")

        async def told() -> list[tuple[float, float] | None]:
            client = OscpClient(lambda: config, lambda: {"vector": known}, SECRETS)
            before = client.token_times("vector")
            await client.attempt(message(0))
            after = client.token_times("vector")
            await client.aclose()
            return [before, after]

        before, after = asyncio.run(told())
    assert before is None
    assert after is not None
    assert after[1] - after[0] == pytest.approx(3600.0 - LEEWAY_S)


class Uncertain:
    """A lease of which it is not known whether it is still ours, until told."""

    def __init__(self) -> None:
        self.certain = False

    def acquire(self, stop: Event) -> bool:
        return True

    def good_for(self) -> float:
        return 60.0 if self.certain else 0.0

    def held(self) -> bool:
        return self.certain

    def write_within_s(self) -> float:
        return 2.0

    def lost(self) -> bool:
        return False

    def release(self) -> None:
        pass


def test_only_who_holds_the_lease_says_how_queues_stand() -> None:
    with fake_partner() as cp:
        world, lease = World(vector=cp.url), Uncertain()
        world.owe(message(0))
        with world.dispatching(lease=lease, token_times=lambda partner_id: (0.0, 1.0)) as dispatcher:
            with pytest.raises(Unavailable, match="not known"):
                dispatcher.standings()
            lease.certain = True
            eventually(lambda: [each.partner_id for each in dispatcher.standings()] == ["vector"])
            assert dispatcher.standings()[0].token_at is not None
        with pytest.raises(Unavailable, match="not known"):
            dispatcher.standings()
