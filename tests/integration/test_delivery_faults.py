"""Faults of partners, networks and credentials over real sockets and a real Kafka, one for each partner of one running system:
everything owed arrives once in effect and in order, heartbeats go on where they can be heard, and nobody disturbs another
(semantics 8). Kills are in `test_delivery_kills.py`; what the law is, in `owed.py`."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from schemas.connection import Connection
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, Outcome
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.integration.delivering import Member, Scene, wait_clock
from tests.integration.fronts import Break, certify
from tests.integration.owed import Request
from tests.soak.running import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.xdist_group("delivery-faults")]
SPEED = 240.0
HOUR = timedelta(hours=1)
RATE = 8.0
UNDER_WAY = 7
PAUSE_S = 3
MEASURE = Action.UPDATE_ASSET_MEASUREMENTS.value
OAUTH = {"client_id": "derms", "client_secret": "s3cret", "expires_in_s": 32}
"""Tokens are used until 30 s before their end: a new one about every two seconds."""
DEAF = ("down", "tls", "dns", "tokens")
"""Where the partner cannot hear us at all for a while."""
NAMES = ("plain", "down", "errors", "busy", "resets", "lost", "silent", "drips", "tls", "dns", "tokens", "revoked")


def members(folder: Path) -> list[Member]:
    secret = folder / "secret"
    secret.write_text(OAUTH["client_secret"])
    good = certify(folder / "good")
    certify(folder / "bad")
    found = {name: Member(name) for name in NAMES}
    found["down"].groups = 8
    found["down"].partner = {"max_rate": RATE, "wants": {"heartbeat_interval": "PT15M"}, "heartbeat_grace": "PT1M"}
    found["down"].sim = {"switches": {"heartbeat_horizon": 1.5}}
    for name in ("resets", "lost", "silent", "drips", "tls"):
        found[name].fronted = True
    found["tls"].certificate, found["tls"].partner = good, {"tls": {"ca_file": str(good / "cert.pem")}}
    for name in ("tokens", "revoked"):
        url = f"http://127.0.0.1:{found[name].port}/oauth/token"
        found[name].partner = {"oauth": {"token_url": url, "client_id": OAUTH["client_id"], "client_secret_file": str(secret)}}
        found[name].sim = {"oauth": OAUTH if name == "tokens" else OAUTH | {"expires_in_s": 3600}}
    return list(found.values())


def answers(kind: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "actions": [MEASURE], **more}


def faults_begin(scene: Scene, folder: Path) -> None:
    """All of them at the same time, each at its own partner."""
    scene.switch("down", heartbeats=False, heartbeat_horizon=1.5)
    scene.do(lambda: scene.peers["down"].go_down(HOUR.total_seconds() / SPEED + 0.5))
    scene.switch("errors", answers=[answers("STATUS", status=500, count=12)])
    scene.switch("busy", answers=[answers("STATUS", status=429, retry_after_s=PAUSE_S, count=2)])
    for name, fault, count in (("resets", Break.RESET_BEFORE, 6), ("lost", Break.RESET_AFTER, 6), ("drips", Break.DRIP, 3)):
        scene.do(partial(scene.fronts[name].break_next, fault, count))
    scene.do(lambda: scene.fronts["tls"].show(folder / "bad"))
    scene.peers["dns"].public_url = "http://cp.invalid:8080"
    scene.call(scene.peers["dns"].life.renew())
    trouble = [{"kind": "STATUS", "status": 503, "count": 3}, {"kind": "DROP", "count": 3}, {"kind": "STATUS", "count": None}]
    scene.switch("tokens", tokens=trouble)
    scene.do(scene.peers["revoked"].reception.credentials.revoke)


def faults_end(scene: Scene, folder: Path) -> None:
    """Everything is put right; whose fault it was if a heartbeat did not come, which may be heard from then on."""
    excused(scene)
    scene.switch("down", heartbeat_horizon=1.5)
    scene.do(lambda: scene.fronts["tls"].show(folder / "good"))
    scene.peers["dns"].public_url = None
    scene.call(scene.peers["dns"].life.renew())
    scene.switch("tokens")
    excused(scene)


def excused(scene: Scene) -> None:
    for name in DEAF:
        scene.do(scene.peers[name].ledger.excuse)


@pytest.fixture(scope="module")
def scene(real_kafka: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("faults")
    made = Scene(unique(real_kafka), folder / "site", members(folder), speed=SPEED, together=True)
    try:
        made.start()
        made.do(lambda: made.fronts["silent"].break_next(Break.SILENT, 1))  # it takes longest
        made.rows.stream([group_id for member in made.members.values() for group_id in member.group_ids])
        until(lambda: made.rows.quarters >= 1, made.states, 30)
        faults_begin(made, folder)
        wait_clock(made, HOUR)
        faults_end(made, folder)
        until(lambda: not made.behind("down"), lambda: str(made.behind("down")[:5]), 40)
        made.rows.stop()
        made.settled(40)
        yield made
    finally:
        made.stop()


def outcomes(scene: Scene, name: str) -> list[Delivery]:
    return [each for each in scene.seen.of(Delivery, name) if each.action == MEASURE]


def measures(scene: Scene, name: str) -> list[Request]:
    return [each for each in scene.witnesses[name].requests if each.action == MEASURE]


@pytest.mark.parametrize("name", NAMES)
def test_exactly_what_was_owed_is_accepted_in_order(scene: Scene, name: str) -> None:
    assert scene.wrong(name) == []
    books = scene.books(name)
    assert len(books.messages) >= 6 * scene.members[name].groups
    assert set(books.copies.values()) == {1}
    assert books.given_up() == {}


@pytest.mark.parametrize("name", NAMES)
def test_heartbeats_go_on_where_they_can_be_heard(scene: Scene, name: str) -> None:
    assert scene.do(scene.peers[name].report)["lapses"] == 0
    assert len(scene.witnesses[name].beats()) >= 3


def test_a_partner_that_was_down_for_an_hour_is_sent_the_oldest_first_and_not_too_fast(scene: Scene) -> None:
    states = [each.state.value for each in scene.seen.of(Connection, "down")]
    assert states[states.index("OFFLINE") :].count("ONLINE") >= 1
    books, requests = scene.books("down"), measures(scene, "down")
    at = {each.message_id: each.at for each in books.messages.values()}
    backlog = [each for each in requests if (each.clock - at[each.message_id]) > timedelta(minutes=15)]
    assert len({each.message_id for each in backlog}) >= 3 * 8
    wanted = {message_id: place for place, message_id in enumerate(sorted({e.message_id for e in backlog}, key=lambda each: at[each]))}
    for place, each in enumerate(backlog):
        assert abs(wanted[each.message_id] - place) <= UNDER_WAY
    for first, later in zip(backlog, backlog[int(2 * RATE) + UNDER_WAY :], strict=False):
        assert later.at - first.at > 2.0 - 0.2
    assert sum(each.outcome is Outcome.RETRY for each in outcomes(scene, "down")) >= 5


def test_errors_are_retried_behind_a_breaker(scene: Scene) -> None:
    assert Counter(each.status for each in measures(scene, "errors"))[500] == 12
    kinds = [event.kind for event in scene.events("errors")]
    assert kinds.count("dispatch.breaker-opened") == kinds.count("dispatch.breaker-closed") == 1
    assert "message.parked" not in kinds


def test_too_many_requests_pause_the_whole_partner_as_long_as_it_asked(scene: Scene) -> None:
    requests = measures(scene, "busy")
    refused = [each for each in requests if each.status == 429]
    assert len(refused) == 2
    for each in refused:
        meanwhile = [other for other in requests if each.at + 1.2 < other.at < each.at + PAUSE_S - 0.2]
        assert meanwhile == []


def test_a_connection_that_is_reset_before_the_body_was_read_costs_nothing(scene: Scene) -> None:
    assert scene.fronts["resets"].met == 6
    assert set(Counter(each.message_id for each in measures(scene, "resets")).values()) == {1}
    again = [each.words for each in outcomes(scene, "resets") if each.outcome is Outcome.RETRY]
    assert (len(again), len(set(again))) == (6, 1), again


def test_an_answer_that_is_lost_brings_the_message_again_under_its_id(scene: Scene) -> None:
    assert scene.fronts["lost"].met == 6
    assert sum(Counter(each.message_id for each in measures(scene, "lost")).values()) == len(scene.books("lost").messages) + 6
    assert scene.do(scene.peers["lost"].report)["duplicates"] == 6


def test_a_half_open_connection_holds_back_its_own_group_for_half_a_minute_and_no_other(scene: Scene) -> None:
    (hung,) = [each for each in outcomes(scene, "silent") if each.outcome is Outcome.RETRY]
    assert 29_000 <= hung.duration_ms <= 36_000
    others = [each for each in outcomes(scene, "silent") if each.group_id != hung.group_id]
    assert min(each.at for each in others) < hung.at - timedelta(seconds=25) * SPEED
    assert {each.attempt for each in others} == {1}


def test_an_answer_that_drips_is_waited_for(scene: Scene) -> None:
    assert scene.fronts["drips"].met == 3
    assert {each.outcome for each in outcomes(scene, "drips")} == {Outcome.DELIVERED}
    assert sum(each.duration_ms > 1_500 for each in outcomes(scene, "drips")) >= 3  # on a busy machine others take as long


@pytest.mark.parametrize(
    ("name", "words"),
    [("tls", "TLS with localhost"), ("dns", "cp.invalid"), ("tokens", "the token server answered 503"), ("down", "connect")],
)
def test_people_are_told_why_nothing_goes(scene: Scene, name: str, words: str) -> None:
    failed = [each for each in outcomes(scene, name) if each.outcome is not Outcome.DELIVERED]
    assert failed
    assert any(words in each.words for each in failed)
    assert {each.outcome for each in failed} == {Outcome.RETRY}


def test_a_revoked_token_is_renewed_within_the_attempt(scene: Scene) -> None:
    assert 1 <= Counter(each.status for each in scene.witnesses["revoked"].requests)[401] <= UNDER_WAY
    assert {(each.outcome, each.attempt) for each in outcomes(scene, "revoked")} == {(Outcome.DELIVERED, 1)}
    assert scene.do(scene.peers["revoked"].report)["tokens_issued"] == 2


def test_a_partner_without_faults_notices_nothing_of_the_others(scene: Scene) -> None:
    smooth = (Outcome.DELIVERED, 1)
    assert [each.words for each in outcomes(scene, "plain") if (each.outcome, each.attempt) != smooth] == []
    at = {each.message_id: each.at for each in scene.books("plain").messages.values()}
    delays_s = sorted((each.clock - at[each.message_id]).total_seconds() / SPEED for each in measures(scene, "plain"))
    assert delays_s[len(delays_s) * 9 // 10] < 2.0
