"""Writer schemas as lists of steps for `sinks.column_kernel`: how a reading lies in bytes, by whom it was written."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from schemas.telemetry import Quality
from schemas.units import Phase
from sinks.codec import Writer
from sinks.column_kernel import ENUM, FIXED, INSTANT, LONG, NO_ENUM, NO_VALUE, STRING, VALUE, Layouts

VALUES = ("power_w", "import_wh", "export_wh", "stored_wh")
ENUMS: Mapping[str, tuple[str, ...]] = {"phase": tuple(Phase), "quality": tuple(Quality)}
"""The fields with symbols, and the symbols in the order of the columns' codes. The first is what a reading has without the field."""


class Step(NamedTuple):
    """What `sinks.column_kernel` does for a field; its columns there."""

    kind: int
    target: int = -1
    null: int = -1
    some: int = -1
    codes: tuple[int, ...] = ()
    size: int = 0


class Layout(NamedTuple):
    """How a writer's readings lie in bytes. `batched` says that a message is an array of them."""

    steps: tuple[Step, ...]
    batched: bool


_OVER = {"string": Step(STRING), "long": Step(LONG), "boolean": Step(FIXED, size=1), "double": Step(FIXED, size=8)}


def layout_of(writer: Writer) -> Layout | None:
    """The layout of a writer of flat measurements or of arrays of them; None if it must be read one by one.

    That is so wherever Avro's resolution would have to do more than leave out fields and put in defaults.
    """
    schema = json.loads(writer.text)
    batched = writer.record == "MeasurementBatch"
    if batched:
        if len(schema["fields"]) != 1:
            return None
        schema = schema["fields"][0]["type"]["items"]
    steps = [_step(field["name"], field["type"]) for field in schema["fields"]]
    names = {field["name"] for field in schema["fields"]}
    if None in steps or not {"asset_id", "measured_at"} <= names:
        return None
    absent = [Step(NO_VALUE, target) for target, name in enumerate(VALUES) if name not in names]
    absent += [Step(NO_ENUM, target, codes=(0,)) for target, name in enumerate(ENUMS) if name not in names]
    return Layout((*(step for step in steps if step), *absent), batched)


def _step(name: str, type_: Any) -> Step | None:
    """The step for a field; one that is no part of a reading any more is stepped over. None if there is none for it."""
    ours = name in ("asset_id", "measured_at", *VALUES, *ENUMS)
    match type_:
        case [_, _] if "null" in type_ and (name in VALUES or not ours):
            null = type_.index("null")
            step = _step(name, type_[1 - null])
            return step and step._replace(null=2 * null, some=2 * (1 - null))
        case "string" if name == "asset_id":
            return Step(STRING, 0)
        case {"type": "long", "logicalType": "timestamp-millis"} if name == "measured_at":
            return Step(INSTANT, 0)
        case "double" if name in VALUES:
            return Step(VALUE, VALUES.index(name))
        case {"type": "enum", "symbols": symbols} if name in ENUMS and len(symbols) < 64 and set(symbols) <= set(ENUMS[name]):
            return Step(ENUM, list(ENUMS).index(name), codes=tuple(map(ENUMS[name].index, symbols)))
    return None if ours else _OVER.get(type_["type"] if isinstance(type_, dict) else str(type_))


def table_of(layouts: Mapping[bytes, Layout]) -> Layouts:
    """Layouts by their writers' fingerprints, as the kernel wants them."""
    steps = [step for layout in layouts.values() for step in layout.steps]
    codes = [code for step in steps for code in step.codes]
    firsts = np.cumsum([0, *(len(step.codes) for step in steps)])
    rows = [
        (step.kind, step.target, step.null, step.some, first, step.size or len(step.codes))
        for step, first in zip(steps, firsts, strict=False)
    ]
    return Layouts(
        prints=np.frombuffer(b"".join(layouts), np.uint64),
        batched=np.array([layout.batched for layout in layouts.values()], np.bool_),
        first=np.cumsum([0, *(len(layout.steps) for layout in layouts.values())]).astype(np.uint64),
        steps=np.array(rows, np.int64),
        codes=np.array(codes, np.int8),
    )
