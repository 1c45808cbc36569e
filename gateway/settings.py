"""All settings (contract 2): read from `DERMS_*`, nested names with `__`, every secret also as `..._FILE`."""

import base64
import binascii
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from gateway.listener_settings import GatewaySettings
from schemas.clock import DEFAULT_FLOOR, Clock, ScaledClock, SystemClock
from sinks.errors import Misconfigured
from sinks.secrets import Secrets
from sinks.settings import CircuitsSettings, ClickHouseSettings, KafkaSettings, Part

PREFIX = "DERMS_"
SECRETS = ("SECRET", "SECRET_PREVIOUS", "KAFKA__SASL_PASSWORD", "CLICKHOUSE__PASSWORD", "CIRCUITS__TOKEN", "OPERATOR_TOKEN")
EXAMPLES = {
    "DERMS_KAFKA__BOOTSTRAP": "broker-1:9092,broker-2:9092",
    "DERMS_CLICKHOUSE__URL": "http://clickhouse:8123",
    "DERMS_GATEWAY__OSCP_PORT": "8480",
    "DERMS_GATEWAY__OPERATIONS_PORT": "8481",
    "DERMS_GATEWAY__PUBLIC_URL": "https://derms.example",
    "DERMS_GATEWAY__OPERATIONS_URL": "https://derms.example:8481",
    "DERMS_GATEWAY__OSCP_TLS_CERT_FILE": "/etc/derms/oscp-chain.pem",
    "DERMS_GATEWAY__OSCP_TLS_KEY_FILE": "/etc/derms/oscp-key.pem",
    "DERMS_GATEWAY__OSCP_CLIENT_CA_FILE": "/etc/derms/partners-ca.pem",
    "DERMS_GATEWAY__OPERATIONS_TLS_CERT_FILE": "/etc/derms/operations-chain.pem",
    "DERMS_GATEWAY__OPERATIONS_TLS_KEY_FILE": "/etc/derms/operations-key.pem",
    "DERMS_GATEWAY__OPERATIONS_CA_FILE": "/etc/derms/our-ca.pem",
    "DERMS_GATEWAY__TRUSTED_PROXIES": "10.0.0.5,10.1.0.0/24",
    "DERMS_SECRET": "the output of: openssl rand -base64 32",
    "DERMS_CLOCK__FLOOR": "PT2S",
    "DERMS_CIRCUITS__URL": "https://circuits.example/api",
    "DERMS_CIRCUITS__CA_FILE": "/etc/derms/circuits-ca.pem",
}


class ClockSettings(Part):
    """`DERMS_CLOCK__*`: the wall-time floor of allowances, and a scaled clock where `origin` is set."""

    floor: timedelta = DEFAULT_FLOOR
    origin: AwareDatetime | None = None
    started: AwareDatetime | None = None
    speed: float = Field(default=1.0, gt=0, le=100_000, allow_inf_nan=False)


class EmbeddedSettings(Part):
    """`DERMS_EMBEDDED__*`: another Kafka-compatible executable in the embedded broker's place."""

    broker: Path | None = None


class Settings(BaseSettings):
    """Everything an installation can be told through its environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)

    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    gateway: GatewaySettings = GatewaySettings()
    circuits: CircuitsSettings = CircuitsSettings()
    clock: ClockSettings = ClockSettings()
    embedded: EmbeddedSettings = EmbeddedSettings()
    secret: SecretStr | None = None
    secret_previous: SecretStr | None = None
    data: Path | None = None
    operators_file: Path | None = None
    operator_token: SecretStr | None = None
    incarnation: str = "kafka"
    attribution: str | None = None

    @field_validator("secret", "secret_previous")
    @classmethod
    def _thirty_two_bytes(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                size = len(base64.b64decode(value.get_secret_value(), validate=True))
            except binascii.Error:
                raise ValueError("is not base64") from None
            if size != 32:
                raise ValueError(f"must be 32 bytes in base64, this is {size}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: `load` reads the environment once, `..._FILE` included."""
        return (init_settings,)


class _Environment(EnvSettingsSource):
    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {name.lower(): value for name, value in environment.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environment


def _with_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The `DERMS_*` part of the environment with `..._FILE` secrets read from their files."""
    found = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if (file := found.get(f"{PREFIX}SECRET_FILE")) and not found.keys() & {f"{PREFIX}SECRET_PREVIOUS", f"{PREFIX}SECRET_PREVIOUS_FILE"}:
        aside = Path(f"{file}.previous")  # where `derms secret rotate` puts it
        found |= {f"{PREFIX}SECRET_PREVIOUS_FILE": str(aside)} if aside.exists() else {}
    for secret in SECRETS:
        name = f"{PREFIX}{secret}"
        path = found.pop(f"{name}_FILE", None)
        if path is None:
            continue
        try:
            found[name] = Path(path).read_text().strip()
        except OSError as error:
            cure = "name a file that can be read"
            raise Misconfigured(f"{name}_FILE", f"{error.strerror or 'cannot be read'}: {path}", cure) from None
    return found


def _field(name: str) -> str:
    return name.removeprefix(PREFIX).lower()


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of `environment` (default: this process's). Raises Misconfigured with the full name, the problem and an example."""
    found = _with_files(os.environ if environment is None else environment)
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    for name in sorted(found):
        if not any(name == head or name.startswith(f"{head}__") for head in known):
            raise Misconfigured(name, "is not a setting", "the settings page of the documentation lists them all")
    try:
        return Settings(**_Environment(found)())
    except SettingsError:
        group = next(
            (name for name in sorted(found) if name in known and isinstance(Settings.model_fields[_field(name)].default, Part)), PREFIX
        )
        raise Misconfigured(group, "is a group of settings, not one", f"write {group}__NAME") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = PREFIX + "__".join(str(part).upper() for part in first["loc"])
        example = EXAMPLES.get(name)
        problem = first["msg"].removeprefix("Value error, ")
        raise Misconfigured(name, problem, f"for example {example}" if example else "see the settings page") from None


def clock_of(settings: Settings) -> Clock:
    """The clock the settings describe: the system's, or a scaled one shared by all processes that have the same three values."""
    clock = settings.clock
    if clock.origin is None and clock.speed == 1.0:
        return SystemClock()
    started = clock.started or datetime.now(UTC)
    return ScaledClock(clock.origin or started, started, clock.speed, clock.floor)


def secrets_of(settings: Settings) -> Secrets:
    """What is made with the installation secret, and understood of the one before it. Raises Misconfigured where none is set."""
    if settings.secret is None:
        raise Misconfigured("DERMS_SECRET", "is not set", "32 bytes in base64, such as: openssl rand -base64 32")
    previous = settings.secret_previous
    return Secrets.from_base64(settings.secret.get_secret_value(), previous.get_secret_value() if previous else None)


def public_url(settings: Settings) -> str:
    """The URL partners reach the OSCP side under, without the OSCP path."""
    return (settings.gateway.public_url or settings.gateway.local_oscp_url).rstrip("/")


def environment_of(settings: Settings) -> dict[str, str]:
    """The settings as environment variables, for a child process. Secrets are passed in the environment, never on a command line."""
    found: dict[str, str] = {}

    def put(prefix: str, value: object) -> None:
        match value:
            case None:
                return
            case SecretStr():
                found[prefix] = value.get_secret_value()
            case Part():
                for name in type(value).model_fields:
                    put(f"{prefix}__{name.upper()}", getattr(value, name))
            case datetime():
                found[prefix] = value.isoformat()
            case timedelta():
                found[prefix] = f"PT{value.total_seconds():f}S"
            case _:
                found[prefix] = str(value)

    for field in Settings.model_fields:
        put(f"{PREFIX}{field.upper()}", getattr(settings, field))
    return found
