"""The views against a truth computed in plain Python, also while replays and old revisions lie beside the rows."""

import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.compliance import Breach, BreachState, Verdict, VerdictKind
from schemas.connection import Connection, ConnectionState
from schemas.facts import Value, derived_id
from schemas.intervals import QUARTER
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.telemetry import Level, QuarterHour
from schemas.units import Direction
from sinks.clickhouse.client import Store
from sinks.clickhouse.sink import Batch, History
from tests.builders import T0
from tests.schemas.golden import example

DAY0 = datetime(2026, 10, 20, tzinfo=UTC)


def put(store: Store, topic: str, values: list[Value], first: int = 0, life: int = 1) -> None:
    """Archive `values` in three blocks, and the middle one again as after a crash."""
    history = History(store, f"life-{life}", life)
    cut = len(values) // 3
    for start, end in ((0, cut), (cut, 2 * cut), (cut, 2 * cut), (2 * cut, len(values))):
        if values[start:end]:
            history.add(Batch(topic, 0, first + start, first + end - 1, list(enumerate(values[start:end], first + start))))
            history.flush()


def row(level: Level, name: str, start: datetime, revision: int = 1, **fields: Any) -> QuarterHour:
    golden = example("derms.quarter-hours")
    assert isinstance(golden, QuarterHour)
    plain = {
        "level": level,
        "id": name,
        "start": start,
        "revision": revision,
        "provisional": revision == 0,
        "scope_id": "mg-1",
        "event_id": derived_id(level, name, start, revision),
        "phase": "ALL",
        **fields,
    }
    return QuarterHour(**{**golden.model_dump(), **plain})


def verdict(quarter: datetime, direction: Direction, used: float, allowed: float | None, revision: int = 1, **fields: Any) -> Verdict:
    kind = VerdictKind.UNKNOWN if allowed is None else VerdictKind.BREACHED if used > allowed else VerdictKind.WITHIN
    plain: dict[str, Any] = {
        "event_id": derived_id("verdict", quarter, direction, revision),
        "at": quarter + QUARTER,
        "partner_id": "vector",
        "group_id": "VEC-0001",
        "scope_id": "mg-1",
        "quarter": quarter,
        "direction": direction,
        "verdict": kind,
        "used_wh": used,
        "allowed_wh": allowed,
        "revision": revision,
    }
    return Verdict(**{**plain, **fields})


def test_headroom(store: Store) -> None:
    chance = random.Random(7)
    rows: list[Value] = []
    verdicts: list[Value] = []
    truth: dict[tuple[datetime, str], tuple[float, float | None, str]] = {}
    for n in range(60):
        start = T0 + n * QUARTER
        imported, exported = chance.randint(0, 9000) / 4, chance.randint(0, 9000) / 4
        rows += [row(Level.GROUP, "VEC-0001", start, 0, import_wh=1.0), row(Level.GROUP, "VEC-0001", start, 1, import_wh=2.0)]
        rows += [row(Level.GROUP, "VEC-0001", start, 2, import_wh=imported, export_wh=exported), row(Level.ASSET, "mg-1-pv", start)]
        for direction, used in ((Direction.IMPORT, imported), (Direction.EXPORT, exported)):
            truth[start, direction.value] = (used, None, "NOT_JUDGED")
            if n % 5 == 0:
                continue
            allowed = None if n % 7 == 0 else chance.randint(0, 9000) / 4
            verdicts += [verdict(start, direction, 1.0, 2.0), verdict(start, direction, used, allowed, 2)]
            verdicts += [verdict(start, direction, used, None, 0, at_risk=True, projected_w=1e6)]
            last = verdicts[-2]
            assert isinstance(last, Verdict)
            truth[start, direction.value] = (used, allowed, last.verdict.value)
    chance.shuffle(rows)
    put(store, "derms.quarter-hours", rows)
    put(store, "derms.compliance", verdicts)
    found = store.query("SELECT * FROM v_headroom")
    assert len(found) == len(truth)
    for got in found:
        used, allowed, word = truth[got["quarter"], got["direction"]]
        assert (got["used_wh"], got["allowed_wh"], got["verdict"]) == (used, allowed, word)
        assert got["headroom_wh"] == (None if allowed is None else allowed - used)
        assert (got["used_w"], got["headroom_w"]) == (used * 4, None if allowed is None else (allowed - used) * 4)
        assert (got["group_id"], got["scope_id"]) == ("VEC-0001", "mg-1")


def test_compliance_by_day(store: Store) -> None:
    chance = random.Random(3)
    said: list[Value] = []
    truth: dict[tuple[Any, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for n in range(150):
        start = DAY0 + n * QUARTER
        used, allowed = float(chance.randint(0, 100)), chance.choice([None, 50.0])
        for direction in Direction:
            said += [verdict(start, direction, 99.0, 1.0, 1), verdict(start, direction, used, allowed, 2)]
            day = truth[start.date(), direction.value]
            day["judged"] += 1
            day["unknown" if allowed is None else "breached" if used > allowed else "within"] += 1
            day["over"] += max(used - allowed, 0) if allowed is not None else 0
    put(store, "derms.compliance", said)
    found = store.query("SELECT * FROM v_compliance")
    assert len(found) == len(truth)
    for got in found:
        want = truth[got["day"], got["direction"]]
        assert [got[name] for name in ("judged", "within", "breached", "unknown")] == [
            want[name] for name in ("judged", "within", "breached", "unknown")
        ]
        assert got["energy_over_wh"] == want["over"]
        assert got["share_within"] == pytest.approx(want["within"] / (want["within"] + want["breached"]))


def test_breaches_as_they_stand(store: Store) -> None:
    golden = example("derms.breaches")
    assert isinstance(golden, Breach)

    def breach(name: str, revision: int, state: BreachState) -> Breach:
        return golden.model_copy(update={"breach_id": name, "revision": revision, "state": state, "quarters": revision})

    said: list[Value] = [breach("a", 1, BreachState.OPENED), breach("b", 1, BreachState.OPENED), breach("a", 2, BreachState.CONTINUED)]
    said += [breach("a", 3, BreachState.CLOSED), breach("b", 2, BreachState.VOIDED), breach("c", 1, BreachState.OPENED)]
    put(store, "derms.breaches", said)
    found = store.query("SELECT breach_id, state, quarters FROM v_breaches ORDER BY breach_id")
    assert [tuple(each.values()) for each in found] == [("a", "CLOSED", 3), ("b", "VOIDED", 2), ("c", "OPENED", 1)]


def attempts(message: str, outcomes: list[tuple[Outcome, int]], action: str = "UpdateAssetMeasurements") -> list[Value]:
    golden = example("derms.deliveries")
    assert isinstance(golden, Delivery)
    return [
        golden.model_copy(
            update={
                "message_id": message,
                "event_id": derived_id(message, number),
                "attempt": number,
                "outcome": outcome,
                "partner_id": "vector",
                "duration_ms": duration,
                "action": action,
                "at": DAY0 + timedelta(hours=number),
                "status": None,
            }
        )
        for number, (outcome, duration) in enumerate(outcomes, 1)
    ]


def test_deliveries_and_where_messages_stand(store: Store) -> None:
    said = attempts("m1", [(Outcome.RETRY, 5), (Outcome.RETRY, 7), (Outcome.DELIVERED, 9)])
    said += attempts("m2", [(Outcome.DELIVERED, 1)]) + attempts("m3", [(Outcome.RETRY, 30), (Outcome.HELD, 0)])
    said += attempts("m4", [(Outcome.REFUSED, 2)], "Heartbeat")
    put(store, "derms.deliveries", said)
    last = store.query("SELECT message_id, outcome, attempt FROM v_deliveries WHERE is_last ORDER BY message_id")
    assert [tuple(each.values()) for each in last] == [
        ("m1", "DELIVERED", 3),
        ("m2", "DELIVERED", 1),
        ("m3", "HELD", 2),
        ("m4", "REFUSED", 1),
    ]
    assert store.query("SELECT count() AS n FROM v_deliveries") == [{"n": 7}]
    [beats, measured] = store.query("SELECT * FROM v_delivery_daily ORDER BY action")
    assert (beats["messages"], beats["refused"], beats["delivered"]) == (1, 1, 0)
    assert (measured["messages"], measured["delivered"], measured["waiting"]) == (3, 2, 1)
    assert (measured["attempts"], measured["most_attempts"], measured["day"]) == (5, 3, DAY0.date())


def test_messages_nobody_has_tried_to_send_have_no_outcome(store: Store) -> None:
    golden = example("derms.outbound")
    assert isinstance(golden, OutboundMessage)
    put(store, "derms.outbound", [golden.model_copy(update={"message_id": name}) for name in ("m1", "m2", "m3")])
    put(store, "derms.deliveries", attempts("m2", [(Outcome.DELIVERED, 3)]))
    from sinks.clickhouse.queries import question

    asked = question("messages")
    found = store.query(asked.sql, asked.values({}))
    assert {each["message_id"]: each["outcome"] for each in found} == {"m1": "", "m2": "DELIVERED", "m3": ""}


def test_completeness_knows_what_is_missing(store: Store) -> None:
    chance = random.Random(5)
    present = {"a": set(range(40, 200)) - {50, 51, 100}, "b": set(range(100, 150)), "late": {250}}
    rows: list[Value] = [
        row(Level.ASSET, name, DAY0 + n * QUARTER, revision, coverage=0.5, estimated=n == 120)
        for name, numbers in present.items()
        for n in numbers
        for revision in (0, 1, 2)
    ]
    chance.shuffle(rows)
    put(store, "derms.quarter-hours", rows)
    newest = max(max(numbers) for numbers in present.values())
    truth = {}
    for name, numbers in present.items():
        for day in range(min(numbers) // 96, newest // 96 + 1):
            expected = min(newest + 1, 96 * (day + 1)) - max(min(numbers), 96 * day)
            truth[name, (DAY0 + timedelta(days=day)).date()] = (expected, sum(1 for n in numbers if n // 96 == day))
    found = store.query("SELECT * FROM v_completeness")
    assert {(got["id"], got["day"]): (got["expected"], got["quarters"]) for got in found} == truth
    for got in found:
        assert got["missing"] == got["expected"] - got["quarters"]
        assert got["coverage"] == pytest.approx(0.5 * got["quarters"] / got["expected"])


def envelope(revision: int, effective: int, pieces: list[tuple[int, int, float | None]]) -> OperatingEnvelope:
    """Minutes after T0 and kW."""
    return OperatingEnvelope(
        event_id=derived_id("envelope", revision),
        at=T0,
        scope_id="mg-1",
        revision=revision,
        effective_at=T0 + timedelta(minutes=effective),
        pieces=[
            EnvelopePiece(
                start=T0 + timedelta(minutes=start),
                end=T0 + timedelta(minutes=end),
                import_limit_w=limit,
                import_kind=PieceKind.FORECAST,
                import_cause=f"f{revision}",
            )
            for start, end, limit in pieces
        ],
    )


def test_what_was_in_force_is_what_later_envelopes_left(store: Store) -> None:
    """An emergency block that comes after a day-ahead forecast but takes effect before it takes its place from then on."""
    said = [
        envelope(1, 0, [(0, 60, 5.0), (60, 600, 9.0)]),
        envelope(2, 300, [(300, 400, 1.0), (400, 900, None)]),
        envelope(3, 90, [(90, 120, 2.0), (120, 700, 3.0)]),
        envelope(4, 500, [(500, 700, 4.0)]),
    ]
    put(store, "derms.envelopes", list(said))
    put(store, "derms.envelopes", [envelope(1, 0, [])], first=0, life=2)  # a new life begins with nothing known; revisions begin again
    found = store.query("SELECT * FROM v_forecast_in_force WHERE start < toDateTime64('2026-10-21 00:00:00', 3, 'UTC') ORDER BY start")
    assert found == []  # the new life's envelope took effect at T0 and knows nothing
    store.command("DELETE FROM envelopes WHERE life = 2")
    found = store.query("SELECT start, end, import_limit_w, import_cause FROM v_forecast_in_force ORDER BY start")
    for minute in range(0, 950, 10):
        at = T0 + timedelta(minutes=minute)
        last = [e for e in said if e.effective_at <= at][-1:]
        want = [(p.import_limit_w, p.import_cause) for e in last for p in e.pieces if p.start <= at < p.end]
        assert [(got["import_limit_w"], got["import_cause"]) for got in found if got["start"] <= at < got["end"]] == want, minute


def test_link_uptime_splits_days_and_reaches_to_the_newest_fact(store: Store) -> None:
    golden = example("derms.connections")
    assert isinstance(golden, Connection)
    states = [
        (0.0, ConnectionState.REGISTERED),
        (0.5, ConnectionState.ONLINE),
        (30.0, ConnectionState.OFFLINE),
        (31.5, ConnectionState.ONLINE),
    ]
    said: list[Value] = [
        golden.model_copy(
            update={
                "partner_id": "vector",
                "state": state,
                "since": DAY0 + timedelta(hours=hours),
                "at": DAY0 + timedelta(hours=hours, minutes=again),
                "event_id": derived_id(state, hours, again),
            }
        )
        for hours, state in states
        for again in (0, 1)
    ]
    put(store, "derms.connections", said)
    put(store, "derms.quarter-hours", [row(Level.ASSET, "a", DAY0 + timedelta(hours=50))])
    found = store.query("SELECT * FROM v_link_uptime ORDER BY day")
    assert [(got["online_s"], got["offline_s"], got["other_s"]) for got in found] == [
        (23.5 * 3600, 0, 1800),
        (22.5 * 3600, 1.5 * 3600, 0),
        (2.25 * 3600, 0, 0),
    ]
    assert found[1]["uptime"] == pytest.approx(22.5 / 24)


def test_views_of_an_empty_history_are_empty(store: Store) -> None:
    views = store.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")
    for view in views:
        assert store.query(f"SELECT * FROM {view['name']}") == [], view
