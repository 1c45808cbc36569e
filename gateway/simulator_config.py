"""What a simulated Capacity Provider is told: where the Flexibility Provider is, what to ask of it, what to send when."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.clock import ScaledClock
from schemas.intervals import QUARTER
from schemas.oscp.v20 import Action, CapacityUnit, ForecastedBlock, ForecastType, MeasurementConfiguration, Phase
from schemas.units import Instant


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlannedForecast(_Part):
    """An UpdateGroupCapacityForecast to send when the clock reads `at`; None: as soon as the handshake is acknowledged."""

    type: ForecastType = ForecastType.CONSUMPTION
    blocks: list[ForecastedBlock] = Field(min_length=1)
    at: Instant | None = None


class SimulatedOAuth(_Part):
    """Who may fetch tokens at our `/oauth/token`, and how long they live (wall seconds). With it only Bearer is taken."""

    client_id: str
    client_secret: str = Field(repr=False)
    expires_in_s: int = Field(default=3600, ge=1)


class Switches(BaseModel):
    """Misbehaviour, each switch on for the messages of `actions` only (empty: all).

    The next `fail_with_500` messages are answered 500, then the next `too_many` 429 with Retry-After.
    """

    model_config = ConfigDict(extra="forbid")

    fail_with_500: int = Field(default=0, ge=0)
    too_many: int = Field(default=0, ge=0)
    retry_after_s: int = Field(default=1, ge=0)
    actions: list[Action] = []

    def concerns(self, action: Action) -> bool:
        """Whether messages of `action` are misbehaved at."""
        return not self.actions or action in self.actions


class SimulatorConfig(_Part):
    """The whole of it. `heartbeat_interval_s` is in clock seconds; None asks for no heartbeats.

    `origin`, `started` and `speed` are the Flexibility Provider's clock (contract 1); without an origin it
    is the machine's. `required_headers` must come with every request to us, token requests included.
    """

    fp_base_url: str
    token_a: str = Field(repr=False, min_length=1)
    group_id: str
    origin: Instant | None = None
    started: Instant | None = None
    speed: float = Field(default=1.0, gt=0)
    heartbeat_interval_s: float | None = Field(default=300, ge=1)
    measurement_configuration: list[MeasurementConfiguration] = [MeasurementConfiguration.INTERMITTENT]
    forecasts: list[PlannedForecast] = []
    host: str = "127.0.0.1"
    port: int = Field(default=0, ge=0, le=65535)
    oauth: SimulatedOAuth | None = None
    required_headers: dict[str, str] = {}
    switches: Switches = Switches()

    @model_validator(mode="after")
    def _whole_clock(self) -> Self:
        if (self.origin is None) != (self.started is None):
            raise ValueError("origin and started go together")
        return self

    def clock(self) -> ScaledClock:
        """The clock shared with the Flexibility Provider."""
        started = self.started or datetime.now(UTC)
        return ScaledClock(origin=self.origin or started, started=started, speed=self.speed)


def blocks(start: datetime, capacities_kw: Iterable[float], length: timedelta = QUARTER, phase: Phase = Phase.ALL) -> list[ForecastedBlock]:
    """Contiguous blocks in kW from `start`, one for each capacity."""
    return [
        ForecastedBlock(
            capacity=capacity, phase=phase, unit=CapacityUnit.KW, start_time=start + number * length, end_time=start + (number + 1) * length
        )
        for number, capacity in enumerate(capacities_kw)
    ]


def day_ahead(
    start: datetime, capacity_kw: float, kind: ForecastType = ForecastType.CONSUMPTION, quarters: int = 96, at: datetime | None = None
) -> PlannedForecast:
    """A day of quarter-hour blocks of one capacity, from `start`."""
    return PlannedForecast(type=kind, blocks=blocks(start, [capacity_kw] * quarters), at=at)


def emergency(at: datetime, until: datetime, capacity_kw: float, kind: ForecastType = ForecastType.CONSUMPTION) -> PlannedForecast:
    """One block [at, until), sent when it begins: what a grid company sends when something is wrong."""
    return PlannedForecast(type=kind, blocks=blocks(at, [capacity_kw], length=until - at), at=at)
