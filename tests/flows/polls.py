"""Polls made of measurements, for tests of the telemetry flow."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from pipelines.records import UNSAID, Appended, Mark, Poll, Run
from schemas.telemetry import Measurement, MeasurementBatch
from schemas.units import to_ms
from sinks.codec import encode
from tests.builders import T0

MINUTE = timedelta(minutes=1)


def reading(asset_id: str, minutes: float, **values: Any) -> Measurement:
    """A measurement `minutes` after T0."""
    return Measurement(asset_id=asset_id, measured_at=T0 + minutes * MINUTE, **values)


class Topic:
    """Hands out polls with rising offsets, as a source would."""

    def __init__(self, partitions: int = 2) -> None:
        self.partitions = tuple(range(partitions))
        self._offsets = dict.fromkeys(self.partitions, 0)

    def poll(
        self,
        now: datetime,
        *runs: Iterable[Measurement | MeasurementBatch | bytes],
        marks: Sequence[Mark] = (),
        appended: datetime | None = None,
    ) -> Poll:
        """A poll at the clock's `now` with one run for each partition, in order; a run of bytes is taken as it is.

        `appended` is what the clock read when the broker appended all of it, where the broker says so.
        """
        clock = UNSAID if appended is None else Appended([0], [to_ms(appended)])
        payloads: list[bytes] = []
        made: list[Run] = []
        for partition, run in zip(self.partitions, runs, strict=False):
            raw = [value if isinstance(value, bytes) else encode(value) for value in run]
            first = self._offsets[partition]
            self._offsets[partition] += len(raw)
            if raw:
                made.append(Run(partition, len(payloads), len(raw), range(first, first + len(raw)), clock))
            payloads += raw
        return Poll(payloads, tuple(made), tuple(marks), self.partitions, now)

    def silence(self, since: datetime, now: datetime) -> Poll:
        """A poll that says all partitions have been silent since then."""
        return self.poll(now, marks=[Mark(partition, since, now) for partition in self.partitions])
