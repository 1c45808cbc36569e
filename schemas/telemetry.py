"""Readings and what a quarter hour of them amounts to (contract 4, semantics 1)."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import FailFast, model_validator

from schemas.facts import Fact, Value
from schemas.units import Instant, Phase


class Quality(StrEnum):
    """How far a reading may be trusted: BAD ones are left out, ESTIMATED ones count and are flagged."""

    GOOD = "GOOD"
    ESTIMATED = "ESTIMATED"
    BAD = "BAD"


class Measurement(Value):
    """One reading of one asset at one instant. Power is signed (+ import), registers are cumulative."""

    asset_id: str
    measured_at: Instant
    power_w: float | None = None
    import_wh: float | None = None
    export_wh: float | None = None
    stored_wh: float | None = None
    phase: Phase = Phase.ALL
    quality: Quality = Quality.GOOD

    @model_validator(mode="after")
    def _something_measured(self) -> Self:
        if self.power_w is None and self.import_wh is None and self.export_wh is None and self.stored_wh is None:
            raise ValueError("a measurement needs at least one of power_w, import_wh, export_wh, stored_wh")
        return self


class MeasurementBatch(Value):
    """Several readings in one message."""

    measurements: Annotated[list[Measurement], FailFast()]
    """Validation stops at the first wrong one: the words for a million of them would cost seconds and half a gigabyte."""


class Level(StrEnum):
    """Whose energy a quarter-hour row states."""

    ASSET = "ASSET"
    GROUP = "GROUP"


class Method(StrEnum):
    """Which way a row's energy came (semantics 1.3, 2)."""

    REGISTER = "REGISTER"
    POWER = "POWER"
    METER = "METER"
    SUM = "SUM"


class Origin(StrEnum):
    """Who wrote a quarter-hour row: the running flow, a repair (semantics 1.10), or a load of data from before the system's time.

    Rows of a backfill are kept and shown; nothing is reported or judged by them.
    """

    LIVE = "LIVE"
    REPAIR = "REPAIR"
    BACKFILL = "BACKFILL"


class QuarterHour(Fact):
    """What one quarter hour of one asset (and phase) or group amounts to.

    Key: level, id, phase, start; the highest `revision` holds. `id` of a group row is the `group_id`.
    A provisional row has `revision` 0 and is replaced by whatever follows.
    """

    level: Level
    id: str
    scope_id: str | None = None
    phase: Phase = Phase.ALL
    start: Instant
    import_wh: float
    export_wh: float
    net_wh: float
    mean_w: float
    min_w: float | None = None
    max_w: float | None = None
    stored_wh: float | None = None
    import_register_wh: float | None = None
    export_register_wh: float | None = None
    samples: int
    coverage: float
    method: Method
    missing_members: int = 0
    estimated: bool = False
    reset: bool = False
    revision: int
    provisional: bool = False
    last_minute_w: float | None = None
    origin: Origin = Origin.LIVE


CONTENT_EXCLUDES = frozenset({"event_id", "at", "cause_id", "revision", "origin"})
"""A row's content is every field but these (semantics 1.11): what it says, not how it came."""


class LateMeasurement(Fact):
    """A reading that came after its quarter's correction horizon (semantics 1.10)."""

    measurement: Measurement
    watermark: Instant
    partition: int
    offset: int
