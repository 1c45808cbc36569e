"""How the hands reach what they write to (contract 2). Composed and read from the environment in `gateway.settings`."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


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
    """`DERMS_CIRCUITS__*`: the legacy platform's circuit API; without `url` nothing is written."""

    url: str | None = None
    token: SecretStr | None = None
