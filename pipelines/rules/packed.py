"""Columns take little room in memory, and less where a flow keeps its state: there they are compressed.

Limits repeat from day to day, starts are a quarter hour apart: a week takes about a quarter of the bytes, for half a millisecond.
"""

import pickle
import zlib
from collections.abc import Callable


class Packed:
    """What is kept of an object of this class (`pickle`) is compressed; it comes back as it was."""

    def __reduce__(self) -> "tuple[Callable[..., Packed], tuple[type[Packed], bytes]]":
        """How it is kept."""
        return _unpacked, (type(self), zlib.compress(pickle.dumps(self.__dict__, protocol=5), level=1))


def _unpacked(kind: type[Packed], packed: bytes) -> Packed:
    found = kind.__new__(kind)
    found.__dict__.update(pickle.loads(zlib.decompress(packed)))  # noqa: S301 - our own recovery store
    return found
