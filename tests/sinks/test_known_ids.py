"""Ids found by their bytes: known ones in their places, the others behind."""

import numpy as np
import pytest

from sinks import known_ids
from sinks.known_ids import Ids, KnownIds


class TestKnownIds:
    @staticmethod
    def found(known: KnownIds, sought: list[str]) -> tuple[list[int], list[str]]:
        raw = [id_.encode() for id_ in sought]
        size = np.array([len(each) for each in raw], np.int32)
        asset = np.empty(len(raw), np.int32)
        others = known.find(known_ids.joined(raw), np.cumsum(size, dtype=np.int64) - size, size, asset)
        return asset.tolist(), others

    def test_what_is_known_is_found_and_the_others_come_behind(self) -> None:
        known = KnownIds(f"asset-{n}" for n in range(5000))
        sought = [f"asset-{n}" for n in range(4990, 5010)] + ["", "asset", "asset-5001"]
        assert self.found(known, sought) == ([*range(4990, 5012), 5001], sought[10:-1])
        assert self.found(KnownIds([]), sought) == ([*range(22), 11], sought[:-1])
        assert self.found(known, []) == ([], [])

    def test_ids_that_differ_in_zeros_at_their_end_are_different(self) -> None:
        ids = ["", "\0", "\0\0", "a", "a\0", "12345678", "12345678\0", "12345678" * 2, "12345678" * 3]
        for known in (KnownIds(ids), KnownIds(ids[::2]), KnownIds([])):
            places, others = self.found(known, ids)
            assert [[*known.ids, *others][place] for place in places] == ids

    def test_equal_hashes_of_different_ids_are_no_mistake(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, loop in list(vars(known_ids).items()):  # as written, not compiled
            if hasattr(loop, "py_func"):
                monkeypatch.setattr(known_ids, name, loop.py_func)
        monkeypatch.setattr(known_ids, "hash_of", lambda *_: np.uint64(7 << 32 | 3))
        known = KnownIds(["a", "b", "a\0"])
        sought = ["a", "b", "a\0", "d", "a", "d\0", "d", "12345678d", "123456789"]
        assert self.found(known, sought) == ([0, 1, 2, 3, 0, 4, 3, 5, 6], ["d", "d\0", "12345678d", "123456789"])


def test_ids_behind_others_are_one_sequence() -> None:
    ids = Ids(["a", "b"], ["c", "d"])
    assert [*ids] == [ids[place] for place in range(len(ids))] == ids[:] == ["a", "b", "c", "d"]
    assert (ids[-1], ids[-3], ids[1:3]) == ("d", "b", ["b", "c"])
    with pytest.raises(IndexError):
        ids[4]
