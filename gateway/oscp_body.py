"""A request's body: read within its limits, parsed, checked against its message's schema and sense (semantics 6.6, 6.7)."""

import asyncio
from datetime import datetime, tzinfo
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from gateway.oscp_refusals import Refusal, field_errors, invalid
from gateway.problems import FieldError
from pipelines.rules.heartbeats import NAIVE_FORMAT
from schemas.oscp.v20 import MODELS, MOST_ENTRIES, Action, Wire
from schemas.units import rfc3339

MAX_BODY = 1 << 20
READ_WITHIN_S = 30.0
"""A body that takes longer is given up: a slow sender must not hold a place for ever."""


def demand_json(request: Request) -> None:
    """Raises Refusal 415 unless the body is announced as plain JSON."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "").partition("charset=")[2].partition(";")[0]
    encoded = request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    if kind.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8", "us-ascii") or encoded:
        raise Refusal(415, "send the body as Content-Type: application/json, in UTF-8 and not compressed")


async def read_body(request: Request, limit: int = MAX_BODY) -> bytes:
    """The body's bytes. Raises Refusal 413 as soon as they are more than `limit`, 408 if they do not come."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    taken = bytearray()
    try:
        async with asyncio.timeout(READ_WITHIN_S):
            async for chunk in request.stream():
                taken += chunk
                if len(taken) > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {READ_WITHIN_S:g} s") from None
    except ClientDisconnect:
        raise Refusal(400, "the connection ended before the body did") from None
    return bytes(taken)


def parsed(raw: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal 400; NaN, infinities, bad UTF-8 and nesting without end are no JSON here."""
    try:
        found = from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise invalid("JSON text", [FieldError(path="", message=str(error))]) from None
    if not isinstance(found, dict):
        raise invalid("message", [FieldError(path="", message="the body must be a JSON object")])
    return found


def checked(action: Action, body: dict[str, Any]) -> Wire:
    """The body as its message. Raises Refusal 400 that names each field and the rule it breaks."""
    behaviour = body.get("required_behaviour")
    lists = {name: body.get(name) for name in ("forecasted_blocks", "version_url", "measurement_configuration")}
    if isinstance(behaviour, dict):
        lists["required_behaviour.measurement_configuration"] = behaviour.get("measurement_configuration")
    for name, entries in lists.items():
        if isinstance(entries, list) and len(entries) > MOST_ENTRIES:
            raise invalid(action, [FieldError(path=name, message=f"more than {MOST_ENTRIES} entries")])
    try:
        return MODELS[action].model_validate(body)
    except ValidationError as error:
        raise invalid(action, field_errors(error)) from None
    except RecursionError:
        raise invalid(action, [FieldError(path="", message="nested too deeply")]) from None


def completed(body: dict[str, Any]) -> dict[str, Any]:
    """An acknowledgement with `measurement_configuration` added: two of the known peers leave it out (oscp-2.0 2.3)."""
    behaviour = body.get("required_behaviour")
    return {**body, "required_behaviour": {"measurement_configuration": [], **behaviour}} if isinstance(behaviour, dict) else body


def zoned(body: dict[str, Any], local_zone: tzinfo | None) -> dict[str, Any]:
    """A heartbeat whose naive local time (peers with NAIVE_HEARTBEAT_TIME) has its zone; `local_zone` None is this machine's."""
    try:
        naive = datetime.strptime(str(body.get("offline_mode_at")), NAIVE_FORMAT)  # noqa: DTZ007 - naive is what it is
        local = naive.astimezone() if local_zone is None else naive.replace(tzinfo=local_zone)
        return {**body, "offline_mode_at": rfc3339(local)}
    except (ValueError, OverflowError):
        return body


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body is larger than {limit} bytes")
