"""A real Apache Kafka 4.3.1 (KRaft, one node) as a process, without Docker: jars by Maven, started with java (brokers.md).

`python -m tests.kafka.broker --dir DIR --port P` runs one until Ctrl-C; tests start theirs through `ApacheKafka`.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from gateway.embedded import die_with_parent
from gateway.ports import HOST, free_port
from sinks.kafka import client_config
from sinks.settings import KafkaSettings

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "kafka"
CLUSTER_ID = "dmVjdG9yLWRlcm1zLWthZg"
START_TIMEOUT_S = 90.0
# Slow machines compile little and collect little: the broker is up in 3 s instead of 5.
JVM = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{advertised}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={logs}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def missing_tools() -> str | None:
    """Why a real broker cannot run on this machine; None when it can."""
    absent = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    return f"Apache Kafka needs {' and '.join(absent)}, not found on PATH" if absent else None


def jars(cache: Path = CACHE) -> Path:
    """The folder of Kafka's jars; fetched by Maven the first time (44 MB), by one process at a time."""
    lib, pom = cache / "lib", HERE / "pom.xml"
    done = lib / ".complete"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != pom.read_text():
            shutil.rmtree(lib, ignore_errors=True)
            arguments = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", f"-DoutputDirectory={lib}"]
            fetched = subprocess.run([*arguments, "-DincludeScope=runtime"], capture_output=True, text=True, check=False)
            if fetched.returncode != 0:
                raise RuntimeError(f"Maven could not fetch Apache Kafka: {(fetched.stdout + fetched.stderr).strip()[-2000:]}")
            done.write_text(pom.read_text())
    return lib


class ApacheKafka:
    """One broker with its data in `directory`; started again on the same directory it has what it had.

    `advertised` is the port clients are told to come to, where that is another one, with something between.
    """

    def __init__(self, directory: Path, port: int | None = None, jvm: Sequence[str] = JVM, advertised: int | None = None) -> None:
        self.directory, self._jvm = directory, jvm
        self.port, self._controller = port or free_port(), free_port()
        self.advertised = advertised or self.port
        self.bootstrap = f"{HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def exited(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def start(self) -> str:
        """Start and return the bootstrap address once it answers. From the main thread (`die_with_parent`)."""
        lib = jars()
        self.directory.mkdir(parents=True, exist_ok=True)
        properties = self.directory / "server.properties"
        logs = self.directory / "data"
        properties.write_text(
            PROPERTIES.format(host=HOST, port=self.port, advertised=self.advertised, controller=self._controller, logs=logs)
        )
        java = ["java", *self._jvm, "-cp", f"{lib}/*"]
        with (self.directory / "broker.log").open("ab") as out:
            if not logs.exists():
                arguments = ["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties), "--ignore-formatted"]
                subprocess.run([*java, *arguments], stdout=out, stderr=out, check=True, timeout=60)
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                preexec_fn=die_with_parent,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Apache Kafka did not start; see {self.directory / 'broker.log'}")
        return self.bootstrap

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=0.5).close()
        except OSError:
            time.sleep(0.05)
            return False
        admin = AdminClient(client_config(KafkaSettings(bootstrap=self.bootstrap, embedded=True), "tests"))
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def stop(self, timeout: float = 20.0) -> None:
        """End it as an operator would."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kill(self) -> None:
        """SIGKILL, as a machine that loses power for an instant."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def shared(directory: Path, watch: int) -> Iterator[str]:
    """The bootstrap address of one broker for all processes that ask with the same `directory`: the first starts it,
    the last stops it, and it ends by itself when process `watch` (who runs the tests) is gone."""
    directory.mkdir(parents=True, exist_ok=True)
    users, address = directory / "users", directory / "address"
    with _alone(directory):
        count = int(users.read_text()) if users.exists() else 0
        if not count:
            address.unlink(missing_ok=True)
            own = ["--dir", str(directory / "broker"), "--port", str(free_port()), "--watch", str(watch), "--address", str(address)]
            helper = _detached([sys.executable, "-m", "tests.kafka.broker", *own], directory / "helper.log")
            deadline = time.monotonic() + START_TIMEOUT_S + 120  # Maven may have to fetch first
            while not address.exists():
                if not _alive(helper) or time.monotonic() > deadline:
                    raise RuntimeError(f"the shared Apache Kafka did not start: {(directory / 'helper.log').read_text()[-2000:]}")
                time.sleep(0.05)
        users.write_text(str(count + 1))
        bootstrap, pid = address.read_text().split()
    try:
        yield bootstrap
    finally:
        with _alone(directory):
            count = int(users.read_text()) - 1
            users.write_text(str(count))
            if count == 0:
                _end(int(pid))


def _detached(arguments: list[str], log: Path) -> int:
    """Start a process that is not ours in life and death: another of us may need it longer."""
    with log.open("ab") as out, Path(os.devnull).open("rb") as nothing:
        streams = [(os.POSIX_SPAWN_DUP2, source.fileno(), number) for number, source in enumerate((nothing, out, out))]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
        return os.posix_spawn(arguments[0], arguments, environment, file_actions=streams, setsid=True)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 25
    while time.monotonic() < deadline and _alive(pid):
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        # Where it is our own child: fetch its end, or it stays as a zombie and looks alive.
        if os.waitpid(pid, os.WNOHANG) == (0, 0):
            return True
    except ChildProcessError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description="A real Apache Kafka broker on this machine, until Ctrl-C.")
    parser.add_argument("--dir", type=Path, required=True, help="where it keeps its data")
    parser.add_argument("--port", type=int, default=9092)
    parser.add_argument("--watch", type=int, help="end when this process is gone")
    parser.add_argument("--address", type=Path, help="write 'bootstrap pid' here when ready")
    options = parser.parse_args()
    if (reason := missing_tools()) is not None:
        print(f"{reason}. Install a JDK 17 or later and Maven, or use docker compose up kafka.", file=sys.stderr)
        return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    broker = ApacheKafka(options.dir.resolve(), options.port)
    print("fetching Apache Kafka 4.3.1 if it is not here yet, and starting it ...", flush=True)
    try:
        broker.start()
    except (RuntimeError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"Apache Kafka listens on {broker.bootstrap}; its data and log are in {broker.directory}. Ctrl-C stops it.", flush=True)
    print(f"export DERMS_KAFKA__BOOTSTRAP={broker.bootstrap} DERMS_KAFKA__REPLICATION=1 DERMS_KAFKA__MIN_INSYNC=1", flush=True)
    if options.address is not None:
        ready = options.address.with_suffix(".new")
        ready.write_text(f"{broker.bootstrap} {os.getpid()}")
        ready.rename(options.address)
    while not stop.wait(0.3) and (options.watch is None or _alive(options.watch)):
        if broker.exited():
            print(f"Apache Kafka ended by itself; see {broker.directory / 'broker.log'}", file=sys.stderr)
            return 1
    broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
