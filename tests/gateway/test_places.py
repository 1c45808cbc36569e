"""A listener holds so many connections: idle ones make room, one address cannot have all, and open files come back."""

import contextlib
import resource
from pathlib import Path

import pytest

from gateway import places as module
from gateway.places import Places, room_for
from gateway.proxies import networks
from tests.gateway.listening import Listener, all_of, ask, closing, connected, listening, status_of, until


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def works(listener: Listener, source: str) -> bool:
    return status_of(ask(listener, closing("GET", "/"), source=source)) == 200


def test_idle_connections_make_room_for_new_ones_the_oldest_first() -> None:
    with listening(connections=6) as listener, contextlib.ExitStack() as stack:
        idle = []
        for number in range(6):
            idle.append(stack.enter_context(connected(listener, source=f"127.0.0.{2 + number % 3}")))
            until(lambda: len(listener.server_state.connections) == len(idle))
        idle[0].sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")  # the oldest is idle since later now
        assert status_of(idle[0].recv(4096)) == 200
        assert works(listener, "127.0.0.9")
        assert all_of(idle[1]) == b""
        idle[0].sendall(closing("GET", "/"))
        assert status_of(all_of(idle[0])) == 200


def test_hundreds_of_silent_connections_shut_nobody_out_and_leave_nothing_open() -> None:
    with listening(connections=8) as listener:
        assert works(listener, "127.0.0.99")
        until(lambda: not listener.server_state.connections)
        before = open_files()
        with contextlib.ExitStack() as stack:
            for number in range(200):
                slow = stack.enter_context(connected(listener, source=f"127.0.0.{2 + number % 50}"))
                slow.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
            assert works(listener, "127.0.0.99")
            until(lambda: open_files() - 200 - before <= 8)
        until(lambda: not listener.server_state.connections)
        until(lambda: open_files() <= before)
        assert works(listener, "127.0.0.99")


def test_connections_at_work_are_not_given_up_for_new_ones() -> None:
    with listening(connections=2) as listener:
        with connected(listener) as first, connected(listener, source="127.0.0.2") as second:
            for busy in (first, second):
                busy.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\n1")
            until(lambda: not listener.places.waiting and len(listener.server_state.connections) == 2)
            assert not works(listener, "127.0.0.3")
            for busy in (first, second):
                busy.sendall(b"23")
                assert status_of(all_of(busy)) == 200
        until(lambda: listener.places._taken == 0)
        assert works(listener, "127.0.0.3")


@pytest.mark.parametrize("trusted", ["", "127.0.0.1"])
def test_one_address_has_at_most_half_unless_it_is_a_trusted_proxy(trusted: str) -> None:
    with listening(connections=8, trusted=networks(trusted)) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connected(listener))
        until(lambda: len(listener.server_state.connections) == 4)
        assert works(listener, "127.0.0.1") == bool(trusted)
        assert works(listener, "127.0.0.2")


def test_what_is_taken_is_given_back_once() -> None:
    places = Places("OSCP", 4)
    first, second = places.take("a"), places.take("b")
    assert first is not None
    assert second is not None
    first.idle()
    for _ in range(2):
        first.free()
    first.idle()
    assert not places.waiting
    assert places._taken == 1
    second.free()
    assert (places._taken, places._of) == (0, {})


def test_a_full_listener_says_so_once_a_minute(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(module, "wall_seconds", lambda: now)
    places = Places("OSCP", 2)
    for address in "abcdef":
        places.take(address)
    assert [record.getMessage() for record in caplog.records] == [
        "OSCP listener: all 2 connections are in use; idle ones are closed for new ones"
    ]
    now = 61.0
    places.take("g")
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    ("soft", "hard", "expected", "raised"),
    [
        (20_000, 20_000, (4000, 500), None),
        (1024, 524_288, (4000, 500), 4700),
        (1024, 1024, (733, 91), None),
        (256, 256, (50, 6), None),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, (4000, 500), None),
    ],
)
def test_there_are_open_files_for_every_connection(
    soft: int, hard: int, expected: tuple[int, int], raised: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = [(soft, hard)]
    monkeypatch.setattr(module.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(module.resource, "setrlimit", lambda _, found: limits.append(found))
    assert room_for(4000, 500) == expected
    assert limits[1:] == ([] if raised is None else [(raised, hard)])
