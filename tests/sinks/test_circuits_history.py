"""What a circuit writer finds on the topic at its start, over either broker."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.capacity import CircuitCapacity
from schemas.clock import SystemClock
from schemas.topics import CIRCUIT_CAPACITY
from sinks import circuit_history
from sinks.circuit_history import CircuitHistory, Found
from sinks.kafka import create_topics
from sinks.settings import KafkaSettings
from tests.kafka.driving import publish
from tests.sinks.circuit_world import change, until


def put(settings: KafkaSettings, *changes: CircuitCapacity) -> None:
    publish(settings, *((CIRCUIT_CAPACITY, each.circuit_id, each) for each in changes))


def found_by(settings: KafkaSettings, *wanted: str) -> list[Found]:
    told: list[Found] = []
    failed: list[BaseException] = []
    history = CircuitHistory(settings, wanted=lambda: frozenset(wanted), tell=told.append, clock=SystemClock(), on_failure=failed.append)
    history.start()
    until(lambda: failed or (told and told[-1].reached is None), "all is read", 30)
    history.stop()
    assert not failed
    return told


def newest(told: list[Found]) -> dict[str, list[str]]:
    """By circuit the ids of the last word about it."""
    return {changes[-1].circuit_id: [change.event_id for change in changes] for found in told for changes in found.newest}


def test_the_newest_of_each_circuit_is_found_whatever_was_said_again(kafka_settings: KafkaSettings) -> None:
    create_topics(kafka_settings)
    assert found_by(kafka_settings, "a") == [Found([], None)]
    put(
        kafka_settings,
        *(change(minute, circuit_id="a") for minute in range(5)),
        change(7, circuit_id="b"),
        change(7, circuit_id="b", suffix="x"),
        change(7, circuit_id="b"),  # said again: the topic has the first time
        change(1, circuit_id="a"),
        change(9, circuit_id="nobody's"),
    )
    publish(kafka_settings, (CIRCUIT_CAPACITY, "a", b"no value"))
    told = found_by(kafka_settings, "a", "b", "c")
    assert newest(told) == {"a": ["a 4"], "b": ["b 7", "b 7x"]}
    assert told[-1].reached is None


def test_only_so_much_is_read_as_is_needed(kafka_settings: KafkaSettings, monkeypatch: Any) -> None:
    """The windows reach back until every circuit's newest is known for certain."""
    create_topics(kafka_settings)
    put(kafka_settings, *(change(minute, circuit_id="a") for minute in range(3)))
    put(kafka_settings, change(3, circuit_id="b"))
    old = datetime.now(UTC)
    looks: list[dict[int, int]] = []
    original = circuit_history._messages

    def counted(consumer: Any, name: str, since: dict[int, int], upto: dict[int, int], stopping: threading.Event) -> Any:
        looks.append({number: upto[number] - since[number] for number in upto})
        return original(consumer, name, since, upto, stopping)

    monkeypatch.setattr(circuit_history, "_messages", counted)
    monkeypatch.setattr(circuit_history, "SLACK", timedelta(0))
    # Wait until the first window, of two seconds, has none of these.
    monkeypatch.setattr(circuit_history, "WINDOWS", (timedelta(seconds=2), timedelta(hours=1), None))
    until(lambda: datetime.now(UTC) - old > timedelta(seconds=2.5))
    put(
        kafka_settings,
        change(0, circuit_id="b").model_copy(update={"effective_from": datetime.now(UTC) + timedelta(minutes=1), "event_id": "b now"}),
    )
    told = found_by(kafka_settings, "b")
    assert newest(told) == {"b": ["b now"]}
    assert len(looks) == 1
    assert sum(looks[0].values()) == 1
    looks.clear()
    told = found_by(kafka_settings, "a", "b")
    assert newest(told) == {"a": ["a 2"], "b": ["b now"]}
    assert len(looks) == 2


def test_a_broker_that_is_away_is_waited_for(embedded_settings: KafkaSettings, closing: Callable[[Any], Any]) -> None:
    told: list[Found] = []
    history = closing(
        CircuitHistory(embedded_settings, wanted=frozenset, tell=told.append, clock=SystemClock(), on_failure=lambda error: None)
    )
    history.start()  # the topics are not made yet
    create_topics(embedded_settings)
    until(lambda: told, within_s=30)
