"""Reading JSON bodies of the operations API: strictly, naming the field and the rule, and saying in OpenAPI what is taken."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from gateway.guard import Denied
from gateway.problems import FieldError

M = TypeVar("M", bound=BaseModel)

MAX_ERRORS = 20
MOST_VALUES = 200_000
"""More than a valid body of the largest size has; a list without end of wrong ones would cost seconds only to be refused."""
_TAKEN: dict[str, type[BaseModel]] = {}


class Problem(Exception):
    """An answer that refuses, as RFC 9457 has it; `errors` name the fields."""

    def __init__(
        self, status: int, title: str, detail: str, errors: Sequence[FieldError] = (), headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.errors, self.headers = status, title, detail, tuple(errors), headers or {}


def path_of(location: Sequence[int | str]) -> str:
    """`measurements[3].power_w` from pydantic's location."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def field_errors(found: Sequence[ErrorDetails]) -> list[FieldError]:
    """What is wrong, in pydantic's words, without the values themselves; at most `MAX_ERRORS`."""
    return [
        {"path": path_of(one["loc"]), "message": one["msg"].removeprefix("Value error, ").replace("Extra inputs are", "this property is")}
        for one in found[:MAX_ERRORS]
    ]


def parse(model: type[M], raw: bytes, *, strict: bool = True) -> M:
    """The model's value of some JSON. Raises Problem 400 naming every field that is wrong, and its rule."""
    try:
        return model.model_validate_json(raw, strict=strict)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        errors = field_errors(found)
        first = errors[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        where = f"{first['path']}: " if first["path"] else ""
        raise Problem(400, "Invalid body", f"{where}{first['message']}{more}", errors) from None


async def read(request: Request) -> bytes:
    """The body, which has to be declared as JSON. Raises Denied 408, 413 or 415, Problem 400 for one with values without end."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Denied(415, "Not JSON", "send the body with Content-Type: application/json")
    body = await request.body()
    if body.count(b",") > MOST_VALUES:
        raise Problem(400, "Invalid body", f"more than {MOST_VALUES} values; send it in parts")
    return body


def json_body(model: type[M], *, strict: bool = True) -> Callable[[Request], Awaitable[M]]:
    """A dependency that reads the body as `model`; give the route `openapi_extra=takes(model)` too."""

    async def body(request: Request) -> M:
        return parse(model, await read(request), strict=strict)

    return body


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """The OpenAPI of a route whose body is read by `json_body`."""
    _TAKEN[model.__name__] = model
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def taken_schemas() -> dict[str, Any]:
    """The component schemas of all bodies that routes take, by name."""
    found: dict[str, Any] = {}
    for name, model in _TAKEN.items():
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[name] = schema
    return found
