"""What is kept for each partner between messages: its connections and its OAuth token; and its files with secrets (semantics 8.4)."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from schemas.config import Partner
from sinks.errors import Misconfigured
from sinks.http import HttpClient
from sinks.http_connecting import TOTAL_S
from sinks.oscp.answers import Unsaid
from sinks.oscp.oauth import OAuthTokens

CONNECTIONS_PER_PARTNER = 8


@dataclass(slots=True)
class Peer:
    """One partner as it is configured now."""

    partner: Partner
    http: HttpClient
    oauth: OAuthTokens | None


class Peers:
    """All partners that messages went to. Use within one event loop.

    `unsaid(partner_id, *secrets)` adds what else a token server's words must not tell. `timeout_s` (wall) is for each request.
    """

    def __init__(self, unsaid: Callable[..., Unsaid], timeout_s: float = TOTAL_S) -> None:
        self._unsaid, self._timeout_s = unsaid, timeout_s
        self._known: dict[str, Peer] = {}

    async def of(self, partner: Partner) -> Peer:
        """What is kept for a partner; begun anew, the old connections closed, where its configuration changed. Raises
        Misconfigured where a TLS file cannot be used."""
        known = self._known.get(partner.id)
        if known is not None and known.partner == partner:
            return known
        self._known[partner.id] = self._made(partner)
        if known is not None:
            await known.http.aclose()
        return self._known[partner.id]

    def known(self, partner_id: str) -> Peer | None:
        """What is kept for a partner, if anything went to it yet."""
        return self._known.get(partner_id)

    async def aclose(self) -> None:
        """Close all connections."""
        for peer in self._known.values():
            await peer.http.aclose()
        self._known.clear()

    def _made(self, partner: Partner) -> Peer:
        tls = partner.tls
        http = HttpClient(
            ca_file=tls.ca_file,
            client_cert_file=tls.client_cert_file,
            client_key_file=tls.client_key_file,
            allow_private=partner.allow_private_addresses,
            max_connections=CONNECTIONS_PER_PARTNER,
            timeout_s=self._timeout_s,
        )
        if partner.oauth is None:
            return Peer(partner, http, None)
        secret_file = partner.oauth.client_secret_file
        oauth = OAuthTokens(
            partner.oauth,
            http,
            client_secret=lambda: file_text("oauth.client_secret_file", secret_file),
            headers=lambda: static_headers(partner),
            unsaid=lambda *secrets: self._unsaid(partner.id, *secrets),
        )
        return Peer(partner, http, oauth)


def static_headers(partner: Partner) -> dict[str, str]:
    """The partner's static headers, read from their files. Raises Misconfigured naming the header."""
    return {name: file_text(f"headers.{name}", source.file) for name, source in partner.headers.items()}


def file_text(setting: str, path: str) -> str:
    """A secret's file, without the line end. Raises Misconfigured naming `setting` where it cannot be read or is empty."""
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError):
        raise Misconfigured(setting, f"the file {path} cannot be read") from None
    if not text or not text.isprintable():
        raise Misconfigured(setting, f"the file {path} does not hold one line of text")
    return text
