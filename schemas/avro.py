"""Avro schemas made from the models, which are the one source (contract 4).

Closed sets become enums, instants `timestamp-millis`, optional fields unions with `null`. Each schema
stands alone: a named type is written out where it is first met, and named after that.
"""

import json
import types
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from pydantic.fields import FieldInfo

from schemas.facts import Value
from schemas.topics import TOPICS

NAMESPACE = "derms"
SUFFIX = ".avsc"

_PLAIN: dict[Any, Any] = {
    str: "string",
    float: "double",
    int: "long",
    bool: "boolean",
    bytes: "bytes",
    datetime: {"type": "long", "logicalType": "timestamp-millis"},
    AwareDatetime: {"type": "long", "logicalType": "timestamp-millis"},
}


@cache
def records() -> dict[str, type[Value]]:
    """The models of every record on every topic, by name, in the order of the table of topics."""
    return {model.__name__: model for topic in TOPICS for model in topic.records}


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The Avro schema of a model; a field of a type that has no Avro counterpart here is a TypeError."""
    return _record(model, set())


def rendered() -> dict[str, str]:
    """The schema file of every record on every topic: file name -> text. `schemas/avsc/` holds exactly these."""
    return {f"{name}{SUFFIX}": json.dumps(schema_of(model), indent=2) + "\n" for name, model in records().items()}


def _record(model: type[BaseModel], known: set[str]) -> dict[str, Any]:
    known.add(model.__name__)
    schema: dict[str, Any] = {"type": "record", "name": model.__name__, "namespace": NAMESPACE}
    schema["fields"] = [_field(name, info, known) for name, info in model.model_fields.items()]
    return schema


def _field(name: str, info: FieldInfo, known: set[str]) -> dict[str, Any]:
    branches = _branches(info.annotation)
    optional = type(None) in branches
    kinds = [branch for branch in branches if branch is not type(None)]
    if len(kinds) != 1:
        raise TypeError(f"{name}: one type, or one type and None, can be written as Avro; got {info.annotation}")
    kind = _type(kinds[0], known)
    default = None if info.is_required() else info.get_default(call_default_factory=True, validated_data={})
    if not optional:
        return {"name": name, "type": kind} if info.is_required() else {"name": name, "type": kind, "default": _default(default)}
    # Avro wants a union's default to be of its first branch.
    if default is None:
        return {"name": name, "type": ["null", kind], "default": None}
    return {"name": name, "type": [kind, "null"], "default": _default(default)}


def _bare(annotation: Any) -> Any:
    return _bare(get_args(annotation)[0]) if get_origin(annotation) is Annotated else annotation


def _branches(annotation: Any) -> list[Any]:
    bare = _bare(annotation)
    if get_origin(bare) in (Union, types.UnionType):
        return [_bare(branch) for branch in get_args(bare)]
    return [bare]


def _type(kind: Any, known: set[str]) -> Any:
    if kind in _PLAIN:
        return _PLAIN[kind]
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return {"type": "array", "items": _type(_bare(item), known)}
    if isinstance(kind, type) and issubclass(kind, (StrEnum, BaseModel)):
        if kind.__name__ in known:
            return f"{NAMESPACE}.{kind.__name__}"
        return _enum(kind, known) if issubclass(kind, StrEnum) else _record(kind, known)
    raise TypeError(f"{kind} has no Avro counterpart here")


def _enum(kind: type[StrEnum], known: set[str]) -> dict[str, Any]:
    known.add(kind.__name__)
    return {"type": "enum", "name": kind.__name__, "namespace": NAMESPACE, "symbols": [member.value for member in kind]}


def _default(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if value == [] or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"{value!r} cannot be an Avro default here")
