"""Rows that a life of the flow wrote after its last snapshot, and how the next one numbers its own so that they hold (semantics 1.11).

After a kill the readings since the snapshot come again, cut into other polls: several late ones may then make one revision
where they had made several. The highest revision holds, so what comes again must not be numbered below what is there.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.rules.group_news import METHODS as GROUP_METHODS
from pipelines.rules.group_news import GroupRows
from pipelines.rules.group_shard import GroupShard
from pipelines.rules.quarter_hours import CONTENT, METHODS
from pipelines.rules.quarter_readings import Flags
from pipelines.rules.quarter_roster import shard_of
from pipelines.rules.quarter_state import Shard, Step
from schemas.telemetry import Level
from schemas.units import Phase

_SAID = np.dtype(
    [
        *((name, np.float64) for name in CONTENT), ("samples", np.int64), ("missing_members", np.int64),
        ("method", np.int8), ("estimated", np.bool_), ("reset", np.bool_),
    ]
)  # fmt: skip
_PHASES = {phase.value: index for index, phase in enumerate(Phase)}
_METHODS = {Level.ASSET.value: [one.value for one in METHODS], Level.GROUP.value: [one.value for one in GROUP_METHODS]}

Place = tuple[str, int, int]
"""(asset or group, phase, start in ms)."""


@dataclass
class Earlier:
    """Of each place the row with the highest revision, the last of them: `places` says where it is in `rows` and `revisions`."""

    places: dict[Place, int] = field(default_factory=dict)
    rows: NDArray[np.void] = field(default_factory=lambda: np.zeros(0, _SAID))
    revisions: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    _looked: int = 0

    @classmethod
    def by_level(cls, rows: Iterable[Mapping[str, Any]]) -> dict[Level, "Earlier"]:
        """From final rows in the order in which they were written, as plain values."""
        found = {level: cls() for level in Level}
        for row in rows:
            found[Level(row["level"])]._take(row)
        return found

    @classmethod
    def of(cls, level: Level, rows: Iterable[Mapping[str, Any]]) -> "Earlier":
        """Those of one level."""
        return cls.by_level(rows)[level]

    def _take(self, row: Mapping[str, Any]) -> None:
        place = (row["id"], _PHASES[row["phase"]], round(row["start"].timestamp() * 1000))
        index = self.places.setdefault(place, len(self.places))
        if index == len(self.rows):  # in place of objects: there may be a hundred thousand of them
            self.rows = np.concatenate((self.rows, np.zeros(max(64, index), _SAID)))
            self.revisions = np.concatenate((self.revisions, np.zeros(max(64, index), np.int32)))
        if row["revision"] >= self.revisions[index]:
            self.revisions[index] = row["revision"]
            values = [np.nan if row[name] is None else row[name] for name in (*CONTENT, "samples", "missing_members")]
            self.rows[index] = (*values, _METHODS[row["level"]].index(row["method"]), row["estimated"], row["reset"])

    def of_shard(self, number: int, shards: int) -> "Earlier":
        """Those of one telemetry shard's assets, which are its own from then on."""
        mine = [place for place in self.places if shard_of(place[0], shards) == number]
        return Earlier({place: self.places.pop(place) for place in mine}, self.rows, self.revisions)

    def copy(self) -> "Earlier":
        """The same, for a group shard that forgets at its own pace; the rows of other shards' groups do no harm."""
        return Earlier(dict(self.places), self.rows, self.revisions)

    def forget(self, cut: int) -> None:
        """Nothing that begins before `cut` (ms) can be written any more."""
        if self.places and cut > self._looked:
            self._looked = cut
            self.places = {place: index for place, index in self.places.items() if place[2] >= cut}

    def renumbered(self, places: list[Place], rows: NDArray[np.void], revisions: NDArray[np.int32]) -> NDArray[np.int32]:
        """The revisions that rows to be written at these places should have: as they are; or, where an earlier life has come
        further, its number for the same content and the next one for another."""
        found = revisions.copy()
        hit = [(row, index) for row, place in enumerate(places) if (index := self.places.get(place)) is not None]
        if not hit:
            return found
        row, said = np.array(hit, np.int64).T
        behind = revisions[row] <= self.revisions[said]
        for place in [places[index] for index in row[~behind].tolist()]:
            self.places.pop(place, None)  # overtaken
        row, said = row[behind], said[behind]
        other = ~_alike(rows[row], self.rows[said])
        # What is written now is what the next one, perhaps of the same step, has to come after.
        for name in _shared(rows):
            self.rows[name][said[other]] = rows[name][row[other]]
        self.revisions[said[other]] += 1
        found[row] = self.revisions[said]
        return found


def _shared(rows: NDArray[np.void]) -> list[str]:
    """The columns both have: an asset's row knows of no members."""
    return [name for name in _SAID.names or () if name in (rows.dtype.names or ())]


def _alike(rows: NDArray[np.void], said: NDArray[np.void]) -> Flags:
    same = np.ones(len(rows), np.bool_)
    for name in _shared(rows):
        one, other = rows[name], said[name]
        same &= (one == other) | (np.isnan(one) & np.isnan(other)) if one.dtype.kind == "f" else one == other
    return same


def overtake(shard: Shard, step: Step, earlier: Earlier) -> None:
    """Number the rows of a step, and what the shard remembers of them, after what an earlier life wrote."""
    keys, cut = shard.keys, shard.cut[shard.cut > 0]
    for index, rows in enumerate(step.rows):
        key, start = rows["key"], rows["start"]
        asset, phase = keys.asset[key].tolist(), keys.phase[key].tolist()
        places = [(keys.assets[one], which, at) for one, which, at in zip(asset, phase, start.tolist(), strict=True)]
        revisions = earlier.renumbered(places, rows, step.revisions[index])
        other = np.flatnonzero(revisions != step.revisions[index])
        if len(other):
            slot = shard.slots.of(key[other], start[other])
            known = slot >= 0  # a quarter may have left in the very step that wrote its row
            shard.slots.quarters["revision"][slot[known]] = revisions[other][known]
            step.revisions[index] = revisions
    earlier.forget(int(cut.min()) if len(cut) else 0)  # not before: a quarter may leave in the step that writes its row


def overtake_groups(shard: GroupShard, found: list[GroupRows], earlier: Earlier) -> None:
    """The same for the rows of groups."""
    for some in found:
        if not some.revisions[0]:
            continue
        starts = some.rows["start"].tolist()
        places = [(group, _PHASES[Phase.ALL.value], start) for group, start in zip(some.groups, starts, strict=True)]
        revisions = earlier.renumbered(places, some.rows, some.revisions)
        for index in np.flatnonzero(revisions != some.revisions).tolist():
            quarter = shard.quarters.get(starts[index])
            if quarter is None:  # it left in the very step that wrote its row
                continue
            quarter.said[some.groups[index]] = (int(revisions[index]), quarter.said[some.groups[index]][1])
        some.revisions = revisions
    earlier.forget(shard.gone)
