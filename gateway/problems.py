"""What the two listeners answer when they refuse: RFC 9457 problems for operators, OSCP's `Error` for partners.

Both say what is wrong in words a person understands and never repeat a token, an Authorization value or a whole body.
"""

from collections.abc import Mapping, Sequence
from typing import TypedDict

from fastapi.responses import JSONResponse

PROBLEM_JSON = "application/problem+json"


class FieldError(TypedDict):
    """One thing wrong with a body: where (`forecasted_blocks[3].capacity`, empty for the whole) and which rule."""

    path: str
    message: str


def problem(
    status: int, title: str, detail: str, errors: Sequence[FieldError] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An RFC 9457 answer of the operations listener (contract 5).

    `title` names the kind of problem and is the same every time, `detail` is about this one; `errors` are the
    fields concerned, left out when there are none.
    """
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors:
        body["errors"] = list(errors)
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type=PROBLEM_JSON)


def oscp_error(
    status: int, message: str, errors: Sequence[FieldError] | None = None, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """An error answer of the OSCP listener: OSCP's `Error` with `message` always, `errors` for an invalid body (semantics 6.6)."""
    body: dict[str, object] = {"message": message}
    if errors:
        body["errors"] = list(errors)
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))
