"""The configuration: circuits, scopes, assets, partners, groups, timing (contract 3). One model; pure checks."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self

from pydantic import ValidationInfo, field_validator, model_validator

from schemas.facts import Fact, Value
from schemas.partner import ComplianceErrors as ComplianceErrors
from schemas.partner import DirectionKey as DirectionKey
from schemas.partner import Directions as Directions
from schemas.partner import Legacy as Legacy
from schemas.partner import Measurements as Measurements
from schemas.partner import OAuth as OAuth
from schemas.partner import Partner as Partner
from schemas.partner import ReportDirection as ReportDirection
from schemas.partner import ReportMessage as ReportMessage
from schemas.partner import SecretFile as SecretFile
from schemas.partner import Style as Style
from schemas.partner import Tls as Tls
from schemas.partner import Wants as Wants
from schemas.topology import Asset, Circuit, Group, Item, Scope, Span, Wait, bound, iso_duration
from schemas.units import Instant


class EarlierBinding(Value):
    """What an asset or group was bound to until an instant, that of the change that ended it. `scope_id` None: to nothing."""

    scope_id: str | None = None
    connection_meter: bool = False
    valid_from: Instant | None = None
    valid_to: Instant | None = None
    until: Instant


class Timing(Item):
    """The numbers of semantics.md, under their names there."""

    lateness: Span = timedelta(minutes=1)
    idle_after: Span = timedelta(seconds=10)
    register_wait: Wait = timedelta(minutes=2)
    provisional_every: Span = timedelta(minutes=1)
    max_interpolation: Wait = timedelta(hours=1)
    max_hold: Wait = timedelta(minutes=5)
    correction_horizon: Wait = timedelta(hours=1)
    future: Wait = timedelta(minutes=2)
    report_deadline: Span = timedelta(minutes=5)
    asset_expiry: Span = timedelta(days=7)

    @field_validator("correction_horizon")
    @classmethod
    def _as_long_as_interpolation(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        """Never less than `max_interpolation` (semantics 1.10): what is interpolated over can still be corrected."""
        longest = info.data.get("max_interpolation", value)
        if value < longest:
            words = f"{iso_duration(value)} is shorter than max_interpolation ({iso_duration(longest)})"
            raise ValueError(f"{words}; write correction_horizon: {iso_duration(longest)} or longer")
        return value


class Configuration(Item):
    """Everything `derms config apply` takes. References are checked; see `problems`."""

    circuits: tuple[Circuit, ...] = ()
    scopes: tuple[Scope, ...] = ()
    assets: tuple[Asset, ...] = ()
    partners: tuple[Partner, ...] = ()
    groups: tuple[Group, ...] = ()
    timing: Timing = Timing()

    @cached_property
    def earlier(self) -> Mapping[str, tuple[EarlierBinding, ...]]:
        """By `assets/asset_id` and `groups/group_id`, what they were bound to before, the earliest first: those whose binding ever
        changed, removed ones too. It comes from the changes that led here, never from a file: a configuration that was only written
        down has none. No part of what is written or compared.
        """
        return {}

    @cached_property
    def place(self) -> int:
        """The offset on derms.config of the last change that led here; -1 where it did not come from there. As `earlier`, it is no
        part of what is written or compared.
        """
        return -1

    def after(self, earlier: Mapping[str, tuple[EarlierBinding, ...]], place: int = -1) -> Self:
        """The same, with what held before and the place of the last change."""
        found = self.model_copy()
        found.__dict__["earlier"], found.__dict__["place"] = dict(earlier), place  # where a cached property keeps its value
        return found

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = list(problems(self))
        if found:
            raise ValueError("; ".join(found))
        return self

    @cached_property
    def _partners_by_id(self) -> dict[str, Partner]:
        """Asked for with every request and every step of a connection: a search through thousands each time would be felt."""
        return {partner.id: partner for partner in self.partners}

    @cached_property
    def _groups_by_id(self) -> dict[str, Group]:
        return {group.group_id: group for group in self.groups}

    def circuit(self, circuit_id: str) -> Circuit | None:
        """The circuit of that id, or None."""
        return next((c for c in self.circuits if c.id == circuit_id), None)

    def scope(self, scope_id: str) -> Scope | None:
        """The scope of that id, or None."""
        return next((s for s in self.scopes if s.id == scope_id), None)

    def asset(self, asset_id: str) -> Asset | None:
        """The asset of that id, or None."""
        return next((a for a in self.assets if a.id == asset_id), None)

    def partner(self, partner_id: str) -> Partner | None:
        """The partner of that id, or None."""
        return self._partners_by_id.get(partner_id)

    def group(self, partner_id: str, group_id: str) -> Group | None:
        """That partner's group, or None."""
        found = self._groups_by_id.get(group_id)
        return found if found is not None and found.partner_id == partner_id else None

    def group_by_id(self, group_id: str) -> Group | None:
        """The group of that id (ids are unique over all partners), or None."""
        return self._groups_by_id.get(group_id)

    def groups_of_scope(self, scope_id: str) -> tuple[Group, ...]:
        """The groups bound to a scope."""
        return tuple(g for g in self.groups if g.scope_id == scope_id)

    def groups_of_partner(self, partner_id: str) -> tuple[Group, ...]:
        """A partner's groups."""
        return tuple(g for g in self.groups if g.partner_id == partner_id)

    def members(self, scope_id: str, quarter: datetime) -> tuple[Asset, ...]:
        """The assets bound to the scope in the quarter that starts then (semantics 2)."""
        return tuple(a for a in self.assets if a.scope_id == scope_id and bound(a, quarter))


def _twice(kind: str, ids: list[str]) -> Iterator[str]:
    seen: set[str] = set()
    for index, value in enumerate(ids):
        if value in seen:
            yield f"{kind}[{index}].id: {value!r} is there twice; ids are unique"
        seen.add(value)


def problems(configuration: Configuration) -> Iterator[str]:
    """What is wrong between the items, each with its path and the reason (contract 3)."""
    c = configuration
    for kind in ("circuits", "scopes", "assets", "partners"):
        yield from _twice(kind, [item.id for item in getattr(c, kind)])
    circuits, scopes, partners = ({i.id for i in items} for items in (c.circuits, c.scopes, c.partners))
    by_circuit: dict[str, str] = {}
    for index, scope in enumerate(c.scopes):
        if scope.circuit_id is None:
            continue
        if scope.circuit_id not in circuits:
            yield f"scopes[{index}].circuit_id: there is no circuit {scope.circuit_id!r}"
        if (other := by_circuit.setdefault(scope.circuit_id, scope.id)) != scope.id:
            yield f"scopes[{index}].circuit_id: circuit {scope.circuit_id!r} already belongs to scope {other!r}"
    meters: dict[str, str] = {}
    for index, asset in enumerate(c.assets):
        if asset.scope_id not in scopes:
            yield f"assets[{index}].scope_id: there is no scope {asset.scope_id!r}"
        if asset.connection_meter and (other := meters.setdefault(asset.scope_id, asset.id)) != asset.id:
            yield f"assets[{index}].connection_meter: scope {asset.scope_id!r} already has the connection meter {other!r}"
        if asset.valid_from and asset.valid_to and asset.valid_to <= asset.valid_from:
            yield f"assets[{index}].valid_to: must be after valid_from"
    for index, partner in enumerate(c.partners):
        for end in (at for at, letter in enumerate(partner.id) if letter == "/"):
            if (other := partner.id[:end]) in partners:
                words = f"{partner.id!r} begins with partner {other!r} and '/', so that a key partner/group could mean either"
                yield f"partners[{index}].id: {words}; write another id, such as {partner.id.replace('/', '-')!r}"
    owners: dict[str, str] = {}
    bindings: dict[tuple[str, str], str] = {}
    for index, group in enumerate(c.groups):
        if group.partner_id not in partners:
            yield f"groups[{index}].partner_id: there is no partner {group.partner_id!r}"
        if group.scope_id not in scopes:
            yield f"groups[{index}].scope_id: there is no scope {group.scope_id!r}"
        if group.group_id in owners:
            yield f"groups[{index}].group_id: {group.group_id!r} already belongs to partner {owners[group.group_id]!r}"
        owners.setdefault(group.group_id, group.partner_id)
        pair = (group.partner_id, group.scope_id)
        if pair in bindings:
            yield f"groups[{index}].scope_id: partner {pair[0]!r} already has group {bindings[pair]!r} on scope {pair[1]!r}"
        bindings.setdefault(pair, group.group_id)


class ConfigChange(Fact):
    """One item as it is from now on; `body` is its JSON text, None when it was removed. Key: `kind/id`.

    `earlier` is what an asset or group was bound to before, the earliest first: the topic keeps each item's last change only,
    and rows of quarters before it follow what held then.
    """

    kind: str
    id: str
    body: str | None
    revision: int
    by: str
    earlier: list[EarlierBinding] = []


KINDS = ("circuits", "scopes", "assets", "partners", "groups", "timing")


def item_id(kind: str, item: dict[str, Any]) -> str:
    """The id of one item of a kind: a group's is `partner_id/group_id`, timing has only `timing`."""
    if kind == "timing":
        return "timing"
    return f"{item['partner_id']}/{item['group_id']}" if kind == "groups" else str(item["id"])
