"""What an instance keeps in its directory: the lock, the secret, the operator token, `endpoints.json` (contract 1)."""

import base64
import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sinks.errors import Misconfigured


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where a running instance is to be found. Addresses are loopback unless the settings name URLs; paths are absolute."""

    kafka_bootstrap: str
    oscp_url: str
    operations_url: str
    clickhouse_url: str
    operator_token_file: str
    pid: int
    clock: dict[str, Any]
    kafka_embedded: bool = False
    topic_prefix: str = ""
    operations_ca_file: str = ""
    """The authority whose certificate the operations listener shows, where it is one of our own."""

    def operator_token(self) -> str:
        """The token for the operations API, read from its file."""
        return Path(self.operator_token_file).read_text().strip()


class Directory:
    """An instance's directory; made where missing, mode 0700."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Misconfigured("--data", f"{error.strerror}: {path}", "name a directory that can be written") from None
        self._lock: int | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def lock(self) -> None:
        """Take the directory for this process. Raises Misconfigured where another instance has it."""
        try:
            handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured("--data", f"{error.strerror}: {self.path}", "name a directory that can be written") from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise Misconfigured(
                "--data", f"{self.path.name} is in use by another running instance", "stop it or name another directory"
            ) from None
        self._lock = handle

    @property
    def locked(self) -> bool:
        """Whether this process has the directory."""
        return self._lock is not None

    def unlock(self) -> None:
        """Give the directory back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def secret(self) -> str:
        """The installation secret (32 bytes, base64), made at first use."""
        return self._kept("secret", lambda: base64.b64encode(secrets.token_bytes(32)).decode())

    @property
    def secret_file(self) -> Path:
        """Where it is kept."""
        return self.path / "secret"

    def last_ports(self) -> tuple[int | None, int | None]:
        """The OSCP and operations ports of the last run here; None where there was none."""
        try:
            first, second = json.loads((self.path / "ports.json").read_text())
            return int(first), int(second)
        except (OSError, ValueError, TypeError):
            return None, None

    def keep_ports(self, ports: list[int]) -> None:
        """Remember the ports for the next run."""
        (self.path / "ports.json").write_text(json.dumps(ports))

    def _kept(self, name: str, make: Any) -> str:
        path = self.path / name
        if not path.exists():
            write_private(path, make())
        return path.read_text().strip()

    @property
    def endpoints_file(self) -> Path:
        """The file by which others find a running instance."""
        return self.path / "endpoints.json"

    def write_endpoints(self, endpoints: Endpoints) -> None:
        """Write it whole (by rename): who sees it, sees it complete."""
        part = self.path / "endpoints.json.part"
        part.write_text(json.dumps(asdict(endpoints), indent=2) + "\n")
        part.rename(self.endpoints_file)


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all."""
    part = path.with_name(path.name + ".part")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def read_endpoints(path: Path) -> Endpoints | None:
    """The endpoints of the instance in directory `path`; None where none is running."""
    try:
        found = Endpoints(**json.loads((path / "endpoints.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    try:
        os.kill(found.pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return found
