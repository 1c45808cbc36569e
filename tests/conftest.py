"""Brokers for tests: the embedded one, and a real Apache Kafka where java and mvn are present.

`kafka_settings` runs a test once over each; every test gets topics of its own (a prefix), the brokers are shared.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedBroker
from sinks.settings import KafkaSettings
from tests.kafka.broker import ApacheKafka, missing_tools, shared

_NUMBERS = itertools.count(1)


def unique(settings: KafkaSettings) -> KafkaSettings:
    """The same broker with a topic prefix nobody else has."""
    return settings.model_copy(update={"topic_prefix": f"t{os.getpid()}-{next(_NUMBERS)}."})


def require_kafka() -> None:
    """Skip, by name and reason, where a real broker cannot run; with CI=true that is a failure."""
    reason = missing_tools()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and CI=true wants these tests run")
        pytest.skip(reason)


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """The embedded broker, one for each test process."""
    with EmbeddedBroker(log=tmp_path_factory.mktemp("embedded") / "stderr") as broker:
        yield KafkaSettings(bootstrap=broker.bootstrap, replication=1, min_insync=1, embedded=True)


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """Apache Kafka, one for all processes of this test run: the first starts it, the last stops it."""
    require_kafka()
    base, runner = tmp_path_factory.getbasetemp(), os.getpid()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base, runner = base.parent, os.getppid()
    with shared(base / "shared-kafka", runner) as bootstrap:
        yield KafkaSettings(bootstrap=bootstrap, replication=1, min_insync=1)


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def kafka_settings(request: pytest.FixtureRequest) -> KafkaSettings:
    """A broker with topics of the test's own: once the embedded one, once Apache Kafka."""
    settings: KafkaSettings = request.getfixturevalue("embedded_broker" if request.param == "embedded" else "real_kafka")
    return unique(settings)


@pytest.fixture
def embedded_settings(embedded_broker: KafkaSettings) -> KafkaSettings:
    """The embedded broker alone, with topics of the test's own: for what does not depend on the broker."""
    return unique(embedded_broker)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[EmbeddedBroker]:
    """An embedded broker for this test alone, to be stopped by it."""
    with EmbeddedBroker(log=tmp_path / "stderr") as broker:
        yield broker


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka for this test alone, to be killed and started again by it."""
    require_kafka()
    broker = ApacheKafka(tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Register what has `close` or `stop`; all is ended after the test, newest first."""
    opened: list[Any] = []

    def register(thing: Any) -> Any:
        opened.append(thing)
        return thing

    yield register
    for thing in reversed(opened):
        (thing.close if hasattr(thing, "close") else thing.stop)()
