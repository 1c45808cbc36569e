"""What people look at, without secrets: bodies as JSON with every token, secret and password left out, whatever stands in its place,
and words whose URLs show no user, password or query. Pure."""

import json
import re
from typing import Any

REMOVED = "(removed)"
NOT_JSON = "(not shown: it is no JSON)"
_SECRET_NAMES = re.compile(r"token|secret|password|passwd|authorization|api[-_]?key|credential", re.IGNORECASE)
_CIPHERTEXT = re.compile(r"v\d{1,3}\.[\w-]{6,}\.[\w-]{16,}={0,2}")
"""What `sinks.secrets` makes of a partner's token: it says nothing without the installation secret, and is no one's business."""
_URL = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)(?P<user>[^/?#\s]*@)?(?P<rest>[^?#\s\"'<>]*)(?P<query>[?#][^\s\"'<>]+)?", re.IGNORECASE
)


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
            return clean(_CIPHERTEXT.sub(REMOVED, value))
        case _:
            return value


def clean(text: str) -> str:
    """The words with the user, password, query and fragment of every URL in them left out: nobody may put a key there, but some do."""
    return _URL.sub(_plain_url, text) if "://" in text else text


def _plain_url(url: re.Match[str]) -> str:
    user = f"{REMOVED}@" if url["user"] else ""
    query = f"{url['query'][0]}{REMOVED}" if url["query"] else ""
    return f"{url['scheme']}{user}{url['rest']}{query}"
