"""OSCP 2.0 messages, named and spelled as on the wire (reference: oscp-2.0 notes, section 2).

Unknown properties are accepted; `null` is not a value of anything. What the OCA schemas let through and
meaning forbids is refused here: end not after start, heartbeat interval below 1, non-finite numbers, times
without a zone, an empty token or message, a base_url that is no URL, an asset without any measurement.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StrictStr, field_validator, model_validator

from schemas.oscp.v20_values import AssetCategory as AssetCategory
from schemas.oscp.v20_values import CapacityUnit as CapacityUnit
from schemas.oscp.v20_values import EnergyUnit as EnergyUnit
from schemas.oscp.v20_values import FlowDirection as FlowDirection
from schemas.oscp.v20_values import ForecastType as ForecastType
from schemas.oscp.v20_values import MeasurementConfiguration as MeasurementConfiguration
from schemas.oscp.v20_values import Phase as Phase
from schemas.oscp.wire import BaseUrl, Finite, Instant
from schemas.oscp.wire import Wire as Wire

VERSION = "2.0"
BASE_PATH = "/oscp/fp/2.0"


class Action(StrEnum):
    """The messages by their names; `PATHS` has where they go."""

    REGISTER = "Register"
    HANDSHAKE = "Handshake"
    HANDSHAKE_ACKNOWLEDGE = "HandshakeAcknowledge"
    HEARTBEAT = "Heartbeat"
    UPDATE_GROUP_CAPACITY_FORECAST = "UpdateGroupCapacityForecast"
    ADJUST_GROUP_CAPACITY_FORECAST = "AdjustGroupCapacityForecast"
    GROUP_CAPACITY_COMPLIANCE_ERROR = "GroupCapacityComplianceError"
    UPDATE_GROUP_MEASUREMENTS = "UpdateGroupMeasurements"
    UPDATE_ASSET_MEASUREMENTS = "UpdateAssetMeasurements"


PATHS: dict[str, str] = {action: f"/{action.name.lower()}" for action in Action}
"""Where each message goes, behind the base URL: `/update_group_capacity_forecast` and the like."""


ARRAYS: dict[str, str] = {
    Action.UPDATE_GROUP_CAPACITY_FORECAST: "forecasted_blocks",
    Action.ADJUST_GROUP_CAPACITY_FORECAST: "forecasted_blocks",
    Action.UPDATE_GROUP_MEASUREMENTS: "measurements",
    Action.UPDATE_ASSET_MEASUREMENTS: "measurements",
}
"""The messages that may come in segments, and the array in which each holds its share (semantics 6.8)."""
MOST_SEGMENTS = 100
"""A message in more segments than this is refused."""
MOST_ENTRIES = 10_000
"""So many entries an array may have, also one that is joined from segments."""


class VersionUrl(Wire):
    """One protocol version a party speaks, and where."""

    version: StrictStr
    base_url: BaseUrl


class Register(Wire):
    """Credentials and endpoints, exchanged both ways."""

    token: StrictStr = Field(min_length=1)
    version_url: list[VersionUrl] = Field(min_length=1)


class RequiredBehaviour(Wire):
    """What the sender wants of the receiver."""

    heartbeat_interval: Annotated[float, Field(ge=1, allow_inf_nan=False, strict=True)] | None = None
    measurement_configuration: list[MeasurementConfiguration]

    @field_validator("measurement_configuration")
    @classmethod
    def _unique(cls, value: list[MeasurementConfiguration]) -> list[MeasurementConfiguration]:
        if len(set(value)) != len(value):
            raise ValueError("each measurement configuration at most once")
        return value


class Handshake(Wire):
    """`required_behaviour`, nested; the flat form some peers send is read as well. Empty: nothing required."""

    required_behaviour: RequiredBehaviour | None = None

    @model_validator(mode="before")
    @classmethod
    def _flat_form(cls, value: object) -> object:
        flat = ("heartbeat_interval", "measurement_configuration")
        if isinstance(value, dict) and "required_behaviour" not in value and any(name in value for name in flat):
            found = {name: value[name] for name in flat if name in value}
            found.setdefault("measurement_configuration", [])
            return {"required_behaviour": found}
        return value


class HandshakeAcknowledge(Handshake):
    """The answer to a handshake, in the same shape."""


class Heartbeat(Wire):
    """Until when the sender vouches for itself."""

    offline_mode_at: Instant


class ForecastedBlock(Wire):
    """A capacity for [start_time, end_time)."""

    capacity: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)]
    phase: Phase
    unit: CapacityUnit
    start_time: Instant
    end_time: Instant

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.end_time <= self.start_time:
            raise ValueError("end_time must be after start_time")
        return self


class UpdateGroupCapacityForecast(Wire):
    """What a group may use."""

    group_id: StrictStr
    type: ForecastType
    forecasted_blocks: list[ForecastedBlock] = Field(min_length=1)


class AdjustGroupCapacityForecast(UpdateGroupCapacityForecast):
    """What a group would like to use."""


class GroupCapacityComplianceError(Wire):
    """That a forecast cannot be, or was not, met; the forecast is named by X-Correlation-ID."""

    message: StrictStr = Field(min_length=1)
    forecasted_blocks: Annotated[list[ForecastedBlock], Field(min_length=1)] | None = None


class EnergyMeasurement(Wire):
    """Energy read from a register, or since `initial_measure_time`."""

    value: Finite
    phase: Phase
    unit: EnergyUnit
    direction: FlowDirection
    energy_type: StrictStr | None = Field(default=None, pattern="^(FLEXIBLE|NONFLEXIBLE|TOTAL)$")
    measure_time: Instant
    initial_measure_time: Instant | None = None


class InstantaneousMeasurement(Wire):
    """A momentary value; in WH or KWH a state of charge."""

    value: Finite
    phase: Phase
    unit: CapacityUnit
    measure_time: Instant


class AssetMeasurement(Wire):
    """One asset's energy and momentary value."""

    asset_id: StrictStr
    asset_category: AssetCategory
    energy_measurement: EnergyMeasurement | None = None
    instantaneous_measurement: InstantaneousMeasurement | None = None

    @model_validator(mode="after")
    def _something_measured(self) -> Self:
        if self.energy_measurement is None and self.instantaneous_measurement is None:
            raise ValueError("an asset needs an energy_measurement, an instantaneous_measurement or both")
        return self


class UpdateGroupMeasurements(Wire):
    """A group's energy."""

    group_id: StrictStr
    measurements: list[EnergyMeasurement] = Field(min_length=1)


class UpdateAssetMeasurements(Wire):
    """Assets' energies."""

    group_id: StrictStr
    measurements: list[AssetMeasurement] = Field(min_length=1)


MODELS: dict[str, type[Wire]] = {
    Action.REGISTER: Register,
    Action.HANDSHAKE: Handshake,
    Action.HANDSHAKE_ACKNOWLEDGE: HandshakeAcknowledge,
    Action.HEARTBEAT: Heartbeat,
    Action.UPDATE_GROUP_CAPACITY_FORECAST: UpdateGroupCapacityForecast,
    Action.ADJUST_GROUP_CAPACITY_FORECAST: AdjustGroupCapacityForecast,
    Action.GROUP_CAPACITY_COMPLIANCE_ERROR: GroupCapacityComplianceError,
    Action.UPDATE_GROUP_MEASUREMENTS: UpdateGroupMeasurements,
    Action.UPDATE_ASSET_MEASUREMENTS: UpdateAssetMeasurements,
}
