"""The configuration as a fold of changes, and the changes that lead from one to another (contract 3)."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

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


class Held(NamedTuple):
    """What is kept of an item's last change: the item itself (None where it was removed, or is not valid) and what held before.

    A change keeps its body as text beside much else; of 100,000 assets that is more than their configuration itself.
    """

    kind: str
    id: str
    revision: int
    item: Item | None
    earlier: tuple[EarlierBinding, ...] = ()
    wrong: str = ""
    """Why it is not valid, with its path."""


def held_of(change: ConfigChange) -> Held:
    """What a change amounts to; an item of a kind not known is as good as none."""
    kind, earlier = sys.intern(change.kind), tuple(change.earlier)
    model = MODELS.get(kind)
    if change.body is None or model is None:
        return Held(kind, change.id, change.revision, None, earlier)
    try:
        item = model.model_validate_json(change.body)
    except ValidationError as error:
        return Held(kind, change.id, change.revision, None, earlier, _words(f"{kind}/{change.id}", error))
    if isinstance(item, Asset):
        item.__dict__["scope_id"] = sys.intern(item.scope_id)  # hundreds share one
    return Held(kind, change.id, change.revision, item, earlier)


def held_after(old: Held | None, new: ConfigChange) -> Held:
    """What is held of an item after `new` came on the topic.

    Where the change does not say what was before (a program of before wrote it, or another one), that is taken from `old`: what the
    broker had compacted away by then is not known.
    """
    held = held_of(new)
    if new.earlier or old is None or new.revision <= old.revision:
        return held
    return held._replace(earlier=tuple(_earlier(old, held, new.at)))


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
    bound = {key_of(change): held_of(change) for change in changes.values() if change.earlier or change.kind == "partners"}
    return Configuration.model_validate(plain).after(_before(bound))


def configuration_held(held: Mapping[str, Held], place: int = -1) -> Configuration:
    """As `configuration_of`, of the items (by `kind/id`) themselves after the change at `place`. Raises ValueError with the paths of
    those that are not valid."""
    plain: dict[str, Any] = {}
    wrong: list[str] = []
    for _, one in sorted(held.items()):
        if one.wrong:
            wrong.append(one.wrong)
        elif one.item is not None and one.kind == "timing":
            plain["timing"] = one.item
        elif one.item is not None:
            plain.setdefault(one.kind, []).append(one.item)
    if wrong:
        raise ValueError("; ".join(wrong))
    return Configuration.model_validate(plain).after(_before(held), place)


def _words(path: str, error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{path}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found)


def _before(held: Mapping[str, Held]) -> dict[str, tuple[EarlierBinding, ...]]:
    """What was bound otherwise, by `assets/asset_id` and `groups/group_id`."""
    partners = [one.id for one in held.values() if one.kind == "partners"]
    found: dict[str, tuple[EarlierBinding, ...]] = {}
    for one in held.values():
        if one.earlier:
            key = f"{one.kind}/{_group_id(one, partners) if one.kind == 'groups' else one.id}"
            found[key] = (*found.get(key, ()), *one.earlier)
    return found


def _group_id(held: Held, partners: Iterable[str]) -> str:
    """The group's own id: that of a removed one is what its key has behind its partner's. Both may have slashes in them, and the
    partner, who may be removed too, is one that was ever there."""
    if isinstance(held.item, Group):
        return held.item.group_id
    partner = max((one for one in partners if held.id.startswith(f"{one}/")), key=len, default=held.id.split("/", 1)[0])
    return held.id.removeprefix(f"{partner}/")


def merged(old: Mapping[str, ConfigChange], changes: list[ConfigChange]) -> dict[str, ConfigChange]:
    """The last changes after these have been applied."""
    return {**old, **{key_of(change): change for change in changes}}


def followed(old: ConfigChange | None, new: ConfigChange) -> ConfigChange:
    """The change `new` as it came on the topic after `old`, its item's last one; `earlier` as in `held_after`."""
    if new.earlier or old is None or new.revision <= old.revision:
        return new
    earlier = _earlier(held_of(old), held_of(new), new.at)
    return new.model_copy(update={"earlier": earlier}) if earlier else new


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
    change = ConfigChange(event_id=event_id, at=at, kind=kind, id=identity, body=body, revision=revision, by=by)
    earlier = [] if old is None else _earlier(held_of(old), held_of(change), at)
    return change.model_copy(update={"earlier": earlier}) if earlier else change


def _earlier(old: Held, new: Held, at: datetime) -> list[EarlierBinding]:
    """What held before a change that makes `old` to `new` from `at` on."""
    if old.kind not in BINDINGS:
        return []
    before, after = _bound(old.item, at), _bound(new.item, at)
    if (before.scope_id, before.connection_meter) == (after.scope_id, after.connection_meter):
        return list(old.earlier)
    until = max(at, old.earlier[-1].until) if old.earlier else at
    return [*old.earlier, before.model_copy(update={"until": until})][-EARLIER:]


def _bound(item: Item | None, at: datetime) -> EarlierBinding:
    """What an item is bound to; to nothing where it is none."""
    if isinstance(item, Asset):
        return EarlierBinding(
            scope_id=item.scope_id, connection_meter=item.connection_meter, valid_from=item.valid_from, valid_to=item.valid_to, until=at
        )
    return EarlierBinding(scope_id=item.scope_id if isinstance(item, Group) else None, until=at)
