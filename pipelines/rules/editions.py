"""Which assets were configured a moment ago: workers of a cluster take a changing configuration over at moments of their own."""

from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from schemas.topology import Asset

MOST = 50_000
"""So many changes of assets are remembered: a worker that read on while another one took over is not further ahead."""
_ALL = 1 << 128


def edition_of(asset_ids: Iterable[str]) -> str:
    """Names a set of ids, and with it their order, which is that of the ids themselves."""
    return _named(sum(map(_weight, asset_ids)) % _ALL)


def _weight(asset_id: str) -> int:
    return int.from_bytes(blake2b(asset_id.encode(), digest_size=16).digest())


def _named(total: int) -> str:
    return f"{total:032x}"


class Editions:
    """The last changes of the configured assets, each with what undoes it.

    The name of a set follows from the one before and what came or went, so to know it after each of many changes costs little.
    """

    def __init__(self, most: int = MOST) -> None:
        self._total = 0
        self._changes: deque[tuple[int, str, Asset | None]] = deque(maxlen=most)

    def changed(self, asset_id: str, before: Asset | None, after: Asset | None) -> None:
        """An asset was changed, came (no `before`) or went (no `after`)."""
        if (before is None) == (after is None):
            return  # the ids stay what they are
        self._changes.append((self._total, asset_id, before))
        self._total = (self._total + (_weight(asset_id) if before is None else -_weight(asset_id))) % _ALL

    def knows(self, edition: str) -> bool:
        """Whether the assets have that edition, or had it a moment ago. Cheap."""
        wanted = int(edition, 16)
        return wanted == self._total or any(total == wanted for total, _, _ in self._changes)

    def assets(self, edition: str, present: Mapping[str, Asset]) -> list[Asset]:
        """The assets there were when they had that edition, each as it is now or was last; `present` are those after the last change.

        Raises LookupError where it is not known.
        """
        if not self.knows(edition):
            raise LookupError(edition)
        found, total, changes = dict(present), self._total, reversed(self._changes)
        while _named(total) != edition:
            total, asset_id, before = next(changes)
            if before is None:
                found.pop(asset_id, None)
            else:
                found[asset_id] = present.get(asset_id, before)
        return list(found.values())
