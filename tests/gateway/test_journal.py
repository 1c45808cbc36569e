import errno
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedBroker
from gateway.journal import MAGIC, Journal
from schemas.topics import CONFIG, CONNECTIONS, DELIVERIES, EVENTS
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import Follower, Producer, RawRecord, create_topics
from sinks.settings import KafkaSettings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def record(key: str, raw: bytes, topic: str = CONFIG.name, at: datetime = NOW) -> RawRecord:
    return RawRecord(topic, 0, 0, at, key, raw)


def written(path: Path, *records: RawRecord) -> Journal:
    journal = Journal(path)
    journal.compact(NOW)
    journal.write(records)
    return journal


def kept(path: Path, now: datetime = NOW) -> dict[tuple[str, str], bytes]:
    journal = Journal(path)
    found = {key: raw for key, (_, raw) in journal.compact(now).items()}
    journal.stop()
    return found


def test_the_last_value_of_each_key_is_kept_in_the_order_of_writing(tmp_path: Path):
    path = tmp_path / "deep" / "journal"
    written(path, record("a", b"1"), record("b", b"1"), record("a", b"2"), record("p", b"x", CONNECTIONS.name)).stop()
    assert list(kept(path).items()) == [((CONFIG.name, "b"), b"1"), ((CONFIG.name, "a"), b"2"), ((CONNECTIONS.name, "p"), b"x")]


def test_compaction_makes_the_file_small(tmp_path: Path):
    path = tmp_path / "journal"
    written(path, *(record("a", b"%d" % number) for number in range(1000))).stop()
    before = path.stat().st_size
    kept(path)
    assert path.stat().st_size < before / 100


def test_a_removed_key_is_gone(tmp_path: Path):
    path = tmp_path / "journal"
    written(path, record("a", b"1"), record("a", b"")).stop()
    assert kept(path) == {}


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_tail_costs_the_torn_record_only(tmp_path: Path, cut: int):
    path = tmp_path / "journal"
    written(path, record("a", b"1"), record("b", b"2"), record("c", b"3" * 8)).stop()
    os.truncate(path, path.stat().st_size - cut)
    assert kept(path) == {(CONFIG.name, "a"): b"1", (CONFIG.name, "b"): b"2"}
    # And it can be written again, from the last good record on.
    written(path, record("c", b"4")).stop()
    assert kept(path)[CONFIG.name, "c"] == b"4"


def test_damaged_bytes_are_put_aside_and_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "journal"
    written(path, record("a", b"1"), record("b", b"22222222")).stop()
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)
    assert kept(path) == {(CONFIG.name, "a"): b"1"}
    assert "torn or damaged" in caplog.text
    assert path.with_name("journal.damaged").read_bytes() == content[-len(path.with_name("journal.damaged").read_bytes()) :]


def test_another_files_bytes_are_not_taken_for_a_journal(tmp_path: Path):
    path = tmp_path / "journal"
    path.write_bytes(b"something else entirely")
    assert kept(path) == {}
    assert path.read_bytes() == MAGIC
    assert path.with_name("journal.damaged").read_bytes() == b"something else entirely"


def test_what_its_topic_would_have_dropped_by_now_is_dropped(tmp_path: Path):
    path = tmp_path / "journal"
    written(path, record("old", b"1", DELIVERIES.name), record("c", b"1")).stop()
    assert kept(path, NOW + timedelta(days=364)).keys() == {(DELIVERIES.name, "old"), (CONFIG.name, "c")}
    assert kept(path, NOW + timedelta(days=366)).keys() == {(CONFIG.name, "c")}


def test_a_full_disk_is_said_and_nothing_is_lost_once_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "journal"
    journal = written(path, record("a", b"1"))

    class Full:
        """A file on a disk with room for 5 more bytes."""

        def __init__(self, inner: Any) -> None:
            self.inner, self.room = inner, 5

        def write(self, content: bytes) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = self.inner.write(content[: self.room])
            self.room -= taken
            return int(taken)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    inner = journal._file
    monkeypatch.setattr(journal, "_file", Full(inner))
    journal.write([record("b", b"2")])
    assert journal.failure is not None
    assert "No space left on device" in journal.failure
    assert str(path) in journal.failure
    monkeypatch.setattr(journal, "_file", inner)
    journal.write([record("c", b"3")])
    assert journal.failure is None
    journal.stop()
    assert kept(path) == {(CONFIG.name, "a"): b"1", (CONFIG.name, "b"): b"2", (CONFIG.name, "c"): b"3"}


def test_stopping_with_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = written(tmp_path / "journal")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("gateway.journal.os.fsync", full)
    journal.write([record("b", b"2")])
    with pytest.raises(Unavailable, match="No space left"):
        journal.stop()


def test_a_place_that_cannot_be_written_names_itself(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="journal"):
        Journal(tmp_path / "file" / "journal").compact(NOW)


def settings_of(broker: EmbeddedBroker) -> KafkaSettings:
    return KafkaSettings(bootstrap=broker.bootstrap, replication=1, min_insync=1, embedded=True)


def everything(settings: KafkaSettings) -> list[tuple[str, str, bytes]]:
    found: list[RawRecord] = []
    follower = Follower(settings, [CONFIG, CONNECTIONS, DELIVERIES, EVENTS], found.extend)
    follower.start()
    follower.wait_ready(10)
    follower.stop()
    return sorted((each.topic, each.key, each.raw) for each in found)


def test_the_next_life_of_the_broker_remembers(tmp_path: Path, closing: Callable[[Any], Any]):
    path = tmp_path / "journal"
    with EmbeddedBroker() as broker:
        settings = settings_of(broker)
        create_topics(settings)
        journal = Journal(path)
        assert journal.restore(settings) == 0
        journal.follow(settings)
        producer = Producer(settings, "test")
        for topic, key, raw in (
            (CONFIG, "c", b"1"),
            (CONNECTIONS, "p", b"2"),
            (CONFIG, "c", b"3"),
            (DELIVERIES, "m", b"4"),
            (EVENTS, "e", b"5"),
        ):
            producer.send(topic, key, raw)
        producer.flush()
        journal.stop()  # brings itself up to date
    size = path.stat().st_size
    with EmbeddedBroker() as broker:
        assert broker.incarnation
        settings = settings_of(broker)
        create_topics(settings)
        journal = Journal(path)
        assert journal.restore(settings) == 3
        expected = [(CONFIG.name, "c", b"3"), (CONNECTIONS.name, "p", b"2"), (DELIVERIES.name, "m", b"4")]
        assert everything(settings) == expected
        journal.follow(settings)
        journal.wait_ready(10)
        journal.stop()
        assert path.stat().st_size < size  # what was restored is not written down again
