"""Starting what users start: `derms up` and peers, as processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.instance_files import Endpoints, read_endpoints
from sinks.errors import Unavailable
from sinks.http import Answer, fetch

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("DERMS_")}
LIMIT_S = 60.0


def derms(*arguments: str, data: Path | None = None, timeout_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    environment = CLEAN | ({"DERMS_DATA": str(data)} if data else {})
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments], env=environment, capture_output=True, text=True, timeout=timeout_s
    )


def until(condition: Callable[[], Any], what: str, timeout_s: float = LIMIT_S) -> Any:
    """Wait for `condition` to be true and return its value; fails with `what` after the limit."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = condition()
        except (Unavailable, OSError) as error:
            last = error
        else:
            if last:
                return last
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {last!r}")


def stand_still(pid: int) -> None:
    """SIGSTOP, and wait until it has stopped: on a busy machine some of its threads go on for a while."""
    os.kill(pid, signal.SIGSTOP)

    def stopped() -> bool:
        states = [file.read_text().rpartition(")")[2].split()[0] for file in Path(f"/proc/{pid}/task").glob("*/stat")]
        return bool(states) and all(state == "T" for state in states)

    until(stopped, f"process {pid} stands still")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def reserved_port() -> socket.socket:
    """A port that nobody is given by chance as long as the socket lives, though whoever asks for it by its number may listen there:
    for addresses that have to be known long before they are used."""
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind(("127.0.0.1", 0))
    return kept


@contextmanager
def process(arguments: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped (SIGTERM, then SIGKILL) at the end."""
    with log.open("wb") as words:
        started = subprocess.Popen(arguments, env=CLEAN | environment, stdout=words, stderr=words)
    try:
        yield started
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait(5)


@contextmanager
def up(directory: Path, *arguments: str, **environment: str) -> Iterator[Endpoints]:
    """`derms up` in `directory`, ready."""
    log = directory.parent / "up.log"
    command = [sys.executable, "-m", "gateway.cli", "up", "--data", str(directory), *arguments]
    with process(command, log, **environment) as started:

        def ready() -> Endpoints | None:
            assert started.poll() is None, log.read_text()
            return read_endpoints(directory)

        yield until(ready, f"derms up ready; {log.read_text()}")


def api(endpoints: Endpoints, method: str, path: str, body: Any = None) -> Any:
    """Call the operations API as the instance's operator; the JSON of a good answer."""
    answer = call(endpoints, method, path, body)
    assert answer.status < 300, answer.body
    return json.loads(answer.body) if answer.body else None


def call(endpoints: Endpoints, method: str, path: str, body: Any = None) -> Answer:
    """Call the operations API as the instance's operator."""
    headers = {"Authorization": f"Bearer {endpoints.operator_token()}", "Content-Type": "application/json"}
    return fetch(
        method, f"{endpoints.operations_url}/api/v1{path}", headers=headers, content=None if body is None else json.dumps(body).encode()
    )
