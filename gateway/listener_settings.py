"""`DERMS_GATEWAY__*`: what the two listeners of the web side are told (contract 2)."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from gateway.proxies import networks
from sinks.settings import Part

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - nothing is bound here
"""What is listened on to be reached at every address, and where such a listener is reached on its own machine."""


class GatewaySettings(Part):
    """`DERMS_GATEWAY__*`: where the two listeners listen, their certificates and limits, and the URLs they are reached under."""

    oscp_host: str = "127.0.0.1"
    oscp_port: int = Field(default=8480, ge=0, le=65535)
    oscp_tls_cert_file: Path | None = None
    oscp_tls_key_file: Path | None = None
    oscp_client_ca_file: Path | None = None
    oscp_max_connections: int = Field(default=6000, ge=1)
    public_url: str | None = None
    operations_host: str = "127.0.0.1"
    operations_port: int = Field(default=8481, ge=0, le=65535)
    operations_tls_cert_file: Path | None = None
    operations_tls_key_file: Path | None = None
    operations_max_connections: int = Field(default=500, ge=1)
    operations_url: str | None = None
    operations_ca_file: Path | None = None
    trusted_proxies: str = ""

    @field_validator("public_url", "operations_url")
    @classmethod
    def _web_address(cls, value: str | None) -> str | None:
        return None if value is None else web_address(value)

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str) -> str:
        networks(value)
        return value

    @property
    def local_oscp_url(self) -> str:
        """Where the OSCP listener is reached from this machine."""
        return f"{'http' if self.oscp_tls_cert_file is None else 'https'}://{_local(self.oscp_host)}:{self.oscp_port}"

    @property
    def local_operations_url(self) -> str:
        """Where the operations listener is reached from this machine."""
        return f"{'http' if self.operations_tls_cert_file is None else 'https'}://{_local(self.operations_host)}:{self.operations_port}"

    @property
    def operations_hosts(self) -> list[str]:
        """Host names the operations listener answers to, besides loopback: those of its URL and of the address it listens on."""
        named = urlsplit(self.operations_url).hostname if self.operations_url else None
        return [host for host in (named, self.operations_host) if host and host not in EVERYWHERE]


def _local(host: str) -> str:
    host = EVERYWHERE.get(host, host)
    return f"[{host}]" if ":" in host else host


def web_address(value: str) -> str:
    """`value` if it is an absolute http(s) URL with a host; ValueError else."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an http(s) URL with a host")
    return value
