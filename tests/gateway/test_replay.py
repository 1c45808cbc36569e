import gzip
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.replay import BadRecording, readings, replay
from schemas.clock import FrozenClock
from tests.builders import T0


class FakeProducer:
    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def send(self, topic: Any, key: str, value: Any) -> None:
        self.sent.append((key, value.measured_at))

    def flush(self) -> None:
        pass


CSV = "asset_id,measured_at,power_w,import_wh,export_wh\nb,2026-10-20T10:01:00Z,5,,\na,2026-10-20T10:00:00Z,,100,\n"


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_readings_of_a_file(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "readings"
    path.write_bytes(pack(CSV))
    first, second = readings(path)
    assert (first.asset_id, first.power_w, first.import_wh) == ("b", 5.0, None)
    assert (second.asset_id, second.power_w, second.import_wh) == ("a", None, 100.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("asset,when\n", "no column 'asset_id'"),
        ("asset_id,measured_at,power_w\na,yesterday,5\n", "line 2, measured_at"),
        ("asset_id,measured_at,power_w\na,2026-10-20T10:00:00,5\n", "line 2, measured_at"),
        ("asset_id,measured_at,power_w\na,2026-10-20T10:00:00Z,\n", "line 2, row: Value error, a measurement needs"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(text)
    with pytest.raises(BadRecording, match=words):
        readings(path)


def test_the_past_goes_at_once_in_order_of_time(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(CSV)

    class Past(FrozenClock):
        def wall_at(self, instant: Any) -> Any:
            return instant - timedelta(days=3650)

    producer: Any = FakeProducer()
    assert replay(readings(path), producer, Past(T0), stop=threading.Event()) == 2
    assert [key for key, _ in producer.sent] == ["a", "b"]


def test_a_replay_ends_when_it_is_told_to(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text(CSV)
    stop = threading.Event()
    stop.set()
    producer: Any = FakeProducer()
    assert replay(readings(path), producer, FrozenClock(T0), stop=stop) == 0
