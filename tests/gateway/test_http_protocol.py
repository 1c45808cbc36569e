"""Slow, hostile and merely odd clients, over real sockets: nothing they do holds a place, memory or another's answer for long."""

import asyncio
import contextlib
import resource
import socket
import time

import pytest

from gateway.listener import Listener
from tests.gateway.listening import QUICK, all_of, ask, closing, connected, echo, listening, status_of, until

JSON = "Content-Type: application/json"


@pytest.fixture(scope="module")
def listener():
    with listening(limits=QUICK, connections=20) as found:
        yield found


@pytest.fixture(autouse=True)
def all_places_are_free_afterwards(listener):
    yield
    until(lambda: not listener.server_state.connections)
    until(lambda: listener.places._taken == 0)


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"hello\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /x HTTP/3.7\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\nConnection: close\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: a\x01b\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400),
        (closing("BREW", "/"), 400),
        (closing("CONNECT", "example.com:443"), 400),
        (closing("GET", "http://evil.example"), 400),
        (closing("GET", "http://evil.example/x"), 200),
        (closing("OPTIONS", "*"), 200),
        (closing("GET", "//oscp/fp"), 200),
        (closing("POST", "/", "Content-Length: 3", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"), 400),
        (closing("POST", "/", "Transfer-Encoding: chunked", "Content-Length: 3", body=b"3\r\nabc\r\n0\r\n\r\n"), 400),
        (closing("POST", "/", "Transfer-Encoding: chunked, gzip", body=b"abc"), 400),
        (closing("POST", "/", "Transfer-Encoding : chunked", body=b"3\r\nabc\r\n0\r\n\r\n"), 400),
        (closing("POST", "/", "Content-Length: 3", "Content-Length: 4", body=b"abcd"), 400),
        (closing("POST", "/", "Content-Length: -1", body=b"abcd"), 400),
        (closing("POST", "/", "Content-Length: 99999999999999999999999", body=b"abcd"), 400),
        (closing("POST", "/", "Transfer-Encoding: chunked", body=b"zz\r\nabc\r\n0\r\n\r\n"), 400),
    ],
)
def test_what_is_no_clear_request_is_refused(listener, request_bytes, status):
    answer = ask(listener, request_bytes)
    assert status_of(answer) == status
    assert b"cache-control: no-store" in answer
    assert b"x-content-type-options: nosniff" in answer
    assert b"\r\nserver:" not in answer.lower()
    assert b"uvicorn" not in answer.lower()
    if status == 400:
        assert body_of(answer).startswith(b'{"message": ')


def test_a_head_that_does_not_come_is_given_up(listener):
    with connected(listener) as silent, connected(listener) as slow, connected(listener) as blank:
        started = time.monotonic()
        slow.sendall(b"POST /register HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        ended = False
        while not ended and time.monotonic() - started < 5:
            try:
                slow.sendall(b"a")  # each byte in time, the head not
                blank.sendall(b"\r\n")
            except (ConnectionError, BrokenPipeError):
                ended = True
            time.sleep(0.02)
        assert ended
        assert status_of(all_of(slow)) in (408, 0)  # 0: our own late bytes reset the connection before we read
        assert all_of(silent) == b""
    assert time.monotonic() - started < 3


def test_a_slow_head_is_told_408(listener):
    answer = ask(listener, b"POST /register HTTP/1.1\r\nHost: a")
    assert status_of(answer) == 408
    assert body_of(answer) == b'{"message": "the head of the request did not come within 0.3 s"}'


def test_the_next_head_on_a_kept_connection_has_its_time_too(listener):
    with connected(listener) as connection:
        connection.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status_of(connection.recv(4096)) == 200
        time.sleep(QUICK.head_s * 1.5)  # between requests there is more time than within one
        connection.sendall(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert status_of(connection.recv(4096)) == 200
        connection.sendall(b"GET /3 HT")
        assert status_of(all_of(connection)) == 408


def test_a_connection_without_another_request_ends(listener):
    with connected(listener) as connection:
        connection.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
        started = time.monotonic()
        assert status_of(all_of(connection)) == 200
        assert QUICK.keep_alive_s * 0.5 < time.monotonic() - started < 5


def test_the_rest_of_a_body_that_was_answered_early_is_not_awaited_for_ever(listener):
    with connected(listener) as connection:
        connection.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
        assert status_of(connection.recv(4096)) == 200
        started = time.monotonic()
        try:
            while time.monotonic() - started < 5:
                connection.sendall(b"a")
                time.sleep(0.02)
        except OSError:
            pass
        assert time.monotonic() - started < 3


def test_a_connection_whose_body_came_after_the_answer_is_used_again_or_ends(listener):
    with connected(listener) as connection:
        connection.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        assert status_of(connection.recv(4096)) == 200
        connection.sendall(b"abcGET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"'/2'" in connection.recv(4096)
        connection.sendall(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        assert status_of(connection.recv(4096)) == 200
        connection.sendall(b"abc")
        assert all_of(connection) == b""


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 10_000_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 1_000_000,
        b"GET /" + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 10_000_000,
        closing("POST", "/", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n" + b"X-Trailer: a\r\n" * 1_000_000),
    ],
    ids=["a long value", "many headers", "a long target", "a long name", "many trailers"],
)
def test_a_huge_head_is_refused_without_being_kept(listener, head):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with connected(listener) as connection:
        with contextlib.suppress(OSError):  # closed while we were still sending
            connection.sendall(head)
        assert status_of(all_of(connection)) in (431, 0)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB


def test_a_head_just_within_its_size_is_taken_in_pieces_and_whole(listener):
    request = closing("GET", "/", "X: " + "a" * 30_000)
    assert status_of(ask(listener, request)) == 200
    with connected(listener) as connection:
        for first in range(0, len(request), 1000):
            connection.sendall(request[first : first + 1000])
        assert status_of(all_of(connection)) == 200
    assert status_of(ask(listener, b"GET / HTTP/1.1\r\nX: " + b"a" * 33_000)) == 431


def test_trailers_do_not_become_headers(listener):
    body = b"3\r\nabc\r\n0\r\nAuthorization: Token stolen\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"
    answer = ask(listener, closing("POST", "/", "Transfer-Encoding: chunked", body=body))
    assert b"b'abc'" in answer
    assert b"stolen" not in answer


OFFERS = [
    ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"],
    ["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="],
]


@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket"])
@pytest.mark.parametrize("framing", [("Content-Length: 3", b"abc"), ("Transfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n")])
@pytest.mark.parametrize("pieces", [1, 7])
def test_another_protocol_is_not_spoken_and_the_request_is_answered_with_its_body(listener, offer, framing, pieces):
    request = "\r\n".join(["POST /first HTTP/1.1", "Host: a", *offer, framing[0], "", ""]).encode() + framing[1]
    with connected(listener) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for first in range(0, len(request), -(-len(request) // pieces)):
            connection.sendall(request[first : first + -(-len(request) // pieces)])
            time.sleep(0.005)
        answer = connection.recv(4096)
        assert status_of(answer) == 200
        assert b"b'abc'" in answer
        connection.sendall(closing("GET", "/second"))
        assert b"'/second'" in all_of(connection)


def test_a_hidden_second_request_in_a_body_with_an_upgrade_stays_a_body(listener):
    hidden = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = ask(listener, closing("POST", "/seen", "Upgrade: h2c", "Connection: Upgrade", f"Content-Length: {len(hidden)}", body=hidden))
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"'/seen'" in answer


def test_requests_sent_ahead_are_answered_in_order_and_too_many_are_not(listener):
    some = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(10))
    answer = ask(listener, some + closing("GET", "/last"))
    assert [answer.index(b"'/%d'" % number) for number in range(10)] == sorted(answer.index(b"'/%d'" % number) for number in range(10))
    assert b"'/last'" in answer
    flood = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 3000
    assert ask(listener, flood).count(b"HTTP/1.1 200") < 100


@pytest.mark.parametrize("last", [True, False])
def test_an_answer_nobody_reads_is_dropped(listener, last):
    with connected(listener) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(closing("GET", "/large") if last else b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n" * 3)
        until(lambda: bool(listener.server_state.connections))
        until(lambda: not listener.server_state.connections)


def test_an_answer_that_is_read_is_read_whole(listener):
    assert len(body_of(ask(listener, closing("GET", "/large")))) == 4 << 20


def test_one_slow_client_delays_nobody(listener):
    with connected(listener) as slow:
        slow.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1")
        assert status_of(ask(listener, closing("GET", "/"))) == 200
        slow.sendall(b"234567890")
        assert status_of(slow.recv(4096)) == 200


def test_an_application_that_fails_says_nothing_of_why():
    async def failing(scope, receive, send):
        raise RuntimeError("the secret is sesame")

    with listening(failing, limits=QUICK) as broken:
        answer = ask(broken, closing("GET", "/"))
    assert status_of(answer) == 500
    assert b"sesame" not in answer


def test_refusals_of_the_operations_listener_are_problems_with_its_security_headers():
    with listening(echo, name="operations", limits=QUICK) as operations:
        answer = ask(operations, b"hello\r\n")
    assert status_of(answer) == 400
    assert b"content-type: application/problem+json" in answer
    assert b"content-security-policy: default-src 'none'" in answer
    assert b"x-frame-options: DENY" in answer


def test_it_stops_although_clients_hold_on():
    with listening(limits=QUICK) as stopping:
        kept = [socket.create_connection(("127.0.0.1", stopping.port)) for _ in range(3)]
        kept[0].sendall(b"GET / HT")
        until(lambda: len(stopping.server_state.connections) == 3)
        started = time.monotonic()
    assert time.monotonic() - started < 4
    for connection in kept:
        connection.close()


def test_a_taken_port_is_named(listener):
    from sinks.errors import Misconfigured
    from tests.gateway.listening import OPERATIONS_REFUSALS

    for name in ("OSCP", "operations"):
        other = Listener(echo, name, "127.0.0.1", listener.port, refusals=OPERATIONS_REFUSALS)
        with pytest.raises(Misconfigured, match=rf"^DERMS_GATEWAY__{name.upper()}_PORT: cannot listen on 127.0.0.1:{listener.port}"):
            asyncio.run(other.serve())
    nowhere = Listener(echo, "OSCP", "no-such-host.invalid", 0, refusals=OPERATIONS_REFUSALS)
    with pytest.raises(Misconfigured, match=r"^DERMS_GATEWAY__OSCP_HOST: "):
        asyncio.run(nowhere.serve())
