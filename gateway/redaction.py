"""Bodies to look at: JSON with every token, secret and password left out, whatever stands in its place. Pure."""

import json
import re
from typing import Any

REMOVED = "(removed)"
NOT_JSON = "(not shown: it is no JSON)"
_SECRET_NAMES = re.compile(r"token|secret|password|passwd|authorization|api[-_]?key|credential", re.IGNORECASE)
_CIPHERTEXT = re.compile(r"v\d{1,3}\.[\w-]{6,}\.[\w-]{16,}={0,2}")
"""What `sinks.secrets` makes of a partner's token: it says nothing without the installation secret, and is no one's business."""
_USER_OF_URL = re.compile(r"(?<=://)[^/@\s\"']+(?=@)")


def shown(body: str) -> Any:
    """A stored body as plain JSON values without secrets; a sentence where it cannot be read (nothing of it is shown then)."""
    try:
        return without_secrets(json.loads(body))
    except (ValueError, RecursionError):
        return NOT_JSON


def without_secrets(value: Any) -> Any:
    """The value with what stands under a secret's name left out, as text or as a reference, and ciphertext wherever it stands."""
    match value:
        case dict():
            return {name: REMOVED if _SECRET_NAMES.search(name) else without_secrets(part) for name, part in value.items()}
        case list():
            return [without_secrets(part) for part in value]
        case str():
            return _USER_OF_URL.sub(REMOVED, _CIPHERTEXT.sub(REMOVED, value))
        case _:
            return value
