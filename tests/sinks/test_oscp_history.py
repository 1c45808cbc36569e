"""Dispatch over the embedded broker: positions, outcomes read at a start, bodies read again, a restart on the way (semantics 8.1)."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main
from bytewax.testing import TestingSink

from pipelines.dispatch import GROUP, READS, dispatch_flow, open_dispatch
from pipelines.records import Out
from pipelines.sources import RecordSource
from pipelines.views import FixedView
from schemas.clock import SystemClock
from schemas.connection import Connection, ConnectionState
from schemas.outbound import Delivery, OutboundMessage, Outcome
from schemas.topics import DELIVERIES, OUTBOUND
from schemas.units import whole_ms
from sinks.errors import Unavailable
from sinks.kafka import Positions, Producer, create_topics
from sinks.oscp.bodies import BodyReader
from sinks.oscp.history import Keeper, read_start
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings
from tests.builders import configuration
from tests.schemas.golden import oscp_example
from tests.sinks.partner_server import fake_partner

pytestmark = pytest.mark.slow
SECRETS = Secrets(bytes(32))
MEASUREMENTS = json.loads(oscp_example("UpdateAssetMeasurements"))
CLOCK = SystemClock()


@pytest.fixture
def kafka(embedded_settings: KafkaSettings) -> KafkaSettings:
    create_topics(embedded_settings)
    return embedded_settings


def message(number: int) -> OutboundMessage:
    now = whole_ms(CLOCK.now())
    return OutboundMessage(
        event_id=f"m{number}", at=now, message_id=f"m{number}", partner_id="vector", action="UpdateAssetMeasurements",
        group_id=f"g{number % 3}", body=json.dumps({**MEASUREMENTS, "number": number}), not_before=now, expires_at=now + timedelta(days=7),
    )  # fmt: skip


def produce(kafka: KafkaSettings, *values: OutboundMessage | Delivery) -> None:
    producer = Producer(kafka, "test")
    for value in values:
        if isinstance(value, Delivery):
            producer.send(DELIVERIES, value.message_id, value)
        else:
            producer.send(OUTBOUND, value.partner_id, value)
        producer.flush()  # one by one: the embedded broker counts the last batch as one record when asked for a topic's end


def delivery(number: int, outcome: Outcome, attempt: int = 1) -> Delivery:
    return Delivery(
        event_id=f"d{number}", at=CLOCK.now(), message_id=f"m{number}", partner_id="vector", action="UpdateAssetMeasurements",
        attempt=attempt, outcome=outcome,
    )  # fmt: skip


def eventually(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.02)


def test_positions_outcomes_and_bodies(kafka: KafkaSettings) -> None:
    positions = Positions(kafka, "test-positions")
    keeper, bodies = Keeper(kafka, positions), BodyReader(kafka)
    try:
        produce(kafka, *(message(number) for number in range(4)))
        produce(kafka, delivery(0, Outcome.DELIVERED), delivery(1, Outcome.RETRY, 3), delivery(2, Outcome.PARKED, 10))
        start = read_start(kafka, positions)
        assert (start.outbound, start.commands, start.deliveries) == ({0: 0}, {0: 0}, {0: 0})
        assert set(start.outcomes.final) == {"m0"}
        assert start.outcomes.attempts == {"m1": 3, "m2": 10}
        assert start.outcomes.parked == {"m2"}
        assert start.positions() == {("derms.outbound", 0): 0, ("derms.commands", 0): 0}

        assert keeper.ends() == {0: 3}
        keeper.keep({0: 1}, {}, {0: 1})
        again = read_start(kafka, positions)
        assert (again.outbound, again.deliveries, set(again.outcomes.final)) == ({0: 1}, {0: 1}, set())

        keeper.keep({0: 99}, {}, {0: 99})  # another life of a broker that forgets
        assert read_start(kafka, positions).outbound == {0: 4}

        assert [bodies(0, offset).message_id for offset in (2, 0, 3)] == ["m2", "m0", "m3"]
    finally:
        bodies.close()
        keeper.close()


def test_a_body_that_is_not_there_is_not_waited_for_for_ever(kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.oscp.bodies.FETCH_S", 0.3)
    bodies = BodyReader(kafka)
    with pytest.raises(Unavailable, match="did not hand out offset 999"):
        bodies(0, 999)
    bodies.close()


def test_a_dispatch_that_is_stopped_on_the_way_goes_on_without_sending_twice(kafka: KafkaSettings, tmp_path: Path) -> None:
    config = configuration(partners=[{"id": "vector", "allow_private_addresses": True}], groups=[])
    letters: list[Out] = []
    with fake_partner() as cp:
        known = Connection(
            event_id="c", at=CLOCK.now(), partner_id="vector", state=ConnectionState.ONLINE, since=CLOCK.now(),
            peer_base_url=cp.url, peer_token=SECRETS.encrypt("peer", "vector"),
        )  # fmt: skip

        def run(until: Callable[[], bool]) -> None:
            stop = threading.Event()
            views: dict[str, Any] = {"config": FixedView(config), "connections": FixedView({"vector": known})}
            with open_dispatch(kafka, clock=CLOCK, secrets=SECRETS, stop=stop, **views) as opened:
                records = RecordSource(kafka, READS, clock=CLOCK, stop=stop, start=opened.start, group="derms-dispatch")
                flow: Dataflow = dispatch_flow(records=records, dispatch=opened.sink, out=TestingSink(letters), clock=CLOCK)
                thread = threading.Thread(target=cli_main, args=(flow,), kwargs={"epoch_interval": timedelta(seconds=1)})
                thread.start()
                try:
                    eventually(until)
                finally:
                    stop.set()
                    thread.join()

        produce(kafka, *(message(number) for number in range(100, 140)))
        cp.answer = lambda request: 500 if request.json["number"] == 120 else 204
        run(lambda: len(set(cp.ids(204))) >= 20 and 500 in cp.statuses)
        cp.answer = lambda request: 204
        produce(kafka, *(message(number) for number in range(140, 145)))
        run(lambda: all(f"m{number}" in cp.ids(204) for number in range(100, 145)))
    accepted = Counter(identity for identity in cp.ids(204) if int(identity[1:]) >= 100)
    assert accepted == {f"m{number}": 1 for number in range(100, 145)}
    for lane in range(3):
        mine = [identity for identity in cp.ids(204) if int(identity[1:]) >= 100 and int(identity[1:]) % 3 == lane]
        assert mine == sorted(mine)
    assert letters == []
    positions = Positions(kafka, GROUP)
    assert read_start(kafka, positions).outbound == {0: 45}
    positions.close()
