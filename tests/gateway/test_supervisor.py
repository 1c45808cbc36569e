import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gateway.supervisor import Child, Supervisor

WAITS = "import sys, time, pathlib; pathlib.Path(sys.argv[1]).write_text('ready'); time.sleep(60)"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + WAITS
DIES = "import sys; print('broker away'); sys.exit(3)"


def child(tmp_path: Path, name: str, code: str) -> Child:
    ready = tmp_path / f"{name}.ready"
    return Child(name, [sys.executable, "-c", code, str(ready)], dict(os.environ), tmp_path / f"{name}.log", ready)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_dies_is_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([child(tmp_path, "a", WAITS)])
    supervisor.start()
    until(supervisor.ready)
    first = supervisor.children[0].process
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    words: list[str] = []

    def again() -> bool:
        words.extend(supervisor.tick())
        return supervisor.children[0].process not in (None, first) and supervisor.ready()

    until(again)
    assert words == ["a ended with -9, starting again in 0.5 s: "]
    assert supervisor.stop(5) == []


def test_a_crash_loop_backs_off_and_says_why(tmp_path: Path) -> None:
    supervisor = Supervisor([child(tmp_path, "a", DIES)])
    supervisor.start()
    words: list[str] = []

    def twice() -> bool:
        words.extend(supervisor.tick())
        return len(words) >= 2

    until(twice)
    assert "in 0.5 s: broker away" in words[0]
    assert "in 1 s: broker away" in words[1]
    supervisor.stop(1)


def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    supervisor = Supervisor([child(tmp_path, "good", WAITS), child(tmp_path, "deaf", DEAF)])
    supervisor.start()
    until(supervisor.ready)
    assert supervisor.stop(1) == ["deaf"]
    assert all(c.process is not None and c.process.poll() is not None for c in supervisor.children)
