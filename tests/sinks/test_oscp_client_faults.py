"""What goes wrong between us and a partner, over real sockets: what is made of it, and what people read (semantics 8.3, 8.4, 8.7)."""

import asyncio
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Configuration
from schemas.outbound import OutboundMessage, Outcome
from sinks import addresses
from sinks.http import Answer
from sinks.lookups import Lookups
from sinks.oscp.answers import MAX_RETRY_AFTER_S, MAX_WORDS, Judgement, retry_after_of, words_of
from sinks.oscp.client import OscpClient
from sinks.oscp.oauth import UNSTATED_S
from sinks.oscp.peers import CONNECTIONS_PER_PARTNER
from tests.sinks.faulty import Behave, answering, certificate, request, serving, tls_with
from tests.sinks.partner_server import FakePartner, Reply, Request, fake_partner
from tests.sinks.test_oscp_client import PEER_TOKEN, SECRETS, TokenServer, connection, message, oauth, partner

SECRET_TEXTS = (PEER_TOKEN, "s3same", "access-")
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
PLENTY = "x" * 20_000_000
"""More than sockets buffer: whoever sends it notices that nobody reads."""


def head(status: int, length: int | None, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", *([] if length is None else [f"Content-Length: {length}"]), *more]
    return "\r\n".join([*lines, "", ""]).encode()


async def one(url: str, *, config: Configuration | None = None, timeout_s: float = 5.0, sent: OutboundMessage | None = None) -> Judgement:
    client = OscpClient(lambda: config or partner(), lambda: {"vector": connection(url)}, SECRETS, timeout_s)
    try:
        judgement = await client.attempt(sent or message())
    finally:
        await client.aclose()
    assert not any(secret in judgement.words for secret in SECRET_TEXTS)
    assert len(judgement.words) < MAX_WORDS + 100
    return judgement


def attempt_at(behave: Behave, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", **how: Any) -> Judgement:
    async def run() -> Judgement:
        async with serving(behave, tls) as port:
            judgement = await one(f"http{'s' if tls else ''}://{host}:{port}/cp", **how)
            assert judgement.url.startswith(f"http{'s' if tls else ''}://{host}:{port}/cp/")
            return judgement

    return asyncio.run(run())


def reset(writer: asyncio.StreamWriter) -> None:
    """Tear the connection down with a reset, whatever is still to be read or written."""
    known: socket.socket = writer.get_extra_info("socket")
    known.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def reset_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    reset(writer)


async def reset_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    reset(writer)


async def reset_after_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    reset(writer)


async def close_after_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    writer.close()


async def reset_in_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    writer.write(head(200, 100) + b"some")
    await writer.drain()
    reset(writer)


@pytest.mark.parametrize("behave", [reset_at_once, reset_in_the_body, reset_after_the_body, close_after_the_body, reset_in_the_answer])
def test_a_connection_that_breaks_is_tried_again(behave: Behave) -> None:
    large = message("GroupCapacityComplianceError", json.dumps({"message": PLENTY})) if behave is reset_in_the_body else None
    judgement = attempt_at(behave, sent=large)
    assert (judgement.outcome, judgement.status) == (Outcome.RETRY, None)
    assert judgement.words.startswith(("the connection to 127.0.0.1:", "127.0.0.1:"))
    assert judgement.words.endswith((" broke", "closed the connection"))


def test_what_answers_in_another_language_is_tried_again() -> None:
    judgement = attempt_at(answering(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"))
    assert (judgement.outcome, judgement.words.split(" ", 1)[1]) == (Outcome.RETRY, "did not answer in HTTP, or closed the connection")


async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hung_after_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await request(reader)
    await asyncio.Event().wait()


def dripping(beginning: bytes, drop: bytes) -> Behave:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(beginning)
        while True:
            writer.write(drop)
            await writer.drain()
            await asyncio.sleep(0.01)

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        never,
        hung_after_the_body,
        dripping(head(200, 100_000), b"x"),
        dripping(head(503, None), b"x"),
        dripping(b"HTTP/1.1 200 X\r\nX-A: ", b"x"),
    ],
    ids=["half open", "after the body", "slow body", "slow error", "slow head"],
)
def test_whoever_takes_too_long_is_tried_again_after_the_total_time(behave: Behave) -> None:
    judgement = attempt_at(behave, timeout_s=0.25)
    assert judgement.outcome is Outcome.RETRY
    assert judgement.words.startswith("no answer from 127.0.0.1:")
    assert judgement.words.endswith("within 0.25 s")
    assert 200 <= judgement.duration_ms < 5000


def test_a_half_open_socket_before_tls_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Judgement:
        async with serving(never) as port:
            return await one(f"https://127.0.0.1:{port}")

    monkeypatch.setattr("sinks.http.CONNECT_S", 0.2)
    judgement = asyncio.run(run())
    assert judgement.outcome is Outcome.RETRY
    assert judgement.words.startswith("no connection to 127.0.0.1:")
    assert judgement.words.endswith("within 0.2 s")


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, Outcome.DELIVERED), (400, Outcome.REFUSED), (503, Outcome.RETRY), (403, Outcome.HELD)]
)
@pytest.mark.parametrize("length", [3_000_000, None])
def test_of_an_answer_without_end_the_status_counts(status: int, outcome: Outcome, length: int | None) -> None:
    async def on_and_on(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(65536 * b"y")
            await writer.drain()

    judgement = attempt_at(answering(head(status, length), on_and_on))
    assert (judgement.outcome, judgement.status) == (outcome, status)
    assert judgement.words.startswith(f"answered {status}: yyy")


@pytest.mark.parametrize("body", [b"no gzip at all", b"\x1f\x8b\x08\x00"])
def test_nobody_unpacks_what_was_asked_for_plain(body: bytes) -> None:
    judgement = attempt_at(answering(head(400, len(body), "Content-Encoding: gzip") + body))
    assert (judgement.outcome, judgement.status) == (Outcome.REFUSED, 400)


@pytest.mark.parametrize(
    ("host", "named", "ended", "trusted", "words"),
    [
        ("localhost", "localhost", False, False, "self-signed certificate"),
        ("127.0.0.1", "localhost", False, True, "IP address mismatch"),
        ("localhost", "elsewhere.example", False, True, "Hostname mismatch"),
        ("localhost", "localhost", True, True, "certificate has expired"),
    ],
    ids=["untrusted", "address", "name", "expired"],
)
def test_tls_that_cannot_be_trusted_is_tried_again_and_says_why(
    tmp_path: Path, host: str, named: str, ended: bool, trusted: bool, words: str
) -> None:
    file = certificate(tmp_path, named, ended=ended)
    config = partner(tls={"ca_file": str(file)}) if trusted else None
    judgement = attempt_at(answering(NO_CONTENT), tls=tls_with(file), host=host, config=config)
    assert judgement.outcome is Outcome.RETRY
    assert judgement.words.startswith(f"TLS with {host}:")
    assert words in judgement.words.replace("self signed", "self-signed")


def test_tls_that_can_be_trusted_delivers(tmp_path: Path) -> None:
    file = certificate(tmp_path)
    judgement = attempt_at(answering(NO_CONTENT), tls=tls_with(file), host="localhost", config=partner(tls={"ca_file": str(file)}))
    assert (judgement.outcome, judgement.words) == (Outcome.DELIVERED, "")


def test_a_plain_server_behind_an_https_address_says_so() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(head(400, 0))
        await writer.drain()

    async def run() -> Judgement:
        async with serving(plain) as port:
            return await one(f"https://127.0.0.1:{port}")

    judgement = asyncio.run(run())
    assert judgement.outcome is Outcome.RETRY
    assert judgement.words.startswith("TLS with 127.0.0.1:")


def unknown(host: str, port: int) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_a_name_that_does_not_resolve_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "LOOKUPS", Lookups(unknown))
    judgement = asyncio.run(one("https://cp.example/oscp"))
    assert (judgement.outcome, judgement.words) == (Outcome.RETRY, "the name cp.example has no address: Name or service not known")


def test_a_name_server_that_does_not_answer_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(Lookups):
        async def find(self, host: str, port: int) -> Any:
            await asyncio.Event().wait()

    monkeypatch.setattr(addresses, "LOOKUPS", Hanging())
    monkeypatch.setattr("sinks.http.CONNECT_S", 0.2)
    judgement = asyncio.run(one("https://cp.example/oscp"))
    assert (judgement.outcome, judgement.words) == (Outcome.RETRY, "no connection to cp.example within 0.2 s")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int) -> None:
    with fake_partner(lambda request: (status, b"", {"Location": "/elsewhere"})) as cp:
        judgement = asyncio.run(one(cp.url))
        assert (judgement.outcome, judgement.status, len(cp.requests)) == (Outcome.RETRY, status, 1)


def test_retry_after_comes_as_seconds_and_as_a_date() -> None:
    in_a_while = format_datetime(datetime.now(UTC) + timedelta(seconds=300), usegmt=True)
    for text, least, most in (("17", 17, 17), (in_a_while, 290, 301), ("soon", None, None), ("0", 0, 0)):
        for status in (429, 503):
            judgement = attempt_at(answering(head(status, 0, f"Retry-After: {text}")))
            assert (judgement.outcome, judgement.status) == (Outcome.RETRY, status)
            if least is None:
                assert judgement.retry_after_s is None
            else:
                assert least <= (judgement.retry_after_s or 0.0) <= most  # type: ignore[operator]


@pytest.mark.parametrize(
    "text", ["Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Mon, 01 Jan 2020 00:00:00 +99999999999999999999", "9" * 5000, "\u00b2", ""]
)
def test_a_retry_after_beyond_measure_ends_nothing(text: str) -> None:
    found = retry_after_of(Answer(503, {"retry-after": text}, b"", 1), datetime.now(UTC))
    assert found is None or found == MAX_RETRY_AFTER_S


@given(st.one_of(st.text(max_size=60), st.from_regex(r"\A(Mon, )?\d{1,30} Jan \d{1,30} \d{1,9}:\d\d:\d\d ([+-]\d{1,20}|GMT)\Z")))
def test_no_retry_after_is_an_error(text: str) -> None:
    found = retry_after_of(Answer(503, {"retry-after": text}, b"", 1), datetime.now(UTC))
    assert found is None or 0.0 <= found <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    "body", [b"[" * 100_000, b'{"a":' * 990 + b"1" + b"}" * 990, b"1" * 5000, b"\xff\xfe", b'{"message": "\\ud800"}', b"NaN"]
)
def test_no_words_of_a_partner_are_an_error(body: bytes) -> None:
    assert len(words_of(Answer(400, {}, body, 1))) <= MAX_WORDS


def test_what_nobody_thought_of_is_tried_again_and_ends_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError(PEER_TOKEN)

    monkeypatch.setattr("sinks.oscp.client.outcome_of", broken)
    judgement = attempt_at(answering(NO_CONTENT))
    assert (judgement.outcome, judgement.words) == (Outcome.RETRY, "failed by a defect of ours (ZeroDivisionError)")
    assert "ZeroDivisionError" in caplog.text
    assert PEER_TOKEN not in caplog.text


# -- OAuth -------------------------------------------------------------------------------------------------------------


async def among(cp: FakePartner, config: Configuration, *sent: OutboundMessage, timeout_s: float = 5.0) -> list[Judgement]:
    """All of them at once, through one client."""
    client = OscpClient(lambda: config, lambda: {"vector": connection(cp.url)}, SECRETS, timeout_s)
    try:
        judgements = await asyncio.gather(*(client.attempt(each) for each in sent))
    finally:
        await client.aclose()
    assert not any(secret in judgement.words for judgement in judgements for secret in SECRET_TEXTS)
    return judgements


@pytest.fixture
def cp() -> Iterator[FakePartner]:
    with fake_partner() as found:
        yield found


def test_a_token_server_that_is_down_is_named_as_what_is_missing(cp: FakePartner, tmp_path: Path) -> None:
    (judgement,) = asyncio.run(among(cp, oauth(cp, tmp_path, token_url="http://127.0.0.1:1/token"), message()))
    assert (judgement.outcome, judgement.words) == (Outcome.RETRY, "no token to be had: cannot connect to 127.0.0.1:1")
    assert cp.requests == []


def test_a_token_address_that_leads_behind_the_fence_is_held(cp: FakePartner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "LOOKUPS", Lookups(lambda host, port: [(socket.AF_INET, 0, 0, "", ("169.254.169.254", port))]))
    (judgement,) = asyncio.run(among(cp, oauth(cp, tmp_path, token_url="https://login.example/token"), message()))
    assert judgement.outcome is Outcome.HELD
    assert judgement.words.startswith("oauth.token_url cannot be used: login.example is a link-local address, which is not allowed")


@pytest.mark.parametrize(
    ("reply", "outcome", "words"),
    [
        ((500, b"trouble", {}), Outcome.RETRY, "the token server answered 500: trouble"),
        ((401, b'{"error":"invalid_client"}', {}), Outcome.HELD, "the token server answered 401: invalid_client"),
        ((302, b"", {"Location": "/login"}), Outcome.HELD, "the token server answered 302"),
        ((200, b"<html>Please sign in</html>", {}), Outcome.RETRY, "the token server's answer holds no access token"),
        ((200, b"[" * 100_000, {}), Outcome.RETRY, "the token server's answer holds no access token"),
        (
            (200, b'{"access_token":"x","expires_in":1%s}' % (b"0" * 400), {}),
            Outcome.RETRY,
            "the token server's answer holds no access token",
        ),
        ((200, b'{"access_token":"a\\nb"}', {}), Outcome.RETRY, "the token server's answer holds no bearer token (type Bearer)"),
        ((200, '{"access_token":"\u6f22"}'.encode(), {}), Outcome.RETRY, "the token server's answer holds no bearer token (type Bearer)"),
    ],
)
def test_a_token_server_in_trouble(cp: FakePartner, tmp_path: Path, reply: Reply, outcome: Outcome, words: str) -> None:
    cp.answer = lambda request: reply
    (judgement,) = asyncio.run(among(cp, oauth(cp, tmp_path), message()))
    assert judgement.outcome is outcome
    assert judgement.words.startswith(words)
    assert [request.path for request in cp.requests] == ["/token"]


def test_a_slow_token_server_has_a_time_of_its_own(cp: FakePartner, tmp_path: Path) -> None:
    async def run(path: str) -> Judgement:
        async with serving(never) as port:
            return (await among(cp, oauth(cp, tmp_path, token_url=f"http://127.0.0.1:{port}{path}"), message(), timeout_s=0.2))[0]

    judgement = asyncio.run(run("/token"))
    assert judgement.outcome is Outcome.RETRY
    assert judgement.words.startswith("no token to be had: no answer from 127.0.0.1:")
    assert judgement.words.endswith("within 0.2 s")


def test_each_of_token_message_and_repetition_may_take_the_total_time(cp: FakePartner, tmp_path: Path) -> None:
    server = TokenServer()
    seen: list[str] = []

    def slowly(request: Request) -> Reply | int:
        time.sleep(0.2)
        seen.append(request.path)
        return 401 if len(seen) == 2 else server(request)

    cp.answer = slowly
    (judgement,) = asyncio.run(among(cp, oauth(cp, tmp_path), message(), timeout_s=0.6))
    assert seen == ["/token", "/update_asset_measurements"] * 2  # 0.8 s in all
    assert judgement.outcome is Outcome.DELIVERED
    assert judgement.duration_ms < 600


def test_what_becomes_of_a_fetch_holds_for_all_that_wait_for_it(cp: FakePartner, tmp_path: Path) -> None:
    cp.answer = lambda request: 500
    judgements = asyncio.run(among(cp, oauth(cp, tmp_path), *(message() for _ in range(6))))
    assert {(judgement.outcome, judgement.words) for judgement in judgements} == {(Outcome.RETRY, "the token server answered 500")}
    assert len(cp.requests) == 1


def test_who_gives_up_waiting_takes_the_token_from_nobody(cp: FakePartner, tmp_path: Path) -> None:
    server, asked, go_on = TokenServer(), threading.Event(), threading.Event()

    def answer(request: Request) -> Reply | int:
        if request.path == "/token":
            asked.set()
            go_on.wait(5)
        return server(request)

    async def run() -> Judgement:
        config = oauth(cp, tmp_path)
        client = OscpClient(lambda: config, lambda: {"vector": connection(cp.url)}, SECRETS, 5.0)
        try:
            beat = asyncio.create_task(client.attempt(message()))
            await asyncio.to_thread(asked.wait, 5)
            other = asyncio.create_task(client.attempt(message()))
            await asyncio.sleep(0)
            beat.cancel()
            await asyncio.wait({beat})
            go_on.set()
            return await other
        finally:
            await client.aclose()

    cp.answer = answer
    assert asyncio.run(run()).outcome is Outcome.DELIVERED
    assert server.made == 1


def test_a_token_revoked_in_the_middle_is_renewed_once_by_all_connections_at_once(cp: FakePartner, tmp_path: Path) -> None:
    """All connections a partner may have are busy being refused; fetching the token still finds one."""
    server = TokenServer()
    cp.answer = server

    async def run() -> list[Judgement]:
        config = oauth(cp, tmp_path)
        client = OscpClient(lambda: config, lambda: {"vector": connection(cp.url)}, SECRETS, 5.0)
        try:
            first = await client.attempt(message())
            server.valid = "another"
            return [first, *await asyncio.gather(*(client.attempt(message()) for _ in range(2 * CONNECTIONS_PER_PARTNER)))]
        finally:
            await client.aclose()

    assert {judgement.outcome for judgement in asyncio.run(run())} == {Outcome.DELIVERED}
    assert server.made == 2


def test_a_refusal_without_end_is_repeated_with_a_new_token_all_the_same(cp: FakePartner, tmp_path: Path) -> None:
    cp.answer = TokenServer()
    refused = b"HTTP/1.1 401 No\r\nContent-Encoding: gzip\r\nContent-Length: 3000000\r\n\r\n" + 3_000_000 * b"z"
    seen: list[bytes] = []

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            seen.append(await request(reader))
            writer.write(refused if len(seen) == 1 else NO_CONTENT)
            await writer.drain()

    async def run() -> Judgement:
        async with serving(behave) as port:
            return await one(f"http://127.0.0.1:{port}", config=oauth(cp, tmp_path))

    assert asyncio.run(run()).outcome is Outcome.DELIVERED
    tokens = [next(line for line in raw.split(b"\r\n") if line.lower().startswith(b"authorization")) for raw in seen]
    assert [token.rpartition(b" ")[2] for token in tokens] == [b"access-1", b"access-2"]


@pytest.mark.parametrize("lasts", ["NaN", "Infinity", "null", "true"])
def test_a_lifetime_that_is_none_does_not_make_a_token_last_for_ever(cp: FakePartner, tmp_path: Path, lasts: str) -> None:
    cp.answer = lambda request: (
        (200, b'{"access_token":"access-1","expires_in":%s}' % lasts.encode(), {}) if request.path == "/token" else 204
    )

    async def run() -> tuple[float, float] | None:
        config = oauth(cp, tmp_path)
        client = OscpClient(lambda: config, lambda: {"vector": connection(cp.url)}, SECRETS, 5.0)
        try:
            await client.attempt(message())
            return client.token_times("vector")
        finally:
            await client.aclose()

    times = asyncio.run(run())
    assert times is not None
    assert times[1] - times[0] <= UNSTATED_S
