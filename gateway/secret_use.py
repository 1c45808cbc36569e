"""Which installation secret the processes work with: said by each while it runs, asked before an old secret is removed."""

import logging
import socket
import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta

from schemas.clock import SystemClock
from schemas.errors import Undecodable
from schemas.facts import derived_id
from schemas.flows import SecretInUse
from schemas.topics import FLOW_REPORTS
from sinks.codec import decode
from sinks.errors import OutsideError
from sinks.kafka import Follower, Producer, RawRecord
from sinks.settings import KafkaSettings

log = logging.getLogger(__name__)

EVERY_S = 30.0
GONE_AFTER = timedelta(seconds=100)
"""A process that has said nothing for so long (wall) does not run any more, or does not reach the broker and so keeps nothing."""
TIMEOUT_S = 5.0
READ_WITHIN_S = 15.0


def process_name(role: str) -> str:
    """What a process is called on its topic: its machine and what it does there."""
    return f"{socket.gethostname()}/{role}"


class SecretReporter:
    """Says which secret this process works with, from `start` until `stop`, in a thread of its own."""

    def __init__(self, kafka: KafkaSettings, role: str, key_id: str, every_s: float = EVERY_S) -> None:
        self._kafka, self._process, self._key_id, self._every_s = kafka, process_name(role), key_id, every_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="secret-in-use", daemon=True)

    def start(self) -> None:
        """Say it now, and from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Say that it is not used here any more; blocks at most `TIMEOUT_S`. Harmless twice, and without a start."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT_S)

    def _run(self) -> None:
        producer = Producer(self._kafka, "derms-secret-in-use", timeout_s=TIMEOUT_S)
        while True:
            ended = self._stopping.is_set()
            at = SystemClock().now()
            said = SecretInUse(
                event_id=derived_id("secret-in-use", self._process, at), at=at, process=self._process, key_id=self._key_id, ended=ended
            )
            try:
                producer.send(FLOW_REPORTS, said.key, said)
                producer.flush()
            except OutsideError as error:
                log.warning("which secret is in use could not be said: %s", error)
            if ended:
                return
            self._stopping.wait(self._every_s)


def in_use(kafka: KafkaSettings) -> Mapping[str, str]:
    """The key id of each process that runs, by its name. Blocks while the topic is read; raises Unavailable where that fails."""
    last: dict[str, tuple[SecretInUse, RawRecord]] = {}

    def take(records: Sequence[RawRecord]) -> None:
        for record in records:
            try:
                value = decode(record.raw, FLOW_REPORTS)
            except Undecodable:
                continue
            if isinstance(value, SecretInUse):
                last[value.process] = (value, record)

    follower = Follower(kafka, [FLOW_REPORTS], take, client_id="derms-secrets-in-use")
    follower.start()
    try:
        follower.wait_ready(READ_WITHIN_S)
    finally:
        follower.stop()
    oldest = SystemClock().now() - GONE_AFTER
    return {name: said.key_id for name, (said, record) in last.items() if not said.ended and record.appended_at >= oldest}
