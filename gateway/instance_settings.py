"""What all lives of an instance share, decided once at its start: ports, clock, operator token, secret (contract 1, 2)."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import SecretStr

from gateway.auth import Operators, add_operator
from gateway.instance_files import Directory, write_private
from gateway.ports import free_port, is_free
from gateway.rotation import previous_of
from gateway.settings import ClockSettings, Settings
from gateway.tls import SIDES, certificates_of
from sinks.errors import Misconfigured


def fixed(
    settings: Settings, directory: Directory, *, preferred: Sequence[int | None], speed: float = 1.0, origin: datetime | None = None
) -> Settings:
    """The settings with everything in them that was left open. `preferred` are the ports to take where they are free; `speed` other
    than 1 and `origin` are what was asked for on the command line. Raises Misconfigured for what cannot be."""
    gateway, clock = settings.gateway, settings.clock
    for side in SIDES:
        certificates_of(gateway, side)  # what is wrong with them is said here, not in a log
    ports = [
        (getattr(gateway, name) if name in gateway.model_fields_set else 0) or free_port(wanted)
        for name, wanted in zip(("oscp_port", "operations_port"), preferred, strict=True)
    ]
    for name, port in zip(("OSCP_PORT", "OPERATIONS_PORT"), ports, strict=True):
        if ports.count(port) > 1 or not is_free(port):
            raise Misconfigured(f"DERMS_GATEWAY__{name}", f"port {port} is in use", "free it, or set another")
    directory.keep_ports(ports)
    gateway = gateway.model_copy(update={"oscp_port": ports[0], "operations_port": ports[1]})
    speed = speed if speed != 1.0 else clock.speed
    begins = origin or clock.origin
    if begins is not None or speed != 1.0:
        # Said once for all processes: each would else count from its own start.
        started = (None if origin else clock.started) or datetime.now(UTC)
        clock = ClockSettings(floor=clock.floor, origin=begins or started, started=started, speed=speed)
    operators = settings.operators_file or directory / "operators.json"
    token_file = directory / "operator-token"
    if not token_file.exists() or Operators(operators).by_token(token_file.read_text().strip()) is None:
        write_private(token_file, add_operator(operators, "instance", "admin"))
    return settings.model_copy(update={"gateway": gateway, "clock": clock, "operators_file": operators, "data": directory.path})


def secret_file(settings: Settings, directory: Directory) -> Path | None:
    """Where the installation secret is kept: the file the environment names, or the directory's own, made at the first start; None
    where the secret itself is in the environment."""
    named = os.environ.get("DERMS_SECRET_FILE")
    if named:
        return Path(named)
    if settings.secret is not None:
        return None
    directory.secret()
    return directory.secret_file


def with_secret(settings: Settings, file: Path | None) -> Settings:
    """The settings with the secret in `file`, and the one before it where a rotation is under way."""
    if file is None or not file.exists():
        return settings
    secret, aside = SecretStr(file.read_text().strip()), previous_of(file)
    previous = SecretStr(aside.read_text().strip()) if aside.exists() else None
    return settings.model_copy(update={"secret": secret, "secret_previous": previous})
