"""What a simulated Capacity Provider is told: where the Flexibility Provider is, what to ask of it, what to send when."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.simulator_switches import Switches
from schemas.clock import ScaledClock
from schemas.intervals import QUARTER
from schemas.oscp.v20 import Action, CapacityUnit, ForecastedBlock, ForecastType, MeasurementConfiguration, Phase
from schemas.units import Instant


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SegmentLink(StrEnum):
    """What later segments name in X-Correlation-ID: the first one's request id, that of the one before, or nothing."""

    FIRST = "FIRST"
    PREVIOUS = "PREVIOUS"
    NONE = "NONE"


class Segments(_Part):
    """A forecast in `count` parts, sent in `order` (indices from 1; None: as they come). One left out of it is never sent."""

    count: int = Field(ge=2, le=100)
    link: SegmentLink = SegmentLink.FIRST
    order: list[int] | None = None

    @model_validator(mode="after")
    def _indices(self) -> Self:
        if any(not 1 <= index <= self.count for index in self.order or []):
            raise ValueError("order: indices are from 1 to count")
        return self


class PlannedForecast(_Part):
    """An UpdateGroupCapacityForecast to send when the clock reads `at`; None: as soon as the handshake is acknowledged."""

    type: ForecastType = ForecastType.CONSUMPTION
    blocks: list[ForecastedBlock] = Field(min_length=1)
    at: Instant | None = None
    segments: Segments | None = None


class SimulatedOAuth(_Part):
    """Who may fetch tokens at our `/oauth/token`, and how long they live (wall seconds). With it only Bearer is taken."""

    client_id: str
    client_secret: str = Field(repr=False)
    expires_in_s: int = Field(default=3600, ge=1)


class Starts(StrEnum):
    """Who sends the first Register: we (CP), the Flexibility Provider (FP, with our `initial_token`), or both at once."""

    CP = "CP"
    FP = "FP"
    BOTH = "BOTH"


class BaseUrlForm(StrEnum):
    """How it writes its own base URL: whole, with a slash behind, or as a path on an origin already known."""

    ABSOLUTE = "ABSOLUTE"
    SLASH = "SLASH"
    RELATIVE = "RELATIVE"


class Mistake(StrEnum):
    """A forecast that is wrong; each has to be refused with the status in `REFUSED`."""

    WRONG_GROUP = "WRONG_GROUP"
    TOO_LARGE = "TOO_LARGE"
    CONTENT_TYPE = "CONTENT_TYPE"
    NO_JSON = "NO_JSON"
    BACKWARDS = "BACKWARDS"


REFUSED = {Mistake.WRONG_GROUP: 404, Mistake.TOO_LARGE: 413, Mistake.CONTENT_TYPE: 415, Mistake.NO_JSON: 400, Mistake.BACKWARDS: 400}


class SimulatorConfig(_Part):
    """The whole of it. `heartbeat_interval_s` is in clock seconds; None asks for no heartbeats.

    `token_a` is the Flexibility Provider's registration token, for where we start; `initial_token` ours, for where it does.
    `handshakes`: whether we shake hands by ourselves. `mistakes` are sent after that, before the forecasts. `paths` are served
    in place of the usual ones, as `{"HandshakeAcknowledge": "/handshake_acknowledgment"}`. Measurements of `more_groups` are taken
    beside those of `group_id`. `public_url` is where we say we are reached, if something stands in front of us.

    `origin`, `started` and `speed` are the Flexibility Provider's clock (contract 1); without an origin it
    is the machine's. `required_headers` must come with every request to us, token requests included.
    """

    fp_base_url: str
    token_a: str | None = Field(default=None, repr=False, min_length=1)
    initial_token: str | None = Field(default=None, repr=False, min_length=1)
    starts: Starts = Starts.CP
    group_id: str
    more_groups: list[str] = []
    public_url: str | None = None
    origin: Instant | None = None
    started: Instant | None = None
    speed: float = Field(default=1.0, gt=0)
    heartbeat_interval_s: float | None = Field(default=300, ge=1)
    measurement_configuration: list[MeasurementConfiguration] = [MeasurementConfiguration.INTERMITTENT]
    handshakes: bool = True
    mistakes: list[Mistake] = []
    forecasts: list[PlannedForecast] = []
    base_url_form: BaseUrlForm = BaseUrlForm.ABSOLUTE
    paths: dict[Action, str] = {}
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

    @model_validator(mode="after")
    def _tokens_of_who_starts(self) -> Self:
        if self.token_a is None and self.starts is not Starts.FP:
            raise ValueError("token_a: is needed where we start")
        if self.initial_token is None and self.starts is not Starts.CP:
            raise ValueError("initial_token: is needed where the Flexibility Provider starts")
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
