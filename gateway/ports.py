"""Loopback ports: which are free right now. Somebody else may take one between the look and the use."""

import socket

from sinks.errors import Unavailable

HOST = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether nobody listens on the port at loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """A loopback TCP port nobody listens on: `preferred` if it is free, else any. Raises Unavailable where there is none."""
    if preferred is not None and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        try:
            probe.bind((HOST, 0))
        except OSError:
            raise Unavailable("no free port on loopback") from None
        return int(probe.getsockname()[1])
