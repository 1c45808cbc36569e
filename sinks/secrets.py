"""The installation secret's uses: our tokens, derived and never stored, and peers' tokens as ciphertext (semantics 6.2)."""

import base64
import binascii
import hashlib
import hmac
import os

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


class Secrets:
    """Everything made with one installation secret. `key_id` names it and reveals nothing of it; nothing here blocks."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise Misconfigured("DERMS_SECRET", f"has {len(key)} bytes, {KEY_BYTES} are needed", _CURE)
        self._key, self._cipher = key, AESGCM(_part(key, "cipher"))
        self.key_id = _base64url(_part(key, "id")[:9])

    def __repr__(self) -> str:
        return f"Secrets(key_id={self.key_id!r})"

    @classmethod
    def from_base64(cls, text: str) -> "Secrets":
        """The secrets of a key as settings hold it (either base64 alphabet). Raises `Misconfigured`, without the text."""
        plain = text.strip().translate(str.maketrans("-_", "+/")).rstrip("=")
        try:
            key = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise Misconfigured("DERMS_SECRET", "is not base64", _CURE) from None
        return cls(key)

    def token(self, partner_id: str, cause: str) -> str:
        """Our token for a partner, 43 base64url characters. The same cause makes the same token on every run."""
        # Lengths keep ("a", "bc") and ("ab", "c") apart.
        parts = (self.key_id, partner_id, cause)
        message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        return _base64url(hmac.new(self._key, message, hashlib.sha256).digest())

    def token_digest(self, partner_id: str, cause: str) -> str:
        """What topics and state hold in that token's place."""
        return digest(self.token(partner_id, cause))

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
        if key_id != self.key_id:
            raise WrongSecret(f"encrypted under the installation secret {key_id[:12]!r}, this one is {self.key_id!r}: restore DERMS_SECRET")
        try:
            raw = base64.b64decode(sealed.translate(str.maketrans("-_", "+/")) + "=" * (-len(sealed) % 4), validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], self._bound(context)).decode()
        except (binascii.Error, InvalidTag, ValueError):
            raise WrongSecret("damaged, or made for another context") from None

    def _bound(self, context: str) -> bytes:
        return f"{VERSION}.{self.key_id}.{context}".encode()
