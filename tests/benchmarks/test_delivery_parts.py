"""The delivery scenes' own arithmetic: what rows are fed, and what partners are expected to be told of them."""

import json

import pytest

from pipelines.rules.reporting import ReportingRule
from schemas.connection import Connection, ConnectionState
from schemas.intervals import QUARTER
from schemas.outbound import OutboundMessage
from schemas.telemetry import Level, QuarterHour
from sinks.codec import decode
from tests.benchmarks.delivery.partners import Accepted, Told
from tests.benchmarks.delivery.rows import Fleet, payloads_of
from tests.benchmarks.delivery.run import Delivery, Scene
from tests.benchmarks.front_door.http_lines import Request

FLEET = Fleet(groups=3, assets=4, partners=2)


def test_the_rows_are_rows_and_no_two_assets_are_told_the_same() -> None:
    rows = [decode(payload) for _, payload in payloads_of(FLEET, 0)]
    assert all(isinstance(row, QuarterHour) for row in rows)
    assert len(rows) == FLEET.groups * (FLEET.assets + 1)
    assert len({FLEET.wh(group, asset, 0) for group in range(1000) for asset in range(100)}) == 100_000


def test_what_is_expected_is_what_reporting_says_of_the_rows() -> None:
    configuration = FLEET.configuration(5)
    rows = list(FLEET.rows(1, 2))
    start, now = rows[0].start, rows[0].at
    assert rows[-1].level is Level.GROUP
    rule = ReportingRule(lambda: configuration)
    state, since = rule.start("mg-1"), start - QUARTER
    online = Connection(
        event_id="c", at=since, partner_id="cp-1", state=ConnectionState.ONLINE, since=since, first_acknowledged_at=since
    )  # fmt: skip
    owed = [out for item in (online, *rows) for out in rule.step(state, item, now)]
    (message,) = [out for out in owed if isinstance(out, OutboundMessage)]
    told = Told([Accepted(1, 0.0, 0.0, Request(body=message.body.encode()))])
    wanted = {f"a-1-{asset}": pytest.approx([FLEET.wh(1, asset, 2)], abs=0.0006) for asset in range(FLEET.assets)}
    assert told.values() == wanted
    assert json.loads(message.body)["group_id"] == "G-1"


def test_what_is_wrong_is_not_reached_however_fast() -> None:
    scene = Scene(1, 10, 1.0, 1.0, 1.0, [0.01], 1, {}, {"reporting": 1, "dispatch": 1})
    fast = Delivery(scene, scene, [0.1])
    assert all(each.reached for each in fast.asked())
    fast.problems.append("a-1-1 was told twice")
    assert not any(each.reached for each in fast.asked())
