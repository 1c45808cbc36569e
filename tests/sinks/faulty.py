"""Partners that misbehave below HTTP, over real sockets, in the event loop of the test that sends to them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Behave = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
DAY = timedelta(days=1)


@asynccontextmanager
async def serving(behave: Behave, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A listener on a free loopback port, which is given; every connection is treated by `behave` and then torn down."""
    tasks: set[asyncio.Task[None]] = set()

    async def treat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(task := asyncio.current_task())  # type: ignore[arg-type]
        try:
            await behave(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the other side is gone, or the test is over
        finally:
            tasks.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(treat, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


async def request(reader: asyncio.StreamReader) -> bytes:
    """A whole request, its head and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


def answering(raw: bytes, then: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None) -> Behave:
    """Answers every request of a connection with these bytes; `then` goes on with the first."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                await request(reader)
            except asyncio.IncompleteReadError:
                return
            writer.write(raw)
            await writer.drain()
            if then is not None:
                await then(writer)

    return behave


def certificate(folder: Path, name: str = "localhost", *, ended: bool = False) -> Path:
    """A self-signed certificate for a host, with its key in the same file; `ended`: valid until yesterday."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * DAY)
        .not_valid_after(now - DAY if ended else now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{name}{'-ended' if ended else ''}.pem"
    file.write_bytes(made.public_bytes(Encoding.PEM) + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def tls_with(file: Path) -> ssl.SSLContext:
    """What a server of that certificate listens with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context
