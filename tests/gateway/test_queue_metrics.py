"""How partners' queues stand, from dispatch's report to the picture, the metrics, the API and the pages (semantics 8.2 to 8.6)."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from gateway.auth import Role
from gateway.metrics import exposition
from gateway.partner_card import partner_card
from gateway.partner_metrics import Seen
from gateway.partner_queue import queue_of, queue_view, queue_words
from gateway.picture import Picture
from gateway.projection import fold
from gateway.wiring import Wiring
from pipelines.flow_reporter import FlowReporter
from pipelines.meters import Meters
from schemas.clock import FrozenClock
from schemas.connection import ConnectionState, Severity
from schemas.facts import Value
from schemas.flows import FlowReport, QueueStanding
from schemas.outbound import Outcome
from schemas.topics import Topic
from sinks.errors import Unavailable
from tests.builders import configuration
from tests.gateway.facts import NOW, WALL, connection, delivery, event, message, record, report, reported
from tests.gateway.operations_world import World
from tests.gateway.promql import scraped

MINUTE = timedelta(minutes=1)
CONFIG = configuration()
VECTOR = CONFIG.partner("vector")


def said(*queues: QueueStanding, ago_s: float = 5, **changes: object) -> FlowReport:
    return report(ago_s, lags=(), behind_s=(), flow="dispatch", tallies=[], stages=[], queues=list(queues), **changes)


def queue(**changes: Any) -> QueueStanding:
    return QueueStanding.model_validate({"partner_id": "vector", **changes})


def picture_of(*queues: QueueStanding, ago_s: float = 5, values: tuple[Value, ...] = ()) -> Picture:
    picture = Picture()
    for value in (connection(), *values):
        fold(picture, record(value))
    fold(picture, reported(said(*queues, ago_s=ago_s), ago_s))
    return picture


def samples(picture: Picture, now: datetime = NOW, wall: datetime = WALL) -> dict[tuple[str, ...], float]:
    """By metric and the values of its labels."""
    text = exposition(picture, now, seen=Seen(picture, CONFIG, now, wall)).decode()
    found = scraped(text)
    return {(name, *(value for _, value in sorted(labels))): value for name, series in found.items() for labels, value in series.items()}


def words(ago_s: float = 5, **changes: Any) -> tuple[str, str, str, str, str]:
    found = queue_words(picture_of(queue(**changes), ago_s=ago_s), VECTOR, "vector", NOW, WALL)
    return found.owed, found.fresh, found.why.replace("\u00a0", " "), found.token.replace("\u00a0", " "), found.look


def test_the_picture_has_what_dispatch_said_last() -> None:
    picture = Picture()
    assert (picture.queues, picture.queues_at, queue_of(picture, "vector"), queue_view(picture, "vector")) == ({}, None, None, None)
    fold(picture, reported(said(queue(waiting=3), queue(partner_id="b", waiting=1), ago_s=60), 60))
    fold(picture, reported(said(queue(waiting=2), ago_s=30), 30))
    assert picture.queues == {"vector": queue(waiting=2)}
    assert picture.queues_at == WALL - timedelta(seconds=30)
    assert queue_of(picture, "b") == QueueStanding(partner_id="b")  # owed nothing, since it is not among them
    copy = picture.copy()
    fold(picture, reported(report(10, 1_000), 10))  # another flow says nothing of queues
    fold(picture, reported(said(ago_s=1, ended=True), 1))  # and what ends leaves what is owed where it is
    assert (picture.queues, picture.queues_at) == (copy.queues, copy.queues_at)


def test_a_dispatch_that_takes_over_says_it_all_anew() -> None:
    picture = picture_of(queue(waiting=9), queue(partner_id="b", waiting=1), ago_s=60)
    fold(picture, reported(said(queue(waiting=8), ago_s=1, started_at=WALL), 1))
    assert picture.queues == {"vector": queue(waiting=8)}


def test_gauges_of_a_queue() -> None:
    owed = queue(
        waiting=40, parked=2, breaker="OPEN", held="no", oldest_at=NOW - 20 * MINUTE,
        token_at=WALL - 10 * MINUTE, token_until=WALL + 50 * MINUTE,
    )  # fmt: skip
    found = samples(picture_of(owed))
    assert found["derms_messages_waiting", "vector"] == 40
    assert found["derms_messages_parked", "vector"] == 2
    assert found["derms_messages_oldest_age_seconds", "vector"] == 1_200
    assert [found["derms_breaker_state", "vector", state] for state in ("CLOSED", "OPEN", "HALF_OPEN")] == [0, 1, 0]
    assert found["derms_queue_held", "vector"] == 1
    assert (found["derms_oauth_token_age_seconds", "vector"], found["derms_oauth_token_left_seconds", "vector"]) == (600, 3_000)
    later = samples(picture_of(owed), NOW + 60 * MINUTE, WALL + 60 * MINUTE)
    assert later["derms_messages_oldest_age_seconds", "vector"] == 4_800
    assert later["derms_oauth_token_left_seconds", "vector"] == -600


def test_a_partner_that_is_owed_nothing_has_gauges_and_one_nobody_spoke_of_has_none() -> None:
    found = samples(picture_of())
    assert found["derms_messages_waiting", "vector"] == found["derms_messages_oldest_age_seconds", "vector"] == 0
    assert found["derms_breaker_state", "vector", "CLOSED"] == 1
    assert not any(name.startswith(("derms_messages", "derms_breaker", "derms_queue", "derms_oauth")) for name, *_ in samples(Picture()))


def test_gauges_of_what_is_overdue() -> None:
    beat = message("Heartbeat", NOW - 7 * MINUTE)
    known = (beat, delivery(beat))
    found = samples(picture_of(values=known))
    assert found["derms_measurements_withheld", "vector"] == 0
    assert found["derms_heartbeat_overdue_seconds", "in", "vector"] == 0
    assert found["derms_heartbeat_overdue_seconds", "out", "vector"] == 118  # 300 s after it was delivered
    silent = connection(ConnectionState.OFFLINE, liveness_deadline=NOW - MINUTE, withheld_since=NOW)
    found = samples(picture_of(values=(*known, silent)))
    assert found["derms_measurements_withheld", "vector"] == 1
    assert found["derms_heartbeat_overdue_seconds", "in", "vector"] == 60
    for quiet in (connection(ConnectionState.SUSPENDED), connection(peer_required_heartbeat_s=None, our_required_heartbeat_s=None)):
        assert not any(name == "derms_heartbeat_overdue_seconds" for name, *_ in samples(picture_of(values=(*known, quiet))))


def test_before_the_first_heartbeat_the_interval_runs_from_the_handshake() -> None:
    new = connection(since=NOW - 6 * MINUTE, first_acknowledged_at=NOW - 6 * MINUTE)
    assert samples(picture_of(values=(new,)))["derms_heartbeat_overdue_seconds", "out", "vector"] == 60


def test_ages_of_refusals_and_alarms_are_those_of_the_last() -> None:
    refused = [delivery(message("UpdateAssetMeasurements", NOW - minutes * MINUTE), Outcome.REFUSED, 404) for minutes in (5, 9)]
    alarms = [event(NOW - minutes * MINUTE, "rule.failed", f"{minutes}", Severity.ALARM) for minutes in (3, 8)]
    quiet = event(NOW, "heartbeat.skewed", "its clock", Severity.WARNING)
    found = samples(picture_of(values=(*refused, *alarms, quiet)))
    assert found["derms_refusal_age_seconds", "vector"] == 298
    assert found["derms_alarm_age_seconds", "rule.failed"] == 180
    assert ("derms_alarm_age_seconds", "heartbeat.skewed") not in found


@pytest.mark.parametrize(
    ("stands", "owed", "why"),
    [
        ({}, "nothing", ""),
        ({"waiting": 1}, "1 heartbeat", ""),
        ({"waiting": 1, "oldest_at": NOW - 3 * MINUTE}, "1 message, 3\u00a0min old", ""),
        ({"waiting": 1250, "parked": 2, "oldest_at": NOW - 180 * MINUTE},
         "1\u2009250 messages, 2 of them set aside, the oldest 3\u00a0h old", ""),
        (
            {"waiting": 4, "oldest_at": NOW - 30 * MINUTE, "breaker": "OPEN", "paused_until": WALL + timedelta(seconds=25)},
            "4 messages, the oldest 30\u00a0min old",
            "sending failed several times in a row: the partner is left alone for a while, tried again in 25 s; heartbeats go on",
        ),
        ({"breaker": "HALF_OPEN"}, "nothing", "sending failed several times in a row: one message is being tried"),
        ({"held": "answered 401 by https://u:p@cp.example/x?key=1", "breaker": "OPEN"}, "nothing",
         "held back until someone mends it: answered 401 by https://(removed)@cp.example/x?(removed)"),
        ({"paused_until": WALL + 2 * MINUTE}, "nothing", "the partner asked us to wait, tried again in 2 min"),
        ({"paused_until": WALL - MINUTE}, "nothing", ""),
        ({"draining": True}, "nothing", "a backlog goes in order, at most 20 a second"),
    ],
)  # fmt: skip
def test_a_queue_in_words(stands: dict[str, Any], owed: str, why: str) -> None:
    assert words(**stands)[:3] == (owed, "", why)


def test_a_token_in_words() -> None:
    assert words(token_at=WALL - 12 * MINUTE, token_until=WALL + 47 * MINUTE)[3] == "fetched 12 min ago, used for another 47 min"
    over = words(token_at=WALL - 70 * MINUTE, token_until=WALL - MINUTE)[3]
    assert over == "fetched 1 h 10 min ago; its time is over, the next message fetches another"


def test_what_was_said_long_ago_is_not_told_as_if_it_were_so_now() -> None:
    stands = {"waiting": 4, "oldest_at": NOW - 30 * MINUTE, "breaker": "OPEN", "paused_until": WALL, "token_at": WALL, "token_until": WALL}
    assert words(ago_s=44, **stands)[1] == ""
    owed, fresh, why, token, look = words(ago_s=240, **stands)
    assert owed == "4 messages, the oldest 30\u00a0min old"
    assert fresh == "as dispatch said 4\u00a0min ago; it has not been heard since"
    assert why == "sending failed several times in a row: the partner is left alone for a while"
    assert (token, look) == ("", "risk")


def test_how_urgent_it_looks() -> None:
    assert words(waiting=3, oldest_at=NOW)[4] == "quiet"
    for trouble in ({"held": "no"}, {"waiting": 1, "parked": 1}, {"waiting": 1, "breaker": "OPEN"}):
        assert words(**trouble)[4] == "risk"
    assert words(ago_s=90)[4] == "quiet"  # nothing was owed


def test_the_card_says_what_is_owed() -> None:
    picture = picture_of(queue(waiting=1, oldest_at=NOW), ago_s=90)
    zone = ZoneInfo("UTC")
    assert partner_card(picture, CONFIG, "vector", NOW, zone, WALL).queue.fresh.startswith("as dispatch said 1\u00a0min ago")
    assert partner_card(picture, CONFIG, "vector", NOW, zone).queue.fresh == ""
    assert partner_card(Picture(), CONFIG, "vector", NOW, zone, WALL).queue.owed == ""


def test_api_and_pages_show_the_queue(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert world.ask("GET", "/api/v1/partners/vector", Role.VIEWER).json()["queue"] is None
    held = "answered 401 by https://u:secret@cp.example"
    owed = queue(waiting=3, held=held, oldest_at=NOW - 20 * MINUTE, token_at=WALL - MINUTE, token_until=WALL + MINUTE)
    world.projection.take([reported(said(owed), 5)])
    found = world.ask("GET", "/api/v1/partners", Role.VIEWER).json()["items"][0]["queue"]
    assert (found["waiting"], found["parked"], found["breaker"], found["draining"]) == (3, 0, "CLOSED", False)
    assert found["held"] == "answered 401 by https://(removed)@cp.example"
    assert found["as_of"] == "2026-06-09T18:26:35.000Z"
    cookies, _ = world.signed_in(Role.VIEWER)
    for path, rows in (("/", 2), ("/partners/vector", 3)):
        page = world.ask("GET", path, cookies=cookies).text
        shown = [row for row in ("Owed to it", "Why it waits", "Our OAuth token") if row in page]
        assert len(shown) == rows
        assert "3 messages, the oldest 20\u00a0min old" in page
        assert "secret" not in page.partition("Owed to it")[2].partition("</dl>")[0]


class Heard:
    """What a reporter sent; each `flush` ends one telling."""

    def __init__(self) -> None:
        self.reports: list[FlowReport] = []

    def send(self, topic: Topic, key: str, value: Value) -> None:
        assert isinstance(value, FlowReport)
        self.reports.append(value)

    def flush(self) -> None:
        pass


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_report_with_queues_is_sent_when_they_change_and_not_while_they_are_not_known() -> None:
    known: list[QueueStanding] | None = None
    asked = 0

    def queues() -> list[QueueStanding]:
        nonlocal asked
        asked += 1
        if known is None:
            raise Unavailable("not known")
        return known

    dispatch, heard = Meters("dispatch", clock=FrozenClock(NOW)), Heard()
    dispatch.follow_queues(queues)
    all_meters = [Meters("telemetry", clock=FrozenClock(NOW))]
    reporter = FlowReporter(heard, all_meters, every_s=0.005, quiet_s=1e9)
    reporter.start()
    until(lambda: bool(heard.reports))
    all_meters.append(dispatch)  # its flow was built later, when its lease was held
    until(lambda: asked >= 3)
    assert [each.flow for each in heard.reports] == ["telemetry"]
    for waiting in (2, 5):
        known, count = [queue(waiting=waiting)], len(heard.reports)
        until(lambda: len(heard.reports) > count)  # noqa: B023 - asked within the turn
        assert heard.reports[-1].queues == known
    before, asked_before = len(heard.reports), asked
    known = [queue(waiting=5, under_way=3)]  # comes with the next report
    until(lambda: asked >= asked_before + 3)
    assert len(heard.reports) == before
    known = None
    reporter.stop()
    assert [(each.flow, each.ended, each.queues) for each in heard.reports[-2:]] == [("telemetry", True, []), ("dispatch", True, [])]


def test_a_flow_built_after_the_others_is_reported_too(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    monkeypatch.setattr("gateway.wiring.Producer", lambda *args, **kwargs: heard)
    settings: Any = type("Settings", (), {"kafka": None})()
    anything: Any = None
    wired = Wiring(settings, FrozenClock(NOW), anything, anything, anything, anything)
    with wired.open:
        wired.report()  # no flow has meters yet
        assert not wired.reporting
        wired.meters("dispatch")
        wired.report()
        until(lambda: bool(heard.reports))
        wired.meters("telemetry")
        wired.report()
    assert [(each.flow, each.ended) for each in heard.reports][-2:] == [("dispatch", True), ("telemetry", True)]
