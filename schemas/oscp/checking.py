"""What is wrong with a message, as path and rule, without the values that were found: for what partners send and for what we send."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from pydantic import ValidationError

from schemas.config import Legacy
from schemas.oscp.v20 import MODELS, Action
from schemas.oscp.wire import NAIVE_FORMAT


class Violation(NamedTuple):
    """One thing wrong: where (`forecasted_blocks[3].capacity`, empty for the whole) and which rule."""

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}" if self.path else self.rule


def violations(error: ValidationError) -> list[Violation]:
    """Pydantic's findings."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [Violation(_path(entry["loc"]), entry["msg"].removeprefix("Value error, ")) for entry in found]


def violations_of(action: str, text: str | bytes, legacy: Collection[Legacy] = ()) -> list[Violation]:
    """What breaks OSCP 2.0 in the JSON text of a message of `action`; nothing for one that may be sent.

    `legacy` are the switches of the peer it is for: with NAIVE_HEARTBEAT_TIME a time may be local, without a zone. (The
    flat handshake of FLAT_HANDSHAKE is valid by OSCP's schema anyway, as a property nobody knows.)
    """
    model = MODELS.get(action)
    if model is None:
        return [Violation("", f"there is no message {action}")]
    try:
        body: Any = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return [Violation("", "must be JSON text")]
    if action == Action.HEARTBEAT and Legacy.NAIVE_HEARTBEAT_TIME in legacy and isinstance(body, dict) and _naive(body):
        return []
    try:
        model.model_validate(body)
    except ValidationError as error:
        return violations(error)
    except RecursionError:
        return [Violation("", "nested too deeply")]
    return []


def _naive(heartbeat: dict[str, Any]) -> bool:
    try:
        datetime.strptime(heartbeat["offline_mode_at"], NAIVE_FORMAT)  # noqa: DTZ007 - naive is what it is
    except (KeyError, TypeError, ValueError):
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _path(parts: Sequence[int | str]) -> str:
    """`forecasted_blocks[3].capacity`."""
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
