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
    """The assets by whole scopes, since a scope's groups need all its members' rows; about `most` assets at a time."""
    by_scope: dict[str | None, list[str]] = {}
    for asset in spans:
        by_scope.setdefault(roster.scope_of(asset), []).append(asset)
    batch: dict[str, Span] = {}
    for assets in by_scope.values():
        if batch and len(batch) + len(assets) > most:
            yield batch
            batch = {}
        batch |= {asset: spans[asset] for asset in assets}
    if batch:
        yield batch


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
