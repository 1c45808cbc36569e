"""The configuration as a fold of changes, and the changes that lead from one to another (contract 3)."""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from schemas.config import KINDS, ConfigChange, Configuration, Partner, Timing, item_id
from schemas.facts import derived_id, digest
from schemas.topology import Asset, Circuit, Group, Item, Scope

MODELS: dict[str, type[Item]] = {
    "circuits": Circuit,
    "scopes": Scope,
    "assets": Asset,
    "partners": Partner,
    "groups": Group,
    "timing": Timing,
}
"""The model of each kind of item; `KINDS` has them in the order of their references."""


def key_of(change: ConfigChange) -> str:
    """The key of an item on `derms.config`."""
    return f"{change.kind}/{change.id}"


def configuration_of(changes: Mapping[str, ConfigChange]) -> Configuration:
    """The configuration that the last changes of all items (by `kind/id`) amount to.

    Items are ordered by id, so that the order of edits makes no difference. Raises pydantic's `ValidationError` (its
    words name path and reason) when the items do not fit together or one is not valid; kinds not known are passed over.
    """
    plain: dict[str, Any] = {}
    for change in sorted(changes.values(), key=key_of):
        if change.body is None or change.kind not in MODELS:
            continue
        body = json.loads(change.body)
        if change.kind == "timing":
            plain["timing"] = body
        else:
            plain.setdefault(change.kind, []).append(body)
    return Configuration.model_validate(plain)


def merged(old: Mapping[str, ConfigChange], changes: list[ConfigChange]) -> dict[str, ConfigChange]:
    """The last changes after these have been applied."""
    return {**old, **{key_of(change): change for change in changes}}


def changes_between(
    old: Mapping[str, ConfigChange], new: Configuration, *, prune: bool = False, by: str, at: datetime
) -> list[ConfigChange]:
    """What has to be appended, in this order, to bring `old` (last change by `kind/id`) to `new`.

    An item that is the same makes no change; a changed one gets the next revision (a new one 1). Items are written in
    the order of their references (circuits before the scopes that name them). Without `prune` nothing is removed and
    timing not given in `new` stays; with it, items (and timing) that `new` does not have are removed last, those that
    refer before those referred to. The ids follow from item, revision and body: the same `apply` makes the same facts.
    """
    wanted = {f"{kind}/{identity}": (kind, identity, item) for kind, identity, item in _items(new)}
    written = [
        _change(kind, identity, item.model_dump_json(), old.get(key), by, at)
        for key, (kind, identity, item) in wanted.items()
        if not _same(old.get(key), item)
    ]
    if not prune:
        return written
    gone = [change for key, change in old.items() if change.body is not None and key not in wanted and change.kind in KINDS]
    gone.sort(key=lambda change: (-KINDS.index(change.kind), change.id))
    return written + [_change(change.kind, change.id, None, change, by, at) for change in gone]


def _items(configuration: Configuration) -> Iterator[tuple[str, str, Item]]:
    for kind in KINDS:
        if kind == "timing":
            if "timing" in configuration.model_fields_set:
                yield kind, "timing", configuration.timing
            continue
        for item in getattr(configuration, kind):
            yield kind, item_id(kind, item.model_dump()), item


def _same(old: ConfigChange | None, item: Item) -> bool:
    if old is None or old.body is None:
        return isinstance(item, Timing) and item == Timing()  # what holds anyway need not be said
    try:
        return type(item).model_validate_json(old.body) == item
    except ValidationError:
        return False


def _change(kind: str, identity: str, body: str | None, old: ConfigChange | None, by: str, at: datetime) -> ConfigChange:
    revision = 1 if old is None else old.revision + 1
    event_id = derived_id("config", kind, identity, revision, digest(body or ""))
    return ConfigChange(event_id=event_id, at=at, kind=kind, id=identity, body=body, revision=revision, by=by)
