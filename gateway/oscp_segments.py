"""X-Segment-Index and X-Segment-Count: which part of a message a request holds (semantics 6.8, oscp-2.0 3)."""

import re

from starlette.requests import Request

from gateway.oscp_refusals import Refusal
from schemas.oscp.v20 import ARRAYS, MOST_SEGMENTS, Action

INDEX, COUNT = "X-Segment-Index", "X-Segment-Count"
_NUMBER = re.compile(r"[0-9]{1,9}")


def segment_of(request: Request, action: Action) -> tuple[int, int] | None:
    """The segment's index (from 1) and the count of them; None for a message that comes whole, also as 1 of 1.

    Raises Refusal 400 that names the header and the rule it breaks: a part that cannot be put in its place would be
    lost after it was answered with 204.
    """
    index, count = _number(request, INDEX), _number(request, COUNT)
    if index is None and count is None:
        return None
    if index is None or count is None:
        given, missing = (COUNT, INDEX) if index is None else (INDEX, COUNT)
        raise Refusal(400, f"{given} came without {missing}; a segment has both")
    if not 1 <= count <= MOST_SEGMENTS:
        raise Refusal(400, f"{COUNT} must be from 1 to {MOST_SEGMENTS}")
    if not 1 <= index <= count:
        raise Refusal(400, f"{INDEX} must be from 1 to {COUNT}, which is {count}")
    if count == 1:
        return None
    if action not in ARRAYS:
        raise Refusal(400, f"{COUNT} must be 1 for a {action}, which has no array to be joined from segments")
    return index, count


def _number(request: Request, name: str) -> int | None:
    """A header's value as a number; None where it is missing. One that comes twice is no number."""
    values = request.headers.getlist(name)
    if not values:
        return None
    text = ",".join(values).strip()
    if not _NUMBER.fullmatch(text):
        raise Refusal(400, f"{name} must be a whole number in digits")
    return int(text)
