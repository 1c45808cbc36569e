"""A repair in portions of time and assets, so that memory stays bounded however much is asked for."""

from collections.abc import Iterator, Mapping, Sequence

from pipelines.rules.quarter_roster import Roster
from pipelines.rules.repair import Span


def windows(spans: list[Span], size: int) -> Iterator[Span]:
    """Stretches of time, each a multiple of `size` from 1970, that together hold all the spans."""
    starts = sorted({start for first, until in spans for start in range(first // size * size, until, size)})
    yield from ((start, start + size) for start in starts)


def hull_of(spans: Sequence[Span], window: Span) -> Span | None:
    """The stretch of the window that holds what of the spans is in it; None where nothing is."""
    inside = [(max(first, window[0]), min(until, window[1])) for first, until in spans if first < window[1] and until > window[0]]
    return (min(first for first, _ in inside), max(until for _, until in inside)) if inside else None


def batches(spans: Mapping[str, Span], roster: Roster, most: int) -> Iterator[dict[str, Span]]:
    """The assets by whole scopes, since a scope's groups need all its members' rows; about `most` assets at a time.

    Scopes that had the same asset one after the other go together: a group whose row two batches write would be given the same
    revision twice, as the history may not have the first one's yet.
    """
    first_of: dict[str, str | None] = {}
    heads = _Heads()
    for asset, span in spans.items():
        scopes = [scope for scope, _ in roster.scopes_within(asset, *span)]
        first_of[asset] = scopes[0] if scopes else None
        for other in scopes[1:]:
            heads.join(scopes[0], other)
    by_scope: dict[str | None, list[str]] = {}
    for asset, first in first_of.items():
        by_scope.setdefault(heads.of(first), []).append(asset)
    batch: dict[str, Span] = {}
    for assets in by_scope.values():
        if batch and len(batch) + len(assets) > most:
            yield batch
            batch = {}
        batch |= {asset: spans[asset] for asset in assets}
    if batch:
        yield batch


class _Heads:
    """One scope that stands for all that go together."""

    def __init__(self) -> None:
        self._next: dict[str | None, str | None] = {}

    def of(self, scope: str | None) -> str | None:
        while (after := self._next.get(scope, scope)) != scope:
            self._next[scope] = self._next.get(after, after)
            scope = after
        return scope

    def join(self, one: str, other: str) -> None:
        self._next[self.of(other)] = self.of(one)


def chunks(assets: list[str], counts: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """The assets in order, as many at a time as have `most` readings."""
    chunk: list[str] = []
    size = 0
    for asset in assets:
        if chunk and size + counts[asset] > most:
            yield chunk
            chunk, size = [], 0
        chunk.append(asset)
        size += counts[asset]
    if chunk:
        yield chunk
