"""Payloads of a poll, one behind the other in one run of bytes: what is decoded at once is not kept as an object a message.

Without numpy, for the flows of the control plane read through the same sources.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import overload

PAD = 8
"""So many bytes lie behind the last payload: compiled loops may look at them."""


class Payloads(Sequence[bytes]):
    """`raw` is the payloads' bytes and the padding, `sizes` has the number of bytes of each, as 64-bit numbers."""

    def __init__(self, raw: bytes, sizes: "array[int]") -> None:
        self.raw, self.sizes = raw, sizes

    @classmethod
    def of(cls, pieces: Sequence[bytes | memoryview], sizes: "array[int]") -> "Payloads":
        """From their bytes in pieces, cut anywhere."""
        return cls(b"".join((*pieces, bytes(PAD))), sizes)

    @classmethod
    def joined(cls, some: Iterable[Sequence[bytes]]) -> "Payloads":
        """All of them, in order; no object is made for a payload that lies in a run of bytes already."""
        pieces, sizes = list[bytes | memoryview](), array("q")
        for payloads in some:
            if isinstance(payloads, Payloads):
                pieces.append(memoryview(payloads.raw)[: payloads.size])
                sizes += payloads.sizes
            else:
                pieces += payloads
                sizes.extend(map(len, payloads))
        return cls.of(pieces, sizes)

    @property
    def size(self) -> int:
        """Their bytes together."""
        return len(self.raw) - PAD

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(self.sizes))

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [self[each] for each in range(*place.indices(len(self)))]
        if not 0 <= place < len(self):
            raise IndexError("no such payload")
        end = self._ends[place]
        return self.raw[end - self.sizes[place] : end]

    def __iter__(self) -> Iterator[bytes]:
        begin = 0
        for size in self.sizes:
            yield self.raw[begin : begin + size]
            begin += size

    def __len__(self) -> int:
        return len(self.sizes)
