"""A lease as membership in a consumer group on Kafka: who is assigned the one partition of a topic has it (semantics 8.1).

The broker gives the partition to another member when ours has not been heard of for `session_s`. So each renewal is
a commit, which the broker takes from a present member only: it proves that nobody else had the partition when it was
sent, nor can have it before `session_s` after that. For a margin less than that the lease is known to be good.

What is committed also says who has it. That is how the next one knows whether somebody else had it since its own state was
kept, and how one whose membership lapsed (a broker that was away, a process that stood still) knows that it may go on.
"""

import contextlib
import json
import logging
import threading
import uuid
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from schemas.topics import CONFIG
from sinks.errors import Misconfigured
from sinks.kafka_clients import LOGGER, close_committing, topic_name
from sinks.lease import Holder, Spokesman, Timing, lease_seconds, this_process
from sinks.lease_group import CURES, member_config, misconfigured
from sinks.settings import KafkaSettings

log = logging.getLogger(__name__)

RELEASE_WITHIN_S = 2.0
_POLL_S = 0.05
_ASK_EVERY_S = 1.0
_ASK_WITHIN_S = 2.0


class KafkaLease:
    """The lease `name`, shared by all installations of one topic prefix. A thread of its own does everything.

    Needs the rights to read the topic `derms.config` and the group `derms-lease-NAME`.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        name: str,
        spokesman: Spokesman | None = None,
        *,
        timing: Timing | None = None,
        seconds: Callable[[], float] = lease_seconds,
        client: Callable[[dict[str, Any]], Any] = Consumer,
    ) -> None:
        self._name, self._spokesman = name, spokesman or Spokesman()
        self._timing, self._seconds, self._client = timing or Timing(), seconds, client
        self._topic = topic_name(settings, CONFIG)
        self._group = f"{settings.topic_prefix}derms-lease-{name}"
        self._config = member_config(settings, self._group, self._timing) | {"on_commit": self._renewed}
        self._me = Holder(uuid.uuid4().hex, who=this_process())
        self._assigned = self._led = self._told = self._confirmed = False
        self._good_until = self._renew_at = self._ask_at = -1.0
        self._asked_at: float | None = None
        self._failure: Misconfigured | None = None
        self._lost, self._ending, self._settled = threading.Event(), threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self, stop: threading.Event) -> bool:
        """As `Lease.acquire`; also raises Misconfigured for rights that are missing on the broker. A broker that is away is waited for."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=f"lease-{self._name}", daemon=True)
            self._thread.start()
        while not stop.is_set():
            if self._settled.wait(_POLL_S):
                if self._failure is not None:
                    raise self._failure
                return True
        return False

    def good_for(self) -> float:
        """As `Lease.good_for`."""
        return 0.0 if self._lost.is_set() else max(0.0, self._good_until - self._seconds())

    def held(self) -> bool:
        """As `Lease.held`."""
        return self.good_for() > 0.0

    def write_within_s(self) -> float:
        """As `Lease.write_within_s`."""
        return self._timing.margin_s

    def lost(self) -> bool:
        """As `Lease.lost`."""
        return self._lost.is_set()

    def release(self) -> None:
        """As `Lease.release`: the membership ends, too."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join(RELEASE_WITHIN_S + 3.0)

    def _serve(self) -> None:
        consumer = self._client(self._config)
        try:
            consumer.subscribe([self._topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)
            while not self._ending.is_set() and not self._lost.is_set() and self._failure is None:
                self.turn(consumer)
            self._farewell(consumer)
        except (KafkaException, Misconfigured) as error:
            self._fail(error if isinstance(error, Misconfigured) else misconfigured(self._group, str(error)))
        finally:
            self._good_until = -1.0
            close_committing(consumer)

    def turn(self, consumer: Any) -> None:
        """One look at the broker and the clock; called again and again by the lease's thread."""
        message = consumer.poll(_POLL_S)
        if message is not None and message.error() is not None:
            self._heed(message.error())
        now = self._seconds()
        if not self._assigned:
            self._confirmed = False
            if now >= self._ask_at:
                self._ask_at = now + _ASK_EVERY_S
                self._look_on(consumer)
            return
        # After so long another may have had it in between: then only what is committed can say.
        if self._led and now > self._good_until + self._timing.margin_s:
            self._confirmed = False
        if not self._confirmed and now >= self._ask_at:
            self._ask_at = now + _ASK_EVERY_S
            self._confirm(consumer)
        if self._confirmed and self._asked_at is None and now >= self._renew_at:
            self._renew(consumer)

    def _look_on(self, consumer: Any) -> None:
        """Without the partition: see who has it."""
        try:
            holder = self._holder(consumer)
        except KafkaException as error:
            log.debug("who has %s is not known: %s", self._group, error)
            return
        if holder is None or holder.process == self._me.process:
            return
        if self._led:
            self._lose(holder)
        elif not self._told and not holder.released:
            self._told = True
            self._spokesman.stands_by(f"{holder.who} has the lease, or had it a moment ago")

    def _confirm(self, consumer: Any) -> None:
        """With the partition: before it counts, see who had it last."""
        try:
            before = self._holder(consumer)
        except KafkaException as error:
            log.debug("who had %s is not known: %s", self._group, error)
            return
        if self._led and (before is None or before.process != self._me.process):
            self._lose(before)
            return
        if not self._led:
            self._me = replace(self._me, store=self._spokesman.store(before))
        self._confirmed, self._renew_at = True, -1.0

    def _renew(self, consumer: Any, *, released: bool = False) -> None:
        text = json.dumps(asdict(replace(self._me, released=released)))
        now = self._seconds()
        self._asked_at, self._renew_at = now, now + self._timing.renew_s
        try:
            consumer.commit(offsets=[TopicPartition(self._topic, 0, 0, text)], asynchronous=True)
        except KafkaException as error:
            self._asked_at = None
            log.debug("%s is not renewed: %s", self._group, error)

    def _renewed(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """The broker's answer to a commit; called from within `poll`."""
        asked_at, self._asked_at = self._asked_at, None
        error = error or next((partition.error for partition in partitions if partition.error is not None), None)
        if error is not None:
            log.debug("%s is not renewed: %s", self._group, error)
            return
        if asked_at is None or not self._assigned or self._ending.is_set():
            return
        self._good_until = max(self._good_until, asked_at + self._timing.session_s - self._timing.margin_s)
        self._led = True
        self._settled.set()

    def _given(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """The partition is ours; nothing is ever fetched of it."""
        for partition in partitions:
            partition.offset = OFFSET_END
        consumer.incremental_assign(partitions)
        if partitions:
            consumer.pause(partitions)
            self._assigned, self._confirmed, self._ask_at = True, False, -1.0

    def _taken(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """The partition is not ours any more, or the broker has not heard of us for too long."""
        if partitions:
            self._assigned, self._confirmed, self._good_until, self._ask_at = False, False, -1.0, -1.0
        with contextlib.suppress(KafkaException):
            consumer.incremental_unassign(partitions)

    def _holder(self, consumer: Any) -> Holder | None:
        """Who last said that it has the lease. Blocks at most 2 s; raises KafkaException."""
        (found,) = consumer.committed([TopicPartition(self._topic, 0)], timeout=_ASK_WITHIN_S)
        if found.error is not None:
            raise KafkaException(found.error)
        if found.offset < 0 or not found.metadata:
            return None
        try:
            return Holder(**json.loads(found.metadata))
        except (ValueError, TypeError):
            return Holder("unknown", who="a process of another version")

    def _heed(self, error: KafkaError) -> None:
        if error.code() in CURES:
            self._fail(misconfigured(self._group, error.str(), CURES[error.code()]))
        else:
            LOGGER.warning("%s [%s] %s", error.name(), self._group, error.str())

    def _lose(self, holder: Holder | None) -> None:
        self._good_until = -1.0
        self._lost.set()
        self._spokesman.lost(f"{holder.who if holder else 'another process'} has taken the lease over")

    def _fail(self, error: Misconfigured) -> None:
        self._failure, self._good_until = error, -1.0
        self._settled.set()
        if self._led:
            self._lost.set()
            self._spokesman.lost(str(error))

    def _farewell(self, consumer: Any) -> None:
        """Say that the lease is given up in order; whoever comes next need not wonder."""
        self._good_until = -1.0
        if not (self._assigned and self._led) or self._lost.is_set():
            return
        until = self._seconds() + RELEASE_WITHIN_S
        while self._asked_at is not None and self._seconds() < until:
            consumer.poll(_POLL_S)
        self._renew(consumer, released=True)
        while self._asked_at is not None and self._seconds() < until:
            consumer.poll(_POLL_S)
