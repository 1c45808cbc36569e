"""Leases: one holder at a time, known to be so only while it is certain; by a file lock and by a consumer group."""

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from schemas.topics import CONFIG
from sinks.errors import Misconfigured
from sinks.kafka import create_topics
from sinks.lease import Holder, Spokesman, Timing, write_within_s
from sinks.lease_file import FileLease
from sinks.lease_kafka import KafkaLease
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.integration.running import stand_still

OTHER = Holder("p-other", "s-other", "host-b, process 9")


@dataclass
class Told:
    """What a lease said."""

    words: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    before: list[Holder | None] = field(default_factory=list)

    def spokesman(self) -> Spokesman:
        def store(before: Holder | None) -> str:
            self.before.append(before)
            return "s-ours"

        return Spokesman(self.words.append, self.lost.append, store)


@dataclass
class Group:
    """A consumer group of a broker, and the lease's one client of it. `hears` says whether the broker answers commits."""

    now: float = 100.0
    committed_text: str | None = None
    hears: bool = True
    refuses: int | None = None
    away: bool = False
    log: list[str] = field(default_factory=list)
    _pending: list[str] = field(default_factory=list)
    _callbacks: dict[str, Any] = field(default_factory=dict)
    _on_commit: Any = None

    def client(self, config: dict[str, Any]) -> "Group":
        self._on_commit = config["on_commit"]
        return self

    def subscribe(self, topics: list[str], **callbacks: Any) -> None:
        self._callbacks = callbacks

    def poll(self, timeout: float) -> None:
        if self._pending and self.hears:
            text, self._pending = self._pending[0], []
            error = None if self.refuses is None else KafkaError(self.refuses)
            if error is None:
                self.committed_text = text
            self._on_commit(error, [])

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.log.append("commit")
        self._pending.append(str(offsets[0].metadata))

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.away:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        found = self.committed_text
        return [TopicPartition("t", 0, -1001) if found is None else TopicPartition("t", 0, 0, found)]

    def incremental_assign(self, partitions: list[TopicPartition]) -> None: ...

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None: ...

    def pause(self, partitions: list[TopicPartition]) -> None:
        self.log.append("paused")

    def close(self) -> None:
        self.log.append("closed")

    def holder(self, holder: Holder) -> None:
        self.committed_text = json.dumps({"process": holder.process, "store": holder.store, "who": holder.who})

    def gives(self) -> None:
        self._callbacks["on_assign"](self, [TopicPartition("t", 0)])

    def takes(self) -> None:
        self._callbacks["on_lost"](self, [TopicPartition("t", 0)])


class Stepped:
    """A lease whose turns a test takes one by one, on a clock of its own."""

    def __init__(self) -> None:
        self.group, self.told = Group(), Told()
        settings = KafkaSettings(bootstrap="127.0.0.1:1")
        timing = Timing(session_s=6.0, margin_s=2.0, renew_s=1.0)
        self.lease = KafkaLease(
            settings, "dispatch", self.told.spokesman(), timing=timing, seconds=lambda: self.group.now, client=self.group.client
        )
        self.group.client(self.lease._config)
        self.group.subscribe([], on_assign=self.lease._given, on_revoke=self.lease._taken, on_lost=self.lease._taken)

    def turns(self, seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            if not self.lease.lost():
                self.lease.turn(self.group)
            self.group.now += 0.05

    def led(self) -> "Stepped":
        self.group.gives()
        self.turns(1.0)
        assert self.lease.held()
        return self


def test_it_is_held_once_the_broker_has_taken_a_commit_and_never_before() -> None:
    it = Stepped()
    it.turns(2)
    it.group.hears = False
    it.group.gives()
    it.turns(2)
    assert not it.lease.held()
    it.group.hears = True
    it.turns(0.05)
    # It counts from when the commit was sent, 2 s ago: another can have the lease 6 s after that, and 2 s are margin.
    assert it.lease.good_for() == pytest.approx(2.0, abs=0.2)
    assert it.group.log[0] == "paused"


def test_what_is_said_last_is_our_state_and_it_is_chosen_before_that() -> None:
    it = Stepped()
    it.group.holder(OTHER)
    it.led()
    assert it.told.before == [OTHER]
    assert it.group.committed_text is not None
    assert json.loads(it.group.committed_text)["store"] == "s-ours"


def test_a_second_one_says_once_who_has_it() -> None:
    it = Stepped()
    it.group.holder(OTHER)
    it.turns(5)
    assert it.told.words == ["host-b, process 9 has the lease, or had it a moment ago"]
    assert not it.lease.held()


def test_nobody_stands_by_one_that_ended_in_order() -> None:
    it = Stepped()
    it.group.committed_text = json.dumps({"process": "p", "store": "s", "who": "w", "released": True})
    it.turns(5)
    assert it.told.words == []


def test_without_an_answer_it_is_not_held_before_another_can_have_it_and_it_comes_back() -> None:
    it = Stepped().led()
    it.turns(10)
    assert it.lease.good_for() > 2.8
    it.group.hears, it.group.away = False, True
    it.turns(4.1)
    assert not it.lease.held()
    it.turns(30)
    assert not it.lease.held()
    it.group.hears, it.group.away = True, False
    it.turns(2)
    assert it.lease.held()
    assert it.told.lost == []
    assert len(it.told.before) == 1


def test_standing_still_ends_it_by_the_clock_alone() -> None:
    it = Stepped().led()
    it.group.now += 4.1
    assert not it.lease.held()
    assert it.lease.good_for() == 0.0


def test_a_refused_renewal_is_none() -> None:
    it = Stepped().led()
    it.group.refuses = KafkaError.REBALANCE_IN_PROGRESS
    it.turns(2)
    assert it.lease.held()
    it.turns(2.5)
    assert not it.lease.held()
    it.group.refuses = None
    it.turns(1.5)
    assert it.lease.held()


def test_a_membership_that_lapsed_goes_on_if_nobody_else_had_the_lease() -> None:
    it = Stepped().led()
    it.group.takes()
    assert not it.lease.held()
    it.turns(3)
    assert not it.lease.held()
    it.group.gives()
    it.turns(1)
    assert it.lease.held()
    assert len(it.told.before) == 1


@pytest.mark.parametrize("again", [False, True])
def test_it_is_lost_for_good_once_another_had_it(again: bool) -> None:
    it = Stepped().led()
    it.group.takes()
    it.group.holder(OTHER)
    if again:
        it.group.gives()
    it.turns(2)
    assert it.told.lost == ["host-b, process 9 has taken the lease over"]
    assert it.lease.lost()
    it.group.gives()
    assert not it.lease.held()


def test_another_that_came_and_went_while_we_stood_still_is_noticed_before_anything_is_renewed() -> None:
    it = Stepped().led()
    it.turns(0.5)
    it.group.now += 20
    it.group.holder(OTHER)
    commits = it.group.log.count("commit")
    it.turns(0.05)
    assert it.lease.lost()
    assert it.group.log.count("commit") == commits


def test_missing_rights_are_told_with_the_group_to_allow() -> None:
    class Forbidden(Group):
        def poll(self, timeout: float) -> Any:
            class Message:
                def error(self) -> KafkaError:
                    return KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)

            return Message()

    group = Forbidden()
    lease = KafkaLease(KafkaSettings(bootstrap="127.0.0.1:1", topic_prefix="x."), "dispatch", client=group.client)
    with pytest.raises(Misconfigured, match=r"x\.derms-lease-dispatch"):
        lease.acquire(threading.Event())
    lease.release()


HOLDER = """
import sys, threading, time
from pathlib import Path
from sinks.lease_file import FileLease
assert FileLease(Path(sys.argv[1])).acquire(threading.Event())
print("held", flush=True)
time.sleep(60)
"""


def test_writes_hurry_only_under_a_lease_that_ends_by_itself(tmp_path: Path) -> None:
    # On the embedded broker a time-out of 2 s made a slow broker slower: each that passed cost a client, and another took its place.
    assert write_within_s(None, 10.0) == 10.0
    assert write_within_s(FileLease(tmp_path / "dispatch.lease"), 10.0) == 10.0
    assert write_within_s(Stepped().lease, 10.0) == Timing().margin_s == 2.0


def test_the_kernel_gives_a_dead_ones_file_lease_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "run" / "dispatch.lease"
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    with first, first.stdout:
        assert first.stdout.readline() == "held\n"
        told, stop = Told(), threading.Event()
        second, third = FileLease(path, told.spokesman()), FileLease(path)
        held = threading.Thread(target=second.acquire, args=(stop,))
        held.start()
        _until(lambda: told.words, 5)
        assert f"process {first.pid} has the lease" in told.words[0]
        first.kill()
        killed = time.monotonic()
        held.join(10)
        assert second.held()
        assert time.monotonic() - killed < 1.0
    stop.set()
    assert third.acquire(stop) is False
    second.release()
    assert not second.held()
    assert third.acquire(threading.Event()) is True
    third.release()


def _until(condition: Callable[[], Any], within_s: float, what: Callable[[], object] = lambda: "") -> Any:
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.005)
    return found


class Process:
    """A process that wants the lease (`tests.kafka.lease_holder`), and what it has said: (when, words)."""

    def __init__(self, settings: KafkaSettings) -> None:
        command = [sys.executable, "-m", "tests.kafka.lease_holder", settings.bootstrap, settings.topic_prefix, "dispatch"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.said: list[tuple[float, str]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                at, _, words = line.strip().partition(" ")
                self.said.append((float(at), words))

    def until(self, beginning: str, within_s: float = 20.0) -> float:
        """When it first said something that begins so."""
        return float(
            _until(
                lambda: next((at for at, words in list(self.said) if words.startswith(beginning)), 0.0), within_s, lambda: self.said[-3:]
            )
        )

    def acts(self) -> list[float]:
        return [at for at, words in list(self.said) if words == "acts"]


@pytest.fixture
def processes(real_kafka: KafkaSettings) -> Iterator[Callable[[], Process]]:
    """Makes processes that want one lease; all are gone at the end."""
    settings, made = unique(real_kafka), list[Process]()
    create_topics(settings, [CONFIG])

    def make() -> Process:
        made.append(Process(settings))
        return made[-1]

    yield make
    for each in made:
        each.process.kill()
        each.process.wait()


@pytest.mark.kafka
@pytest.mark.slow
def test_processes_on_kafka_act_one_at_a_time_whatever_happens_to_them(processes: Callable[[], Process]) -> None:
    first, second = processes(), None
    first.until("held")
    second = processes()
    second.until("stands by")
    joined = second.said[0][0]
    _until(lambda: first.acts()[-1] > joined + 1.5, 10)
    assert max(later - one for one, later in zip(first.acts(), first.acts()[1:], strict=False)) < 1.0  # one that joins disturbs nobody

    killed = time.monotonic()
    first.process.kill()
    taken = second.until("held")
    assert taken - killed < 12.0
    assert first.acts()[-1] < taken

    third = processes()
    third.until("stands by")
    stand_still(second.process.pid)
    stopped = time.monotonic()
    third.until("acts")
    second.process.send_signal(signal.SIGCONT)
    second.until("lost")
    assert second.process.wait(10) == 0
    assert second.acts()[-1] < stopped + 0.1  # it has not acted again after it woke
    assert third.acts()[0] > second.acts()[-1]
    print(f"taken over {taken - killed:.2f} s after SIGKILL, {third.acts()[0] - stopped:.2f} s after SIGSTOP")


@pytest.mark.kafka
def test_what_is_released_in_order_is_taken_at_once_and_it_is_known_whose_it_was(real_kafka: KafkaSettings) -> None:
    settings, told = unique(real_kafka), Told()
    create_topics(settings, [CONFIG])
    first = KafkaLease(settings, "lifecycle", told.spokesman())
    assert first.acquire(threading.Event())
    second = KafkaLease(settings, "lifecycle", told.spokesman())
    waiting = threading.Thread(target=second.acquire, args=(threading.Event(),))
    waiting.start()
    _until(lambda: told.words, 10)
    assert not second.held()
    first.release()
    released = time.monotonic()
    waiting.join(10)
    assert second.held()
    assert time.monotonic() - released < 3.0
    second.release()
    assert told.before[0] is None
    assert told.before[1] is not None
    assert (told.before[1].store, told.before[1].released) == ("s-ours", True)
    assert told.lost == []
