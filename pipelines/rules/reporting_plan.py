"""Who is told about which assets: the configuration, indexed for reporting (semantics 2, 7.1).

Built once for each configuration: a quarter's end brings thousands of rows, and looking each up in
the configuration's lists would cost a pass over all assets every time. Assets and groups that were moved
count, until the quarter of the move is over and for revisions of the quarters before, where they were.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from pipelines.rules.group_bindings import Before, Binding, assets_said, groups_said
from schemas.config import Configuration, Partner
from schemas.intervals import QUARTER_MS
from schemas.topology import Asset, Group, bound
from schemas.units import from_ms, to_ms


class Roster(NamedTuple):
    """The assets of a scope that are told to partners, and how many assets it has in all."""

    told: frozenset[str]
    members: int


@dataclass(frozen=True, slots=True)
class Moves:
    """What was bound otherwise before: `scopes` are those that had or have any of it, where nothing ever moved nothing is asked;
    `moved` are the assets that are still configured, by id."""

    assets: Before = field(default_factory=lambda: Before(()))
    groups: Before = field(default_factory=lambda: Before(()))
    scopes: frozenset[str] = frozenset()
    moved: dict[str, Asset] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """One configuration by the keys reporting asks for."""

    partners: dict[str, Partner] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    groups_by_scope: dict[str, list[Group]] = field(default_factory=dict)
    groups_by_partner: dict[str, list[Group]] = field(default_factory=dict)
    assets_by_scope: dict[str, list[Asset]] = field(default_factory=dict)
    rosters: dict[str, tuple[int, Roster]] = field(default_factory=dict)
    moves: Moves = field(default_factory=Moves)

    def roster(self, scope_id: str, start_ms: int) -> Roster:
        """Who is looked for in the quarter that starts then. Asked with every row, so the last quarter's is kept for each scope."""
        known = self.rosters.get(scope_id)
        if known is None or known[0] != start_ms:
            members = self.members(scope_id, from_ms(start_ms))
            told = frozenset(asset.id for asset in members if reported(asset, members))
            known = self.rosters[scope_id] = (start_ms, Roster(told, len(members)))
        return known[1]

    def members(self, scope_id: str, quarter: datetime) -> list[Asset]:
        """The assets bound to the scope in the quarter that starts then, in the configuration's order; where any were moved, by their
        ids. Of an asset that is no longer configured nothing can be told: it is none of them."""
        here = self.assets_by_scope.get(scope_id, ())
        if scope_id not in self.moves.scopes:
            return [asset for asset in here if bound(asset, quarter)]
        found = _held(self.moves.assets.within(scope_id, assets_said(here), to_ms(quarter), to_ms(quarter) + QUARTER_MS), to_ms(quarter))
        known = {asset.id: asset for asset in here} | self.moves.moved
        then = ((known[one.name], one.meter) for one in found if one.name in known)
        return [asset.model_copy(update={"scope_id": scope_id, "connection_meter": meter}) for asset, meter in then]

    def groups_in(self, scope_id: str, start_ms: int) -> Sequence[Group]:
        """The groups bound to the scope in the quarter that starts then."""
        here = self.groups_by_scope.get(scope_id, ())
        if scope_id not in self.moves.scopes:
            return here
        found = _held(self.moves.groups.within(scope_id, groups_said(here), start_ms, start_ms + QUARTER_MS), start_ms)
        return [self.groups[one.name] for one in found if one.name in self.groups]

    def group_in(self, group_id: str, scope_id: str, start_ms: int) -> Group | None:
        """The group, if it was bound to the scope in the quarter that starts then and still is configured."""
        return next((group for group in self.groups_in(scope_id, start_ms) if group.group_id == group_id), None)

    def scope_of(self, group_id: str | None) -> str | None:
        """The scope a group is bound to, or None for an unknown group."""
        group = self.groups.get(group_id or "")
        return group.scope_id if group else None

    def scopes_of(self, partner_id: str) -> list[str]:
        """The scopes a partner's groups are or were bound to."""
        groups = self.groups_by_partner.get(partner_id, ())
        names = {group.group_id for group in groups}
        former = [one.scope for one in self.moves.groups.past if one.name in names and one.scope is not None]
        return list(dict.fromkeys([*(group.scope_id for group in groups), *former]))


def _held(bindings: Iterable[Binding], start_ms: int) -> list[Binding]:
    """Those that hold in the quarter that starts then."""
    return [one for one in bindings if one.begin <= start_ms < one.end]


def plan_of(configuration: Configuration) -> Plan:
    """The configuration, indexed."""
    plan = Plan(
        partners={p.id: p for p in configuration.partners},
        groups={g.group_id: g for g in configuration.groups},
        moves=_moves(configuration),
    )
    for group in configuration.groups:
        plan.groups_by_scope.setdefault(group.scope_id, []).append(group)
        plan.groups_by_partner.setdefault(group.partner_id, []).append(group)
    for asset in configuration.assets:
        plan.assets_by_scope.setdefault(asset.scope_id, []).append(asset)
    return plan


def _moves(configuration: Configuration) -> Moves:
    if not configuration.earlier:
        return Moves()
    before = {
        kind: Before((key.removeprefix(kind), some) for key, some in configuration.earlier.items() if key.startswith(kind))
        for kind in ("assets/", "groups/")
    }
    assets, groups = before["assets/"], before["groups/"]
    scopes = {one.scope for one in (*assets.past, *groups.past)}
    moved = {asset.id: asset for asset in configuration.assets if asset.id in assets.since}
    scopes |= {asset.scope_id for asset in moved.values()}
    scopes |= {group.scope_id for group in configuration.groups if group.group_id in groups.since}
    return Moves(assets, groups, frozenset(scope for scope in scopes if scope is not None), moved)


class Plans:
    """The plan of the configuration in force; indexes anew only when the configuration is another one."""

    def __init__(self, configuration: Callable[[], Configuration]) -> None:
        self._configuration = configuration
        self._last: tuple[Configuration, Plan] | None = None

    def current(self) -> Plan:
        """The plan now."""
        configuration = self._configuration()
        if self._last is None or self._last[0] is not configuration:
            self._last = (configuration, plan_of(configuration))
        return self._last[1]


def reported(asset: Asset, members: list[Asset]) -> bool:
    """Whether the asset's energy goes to partners: as configured, else all but a connection meter that has company (semantics 7.1)."""
    if asset.report is not None:
        return asset.report
    return not asset.connection_meter or len(members) == 1
