"""What messages of any OSCP version are made of: text with zones, finite numbers, no nulls."""

import re
from datetime import datetime
from functools import lru_cache
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictStr,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from schemas.units import Instant as AnyInstant

_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII)
_USUAL = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{3})?Z", re.ASCII)
_LONGEST = len("2026-10-20T10:00:00.000Z")
_URL = re.compile(r"(https?://[^/\s?#]|/)[^\s?#]*", re.IGNORECASE)


NAIVE_FORMAT = "%Y-%m-%d %H:%M:%S"
"""What peers with the switch NAIVE_HEARTBEAT_TIME write and read: local time without a zone."""


def _zoned(value: object) -> object:
    if isinstance(value, datetime) or (isinstance(value, str) and _TIME.fullmatch(value)):
        return value
    raise ValueError("must be RFC 3339 text with a zone, such as 2026-10-20T10:00:00.000Z")


@lru_cache(1024)
def _read(text: str) -> datetime | None:
    """A time written as usual; the same few stand in all entries of a message."""
    try:
        return datetime.fromisoformat(text) if _USUAL.fullmatch(text) else None
    except ValueError:
        return None


def _usual(value: object, otherwise: ValidatorFunctionWrapHandler) -> object:
    """Times as nearly all peers write them, read at a tenth of the cost: a forecast of a day has 192."""
    found = _read(value) if isinstance(value, str) and len(value) <= _LONGEST else None
    return otherwise(value) if found is None else found  # which says what is wrong


Instant = Annotated[AnyInstant, BeforeValidator(_zoned), WrapValidator(_usual)]
"""An instant as text: read liberally, but never without a zone and never as a number (oscp-2.0 2.10)."""


def _url(value: str) -> str:
    if not _URL.fullmatch(value):
        raise ValueError("must be an absolute http(s) URL, or a path, without query or fragment")
    return value


BaseUrl = Annotated[StrictStr, AfterValidator(_url)]
"""Where a party's endpoints are: absolute, or a path on an origin already known (semantics 6.3)."""

Finite = Annotated[float, Field(allow_inf_nan=False, strict=True)]
"""A JSON number; neither text nor a truth value."""


class Wire(BaseModel):
    """A message or part of one; unknown properties are accepted and ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _nulls_refused(cls, value: object) -> object:
        if isinstance(value, dict) and None in value.values():
            for name in cls.model_fields:
                if name in value and value[name] is None:
                    raise ValueError(f"{name}: null is not allowed; leave the property out instead")
        return value

    def wire(self) -> str:
        """The JSON text of the message, absent properties left out."""
        return self.model_dump_json(exclude_none=True)
