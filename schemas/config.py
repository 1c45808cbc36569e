"""The configuration: circuits, scopes, assets, partners, groups, timing (contract 3). One model; pure checks."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from schemas.facts import Fact
from schemas.topology import Asset, Circuit, Duration, Group, Identifier, Item, Scope, bound


class Style(StrEnum):
    """OSCP's measurement configurations."""

    CONTINUOUS = "CONTINUOUS"
    INTERMITTENT = "INTERMITTENT"


class Wants(Item):
    """What our handshake acknowledgement asks of the partner. No heartbeat interval: none are asked for."""

    measurement_configuration: tuple[Style, ...] = (Style.INTERMITTENT,)
    heartbeat_interval: Duration | None = timedelta(minutes=5)


class OAuth(Item):
    """Client credentials for the partner's API."""

    token_url: str
    client_id: str
    client_secret_file: str
    scope: str | None = None
    audience: str | None = None
    client_authentication: Literal["basic", "post"] = "basic"


class SecretFile(Item):
    """A value kept in a file."""

    file: str


class ReportMessage(StrEnum):
    """Which measurement messages a partner gets."""

    ASSET = "ASSET"
    GROUP = "GROUP"


class ReportDirection(StrEnum):
    """OSCP's energy flow directions."""

    IMPORT = "IMPORT"
    EXPORT = "EXPORT"
    NET = "NET"


DirectionKey = Literal["GENERATION", "CONSUMPTION", "CHARGING", "STORAGE", "group"]
Directions = dict[DirectionKey, tuple[ReportDirection, ...]]


def _default_directions() -> Directions:
    return {
        "GENERATION": (ReportDirection.EXPORT,),
        "CONSUMPTION": (ReportDirection.IMPORT,),
        "CHARGING": (ReportDirection.IMPORT,),
        "STORAGE": (ReportDirection.IMPORT, ReportDirection.EXPORT),
        "group": (ReportDirection.NET,),
    }


class Measurements(Item):
    """How quarter hours are reported."""

    messages: tuple[ReportMessage, ...] = (ReportMessage.ASSET,)
    styles: tuple[Style, ...] = (Style.INTERMITTENT,)
    unit: Literal["WH", "KWH"] = "KWH"
    directions: Directions = Field(default_factory=_default_directions)
    report_horizon: Duration = timedelta(days=7)

    @field_validator("directions")
    @classmethod
    def _defaults_for_the_rest(cls, value: Directions) -> Directions:
        return {**_default_directions(), **value}


class ComplianceErrors(StrEnum):
    """When a breach is reported (semantics 7.3)."""

    EACH_QUARTER = "EACH_QUARTER"
    ONCE_PER_BREACH = "ONCE_PER_BREACH"
    NEVER = "NEVER"


class Legacy(StrEnum):
    """Switches for peers known to need them."""

    FLAT_HANDSHAKE = "FLAT_HANDSHAKE"
    NAIVE_HEARTBEAT_TIME = "NAIVE_HEARTBEAT_TIME"
    BARE_TOKEN = "BARE_TOKEN"  # noqa: S105 - a quirk's name, not a token


class Tls(Item):
    """Files for the partner's TLS."""

    ca_file: str | None = None
    client_cert_file: str | None = None
    client_key_file: str | None = None


class Partner(Item):
    """A Capacity Provider connection. The defaults are those of the preset `vector`."""

    id: Identifier
    name: str = ""
    profile: Literal["vector"] = "vector"
    base_url: str | None = None
    initial_token_file: str | None = None
    wants: Wants = Wants()
    heartbeat_grace: Duration = timedelta(seconds=90)
    resume_on_heartbeat: bool = True
    oauth: OAuth | None = None
    headers: dict[str, SecretFile] = {}
    paths: dict[str, str] = {}
    measurements: Measurements = Measurements()
    compliance_errors: ComplianceErrors = ComplianceErrors.EACH_QUARTER
    max_body: int | None = Field(default=None, ge=1024)
    max_rate: float = Field(default=20, gt=0, allow_inf_nan=False)
    inbound_rate: float = Field(default=1000, gt=0, allow_inf_nan=False)
    legacy: tuple[Legacy, ...] = ()
    tls: Tls = Tls()
    allow_private_addresses: bool = False


class Timing(Item):
    """The numbers of semantics.md, under their names there."""

    lateness: Duration = timedelta(minutes=1)
    idle_after: Duration = timedelta(seconds=10)
    register_wait: Duration = timedelta(minutes=2)
    provisional_every: Duration = timedelta(minutes=1)
    max_interpolation: Duration = timedelta(hours=1)
    max_hold: Duration = timedelta(minutes=5)
    correction_horizon: Duration = timedelta(hours=1)
    future: Duration = timedelta(minutes=2)
    report_deadline: Duration = timedelta(minutes=5)
    asset_expiry: Duration = timedelta(days=7)


class Configuration(Item):
    """Everything `derms config apply` takes. References are checked; see `problems`."""

    circuits: tuple[Circuit, ...] = ()
    scopes: tuple[Scope, ...] = ()
    assets: tuple[Asset, ...] = ()
    partners: tuple[Partner, ...] = ()
    groups: tuple[Group, ...] = ()
    timing: Timing = Timing()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        found = list(problems(self))
        if found:
            raise ValueError("; ".join(found))
        return self

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
        return next((p for p in self.partners if p.id == partner_id), None)

    def group(self, partner_id: str, group_id: str) -> Group | None:
        """That partner's group, or None."""
        return next((g for g in self.groups if g.group_id == group_id and g.partner_id == partner_id), None)

    def group_by_id(self, group_id: str) -> Group | None:
        """The group of that id (ids are unique over all partners), or None."""
        return next((g for g in self.groups if g.group_id == group_id), None)

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
    """One item as it is from now on; `body` is its JSON text, None when it was removed. Key: `kind/id`."""

    kind: str
    id: str
    body: str | None
    revision: int
    by: str


KINDS = ("circuits", "scopes", "assets", "partners", "groups", "timing")


def item_id(kind: str, item: dict[str, Any]) -> str:
    """The id of one item of a kind: a group's is `partner_id/group_id`, timing has only `timing`."""
    if kind == "timing":
        return "timing"
    return f"{item['partner_id']}/{item['group_id']}" if kind == "groups" else str(item["id"])
