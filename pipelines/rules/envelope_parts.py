"""An envelope says no more at once than its topic takes: what is known further ahead is said later, in time (semantics 3.4).

A revision replaces everything from its `effective_at` on, so the next part of what is known is a revision, too, that is
effective from where the one before it ended.
"""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import chain
from typing import NamedTuple

from pipelines.rules.limits import FOREVER_MS, Limit, Stretch, within
from schemas.topics import ENVELOPES
from schemas.units import Phase

MOST_BYTES = ENVELOPES.max_bytes // 2
"""An envelope is at most about so large."""

AHEAD_MS = timedelta(days=2) // timedelta(milliseconds=1)
"""What is in force is said so long beforehand, where as much as that fits."""

PIECE_BYTES = 64
"""A piece's share of an encoded envelope without its causes, and with room."""

Found = Mapping[Phase, list[Stretch]]
"""What limits a scope over time, by phase."""


class Said(NamedTuple):
    """How far ahead the envelope has been said, as of which instant, and the id of the fact it follows from."""

    until_ms: int = FOREVER_MS
    stated_ms: int = 0
    cause_id: str = ""

    def due_ms(self) -> int | None:
        """When the next part is to be said: always before it is in force, and not long before; None where all was said."""
        if self.until_ms == FOREVER_MS:
            return None
        return max((self.stated_ms + self.until_ms) // 2, self.until_ms - AHEAD_MS)


ALL_SAID = Said()


def first_part(found: Found, from_ms: int, most_bytes: int) -> tuple[Found, int]:
    """What is known from an instant on, of all phases up to where it would become too large, and where that is.

    The end is `FOREVER_MS` where all of it is there. Something is said in any case: what begins at the first instant.
    """
    ahead = {phase: within(stretches, from_ms) for phase, stretches in found.items()}
    until_ms = _end(chain.from_iterable(ahead.values()), most_bytes)
    if until_ms == FOREVER_MS:
        return ahead, until_ms
    return {phase: within(stretches, from_ms, until_ms) for phase, stretches in ahead.items()}, until_ms


def _end(stretches: Iterable[Stretch], most_bytes: int) -> int:
    """The first instant whose stretches do not fit any more."""
    size, first_ms = 0, None
    for stretch in sorted(stretches, key=lambda one: one.start_ms):
        if first_ms is None:
            first_ms = stretch.start_ms
        size += _bytes(stretch)
        if size > most_bytes and stretch.start_ms > first_ms:
            return stretch.start_ms
    return FOREVER_MS


def _bytes(stretch: Stretch) -> int:
    """About how much a stretch takes in an encoded envelope, where the first of the causes stands twice."""
    imports, exports = _cause(stretch.imports), _cause(stretch.exports)
    return PIECE_BYTES + imports + exports + (exports if stretch.imports is None else imports)


def _cause(limit: Limit | None) -> int:
    cause = None if limit is None else limit.cause
    if cause is None:
        return 0
    return len(cause) if cause.isascii() else len(cause.encode())
