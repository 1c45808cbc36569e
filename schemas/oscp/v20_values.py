"""The enumerations of OSCP 2.0, spelled as on the wire; imported from `v20`."""

from enum import StrEnum


class Phase(StrEnum):
    """UNKNOWN: not known or irrelevant; ALL: the sum of phases 1 to 3."""

    UNKNOWN = "UNKNOWN"
    ONE = "ONE"
    TWO = "TWO"
    THREE = "THREE"
    ALL = "ALL"


class CapacityUnit(StrEnum):
    """Units of capacity and of instantaneous values."""

    A = "A"
    W = "W"
    KW = "KW"
    WH = "WH"
    KWH = "KWH"


class EnergyUnit(StrEnum):
    """Units of energy."""

    WH = "WH"
    KWH = "KWH"


class ForecastType(StrEnum):
    """What a forecast limits."""

    CONSUMPTION = "CONSUMPTION"
    GENERATION = "GENERATION"
    FALLBACK_CONSUMPTION = "FALLBACK_CONSUMPTION"
    FALLBACK_GENERATION = "FALLBACK_GENERATION"
    OPTIMUM = "OPTIMUM"


class FlowDirection(StrEnum):
    """Which register a value comes from."""

    NET = "NET"
    IMPORT = "IMPORT"
    EXPORT = "EXPORT"


class MeasurementConfiguration(StrEnum):
    """CONTINUOUS: cumulative; INTERMITTENT: since initial_measure_time."""

    CONTINUOUS = "CONTINUOUS"
    INTERMITTENT = "INTERMITTENT"


class AssetCategory(StrEnum):
    """What an asset is."""

    CHARGING = "CHARGING"
    CONSUMPTION = "CONSUMPTION"
    GENERATION = "GENERATION"
    STORAGE = "STORAGE"
