"""Which messages of a source have been heard: a repeat changes nothing, and an id that comes again with other contents is told
(semantics 3.1, 6.6). A message takes 24 bytes of state: a source may speak every few minutes, and is remembered for a week."""

from hashlib import blake2b
from struct import Struct

_ROW = Struct("=QQq")  # short digests of the message's id and of its contents, and when it was received (ms since 1970 UTC)
_SHORT = Struct("=Q")


class Heard:
    """The messages of one source, over what the state keeps of them: `rows`."""

    def __init__(self, rows: bytes = b"") -> None:
        self.rows = rows

    def contents_of(self, cause: str) -> set[int]:
        """Short digests of the contents that came under an id."""
        wanted = _short(cause)
        return {contents for name, contents, _ in _ROW.iter_unpack(self.rows) if name == wanted}

    def knows(self, cause: str, digest: str) -> bool:
        """Whether a message has been heard, with these contents."""
        return _short(digest) in self.contents_of(cause)

    def hear(self, cause: str, digest: str, received_ms: int) -> None:
        """From now on it has been."""
        self.rows += _ROW.pack(_short(cause), _short(digest), received_ms)

    def forget(self, before_ms: int) -> None:
        """Forget what was received before an instant."""
        if self.rows and any(received_ms < before_ms for _, _, received_ms in _ROW.iter_unpack(self.rows)):
            kept = (row for row in _ROW.iter_unpack(self.rows) if row[2] >= before_ms)
            self.rows = b"".join(_ROW.pack(*row) for row in kept)


def _short(text: str) -> int:
    return int(_SHORT.unpack(blake2b(text.encode(), digest_size=_SHORT.size).digest())[0])
