"""A request of a partner that goes no further: what the routes raise and the listener answers (semantics 6.6)."""

from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from gateway.problems import FieldError
from schemas.oscp.checking import violations

MOST_ERRORS = 20
"""An answer names so many mistakes; who has more should look at the first ones."""


class Refusal(Exception):
    """Answered with `status` and OSCP's error body. `message` and `errors` never repeat a token or a value."""

    def __init__(self, status: int, message: str, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.errors, self.headers = tuple(errors), dict(headers or {})


def invalid(what: str, errors: Sequence[FieldError]) -> Refusal:
    """400 for a body that breaks its schema or its sense: the first mistake in the message, the others beside it."""
    first = errors[0]
    where = f"{first['path']}: " if first["path"] else ""
    return Refusal(400, f"not a valid {what}: {where}{first['message']}", errors[:MOST_ERRORS])


def field_errors(error: ValidationError) -> list[FieldError]:
    """Pydantic's findings as path and rule, without the values that were found."""
    return [FieldError(path=path, message=rule) for path, rule in violations(error)]
