"""What stands between us and a partner, and breaks: a TCP proxy that resets, falls silent, drips or shows another certificate."""

import asyncio
import contextlib
import socket
import ssl
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
ABOUT = b"/update_asset_measurements"
DRIP_S = 0.03


class Break(StrEnum):
    """What happens to a request for measurements: the connection is reset when only its head was read, or when the partner has it
    and has answered; nobody ever answers and the connection stays; the answer comes a byte at a time."""

    RESET_BEFORE = "RESET_BEFORE"
    RESET_AFTER = "RESET_AFTER"
    SILENT = "SILENT"
    DRIP = "DRIP"


@dataclass
class Front:
    """A proxy at `port` (which somebody has reserved) before `behind`. The next `left` requests for measurements meet `fault`.

    With `certificate` (a folder of `certify`) it speaks TLS as `localhost`. Everything is called in the loop it serves in.
    """

    port: int
    behind: Callable[[], int]
    certificate: Path | None = None
    fault: Break | None = None
    left: int = 0
    met: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _context: ssl.SSLContext | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}" if self.certificate else f"http://{HOST}:{self.port}"

    async def start(self) -> None:
        """Listen."""
        if self.certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.show(self.certificate)
        self._server = await asyncio.start_server(self._connected, HOST, self.port, ssl=self._context)

    async def stop(self) -> None:
        """Listen no more, and end every connection."""
        self._server.close()
        self.cut_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def show(self, certificate: Path) -> None:
        """Show another certificate from now on; the connections there are end."""
        assert self._context is not None
        self._context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        self.cut_all()

    def cut_all(self) -> None:
        """End every connection."""
        for writer in list(self._open):
            writer.transport.abort()

    async def refuse(self) -> None:
        """Listen no more: connections are refused until `hang` is called."""
        self._server.close()
        self.cut_all()
        await self._server.wait_closed()

    async def hang(self, hangs: bool) -> None:
        """Listen, and let all measurements hang from now on, or none, as if those before had never been."""
        if not self._server.is_serving():
            self._server = await asyncio.start_server(self._connected, HOST, self.port, ssl=self._context)
        self.break_next(Break.SILENT if hangs else None, sys.maxsize)
        self.cut_all()

    def break_next(self, fault: Break | None, count: int = 0) -> None:
        """What the next `count` requests for measurements meet."""
        self.fault, self.left = fault, count

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(writer)
        behind: asyncio.StreamWriter | None = None
        try:
            answers, behind = await asyncio.open_connection(HOST, self.behind())
            faults: list[Break] = []
            ways = [asyncio.create_task(self._asks(reader, behind, writer, faults)), asyncio.create_task(_answers(answers, writer, faults))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            self._tasks.discard(task)
            for each in (writer, behind):
                if each is not None:
                    each.close()

    async def _asks(
        self, reader: asyncio.StreamReader, behind: asyncio.StreamWriter, writer: asyncio.StreamWriter, faults: list[Break]
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(1 << 16):
                if self.fault is not None and self.left > 0 and ABOUT in chunk[:200]:
                    self.left, self.met = self.left - 1, self.met + 1
                    faults[:] = [self.fault]
                if Break.RESET_BEFORE in faults:
                    return _reset(writer)
                if Break.SILENT in faults:
                    while await reader.read(1 << 16):  # until the other side gives up
                        pass
                    return None
                behind.write(chunk)
                await behind.drain()
        return None


async def _answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, faults: list[Break]) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(1 << 16):
            if Break.RESET_AFTER in faults:
                return _reset(writer)
            drips, faults[:] = Break.DRIP in faults, []
            for index in range(len(chunk) if drips else 0):
                writer.write(chunk[index : index + 1])
                await writer.drain()
                await asyncio.sleep(DRIP_S)
            writer.write(b"" if drips else chunk)
            await writer.drain()
    if Break.SILENT in faults:
        await asyncio.Event().wait()  # the partner has long given the connection up, and nobody hears of it
    return None


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST."""
    plain: socket.socket = writer.get_extra_info("socket")
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def certify(folder: Path) -> Path:
    """A certificate of its own making for localhost, as `cert.pem` and `key.pem` in a folder; trusted by who names the first."""
    folder.mkdir(parents=True)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder
