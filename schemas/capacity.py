"""Capacity as limits in W, whatever protocol it came by (semantics 3 and 4)."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from schemas.facts import Fact, Value
from schemas.units import Direction, Instant, Phase


class LimitType(StrEnum):
    """What a forecast's capacity limits. OPTIMUM is kept and shown, it limits nothing."""

    IMPORT = "IMPORT"
    EXPORT = "EXPORT"
    FALLBACK_IMPORT = "FALLBACK_IMPORT"
    FALLBACK_EXPORT = "FALLBACK_EXPORT"
    OPTIMUM = "OPTIMUM"


class CapacityBlock(Value):
    """A limit for [start, end), with the words it was received in. None lifts what the same source said about that time."""

    start: Instant
    end: Instant
    limit_w: float | None
    phase: Phase
    received_capacity: float | None
    received_unit: str
    received_phase: str


class CapacityForecast(Value):
    """A forecast in neutral terms. `cause` is opaque here; `source_id` names the group (or operator) that speaks."""

    cause: str
    source_id: str
    scope_id: str
    type: LimitType
    received_at: Instant
    body_digest: str
    blocks: list[CapacityBlock]


class OperatorBlock(Value):
    """An operator's limit of mean power in W for [start, end); None lifts what an operator said about that time."""

    start: Instant
    end: Instant
    limit_w: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None
    phase: Phase = Phase.ALL

    @model_validator(mode="after")
    def _forwards(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end must be after start")
        return self


class EnvelopeCommand(Value):
    """An operator's own limit on a scope in one direction (semantics 3.3): the payload of a command of kind ENVELOPE.

    It goes the way forecasts go, and combines with them by the lower limit. `why` is for people.
    """

    scope_id: str
    direction: Direction
    blocks: list[OperatorBlock] = Field(min_length=1)
    why: str = ""


class PieceKind(StrEnum):
    """Why a limit holds: as forecast, as fallback, held from before, the safe floor, an operator's, or not known."""

    FORECAST = "FORECAST"
    FALLBACK = "FALLBACK"
    HELD = "HELD"
    SAFE = "SAFE"
    OPERATOR = "OPERATOR"
    UNKNOWN = "UNKNOWN"


class EnvelopePiece(Value):
    """The limits of [start, end). None means not known. `cause` and `kind` are those of the import limit where
    there is one, else of the export limit; each direction's own stand beside them."""

    start: Instant
    end: Instant
    import_limit_w: float | None = None
    export_limit_w: float | None = None
    phase: Phase = Phase.ALL
    cause: str | None = None
    kind: PieceKind = PieceKind.UNKNOWN
    import_cause: str | None = None
    import_kind: PieceKind = PieceKind.UNKNOWN
    export_cause: str | None = None
    export_kind: PieceKind = PieceKind.UNKNOWN


class OperatingEnvelope(Fact):
    """What a scope may import and export over time. From `effective_at` on it replaces every earlier revision;
    what was in force before `effective_at` stays as it was (semantics 3.4)."""

    scope_id: str
    revision: int
    effective_at: Instant
    pieces: list[EnvelopePiece]


class CircuitCapacity(Fact):
    """One change of a circuit's available capacity. None means no value is known yet.

    `kind` is that of the import value where there is one, else of the export value; each direction's own
    stands beside it. UNKNOWN flags a value that only stays because the limit is not known (semantics 3.3).
    """

    circuit_id: str
    scope_id: str
    available_import_w: float | None
    available_export_w: float | None
    previous_import_w: float | None = None
    previous_export_w: float | None = None
    effective_from: Instant
    cause: str | None = None
    kind: PieceKind
    import_kind: PieceKind = PieceKind.UNKNOWN
    export_kind: PieceKind = PieceKind.UNKNOWN
