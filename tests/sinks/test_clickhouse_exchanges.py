"""Exchanges in the history: requests of both ways side by side, and what they must not disturb."""

import json
from datetime import datetime, timedelta
from typing import Any

from schemas.connection import EXCHANGE, Connection, ConnectionState, Event, SubjectKind
from schemas.facts import Value, derived_id
from schemas.outbound import Delivery, Outcome
from sinks.clickhouse.client import Store
from sinks.clickhouse.migrations import migrate, migrations
from sinks.clickhouse.queries import question
from sinks.clickhouse.sink import Batch, History
from tests.builders import T0


def put(store: Store, topic: str, *values: Value) -> None:
    history = History(store, "life", 1)
    history.add(Batch(topic, 0, 0, len(values) - 1, list(enumerate(values))))
    history.flush()


def event(at: datetime, kind: str = EXCHANGE, partner_id: str = "vector", **data: Any) -> Event:
    return Event(
        event_id=derived_id(kind, partner_id, at),
        at=at,
        subject_kind=SubjectKind.PARTNER,
        subject_id=partner_id,
        kind=kind,
        words="said",
        data=json.dumps(data),
    )


def delivery(at: datetime, outcome: Outcome = Outcome.DELIVERED, **changes: Any) -> Delivery:
    plain = {
        "event_id": derived_id("delivery", at),
        "at": at,
        "message_id": "m-1",
        "partner_id": "vector",
        "action": "Handshake",
        "attempt": 1,
        "outcome": outcome,
        "status": 204,
        "duration_ms": 41,
        "url": "https://cp.example/oscp/cp/2.0/handshake",
    }
    return Delivery.model_validate({**plain, **changes})


def asked(store: Store, **given: str) -> list[dict[str, Any]]:
    found = question("exchanges")
    return store.query(found.sql, found.values(given))


def test_both_ways_stand_in_one_list(store: Store) -> None:
    second = timedelta(seconds=1)
    told = {"direction": "in", "method": "POST", "status": 204, "duration_ms": 3, "correlation_id": None}
    put(
        store,
        "derms.events",
        event(T0, action="Register", url="/oscp/fp/2.0/register", request_id="r-1", **told),
        event(T0 + 3 * second, action="Heartbeat", url="/oscp/fp/2.0/heartbeat", request_id="r-2", **told),
        event(T0 + 3 * second, partner_id="other", action="Heartbeat", url="/oscp/fp/2.0/heartbeat", request_id=None, **told),
        event(T0 + 4 * second, "connection.online"),
    )
    put(
        store,
        "derms.deliveries",
        delivery(T0 + second, Outcome.RETRY, status=None, correlation_id="r-1"),
        delivery(T0 + 2 * second, attempt=2, correlation_id="r-1"),
        delivery(T0 + 9 * second, Outcome.EXPIRED, message_id="m-2", status=None, url=""),
    )
    rows = asked(store, partner="vector")
    assert [(row["direction"], row["action"], row["status"], row["request_id"]) for row in rows] == [
        ("IN", "Heartbeat", 204, "r-2"),
        ("OUT", "Handshake", 204, "m-1"),
        ("OUT", "Handshake", None, "m-1"),
        ("IN", "Register", 204, "r-1"),
    ]
    assert [row["attempt"] for row in rows] == [None, 2, 1, None]
    assert rows[1]["url"] == "https://cp.example/oscp/cp/2.0/handshake"
    assert (rows[3]["url"], rows[3]["duration_ms"], rows[3]["correlation_id"]) == ("/oscp/fp/2.0/register", 3, None)
    assert len(asked(store)) == 5
    assert len(asked(store, partner="vector", heartbeats="0")) == 3
    begin, end = (f"{T0 + n * second:%Y-%m-%d %H:%M:%S}" for n in (1, 3))
    assert [row["attempt"] for row in asked(store, **{"from": begin, "to": end})] == [2, 1]


def test_exchanges_do_not_move_the_uptime(store: Store) -> None:
    online = Connection(event_id="c", at=T0, partner_id="vector", state=ConnectionState.ONLINE, since=T0)
    put(store, "derms.connections", online)
    put(store, "derms.events", event(T0 + timedelta(hours=1), "noted"), event(T0 + timedelta(hours=2), action="Heartbeat"))
    found = store.query("SELECT sum(observed_s) AS seconds, max(uptime) AS uptime FROM v_link_uptime")
    assert found == [{"seconds": 3600.0, "uptime": 1.0}]


def test_deliveries_of_before_have_the_new_columns(store: Store) -> None:
    store.command("ALTER TABLE deliveries DROP COLUMN url")
    store.command("ALTER TABLE deliveries DROP COLUMN method")
    plain = {
        "event_id": ["e"], "message_id": ["m-1"], "partner_id": ["vector"], "action": ["Handshake"], "attempt": [1],
        "outcome": ["DELIVERED"], "status": [204], "words": [""], "duration_ms": [5], "at": [0], "version": [1],
    }  # fmt: skip
    store.insert_columns("deliveries", plain)
    number = next(each.number for each in migrations() if each.name == "0007_exchanges.sql")
    store.command(f"DELETE FROM schema_migrations WHERE number = {number}")
    assert migrate(store) == ["0007_exchanges.sql"]
    found = store.query("SELECT method, url, is_last FROM v_deliveries")
    assert [(row["method"], row["url"], bool(row["is_last"])) for row in found] == [("POST", "", True)]
