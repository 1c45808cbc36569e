"""What a flow wrote, for tests that collect it."""

from collections.abc import Iterable

from pipelines.records import Out, Outs
from sinks.codec import decode


def each(items: Iterable[Out | Outs]) -> list[Out]:
    """The items one by one, their values decoded where they are bytes."""
    found: list[Out] = []
    for item in items:
        if isinstance(item, Outs):
            found += [Out(item.topic, key, decode(raw, item.topic)) for key, raw in zip(item.keys, item.values, strict=True)]
        else:
            found.append(item)
    return found
