"""The supervisor of a cluster, with small programs in the members' place; what a worker died of; and recovery stores."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main
from bytewax.testing import TestingSink, TestingSource, run_main
from typer.testing import CliRunner

from gateway import cluster
from gateway.cli import command_line
from gateway.cluster import Cluster
from gateway.heard import listen
from gateway.hosting import Host, PeerGone, Place
from gateway.ports import free_port
from gateway.processes import FLOWS
from gateway.recovery import STAMP, begun, claim, recovery_store
from gateway.settings import Settings
from sinks.errors import Misconfigured, Unavailable

WORKS = "pathlib.Path(ready).write_text('x'); signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(60)"
FOLLOWS = "time.sleep(0.05); sys.exit(75)"


class Members(Cluster):
    """A cluster whose members are small programs: `programs` by index; `lives` counts their starts."""

    def __init__(self, directory: Path, *programs: str) -> None:
        self.words: list[str] = []
        super().__init__("telemetry", len(programs), Settings(data=directory), say=self.words.append)
        self.programs, self.pids = programs, directory / "pids"

    def _arguments(self, index: int, ready: Path, addresses: list[str]) -> list[str]:
        assert len(set(addresses)) == len(self.programs)
        begin = f"import os, pathlib, signal, sys, time; ready = sys.argv[1]; open({str(self.pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n"
        return [sys.executable, "-c", begin + self.programs[index], str(ready)]

    def started(self) -> list[int]:
        """The processes started so far."""
        return [int(line) for line in self.pids.read_text().split()] if self.pids.exists() else []


@contextmanager
def running(members: Members) -> Iterator[tuple[threading.Event, list[int]]]:
    """The supervisor in a thread; the list gets its exit code once `stop` is set."""
    stop, codes = threading.Event(), list[int]()
    thread = threading.Thread(target=lambda: codes.append(members.run(stop)))
    thread.start()
    try:
        yield stop, codes
    finally:
        stop.set()
        thread.join(15)
        assert not thread.is_alive()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_that_is_killed_takes_all_along_and_all_start_again(tmp_path: Path) -> None:
    members = Members(tmp_path, WORKS, WORKS)
    with running(members) as (_stop, codes):
        until(lambda: members.words == ["telemetry is running in 2 processes"])
        first = members.started()
        begun = time.monotonic()
        os.kill(first[0], signal.SIGKILL)
        until(lambda: len(members.words) == 3)
        assert time.monotonic() - begun < 5
    again = members.started()[2:]
    assert len(again) == 2
    assert "telemetry-" in members.words[1]
    assert "was killed (SIGKILL), all 2 start again in 0.5 s" in members.words[1]
    assert codes == [0]


def test_a_crash_loop_backs_off_and_names_the_one_that_began_it(tmp_path: Path) -> None:
    fails = "time.sleep(0.4); print('level=error event=\"the broker is away\" logger=x'); sys.exit(1)"
    members = Members(tmp_path, FOLLOWS, fails)
    with running(members) as (_stop, codes):
        until(lambda: len(members.words) == 2)
    assert members.words[0] == "telemetry-1 ended with 1, all 2 start again in 0.5 s: the broker is away"
    assert members.words[1] == "telemetry-1 ended with 1, all 2 start again in 1 s: the broker is away"
    assert codes == [0]


def test_what_only_a_person_can_mend_ends_it_all(tmp_path: Path) -> None:
    refuses = "time.sleep(0.4); print('the recovery store: is of another make'); sys.exit(78)"
    members = Members(tmp_path, WORKS, FOLLOWS, refuses)
    assert members.run(threading.Event()) == 78
    assert members.words == ["telemetry-2 cannot go on: the recovery store: is of another make"]
    for pid in members.started():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_does_not_drain_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "DRAIN_S", 0.5)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path(ready).write_text('x'); time.sleep(60)"
    members = Members(tmp_path, WORKS, deaf)
    with running(members) as (_stop, codes):
        until(lambda: members.words == ["telemetry is running in 2 processes"])
    assert codes == [1]
    assert members.words[-1] == "had to kill: telemetry-1"


def test_another_run_waits_until_the_last_member_is_gone(tmp_path: Path) -> None:
    members = Members(tmp_path, WORKS)
    with running(members):
        until(lambda: members.words == ["telemetry is running in 1 process"])
        with pytest.raises(Unavailable, match="another run of telemetry"):
            claim(tmp_path, "telemetry", "kafka", within_s=0)
    os.close(claim(tmp_path, "telemetry", "kafka", within_s=5))


@pytest.mark.parametrize("flow", [flow for flow in FLOWS if flow != "telemetry"])
def test_flows_with_one_reader_refuse_more_processes(flow: str) -> None:
    found = CliRunner().invoke(command_line(), ["run", flow, "--processes", "2"])
    assert found.exit_code == 2
    assert f"{flow} keeps one order" in " ".join(found.output.replace("│", " ").split())


def test_no_processes_is_wrong_usage() -> None:
    assert CliRunner().invoke(command_line(), ["run", "telemetry", "--processes", "0"]).exit_code == 2


def failing(step: str) -> Dataflow:
    """A flow in which one of its parts raises at the third item."""

    def at(name: str) -> Callable[[int], int]:
        def check(item: int) -> int:
            if name == step and item == 3:
                raise Misconfigured("a setting", f"wrong in {name}")
            return item

        return check

    class Sink(TestingSink[int]):
        def build(self, step_id: str, worker_index: int, worker_count: int) -> Any:
            part = super().build(step_id, worker_index, worker_count)
            write = part.write_batch
            part.write_batch = lambda items: write([at("sink")(item) for item in items])
            return part

    class Logic(op.StatefulLogic[int, int, bytes]):
        def on_item(self, value: int) -> tuple[list[int], bool]:
            return [at("logic")(value)], op.StatefulLogic.RETAIN

        def snapshot(self) -> bytes:
            return b""

    def numbers() -> Iterator[int]:
        for item in range(5):
            yield at("source")(item)

    flow = Dataflow("failing")
    items = op.map("map", op.input("in", flow, TestingSource(numbers(), batch_size=1)), at("map"))
    spread = op.flat_map("flat", items, lambda item: (at("flat")(each) for each in [item]))
    keyed = op.key_on("key", spread, str)
    found = op.map("value", op.stateful("logic", keyed, lambda _: Logic()), lambda pair: pair[1])
    op.output("out", found, Sink([]))
    return flow


@pytest.mark.parametrize("step", ["source", "map", "flat", "logic", "sink"])
def test_whatever_raises_is_heard(step: str) -> None:
    flow, heard = failing(step), list[BaseException]()
    listen(flow, heard.append)
    with pytest.raises(BaseException):  # noqa: B017, PT011 - the engine's own, which may be no Exception
        run_main(flow)
    assert [str(error) for error in heard[:1]] == [f"a setting: wrong in {step}"]


def test_listening_changes_nothing_else() -> None:
    flow, heard = failing("nothing"), list[BaseException]()
    listen(flow, heard.append)
    run_main(flow)
    assert heard == []


def test_a_cluster_tells_what_the_engine_forgets(tmp_path: Path) -> None:
    stop, place = threading.Event(), Place(0, (f"127.0.0.1:{free_port()}",))
    host = Host(stop, place)
    host.start(failing("logic"), None)
    assert stop.wait(20)
    assert host.join(5) == []
    assert isinstance(host.failures["failing"], Misconfigured)


def test_who_is_taken_down_by_another_says_so() -> None:
    host = Host(threading.Event(), Place(0, ("127.0.0.1:1",)))
    panic = type("PanicException", (BaseException,), {})("Send thread panic")
    assert isinstance(host._cause(panic, [], None), PeerGone)


def test_a_store_of_another_layout_is_refused(tmp_path: Path) -> None:
    path = recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 8, "shards": 4})
    assert recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 8, "shards": 4}) == path
    with pytest.raises(Misconfigured, match=r"with 8 lanes, this program has 16 lanes.*move .* away"):
        recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 16, "shards": 4})
    (path / STAMP).unlink()
    with pytest.raises(Misconfigured, match="did not write down its lanes"):
        recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 8, "shards": 4})
    assert recovery_store(tmp_path, "envelopes", "kafka") != path


def test_processes_that_come_at_once_make_one_store(tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 8}))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 6
    assert json.loads((found[0] / STAMP).read_text()) == {"lanes": 8, "partitions": 4}
    assert [path.name for path in (tmp_path / "recovery" / "kafka").iterdir()] == ["telemetry"]
    assert abs(begun(tmp_path, "telemetry", "kafka").timestamp() - time.time()) < 60


def test_a_store_that_lost_a_part_needs_a_person(tmp_path: Path) -> None:
    store = recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 8})
    (store / "part-0.sqlite3").unlink()
    with pytest.raises(Misconfigured, match="has 3 of its 4 partitions"):
        recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 8})
    other = recovery_store(tmp_path, "failing", "kafka")
    (other / "part-0.sqlite3").unlink()
    host = Host(threading.Event())  # and if it goes while the flow starts
    host.start(failing("nothing"), other)
    host.join(20)
    assert isinstance(host.failures["failing"], Misconfigured)
    assert "cannot be used" in str(host.failures["failing"])


def test_the_engine_takes_a_store_with_our_stamp_beside(tmp_path: Path) -> None:
    store, out = recovery_store(tmp_path, "telemetry", "kafka", {"lanes": 8}), list[int]()
    flow = Dataflow("telemetry")
    op.output("out", op.input("in", flow, TestingSource([1, 2])), TestingSink(out))
    cli_main(flow, recovery_config=RecoveryConfig(store))
    assert out == [1, 2]
