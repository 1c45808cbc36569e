"""How the hands reach what they write to (contract 2). Composed and read from the environment in `gateway.settings`."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator


class Part(BaseModel):
    """One group of settings; unknown names are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(Part):
    """`DERMS_KAFKA__*`. `embedded` is set by `derms up` for the embedded broker, which wants other fetch settings."""

    bootstrap: str = "127.0.0.1:9092"
    topic_prefix: str = ""
    replication: int = Field(default=3, ge=1)
    min_insync: int = Field(default=2, ge=1)
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ca_file: Path | None = None
    embedded: bool = False


class ClickHouseSettings(Part):
    """`DERMS_CLICKHOUSE__*`. With `path` the store is embedded in this process, else `url` names a server."""

    url: str = ""
    database: str = "derms"
    user: str = "default"
    password: SecretStr = SecretStr("")
    path: Path | None = None


class CircuitsSettings(Part):
    """`DERMS_CIRCUITS__*`: the legacy platform's circuit API; without `url` nothing is written. `ca_file` holds the authorities to
    believe instead of the public ones."""

    url: str | None = None
    token: SecretStr | None = None
    ca_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _absolute(cls, value: str | None) -> str | None:
        if not value:
            return None
        try:
            parts = urlsplit(value)
            whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
        except ValueError:
            whole = False
        if not whole:
            raise ValueError("is not an absolute http(s) URL")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError("must have no credentials, query or fragment: a token goes into DERMS_CIRCUITS__TOKEN")
        return value
