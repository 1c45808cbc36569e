"""The installation secret's uses: our tokens, derived and never stored, and peers' tokens as ciphertext (semantics 6.2).

A secret is changed by having both for a while: the new one makes everything, the previous one only opens what it made. The
lifecycle encrypts anew what it keeps (`rules.lifecycle_secrets`), and then the previous one can go.
"""

import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Collection

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from schemas.facts import digest
from sinks.errors import Misconfigured

KEY_BYTES = 32
VERSION = "v1"
_NONCE_BYTES = 12
_CURE = "32 bytes in base64, such as: openssl rand -base64 32"


class WrongSecret(ValueError):
    """A ciphertext that this secret (or this context) did not make. The words hold neither text nor ciphertext."""


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _part(key: bytes, purpose: str) -> bytes:
    """What the key gives for one purpose only, so that the cipher and the key's name share nothing with the tokens."""
    return hmac.new(key, f"vector-derms/{purpose}".encode(), hashlib.sha256).digest()


def key_id_of(ciphertext: str) -> str:
    """The `Secrets.key_id` of the secret that made a ciphertext; "" for what is none."""
    version, _, rest = ciphertext.partition(".")
    return rest.partition(".")[0] if version == VERSION else ""


class Secrets:
    """Everything made with one installation secret. `key_id` names it and reveals nothing of it; nothing here blocks.

    `previous` is the secret before this one, while a rotation is under way: what was made with it is still understood.
    """

    def __init__(self, key: bytes, previous: "Secrets | None" = None) -> None:
        if len(key) != KEY_BYTES:
            raise Misconfigured("DERMS_SECRET", f"has {len(key)} bytes, {KEY_BYTES} are needed", _CURE)
        self._key, self._cipher = key, AESGCM(_part(key, "cipher"))
        self.key_id = _base64url(_part(key, "id")[:9])
        self._previous = previous

    def __repr__(self) -> str:
        return f"Secrets(key_id={self.key_id!r})"

    @classmethod
    def from_base64(cls, text: str, previous: str | None = None) -> "Secrets":
        """The secrets of a key, and of the one before it, as settings hold them (either base64 alphabet). Raises `Misconfigured`,
        without the text."""
        plain = text.strip().translate(str.maketrans("-_", "+/")).rstrip("=")
        try:
            key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise Misconfigured("DERMS_SECRET", "is not base64", _CURE) from None
        return cls(key, None if previous is None else cls.from_base64(previous))

    def token(self, partner_id: str, cause: str) -> str:
        """Our token for a partner, 43 base64url characters. The same cause makes the same token on every run."""
        # Lengths keep ("a", "bc") and ("ab", "c") apart.
        parts = (self.key_id, partner_id, cause)
        message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        return _base64url(hmac.new(self._key, message, hashlib.sha256).digest())

    def token_digest(self, partner_id: str, cause: str) -> str:
        """What topics and state hold in that token's place."""
        return digest(self.token(partner_id, cause))

    def token_among(self, partner_id: str, cause: str, digests: Collection[str]) -> str:
        """As `token`, but the previous secret's where only that one's digest is among `digests`: what was promised under it holds."""
        if self._previous is not None and self.token_digest(partner_id, cause) not in digests:
            before = self._previous.token(partner_id, cause)
            if digest(before) in digests:
                return before
        return self.token(partner_id, cause)

    def tokens(self, partner_id: str, cause: str) -> list[str]:
        """Every token that `cause` may have made: this secret's, then the previous one's. For what must never show them."""
        before = [] if self._previous is None else self._previous.tokens(partner_id, cause)
        return [self.token(partner_id, cause), *before]

    def renewed(self, text: str, context: str) -> str:
        """The ciphertext itself where this secret made it, else the same text under this secret. Raises `WrongSecret` as `decrypt`."""
        return text if key_id_of(text) == self.key_id else self.encrypt(self.decrypt(text, context), context)

    def encrypt(self, text: str, context: str) -> str:
        """`text` as ciphertext that opens only with this secret and the same `context` (a partner's id)."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, text.encode(), self._bound(context))
        return f"{VERSION}.{self.key_id}.{_base64url(sealed)}"

    def decrypt(self, text: str, context: str) -> str:
        """The text again. Raises `WrongSecret` for another secret, another context, or anything that is no ciphertext."""
        version, _, rest = text.partition(".")
        key_id, _, sealed = rest.partition(".")
        if version != VERSION or not sealed:
            raise WrongSecret(f"no ciphertext of version {VERSION}")
        if self._previous is not None and key_id == self._previous.key_id:
            return self._previous.decrypt(text, context)
        if key_id != self.key_id:
            raise WrongSecret(f"encrypted under the installation secret {key_id[:12]!r}, this one is {self.key_id!r}: restore DERMS_SECRET")
        try:
            raw = base64.b64decode(sealed.translate(str.maketrans("-_", "+/")) + "=" * (-len(sealed) % 4), validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._bound(context)).decode()
        except (binascii.Error, InvalidTag, ValueError):
            raise WrongSecret("damaged, or made for another context") from None

    def _bound(self, context: str) -> bytes:
        return f"{VERSION}.{self.key_id}.{context}".encode()
