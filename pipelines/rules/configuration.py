"""The configuration as a fold of changes, and the changes that lead from one to another (contract 3)."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from schemas.config import KINDS, ConfigChange, Configuration, EarlierBinding, Partner, Timing, item_id
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

BINDINGS = ("assets", "groups")
"""The kinds of items that are bound to scopes."""
EARLIER = 16
"""So many earlier bindings of an item are told; the first of them is then taken to have held ever since."""


def key_of(change: ConfigChange) -> str:
    """The key of an item on `derms.config`."""
    return f"{change.kind}/{change.id}"


def configuration_of(changes: Mapping[str, ConfigChange]) -> Configuration:
    """The configuration that the last changes of all items (by `kind/id`) amount to.

    Items are ordered by id, so that the order of edits makes no difference. Raises pydantic's `ValidationError` (its
    words name path and reason) when the items do not fit together or one is not valid; kinds not known are passed over.
    It says what assets and groups were bound to before, as far as the changes do.
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
    return Configuration.model_validate(plain).after(_before(changes))


def _before(changes: Mapping[str, ConfigChange]) -> dict[str, tuple[EarlierBinding, ...]]:
    """What was bound otherwise, by `assets/asset_id` and `groups/group_id`."""
    partners = [change.id for change in changes.values() if change.kind == "partners"]
    found: dict[str, tuple[EarlierBinding, ...]] = {}
    for change in changes.values():
        if change.earlier:
            key = f"{change.kind}/{_group_id(change, partners) if change.kind == 'groups' else change.id}"
            found[key] = (*found.get(key, ()), *change.earlier)
    return found


def _group_id(change: ConfigChange, partners: Iterable[str]) -> str:
    """The group's own id: that of a removed one is what its key has behind its partner's. Both may have slashes in them, and the
    partner, who may be removed too, is one that was ever there."""
    if change.body is not None and (found := json.loads(change.body).get("group_id")):
        return str(found)
    partner = max((one for one in partners if change.id.startswith(f"{one}/")), key=len, default=change.id.split("/", 1)[0])
    return change.id.removeprefix(f"{partner}/")


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
    earlier = _earlier(old, kind, body, at)
    return ConfigChange(event_id=event_id, at=at, kind=kind, id=identity, body=body, revision=revision, by=by, earlier=earlier)


def followed(old: ConfigChange | None, new: ConfigChange) -> ConfigChange:
    """The change `new` as it came on the topic after `old`, its item's last one.

    Where it does not say what held before (a program of before wrote it, or another one), that is taken from `old`: what the
    broker had compacted away by then is not known.
    """
    if new.earlier or old is None or new.revision <= old.revision:
        return new
    earlier = _earlier(old, new.kind, new.body, new.at)
    return new.model_copy(update={"earlier": earlier}) if earlier else new


def _earlier(old: ConfigChange | None, kind: str, body: str | None, at: datetime) -> list[EarlierBinding]:
    """What held before a change that makes an item `body` from `at` on."""
    if old is None or kind not in BINDINGS:
        return []
    before, after = _bound(kind, old.body, at), _bound(kind, body, at)
    if (before.scope_id, before.connection_meter) == (after.scope_id, after.connection_meter):
        return old.earlier
    until = max(at, old.earlier[-1].until) if old.earlier else at
    return [*old.earlier, before.model_copy(update={"until": until})][-EARLIER:]


def _bound(kind: str, body: str | None, at: datetime) -> EarlierBinding:
    """What an item of that body is bound to; to nothing where it is none."""
    try:
        item = None if body is None else MODELS[kind].model_validate_json(body)
    except ValidationError:
        item = None
    if isinstance(item, Asset):
        return EarlierBinding(
            scope_id=item.scope_id, connection_meter=item.connection_meter, valid_from=item.valid_from, valid_to=item.valid_to, until=at
        )
    return EarlierBinding(scope_id=item.scope_id if isinstance(item, Group) else None, until=at)
