"""TLS of a listener: its certificate, key and the authority of client certificates, read again when the files change.

A renewed certificate needs no restart: connections opened from then on are shown the new one. Files that cannot be
used (half written, not a pair) change nothing but the log; at start they end the process with a sentence.
"""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.listener_settings import GatewaySettings
from sinks.errors import Misconfigured

log = logging.getLogger(__name__)

SIDES = ("OSCP", "OPERATIONS")
LOOK_EVERY_S = 10.0
"""So long after the last look at the files a new connection looks again (wall time)."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one listener (`side` is OSCP or OPERATIONS): the chain, its key, and whose client certificates are demanded."""

    side: str
    chain: Path
    key: Path
    client_ca: Path | None = None

    def setting(self, name: str) -> str:
        """The full name of one of this listener's settings."""
        return f"DERMS_GATEWAY__{self.side}_{name}"


def tls_files(gateway: GatewaySettings, side: str) -> TlsFiles | None:
    """The files the settings name for OSCP or OPERATIONS; None where that listener has none. Raises Misconfigured for half a pair."""
    chain, key, client_ca = gateway.operations_tls_cert_file, gateway.operations_tls_key_file, None
    if side == "OSCP":
        chain, key, client_ca = gateway.oscp_tls_cert_file, gateway.oscp_tls_key_file, gateway.oscp_client_ca_file
    if chain is None and key is None:
        if client_ca is not None:
            cure = "set DERMS_GATEWAY__OSCP_TLS_CERT_FILE and _KEY_FILE too; without TLS no client shows a certificate"
            raise Misconfigured("DERMS_GATEWAY__OSCP_CLIENT_CA_FILE", "is set, but the listener has no certificate", cure)
        return None
    for name, path, other in (("TLS_CERT_FILE", chain, "TLS_KEY_FILE"), ("TLS_KEY_FILE", key, "TLS_CERT_FILE")):
        if path is None:
            raise Misconfigured(
                f"DERMS_GATEWAY__{side}_{name}", f"is not set, but {side}_{other} is", "set both, or neither for plain HTTP"
            )
    assert chain is not None and key is not None  # noqa: S101, PT018 - the loop has seen to it
    return TlsFiles(side, chain, key, client_ca)


def tls_context(files: TlsFiles) -> ssl.SSLContext:
    """A server's context with these files; TLS 1.2 or later. Raises Misconfigured naming the file's setting, its problem and the cure."""
    _check_chain(files)
    _check_key(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.chain, files.key, password="")
    except (OSError, ssl.SSLError):
        problem = f"{files.key} is not the key of the certificate in {files.chain}"
        raise Misconfigured(files.setting("TLS_KEY_FILE"), problem, "name the key the certificate was issued for") from None
    if files.client_ca is not None:
        setting = files.setting("CLIENT_CA_FILE")
        _text(setting, files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(files.client_ca)
        except (OSError, ssl.SSLError):
            raise Misconfigured(setting, f"{files.client_ca} holds no certificate", "name a PEM file of the authority") from None
    return context


def _text(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Misconfigured(setting, f"{error.strerror or 'cannot be read'}: {path}", "name a PEM file that can be read") from None


def _check_chain(files: TlsFiles) -> None:
    setting = files.setting("TLS_CERT_FILE")
    try:
        chain = x509.load_pem_x509_certificates(_text(setting, files.chain))
    except ValueError:
        cure = "name a PEM file, the server's certificate first and then those it was signed by"
        raise Misconfigured(setting, f"{files.chain} holds no certificate", cure) from None
    if chain[0].not_valid_after_utc <= datetime.now(UTC):
        log.warning("%s: the certificate in %s has expired; peers will refuse it", setting, files.chain)


def _check_key(files: TlsFiles) -> None:
    setting, cure = files.setting("TLS_KEY_FILE"), "name the certificate's private key as PEM, without a password"
    try:
        load_pem_private_key(_text(setting, files.key), password=None)
    except TypeError:
        raise Misconfigured(setting, f"the key in {files.key} has a password", cure) from None
    except (ValueError, UnsupportedAlgorithm):
        raise Misconfigured(setting, f"{files.key} holds no private key", cure) from None


class Certificates:
    """The context for the next connection. Not for threads; `current` reads small files when they have changed."""

    def __init__(self, files: TlsFiles, *, look_every_s: float = LOOK_EVERY_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._files, self._look_every_s, self._now_s = files, look_every_s, now_s
        self._seen, self._looked = self._marks(), now_s()
        self._context = tls_context(files)

    def current(self) -> ssl.SSLContext:
        """The newest context that could be made; files that cannot be used are told in the log once."""
        now = self._now_s()
        if now - self._looked >= self._look_every_s:
            self._looked = now
            marks = self._marks()
            if marks != self._seen:
                self._seen = marks
                self._renew()
        return self._context

    def _renew(self) -> None:
        try:
            self._context = tls_context(self._files)
        except Misconfigured as error:
            log.error("the certificate in use stays: %s", error)
        else:
            log.info("%s has changed; new connections are shown the certificate in it", self._files.setting("TLS_CERT_FILE"))

    def _marks(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file is written or replaced."""
        found: list[tuple[int, int, int] | None] = []
        for path in (self._files.chain, self._files.key, self._files.client_ca):
            try:
                status = None if path is None else path.stat()
            except OSError:
                status = None
            found.append(None if status is None else (status.st_ino, status.st_mtime_ns, status.st_size))
        return found


def certificates_of(gateway: GatewaySettings, side: str) -> Certificates | None:
    """The certificates of OSCP or OPERATIONS, checked now; None for plain HTTP. Raises Misconfigured."""
    files = tls_files(gateway, side)
    return None if files is None else Certificates(files)
