"""Who is told about which assets: the configuration, indexed for reporting (semantics 7.1).

Built once for each configuration: a quarter's end brings thousands of rows, and looking each up in
the configuration's lists would cost a pass over all assets every time.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from schemas.config import Configuration, Partner
from schemas.topology import Asset, Group, bound
from schemas.units import from_ms


class Roster(NamedTuple):
    """The assets of a scope that are told to partners, and how many assets it has in all."""

    told: frozenset[str]
    members: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One configuration by the keys reporting asks for."""

    partners: dict[str, Partner] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    groups_by_scope: dict[str, list[Group]] = field(default_factory=dict)
    groups_by_partner: dict[str, list[Group]] = field(default_factory=dict)
    assets_by_scope: dict[str, list[Asset]] = field(default_factory=dict)
    rosters: dict[str, tuple[int, Roster]] = field(default_factory=dict)

    def roster(self, scope_id: str, start_ms: int) -> Roster:
        """Who is looked for in the quarter that starts then. Asked with every row, so the last quarter's is kept for each scope."""
        known = self.rosters.get(scope_id)
        if known is None or known[0] != start_ms:
            members = self.members(scope_id, from_ms(start_ms))
            told = frozenset(asset.id for asset in members if reported(asset, members))
            known = self.rosters[scope_id] = (start_ms, Roster(told, len(members)))
        return known[1]

    def members(self, scope_id: str, quarter: datetime) -> list[Asset]:
        """The assets bound to the scope in the quarter that starts then (semantics 2), in the configuration's order."""
        return [asset for asset in self.assets_by_scope.get(scope_id, ()) if bound(asset, quarter)]

    def scope_of(self, group_id: str | None) -> str | None:
        """The scope a group is bound to, or None for an unknown group."""
        group = self.groups.get(group_id or "")
        return group.scope_id if group else None

    def scopes_of(self, partner_id: str) -> list[str]:
        """The scopes a partner's groups are bound to."""
        return [group.scope_id for group in self.groups_by_partner.get(partner_id, ())]


def plan_of(configuration: Configuration) -> Plan:
    """The configuration, indexed."""
    plan = Plan({p.id: p for p in configuration.partners}, {g.group_id: g for g in configuration.groups})
    for group in configuration.groups:
        plan.groups_by_scope.setdefault(group.scope_id, []).append(group)
        plan.groups_by_partner.setdefault(group.partner_id, []).append(group)
    for asset in configuration.assets:
        plan.assets_by_scope.setdefault(asset.scope_id, []).append(asset)
    return plan


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
