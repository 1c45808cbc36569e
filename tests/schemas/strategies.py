"""Hypothesis strategies for the models, from their annotations and constraints."""

import types
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Union, get_args, get_origin

import annotated_types
from hypothesis import settings
from hypothesis import strategies as st
from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from schemas.oscp.v20 import AssetMeasurement, EnergyMeasurement, ForecastedBlock, RequiredBehaviour, VersionUrl, Wire
from schemas.telemetry import Measurement
from schemas.units import from_ms

law = settings(max_examples=40, deadline=None, derandomize=True)
"""How laws are tried: the same examples on every run, however slow the machine."""

FIRST_MS, LAST_MS = -62_135_596_800_000, 253_402_300_799_999  # the years 1 and 9999
instants = st.integers(FIRST_MS, LAST_MS).map(from_ms)
numbers = st.floats(allow_nan=False)
texts = st.text(st.characters(codec="utf-8"), max_size=20)


def models(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Any value of a model, as an instance."""
    plain = st.fixed_dictionaries({name: _overridden(model, name, info) for name, info in model.model_fields.items()})
    return plain.map(lambda fields: _repaired(model, fields)).map(model.model_validate)


def _overridden(model: type[BaseModel], name: str, info: FieldInfo) -> st.SearchStrategy[Any]:
    match model, name:
        case (_, "measurement_configuration") if model is RequiredBehaviour:
            return st.lists(st.sampled_from(["CONTINUOUS", "INTERMITTENT"]), unique=True)
        case (_, "base_url") if model is VersionUrl:
            return st.sampled_from(["https://cp.example/oscp/cp/2.0", "http://127.0.0.1:8080", "/oscp/cp"])
        case (_, "energy_type") if model is EnergyMeasurement:
            return st.sampled_from([None, "FLEXIBLE", "NONFLEXIBLE", "TOTAL"])
    return _of(info.annotation, info.metadata)


def _repaired(model: type[BaseModel], fields: dict[str, Any]) -> dict[str, Any]:
    """Make whole what a model demands between its fields."""
    if model is Measurement and all(fields[name] is None for name in ("power_w", "import_wh", "export_wh", "stored_wh")):
        fields["power_w"] = 0.0
    if model is ForecastedBlock and fields["end_time"] <= fields["start_time"]:
        start = min(fields["start_time"], datetime(9999, 1, 1, tzinfo=UTC))
        fields |= {"start_time": start, "end_time": start + timedelta(milliseconds=1)}
    if model is AssetMeasurement and fields["energy_measurement"] is None and fields["instantaneous_measurement"] is None:
        fields["instantaneous_measurement"] = {"value": 1, "phase": "ALL", "unit": "W", "measure_time": "2026-10-20T10:00:00Z"}
    return {name: value for name, value in fields.items() if value is not None or not issubclass(model, Wire)}


def _of(kind: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *more = get_args(kind)
        return _of(inner, [*metadata, *(part for each in more for part in (each.metadata if isinstance(each, FieldInfo) else [each]))])
    if origin in (Union, types.UnionType):
        return st.one_of(*(st.none() if branch is type(None) else _of(branch, metadata) for branch in get_args(kind)))
    at_least = next((each.min_length for each in metadata if isinstance(each, annotated_types.MinLen)), 0)
    if origin is list:
        (item,) = get_args(kind)
        return st.lists(_of(item, []), min_size=at_least, max_size=at_least + 2)
    if kind in (datetime, AwareDatetime):
        return instants
    if kind is float:
        lowest = next((each.ge for each in metadata if isinstance(each, annotated_types.Ge)), None)
        finite = any(getattr(each, "allow_inf_nan", True) is False for each in metadata)
        return st.floats(min_value=lowest, allow_nan=False, allow_infinity=not finite)
    if kind is str:
        return st.text(st.characters(codec="utf-8"), min_size=at_least, max_size=at_least + 15)
    plain = {int: st.integers(-(2**63), 2**63 - 1), bool: st.booleans(), bytes: st.binary(max_size=20)}
    if kind in plain:
        return plain[kind]
    if issubclass(kind, StrEnum):
        return st.sampled_from(list(kind))
    return models(kind)
