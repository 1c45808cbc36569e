"""Who may speak to the simulated Capacity Provider: the tokens it gave out, or OAuth bearers, and the headers it demands."""

import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Mapping
from urllib.parse import parse_qs, unquote

from gateway.simulator_config import SimulatorConfig
from gateway.simulator_ledger import Ledger
from gateway.simulator_reply import Reply, error
from schemas.facts import digest


class Credentials:
    """Tokens and bearers; what is wrong with a request's goes to the ledger. Header names come in lower case.

    A new token is valid beside the older ones until it is used, as a careful peer has it. `forget` loses them all, as peers do
    that keep none through a restart: from then everybody is answered 403, which is our fault until a registration begins anew.
    """

    def __init__(self, config: SimulatorConfig, ledger: Ledger) -> None:
        self._config, self._ledger = config, ledger
        self._tokens: list[str] = [config.initial_token] if config.initial_token else []
        self._forgotten: set[str] = set()
        self._bearers: dict[str, float] = {}
        self.lost = self.mending = False
        self.issued = 0

    @property
    def newest(self) -> str:
        """The token given out last; one is made if there was none."""
        return self._tokens[-1] if self._tokens else self.fresh()

    def fresh(self) -> str:
        """A new token, valid from now on."""
        return self.admit(secrets.token_urlsafe(32))

    def admit(self, token: str) -> str:
        """Take a token from outside: the initial one of a registration that the Flexibility Provider begins."""
        if self.lost:
            self.lost, self.mending = False, True
        self._tokens.append(token)
        return token

    def forget(self) -> None:
        """Lose all of them."""
        self._forgotten |= {digest(token) for token in self._tokens}
        self._tokens, self._bearers, self.lost = [], {}, True

    def revoke(self) -> None:
        """Let every access token end now: whoever shows one is answered 401 and has to fetch another."""
        self._bearers = dict.fromkeys(self._bearers, 0.0)

    def mended(self) -> None:
        """The new registration is complete: from here on, whoever shows a forgotten token does wrong."""
        self.mending = False

    def refusal(self, action: str, headers: Mapping[str, str], *, bare: bool) -> Reply | None:
        """The answer to whoever does not show the right headers and credentials, else None. `bare`: the token alone is wanted."""
        for name, value in self._config.required_headers.items():
            if headers.get(name.lower()) != value:
                self._ledger.problem(f"{action}: the header {name} is missing or wrong")
                return error(403, f"the header {name} is missing or wrong")
        header = headers.get("authorization", "")
        scheme, _, credential = ("Token", "", header) if bare and " " not in header else header.partition(" ")
        if not credential:
            self._ledger.problem(f"{action}: no Authorization")
            return error(401, "no Authorization", {"WWW-Authenticate": "Token"})
        if self.lost or (self.mending and digest(credential) in self._forgotten):
            return Reply(403, {"message": "invalid token"}, excused=True)
        if self._config.oauth is not None:
            ends = self._bearers.get(credential) if scheme == "Bearer" else None
            if ends is not None and ends < time.monotonic():
                return error(401, "the access token has expired", {"WWW-Authenticate": 'Bearer error="invalid_token"'})
            known = ends is not None
        else:
            known = (bare or scheme == "Token") and self._used(credential)
        if not known:
            self._ledger.problem(f"{action}: Authorization is not what we gave out")
            return error(403, "invalid token")
        return None

    def _used(self, credential: str) -> bool:
        """Whether it is one of our tokens; those before it are void from now on."""
        for index, token in enumerate(self._tokens):
            if hmac.compare_digest(credential.encode(), token.encode()):
                del self._tokens[:index]
                return True
        return False

    def bearer(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """The answer of the token endpoint: OAuth 2.0 client credentials, by Basic or in the form (RFC 6749)."""
        oauth = self._config.oauth
        if oauth is None:
            return error(404, "this Capacity Provider uses no OAuth")
        if any(headers.get(name.lower()) != value for name, value in self._config.required_headers.items()):
            self._ledger.problem("token request: a required header is missing or wrong")
            return error(403, "a required header is missing or wrong")
        form = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        client = _basic(headers.get("authorization", "")) or (form.get("client_id", ""), form.get("client_secret", ""))
        if client != (oauth.client_id, oauth.client_secret):
            self._ledger.problem("token request: the client is not known")
            return Reply(401, {"error": "invalid_client"}, {"WWW-Authenticate": "Basic", "Cache-Control": "no-store"})
        if form.get("grant_type") != "client_credentials":
            self._ledger.problem("token request: grant_type is not client_credentials")
            return Reply(400, {"error": "unsupported_grant_type"}, {"Cache-Control": "no-store"})
        token = secrets.token_urlsafe(32)
        self._bearers[token] = time.monotonic() + oauth.expires_in_s
        self.issued += 1
        return Reply(200, {"access_token": token, "token_type": "Bearer", "expires_in": oauth.expires_in_s}, {"Cache-Control": "no-store"})


def _basic(header: str) -> tuple[str, str] | None:
    scheme, _, text = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return unquote(name), unquote(password)
