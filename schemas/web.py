"""What HTTP can be asked to do, judged by its text alone: URLs, paths, header names (contract 3). Pure: no name is looked up."""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_PATH = re.compile(r"/[^\s\x00-\x1f\x7f#]*")
_OURS = {"authorization", "content-type", "content-length", "host", "transfer-encoding", "x-correlation-id", "x-request-id"}


HEADER_VALUE = r"^[\x21-\x7e\xa1-\xff]([\x20-\x7e\xa1-\xff]*[\x21-\x7e\xa1-\xff])?$"
"""What a header may hold as it is: an X-Request-ID that is to be named in X-Correlation-ID."""
_HEADER_VALUE = re.compile(HEADER_VALUE)


def can_stand_in_header(value: str) -> bool:
    """Whether HTTP can carry `value` in a header at all: nothing beyond Latin-1, no control characters."""
    return all(" " <= each <= "\xff" and each != "\x7f" for each in value)


def header_value_objection(value: str) -> str | None:
    """Why a header cannot hold `value`, or None."""
    if _HEADER_VALUE.fullmatch(value):
        return None
    return "cannot stand in an HTTP header: printable characters of Latin-1 only, and no space at either end"


def refusal(title: str, found: Iterable[tuple[tuple[str, ...], str]]) -> ValidationError:
    """The error of a validator that names the place below its own: (where, words) of all that was found."""
    details: list[InitErrorDetails] = [
        {"type": PydanticCustomError("value_error", "{words}", {"words": words}), "loc": where, "input": None} for where, words in found
    ]
    return ValidationError.from_exception_data(title, details, hide_input=True)


def url_objection(url: str, *, allow_private: bool, query: bool = False) -> str | None:
    """Why `url` cannot be called, with the cure, or None. Its text is not repeated: it may hold a password.

    Judges what the text shows (`sinks.addresses` judges what names turn out to be): absolute http(s) with a host;
    plain http and loopback or private hosts only with `allow_private`; a query only with `query`.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL; write one such as https://cp.example/oscp/cp/2.0"
    if parts.scheme not in ("http", "https") or not host or port == 0 or not url.isprintable() or " " in url:
        return "must be an absolute http(s) URL with a host, such as https://cp.example/oscp/cp/2.0"
    if "@" in parts.netloc:
        return "must not hold a user or password; give credentials in files"
    if "#" in url or ("?" in url and not query):
        return "must have no query or fragment; leave out what follows the path"
    if parts.scheme == "http" and not allow_private:
        return "is plain http; write https, or set allow_private_addresses: true where the partner is on your own network"
    return _host_objection(host.rstrip("."), allow_private=allow_private)


def _host_objection(host: str, *, allow_private: bool) -> str | None:
    own = "set allow_private_addresses: true to admit it, or write a public host"
    if host == "localhost" or host.endswith(".localhost"):
        return None if allow_private else f"names this machine ({host}); {own}"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None  # a name: what it stands for is judged whenever it is called
    meant = (address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None) or address
    if not meant.is_loopback and (meant.is_multicast or meant.is_link_local or meant.is_unspecified or meant.is_reserved):
        return f"is at {host}, which no partner can have and is never called; write the partner's own host"
    if meant.is_global or allow_private:
        return None
    return f"is at a {'loopback' if meant.is_loopback else 'private'} address ({host}); {own}"


def path_objection(path: str) -> str | None:
    """Why `path` cannot follow a base URL, with the cure, or None."""
    return None if _PATH.fullmatch(path) else "must begin with '/' and hold no blanks, such as /update_asset_measurements"


def header_objection(name: str) -> str | None:
    """Why a header of that name cannot be configured, with the cure, or None."""
    if not _TOKEN.fullmatch(name):
        return "is not an HTTP header name; write letters, digits and hyphens, such as Ocp-Apim-Subscription-Key"
    if name.lower() in _OURS:
        return "is set by every message itself; leave it out"
    return None
