"""The ids of quarter-hour rows: a UUIDv5 over the row's own bytes, made in a compiled loop (semantics 7.5).

SHA-1 as in FIPS 180-4, because that is what a version 5 UUID is (RFC 9562); `hashlib` costs a microsecond a row in objects.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from schemas.facts import NAMESPACE

SPACE: NDArray[np.uint8] = np.frombuffer(NAMESPACE.bytes, np.uint8)
HEX: NDArray[np.uint8] = np.frombuffer(b"0123456789abcdef", np.uint8)
ID_SIZE = 36
_BLOCK = 64
_M32 = 0xFFFFFFFF


@njit(cache=True, nogil=True)
def _turned(word: int, by: int) -> int:
    """`word` (32 bits) rotated left."""
    return ((word << by) | (word >> (32 - by))) & _M32


@njit(cache=True, nogil=True)
def _stir(block: NDArray[np.uint8], first: int, state: NDArray[np.int64], w: NDArray[np.int64]) -> None:
    """One block of 64 bytes into the state of the digest. Words are in 64 bits, so that sums need no care."""
    for i in range(16):
        at = first + 4 * i
        w[i] = (np.int64(block[at]) << 24) | (np.int64(block[at + 1]) << 16) | (np.int64(block[at + 2]) << 8) | np.int64(block[at + 3])
    for i in range(16, 80):
        w[i] = _turned(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1)
    a, b, c, d, e = state[0], state[1], state[2], state[3], state[4]
    for i in range(80):
        if i < 20:
            f, k = (b & c) | ((b ^ _M32) & d), 0x5A827999
        elif i < 40:
            f, k = b ^ c ^ d, 0x6ED9EBA1
        elif i < 60:
            f, k = (b & c) | (b & d) | (c & d), 0x8F1BBCDC
        else:
            f, k = b ^ c ^ d, 0xCA62C1D6
        a, b, c, d, e = (_turned(a, 5) + f + e + k + w[i]) & _M32, a, _turned(b, 30), c, d
    state[0] = (state[0] + a) & _M32
    state[1] = (state[1] + b) & _M32
    state[2] = (state[2] + c) & _M32
    state[3] = (state[3] + d) & _M32
    state[4] = (state[4] + e) & _M32


@njit(cache=True, nogil=True)
def write_id(
    raw: NDArray[np.uint8], first: int, end: int, to: int, scratch: NDArray[np.uint8], state: NDArray[np.int64], w: NDArray[np.int64]
) -> None:
    """Write at `raw[to:]` the UUIDv5, as text, of `raw[first:end]` in our namespace.

    `scratch` takes the message (16 bytes more than it has, and up to 72 for its end), `state` 5 words, `w` 80.
    """
    size = 16 + end - first
    for i in range(16):
        scratch[i] = SPACE[i]
    for i in range(end - first):
        scratch[16 + i] = raw[first + i]
    blocks = (size + 8) // _BLOCK + 1
    for i in range(size, blocks * _BLOCK):
        scratch[i] = 0
    scratch[size] = 0x80
    for i in range(8):
        scratch[blocks * _BLOCK - 1 - i] = ((size * 8) >> (8 * i)) & 0xFF
    state[0], state[1], state[2], state[3], state[4] = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0
    for i in range(blocks):
        _stir(scratch, i * _BLOCK, state, w)
    at = to
    for i in range(16):
        byte = (state[i // 4] >> (24 - 8 * (i % 4))) & 0xFF
        if i == 6:
            byte = (byte & 0x0F) | 0x50  # version 5
        if i == 8:
            byte = (byte & 0x3F) | 0x80  # variant of RFC 9562
        if i in (4, 6, 8, 10):
            raw[at] = 45  # a dash
            at += 1
        raw[at], raw[at + 1] = HEX[byte >> 4], HEX[byte & 15]
        at += 2
