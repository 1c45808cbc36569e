"""A partner's configuration: what we ask of it, how it is reached, what it is told (contract 3). One model; pure checks."""

from datetime import timedelta
from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from schemas.oscp.v20 import Action
from schemas.topology import Duration, Identifier, Item, Span, Wait, iso_duration
from schemas.web import header_objection, path_objection, refusal, url_objection


class Style(StrEnum):
    """OSCP's measurement configurations."""

    CONTINUOUS = "CONTINUOUS"
    INTERMITTENT = "INTERMITTENT"


class Wants(Item):
    """What our handshake acknowledgement asks of the partner. No heartbeat interval: none are asked for."""

    measurement_configuration: tuple[Style, ...] = (Style.INTERMITTENT,)
    heartbeat_interval: Duration | None = timedelta(minutes=5)

    @field_validator("heartbeat_interval")
    @classmethod
    def _can_be_kept(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and not timedelta(seconds=1) <= value <= timedelta(days=1):
            raise ValueError(f"must be from PT1S to P1D, not {iso_duration(value)}; leave it empty (null) to ask for no heartbeats")
        return value


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
    styles: tuple[Style, ...] = Field(default=(Style.INTERMITTENT,), min_length=1)
    unit: Literal["WH", "KWH"] = "KWH"
    directions: Directions = Field(default_factory=_default_directions)
    report_horizon: Span = timedelta(days=7)

    @field_validator("directions")
    @classmethod
    def _defaults_for_the_rest(cls, value: Directions) -> Directions:
        """Each direction once: OSCP has one entry for an asset, quarter and direction."""
        return {**_default_directions(), **{key: tuple(dict.fromkeys(some)) for key, some in value.items()}}


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

    @model_validator(mode="after")
    def _certificate_and_key(self) -> Self:
        if bool(self.client_cert_file) != bool(self.client_key_file):
            missing, given = ("client_key_file", "client_cert_file") if self.client_cert_file else ("client_cert_file", "client_key_file")
            words = f"is missing beside {given}; give both (the same file where it holds both) or neither"
            raise refusal("Tls", [((missing,), words)])
        return self


class Partner(Item):
    """A Capacity Provider connection. The defaults are those of the preset `vector`."""

    id: Identifier
    name: str = ""
    profile: Literal["vector"] = "vector"
    base_url: str | None = None
    initial_token_file: str | None = None
    wants: Wants = Wants()
    heartbeat_grace: Wait = timedelta(seconds=90)
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

    @field_validator("headers")
    @classmethod
    def _headers_can_be_sent(cls, value: dict[str, SecretFile]) -> dict[str, SecretFile]:
        if found := [((name,), words) for name in value if (words := header_objection(name))]:
            raise refusal("headers", found)
        return value

    @field_validator("paths")
    @classmethod
    def _paths_of_messages(cls, value: dict[str, str]) -> dict[str, str]:
        known = f"is no OSCP message; write one of {', '.join(Action)}"
        if found := [((name,), w) for name, path in value.items() if (w := path_objection(path) if name in set(Action) else known)]:
            raise refusal("paths", found)
        return value

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        private = self.allow_private_addresses
        found: list[tuple[tuple[str, ...], str]] = []
        if self.base_url is not None and (words := url_objection(self.base_url, allow_private=private)):
            found.append((("base_url",), words))
        if self.oauth is not None and (words := url_objection(self.oauth.token_url, allow_private=private, query=True)):
            found.append((("oauth", "token_url"), words))
        if found:
            raise refusal("Partner", found)
        return self
