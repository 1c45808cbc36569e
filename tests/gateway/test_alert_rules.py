"""The alert rules for Prometheus: made of metrics that are there, documented, firing when they should and only then."""

import re
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest

from gateway.circuit_owed import OWED_CATALOGUE
from gateway.docs import RULES, alerts
from gateway.flow_metrics import FLOW_CATALOGUE
from gateway.flow_status import flow_views
from gateway.metrics import CATALOGUE, exposition
from gateway.partner_metrics import PARTNER_CATALOGUE, Seen
from gateway.picture import Picture
from gateway.projection import fold
from schemas.clock import FrozenClock
from schemas.connection import ConnectionState, Severity
from schemas.facts import Value, derived_id
from schemas.flows import FlowReport, QueueStanding
from schemas.outbound import DeadLetter, Outcome
from tests.builders import configuration
from tests.gateway.facts import NOW, WALL, connection, delivery, event, message, record, report, reported
from tests.gateway.promql import Query, scraped

ALERTS = {rule["alert"]: rule for rule in alerts(RULES)}
METRICS = (*CATALOGUE, *PARTNER_CATALOGUE, *OWED_CATALOGUE, *FLOW_CATALOGUE)
KNOWN = {f"{each.name}_total" if each.counter else each.name: each.labels for each in METRICS}
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
CONFIG = configuration()


def dispatch(ago_s: float = 5, *queues: QueueStanding) -> FlowReport:
    """What dispatch said so long ago."""
    return report(ago_s, lags=(), behind_s=(), flow="dispatch", tallies=[], stages=[], queues=list(queues))


def healthy() -> list[Value]:
    """A partner that gets what it is owed, and a heartbeat each way."""
    asked = message("Heartbeat", NOW - timedelta(minutes=3))
    return [connection(), asked, delivery(asked)]


def scrape(
    values: Iterable[Value] = (), reports: Iterable[tuple[FlowReport, float]] = (), owed_s: float | None = None
) -> dict[str, dict[Any, float]]:
    """The metrics once the values were told, and the reports so many wall seconds ago."""
    picture = Picture()
    for value in (*healthy(), *values):
        fold(picture, record(value))
    for said, ago_s in reports:
        fold(picture, reported(said, ago_s))
    owed = {} if owed_s is None else {"feeder-17": NOW - timedelta(seconds=owed_s)}
    flows = flow_views(picture, FrozenClock(NOW), WALL, MINUTE)
    return scraped(exposition(picture, NOW, flows, owed, Seen(picture, CONFIG, NOW, WALL)).decode())


def queue(**changes: Any) -> list[tuple[FlowReport, float]]:
    """Dispatch and telemetry as they should be, and Vector's queue."""
    return [(report(10, 1_000), 10), (report(5, 2_000), 5), (dispatch(5, QueueStanding(partner_id="vector", **changes)), 5)]


def letter(topic: str) -> DeadLetter:
    about = {"reason": "unknown asset", "subject": "m-9", "topic": topic, "partition": 0, "offset": 7, "raw": b""}
    return DeadLetter.model_validate({"event_id": derived_id("letter", topic), "at": NOW - MINUTE, **about})


REFUSED = delivery(message("UpdateAssetMeasurements", NOW - MINUTE), Outcome.REFUSED, 404)
OLD = {"waiting": 40, "oldest_at": NOW - HOUR}
FIRING: dict[str, Callable[[], dict[str, dict[Any, float]]]] = {
    "DermsBacklogOld": lambda: scrape(reports=queue(**OLD)),
    "DermsBreakerOpen": lambda: scrape(reports=queue(waiting=3, oldest_at=NOW - MINUTE, breaker="HALF_OPEN")),
    "DermsQueueHeld": lambda: scrape(reports=queue(waiting=3, oldest_at=NOW - MINUTE, held="answered 401")),
    "DermsMessageRefused": lambda: scrape([REFUSED], queue()),
    "DermsMessagesParked": lambda: scrape(reports=queue(waiting=2, parked=2)),
    "DermsMeasurementsWithheld": lambda: scrape([connection(withheld_since=NOW - HOUR)], queue()),
    "DermsHeartbeatToPartnerMissed": lambda: scrape([connection(peer_required_heartbeat_s=60.0)], queue()),
    "DermsHeartbeatFromPartnerMissed": lambda: scrape(
        [connection(ConnectionState.OFFLINE, liveness_deadline=NOW - 3 * MINUTE)], queue()
    ),
    "DermsDispatchNotReporting": lambda: scrape(reports=[(report(5, 1_000), 5), (dispatch(70), 70)]),
    "DermsWorkerSilent": lambda: scrape(reports=[(report(45, 1_000), 45), (dispatch(), 5)]),
    "DermsFlowLagging": lambda: scrape(
        reports=[*((report(ago, 0, lags=(0, 9_000), behind_s=(62, 500)), ago) for ago in (5, 0)), (dispatch(), 5)]
    ),
    "DermsWatermarkDelay": lambda: scrape(reports=[(report(5, 0, behind_s=(62, 700)), 5), (dispatch(), 5)]),
    "DermsRuleFailed": lambda: scrape([event(NOW - MINUTE, "rule.failed", "ZeroDivisionError", Severity.ALARM)], queue()),
    "DermsDeadLetters": lambda: scrape([letter("derms.telemetry")], queue()),
    "DermsCircuitWritesOwed": lambda: scrape(reports=queue(), owed_s=90),
}  # fmt: skip


def firing(found: dict[str, dict[Any, float]]) -> set[str]:
    return {name for name, rule in ALERTS.items() if Query(rule["expr"])(found)}


def test_nothing_fires_while_all_is_well() -> None:
    assert firing(scrape(reports=queue(waiting=2, under_way=2, oldest_at=NOW - MINUTE), owed_s=2)) == set()


@pytest.mark.parametrize("name", FIRING)
def test_an_alert_fires_when_it_should_and_alone(name: str) -> None:
    found = FIRING[name]()
    assert firing(found) == {name}
    for labels in Query(ALERTS[name]["expr"])(found):  # what its words name is there to be filled in
        words = " ".join(ALERTS[name]["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", words)) <= set(dict(labels))


def test_every_alert_has_its_test_and_what_must_be_watched_an_alert() -> None:
    assert set(FIRING) == set(ALERTS)


@pytest.mark.parametrize("state", [ConnectionState.SUSPENDED, ConnectionState.DEREGISTERED])
@pytest.mark.parametrize("trouble", [{"breaker": "OPEN"}, {"held": "is not in the configuration"}, {"parked": 2}])
def test_what_is_not_sent_on_purpose_alarms_nobody(state: ConnectionState, trouble: dict[str, Any]) -> None:
    withheld = connection(state, withheld_since=NOW - HOUR)
    assert firing(scrape([withheld], queue(**OLD, **trouble))) == set()


@pytest.mark.parametrize("trouble", [{"breaker": "OPEN"}, {"held": "answered 401"}])
def test_a_partner_that_is_owed_nothing_any_more_alarms_nobody(trouble: dict[str, Any]) -> None:
    assert firing(scrape(reports=queue(**trouble))) == set()


def test_a_dispatch_that_was_never_heard_of_or_was_stopped_is_missed() -> None:
    assert firing(scrape(reports=[(report(5, 1_000), 5)])) == {"DermsDispatchNotReporting"}
    ended = report(600, lags=(), behind_s=(), flow="dispatch", tallies=[], stages=[], ended=True)
    assert firing(scrape(reports=[(ended, 600)])) == {"DermsDispatchNotReporting"}


def test_what_dispatch_left_behind_goes_on_ageing_without_it() -> None:
    left = dispatch(1_300, QueueStanding(partner_id="vector", waiting=9, oldest_at=NOW - timedelta(seconds=2_000)))
    assert firing(scrape(reports=[(left, 1_300)])) == {"DermsDispatchNotReporting", "DermsBacklogOld"}


def test_a_refused_message_is_no_dead_letter_twice_over_and_is_forgotten() -> None:
    assert firing(scrape([REFUSED, letter("derms.outbound")], queue())) == {"DermsMessageRefused"}
    assert firing(scrape([REFUSED.model_copy(update={"at": NOW - HOUR})], queue())) == set()


@pytest.mark.parametrize("rule", ALERTS.values(), ids=ALERTS)
def test_an_alert_is_made_of_metrics_that_are_there_and_says_what_to_do(rule: dict[str, Any]) -> None:
    query = Query(rule["expr"])
    query({})
    assert query.metrics
    for name, labels in query.metrics.items():
        assert name in KNOWN, name
        assert labels <= set(KNOWN[name]), f"{name} has no label {labels - set(KNOWN[name])}"
    assert re.fullmatch(r"\d+[smh]", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"^## (\w+)$", (RULES.parents[2] / page).read_text(), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert rule["alert"] in headings


def test_states_in_the_rules_are_states_there_are() -> None:
    found = scrape(reports=queue())
    values = {name: {value for labels in series for _, value in labels} for name, series in found.items()}
    named = ("derms_breaker_state", "CLOSED"), ("derms_flow_worker_state", "lagging"), ("derms_flow_worker_state", "silent")
    assert all(value in values[name] for name, value in named)


def test_the_guide_names_no_alert_that_is_gone() -> None:
    guide = (RULES.parents[2] / "docs" / "alerts.md").read_text()
    assert set(re.findall(r"^## (\w+)$", guide, re.MULTILINE)) == set(ALERTS)
    assert {link.lower() for link in re.findall(r"\(#(\w+)\)", guide)} <= {name.lower() for name in ALERTS}
