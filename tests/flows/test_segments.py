"""Closed quarters beside the recovery store: written through, named, removed late; a disk that is full, a file that is gone."""

from pathlib import Path

import pytest

from pipelines.segments import SNAPSHOTS, Segments
from sinks.errors import Misconfigured, Unavailable


def files(directory: Path) -> set[str]:
    return {path.stem for path in directory.iterdir()}


def test_a_file_outlives_the_snapshots_that_may_still_be_gone_back_to(tmp_path: Path) -> None:
    segments = Segments(tmp_path / "closed")
    segments.put("3-a", b"one")
    segments.put("3-b", b"two")
    segments.put("30-c", b"another shard's")
    for _ in range(SNAPSHOTS - 1):
        segments.name(3, ["3-a", "3-b"])
    for _ in range(SNAPSHOTS - 1):
        segments.name(3, ["3-b"])
        assert files(tmp_path / "closed") == {"3-a", "3-b", "30-c"}
    segments.name(3, ["3-b"])
    assert files(tmp_path / "closed") == {"3-b", "30-c"}
    assert segments.get("3-b") == b"two"


def test_what_a_run_before_left_goes_when_no_snapshot_names_it(tmp_path: Path) -> None:
    Segments(tmp_path).put("0-old", b"")
    later = Segments(tmp_path)
    for _ in range(SNAPSHOTS):
        assert files(tmp_path) == {"0-old"}
        later.name(0, [])
    assert files(tmp_path) == set()


def test_a_disk_that_does_not_take_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "closed").write_text("in the way")
    with pytest.raises(Unavailable, match="state of the telemetry flow cannot be stored"):
        Segments(tmp_path / "closed").put("0-a", b"x")


def test_a_file_that_is_gone_stops_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="move the store away"):
        Segments(tmp_path).get("0-a")
