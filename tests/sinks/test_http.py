"""The HTTP client over real sockets: what it sends, where it refuses to go, what its errors say."""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sinks.addresses import objection
from sinks.errors import Misconfigured, Refused, Unavailable
from sinks.http import Answer, HttpClient, fetch
from sinks.http_connecting import MAX_ANSWER
from tests.integration.fronts import certify

Respond = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def server(respond: Respond, kind: type[ThreadingHTTPServer] = ThreadingHTTPServer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            respond(self)

        do_GET = do_POST  # noqa: N815 - the server's naming

        def log_message(self, *args: object) -> None:
            pass

    httpd = kind(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def answering(status: int, body: bytes = b"", **headers: str) -> Respond:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        if status != 204:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return respond


def send(url: str, *, method: str = "POST", timeout_s: float = 5, allow_private: bool = True, **headers: str) -> Answer:
    async def once() -> Answer:
        async with HttpClient(allow_private=allow_private) as client:
            return await client.request(method, url, headers=headers, content=b"{}", timeout_s=timeout_s)

    return asyncio.run(once())


def test_an_answer_is_handed_back_with_lower_case_headers() -> None:
    with server(answering(503, b'{"message":"busy"}', Retry_After="7")) as url:
        answer = send(url + "/heartbeat")
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b'{"message":"busy"}', "7")
    assert answer.duration_ms >= 0


def test_headers_and_body_arrive_and_no_compression_is_asked_for() -> None:
    seen: dict[str, str] = {}

    def respond(handler: BaseHTTPRequestHandler) -> None:
        seen.update({name.lower(): value for name, value in handler.headers.items()})
        answering(204)(handler)

    with server(respond) as url:
        send(url, **{"X-Request-ID": "ä-1", "Authorization": "Token abc"})
    assert seen["accept-encoding"] == "identity"
    assert seen["authorization"] == "Token abc"
    assert seen["x-request-id"] == "ä-1"
    assert seen["content-length"] == "2"


def test_redirects_are_not_followed() -> None:
    with server(answering(302, Location="http://127.0.0.1:1/elsewhere")) as url:
        assert send(url).status == 302
        assert fetch("GET", url).status == 302


def test_connections_are_kept_and_bounded() -> None:
    peers: set[int] = set()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        peers.add(handler.client_address[1])
        answering(204)(handler)

    async def many(url: str) -> None:
        async with HttpClient(allow_private=True, max_connections=2) as client:
            await asyncio.gather(*(client.request("POST", url, content=b"{}") for _ in range(20)))

    with server(respond) as url:
        asyncio.run(many(url))
    assert 1 <= len(peers) <= 2


@pytest.mark.parametrize(("rest_s", "connections"), [(60.0, 1), (0.0, 2)])
def test_a_connection_that_has_rested_is_not_used_again(monkeypatch: pytest.MonkeyPatch, rest_s: float, connections: int) -> None:
    """The server may be about to close it."""
    monkeypatch.setattr("sinks.http.KEEP_ALIVE_S", rest_s)
    seen: set[int] = set()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        seen.add(handler.client_address[1])
        answering(204)(handler)

    async def both(url: str) -> None:
        client = HttpClient(allow_private=True)
        try:
            for _ in range(2):
                await client.request("POST", url, headers={}, content=b"{}")
                await asyncio.sleep(0.01)
        finally:
            await client.aclose()

    with server(respond) as url:
        asyncio.run(both(url))
    assert len(seen) == connections


@pytest.mark.parametrize("how", ["async", "blocking"])
def test_at_most_a_mebibyte_is_read(how: str) -> None:
    with server(answering(200, b"x" * (MAX_ANSWER + 5000))) as url:
        answer = send(url) if how == "async" else fetch("GET", url)
    assert len(answer.body) == MAX_ANSWER


def test_a_peer_that_does_not_answer_is_unavailable_after_the_time_out() -> None:
    done = threading.Event()
    with server(lambda _: (done.wait(10), None)[1]) as url:
        with pytest.raises(Unavailable, match=r"no answer from 127.0.0.1:\d+ within 0.2 s"):
            send(url, timeout_s=0.2)
        done.set()


def test_a_slow_drip_ends_at_the_total_time_out() -> None:
    done = threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        while not done.wait(0.02):
            handler.wfile.write(b"x")

    with server(respond) as url:
        with pytest.raises(Unavailable, match=r"within 0.3 s"):
            send(url, timeout_s=0.3)
        done.set()


@pytest.mark.parametrize(("status", "cut"), [(200, False), (200, True), (500, False), (500, True)])
def test_where_the_head_will_do_nobody_waits_for_the_body_of_a_2xx(status: int, cut: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.http.REST_S", 0.05)
    done = threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.rfile.read(int(handler.headers["Content-Length"]))
        handler.send_response(status)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"x")
        if cut:
            handler.connection.shutdown(socket.SHUT_RDWR)
        else:
            done.wait(20)

    async def twice(url: str) -> list[int]:
        async with HttpClient(allow_private=True, max_connections=1) as client:
            timeout_s = 10.0 if status == 200 else 0.3
            return [(await client.request("POST", url, content=b"{}", timeout_s=timeout_s, head_will_do=True)).status for _ in range(2)]

    with server(respond) as url:
        try:
            if status == 200:
                assert asyncio.run(twice(url)) == [200, 200]
            else:
                with pytest.raises(Unavailable):
                    asyncio.run(twice(url))
        finally:
            done.set()


def test_a_closed_port_and_a_broken_connection_are_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for attempt in (lambda: send(f"http://127.0.0.1:{port}"), lambda: fetch("GET", f"http://127.0.0.1:{port}")):
        with pytest.raises(Unavailable, match=f"cannot connect to 127.0.0.1:{port}"):
            attempt()
    with (
        server(lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)) as url,
        pytest.raises(Unavailable, match=r"closed the connection|broke"),
    ):
        send(url)


def test_an_unknown_name_is_unavailable() -> None:
    with pytest.raises(Unavailable, match=r"no-such-host.invalid"):
        send("http://no-such-host.invalid/")


def test_errors_name_the_host_only() -> None:
    with pytest.raises(Unavailable) as caught:
        send("http://127.0.0.1:1/secret-path?key=sesame", Authorization="Token open-sesame")
    assert "sesame" not in str(caught.value)
    assert "secret-path" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://[::ffff:192.168.1.1]/",
        "https://localhost/",
    ],
)
def test_without_leave_only_public_addresses_over_tls(url: str) -> None:
    with pytest.raises(Refused, match="not allowed"):
        send(url, allow_private=False)


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/meta-data", "http://224.0.0.1/", "http://0.0.0.0/", "http://240.0.0.1/"])
def test_some_addresses_are_forbidden_with_leave_too(url: str) -> None:
    with pytest.raises(Refused, match="not allowed"):
        send(url)


@pytest.mark.parametrize("url", ["ftp://example.com/", "/relative", "http://user:sesame@127.0.0.1/", "http://", "http://[zz]/"])
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(Refused) as caught:
        send(url)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("8.8.8.8", None, None),
        ("2001:4860:4860::8888", None, None),
        ("127.0.0.1", "loopback", None),
        ("::1", "loopback", None),
        ("192.168.0.10", "private", None),
        ("fd00::1", "private", None),
        ("100.64.0.1", "private", None),
        ("::ffff:10.0.0.1", "private", None),
        ("64:ff9b::10.0.0.1", "private", None),
        ("2002:7f00:1::", "loopback", None),
        ("169.254.169.254", "link-local", "link-local"),
        ("fe80::1", "link-local", "link-local"),
        ("224.0.1.1", "multicast", "multicast"),
        ("255.255.255.255", "reserved", "reserved"),
        ("::", "reserved", "reserved"),
    ],
)
def test_addresses_are_judged_by_what_they_stand_for(address: str, public: str | None, private: str | None) -> None:
    parsed = ipaddress.ip_address(address)
    assert (objection(parsed, allow_private=False), objection(parsed, allow_private=True)) == (public, private)


def test_a_wrong_tls_file_names_its_setting() -> None:
    with pytest.raises(Misconfigured, match=r"tls.ca_file"):
        HttpClient(ca_file="/no/such/file.pem")
    with pytest.raises(Misconfigured, match=r"tls.client_cert_file"):
        HttpClient(client_cert_file="/no/such/file.pem")


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server for the name localhost with a certificate of its own making, and that certificate's file."""
    folder = certify(tmp_path_factory.mktemp("tls") / "localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    class Server(ThreadingHTTPServer):
        def get_request(self) -> tuple[Any, Any]:
            connection, address = super().get_request()
            return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

        def handle_error(self, *_: object) -> None:
            pass

    with server(answering(204), Server) as url:
        yield url.replace("http://127.0.0.1", "https://localhost"), folder / "cert.pem"


def post_tls(url: str, **options: Any) -> int:
    async def once() -> int:
        async with HttpClient(allow_private=True, **options) as client:
            return (await client.request("POST", url, content=b"{}")).status

    return asyncio.run(once())


def test_tls_is_verified_by_name_although_the_connection_goes_to_the_checked_address(tls: tuple[str, Path]) -> None:
    url, certificate = tls
    assert post_tls(url, ca_file=str(certificate)) == 204
    with pytest.raises(Unavailable, match=r"TLS with localhost:\d+ failed: self.signed certificate"):
        post_tls(url)
    with pytest.raises(Unavailable, match=r"TLS with 127.0.0.1:\d+ failed: .*(IP address|mismatch)"):
        post_tls(url.replace("localhost", "127.0.0.1"), ca_file=str(certificate))
