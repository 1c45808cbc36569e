import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.embedded import EmbeddedBroker, broker_executable, incarnation
from gateway.ports import free_port
from schemas.topics import TOPICS
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import create_topics
from sinks.settings import KafkaSettings


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_life_begins_quickly_and_ends_without_a_trace():
    broker = EmbeddedBroker()
    started = time.monotonic()
    bootstrap = broker.start()
    assert time.monotonic() - started < 5
    pid = broker.pid
    assert pid is not None
    assert broker.alive()
    assert len(create_topics(KafkaSettings(bootstrap=bootstrap, embedded=True))) == len(TOPICS)
    broker.stop()
    assert not broker.alive()
    assert gone(pid)
    broker.stop()


def test_every_life_has_a_name_of_its_own():
    assert incarnation() != incarnation()
    with EmbeddedBroker() as first, EmbeddedBroker() as second:
        assert first.incarnation != second.incarnation
        assert first.bootstrap != second.bootstrap


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent has died")
def test_it_dies_with_its_parent_however_that_dies():
    code = "import time, gateway.embedded as e; b = e.EmbeddedBroker(); b.start(); print(b.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent, parent.stdout as out:
        pid = int(out.readline())
        assert not gone(pid)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 5
    while not gone(pid):
        assert time.monotonic() < deadline, "the broker outlived its parent"
        time.sleep(0.02)


def test_an_executable_that_is_none_is_named(tmp_path: Path):
    with pytest.raises(Misconfigured) as raised:
        broker_executable(tmp_path / "nothing")
    assert raised.value.setting == "DERMS_EMBEDDED__BROKER"


def test_an_executable_that_ends_at_once_is_said_with_where_to_look(tmp_path: Path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")
    broken.chmod(0o755)
    log = tmp_path / "logs" / "broker"
    with pytest.raises(Unavailable, match="ended with 3"):
        EmbeddedBroker(broken, log=log).start()
    assert "no such luck" in log.read_text()


def test_a_port_that_is_taken_is_said():
    port = free_port()
    with EmbeddedBroker(port=port), pytest.raises(Misconfigured, match=str(port)):
        EmbeddedBroker(port=port).start()
