"""`derms up`: everything on this machine, as processes under one supervisor (contract 1)."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.config_file import plan, publish, read_configuration
from gateway.embedded import EmbeddedBroker
from gateway.instance_files import Directory, Endpoints
from gateway.instance_settings import fixed, secret_file, with_secret
from gateway.journal import Journal
from gateway.ports import free_port
from gateway.settings import Settings, clock_of, environment_of, public_url
from gateway.supervisor import Child, Supervisor
from pipelines.views import ConfigChangesView
from schemas.config import Configuration
from schemas.oscp.v20 import BASE_PATH
from schemas.units import rfc3339
from sinks.errors import Unavailable
from sinks.kafka import Producer, create_topics
from sinks.settings import ClickHouseSettings, KafkaSettings

log = logging.getLogger(__name__)

READY_WITHIN_S = 60.0
DRAIN_S = 12.0
PREFERRED_PORTS = (8480, 8481)


@dataclass
class Options:
    """What `derms up` was asked for."""

    directory: Path
    config_file: Path | None = None
    speed: float = 1.0
    origin: datetime | None = None
    force: bool = False
    prefer_ports: bool = False
    attribution: str | None = None


@dataclass
class Instance:
    """One running system. `start`, then `run` until stopped, then `stop`; each blocks."""

    settings: Settings
    options: Options
    say: Callable[[str], None] = field(default=print)
    stop_asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.directory = Directory(self.options.directory)
        self._broker: EmbeddedBroker | None = None
        self._journal: Journal | None = None
        self._said: str | None = None
        self._secret_file: Path | None = None
        self._told: list[dict[str, Any]] = []
        self._supervisor: Supervisor | None = None
        self.endpoints: Endpoints | None = None

    def start(self) -> Endpoints:
        """Bring everything up and write `endpoints.json`. Raises Misconfigured, Unavailable."""
        self.directory.lock()
        wanted = read_configuration(self.options.config_file) if self.options.config_file else None
        self._fix_settings()
        self._begin_life()
        if wanted is not None:
            self._apply(wanted)
        self._start_children()
        self.endpoints = self._endpoints()
        self.directory.write_endpoints(self.endpoints)
        return self.endpoints

    def _fix_settings(self) -> None:
        # A restart keeps the last ports where they are free: partners have the URL.
        ports = PREFERRED_PORTS if self.options.prefer_ports else self.directory.last_ports()
        self.settings = fixed(self.settings, self.directory, preferred=ports, speed=self.options.speed, origin=self.options.origin)
        self._secret_file = secret_file(self.settings, self.directory)
        self.settings = with_secret(self.settings, self._secret_file)

    def _begin_life(self) -> None:
        """Start the embedded broker and history (unless real ones are named) and give the broker back what it should remember."""
        kafka, clickhouse = self.settings.kafka, self.settings.clickhouse
        life = "kafka"
        if "bootstrap" not in kafka.model_fields_set or kafka.embedded:
            # A broker that is started again keeps its address: producers have it.
            port = int(kafka.bootstrap.rpartition(":")[2]) if kafka.embedded else None
            self._broker = EmbeddedBroker(self.settings.embedded.broker, port=port, log=self.directory / "logs" / "broker.log")
            kafka = KafkaSettings(bootstrap=self._broker.start(), embedded=True, replication=1, min_insync=1)
            life = self._broker.incarnation
        if not clickhouse.url or clickhouse.path:
            clickhouse = ClickHouseSettings(url=clickhouse.url or f"http://127.0.0.1:{free_port()}", path=self.directory / "history")
        else:
            _bring_up_to_date(clickhouse)
        self.settings = _with(self.settings, kafka=kafka, clickhouse=clickhouse, incarnation=life)
        create_topics(kafka)
        if self._broker is not None:
            self._journal = Journal(self.directory / "journal")
            self._journal.restore(kafka)
            self._journal.follow(kafka)

    def _apply(self, wanted: Configuration) -> None:
        clock = clock_of(self.settings)
        view = ConfigChangesView(self.settings.kafka, clock)
        view.start()
        try:
            view.wait_ready(10)
            applied = plan(view.changes(), wanted, at=clock.now(), force=self.options.force)
        finally:
            view.stop()
        producer = Producer(self.settings.kafka, "derms-up")
        try:
            publish(applied.changes, producer)
        finally:
            producer.close()
        for key in applied.kept:
            self.say(f"kept {key} as it was changed since; --force lets the file win")

    def _start_children(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DERMS_")}
        environment |= environment_of(_with(self.settings, operator_token=None))
        if self.options.attribution:
            environment["DERMS_ATTRIBUTION"] = self.options.attribution
        roles = ["history", "telemetry", "control", "gateway"]
        if self.settings.clickhouse.path is None:
            roles[0] = "archive"
        run = self.directory / "run"
        run.mkdir(exist_ok=True)
        (run / "processes.json").unlink(missing_ok=True)  # an earlier run's
        children = [
            Child(
                name=role,
                arguments=[sys.executable, "-m", "gateway.processes", role, "--ready", str(run / role)],
                environment=environment,
                log_file=self.directory / "logs" / f"{role}.log",
                ready_file=run / role,
            )
            for role in roles
        ]
        self._supervisor = Supervisor(children)
        self._supervisor.start()
        deadline = time.monotonic() + READY_WITHIN_S
        while not self._supervisor.ready():
            for words in self._supervisor.tick():
                self.say(words)
            self._supervisor.demand_possible()
            if self.stop_asked.wait(0.05):
                raise Unavailable("stopped while starting")
            if time.monotonic() > deadline:
                late = [child.name for child in children if not child.ready_file.exists()]
                raise Unavailable(f"not ready within {READY_WITHIN_S:g} s: {', '.join(late)}; see {self.directory / 'logs'}")

    def _endpoints(self) -> Endpoints:
        gateway, clock = self.settings.gateway, self.settings.clock
        now = datetime.now(UTC)
        origin, started = clock.origin or now, clock.started or now
        return Endpoints(
            kafka_bootstrap=self.settings.kafka.bootstrap,
            oscp_url=public_url(self.settings) + BASE_PATH,
            # A certificate is good for the names in it: with TLS the URL that was set is the one to call.
            operations_url=((gateway.operations_tls_cert_file and gateway.operations_url) or gateway.local_operations_url).rstrip("/"),
            clickhouse_url=self.settings.clickhouse.url,
            operator_token_file=str(self.directory / "operator-token"),
            pid=os.getpid(),
            clock={"origin": rfc3339(origin), "speed": clock.speed, "started": rfc3339(started)},
            kafka_embedded=self.settings.kafka.embedded,
            topic_prefix=self.settings.kafka.topic_prefix,
            operations_ca_file=str(gateway.operations_ca_file.absolute()) if gateway.operations_ca_file else "",
        )

    def run(self) -> None:
        """Watch over the processes until `stop_asked` is set."""
        while not self.stop_asked.wait(0.25):
            self.watch()

    def watch(self) -> None:
        """Start again what died. A broker that died forgot everything: then a new life begins for all."""
        if self._broker is not None and not self._broker.alive():
            self.say("the embedded broker ended and forgot everything; starting all again")
            self._end_life()
            self._begin_life()
            self._start_children()
            self.endpoints = self._endpoints()
            self.directory.write_endpoints(self.endpoints)
        elif self._supervisor is not None and (changed := with_secret(self.settings, self._secret_file)).secret != self.settings.secret:
            self.settings = changed
            self.say("the installation secret was changed; starting the processes again")
            self._supervisor.stop(DRAIN_S)
            self._start_children()
        elif self._supervisor is not None:
            for words in self._supervisor.tick():
                self.say(words)
            self._tell_processes()
        failure = self._journal.failure if self._journal is not None else None
        if failure != self._said:
            self._said = failure
            self.say(failure or "the journal is written again")

    def _tell_processes(self) -> None:
        """Write down what runs, when it changes: the gateway shows it."""
        if self._supervisor is None or (found := self._supervisor.report()) == self._told:
            return
        self._told = found
        part = self.directory / "run" / "processes.json.part"
        part.write_text(json.dumps({"processes": found}))
        part.rename(self.directory / "run" / "processes.json")

    def _end_life(self) -> list[str]:
        killed: list[str] = []
        supervisor, journal, broker = self._supervisor, self._journal, self._broker
        self._supervisor = self._journal = self._broker = None
        try:
            if supervisor is not None:
                killed = supervisor.stop(DRAIN_S)
            if journal is not None:
                journal.stop()
        except Unavailable as error:
            self.say(error.words)
        finally:
            if broker is not None:
                broker.stop()
        return killed

    def stop(self) -> list[str]:
        """Drain and end everything; the names of processes that had to be killed. Nothing, where another has the directory."""
        if not self.directory.locked:
            return []
        self.directory.endpoints_file.unlink(missing_ok=True)
        killed = self._end_life()
        self.directory.unlock()
        return killed


def _bring_up_to_date(settings: ClickHouseSettings) -> None:
    """Check that the named history answers, and migrate it. Raises Misconfigured, Refused, Unavailable."""
    from sinks.clickhouse.client import open_store  # only here: with the embedded history another process has the client
    from sinks.clickhouse.migrations import migrate

    store = open_store(settings)
    try:
        migrate(store)
    finally:
        store.close()


def _with(settings: Settings, **changes: object) -> Settings:
    return settings.model_copy(update=changes)
