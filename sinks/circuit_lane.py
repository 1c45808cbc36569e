"""What is kept of one circuit: its newest change, and which writes of it the legacy platform is owed (semantics 4). Pure.

A change is written under its own event id, once in a life of the writer. What held before this life began is asserted besides, under
a key of this life's. Nothing else is kept, so a platform that is away costs no more memory than one that answers.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from schemas.capacity import CircuitCapacity
from schemas.circuit_order import ChangesSeen
from schemas.facts import derived_id
from schemas.units import W_PER_KW, rfc3339


class Write(NamedTuple):
    """A value for the platform: the id of the change it comes from, what it is for people, and the request's body."""

    change_id: str
    effective_from: datetime
    words: str
    body: bytes


@dataclass(slots=True)
class Lane:
    """One circuit. `own` and `again` are the writes still owed of `write`: under its own key, and under one of this life's.

    `attempts` counts those of the present key, `failures` those in a row that failed, of whatever key, the last one because
    of `why`. A retry is `due` then, not before `asked_until` (the platform's Retry-After). Instants are wall seconds.
    `settled` says that its newest change is known; `ticket` is its present entry in the queue, `fresh` whether that is a first attempt's.
    """

    circuit_id: str
    seen: ChangesSeen = field(default_factory=ChangesSeen)
    write: Write | None = None
    own: bool = False
    own_done: bool = False
    again: bool = False
    again_done: bool = False
    settled: bool = False
    under_way: bool = False
    probe: bool = False
    attempts: int = 0
    failures: int = 0
    why: str = ""
    due: float = 0.0
    asked_until: float = 0.0
    ticket: int = 0
    fresh: bool = False

    def take(self, change: CircuitCapacity) -> bool:
        """A change came in this life: whether more is owed now. What is older than what is known makes no difference, nor does one
        that was taken before."""
        if self.seen.take(change):
            self._begin(change, own=True)
            return True
        if change.event_id != self.seen.ids[-1] or self.own or self.own_done:
            return False
        self.own, self.write, self.attempts = True, write_of(change), 0
        return True

    def learn(self, changes: Sequence[CircuitCapacity]) -> bool:
        """The newest changes that were on the topic before this life, all of one instant and in their order: the last one is to be
        asserted, unless a newer one came meanwhile. Whether more is owed now."""
        newest, ids = changes[-1], tuple(change.event_id for change in changes)
        since = newest.effective_from
        if self.seen.latest is None or self.seen.latest < since:
            self.seen = ChangesSeen(since, ids)
            self._begin(newest, own=False)
            return True
        if since < self.seen.latest:
            return False
        present = self.seen.ids[-1]
        since_then = tuple(each for each in self.seen.ids if each not in ids)
        # What is said once more after a restart comes in its order, but begins anywhere: the topic has the first time.
        self.seen = ChangesSeen(since, (*ids, *since_then))
        if since_then or self.again or (present == newest.event_id and self.again_done):
            return False
        if present == newest.event_id:
            self.again, self.write, self.attempts = True, write_of(newest), 0
        else:
            self._begin(newest, own=False)
        return True

    def _begin(self, change: CircuitCapacity, *, own: bool) -> None:
        self.write, self.attempts = write_of(change), 0
        self.own, self.again = own, not own
        self.own_done = self.again_done = False

    def owes(self) -> bool:
        """Whether anything is still to be written."""
        return self.own or self.again

    def key(self, life: str) -> str:
        """The Idempotency-Key of the write that is next."""
        assert self.write is not None  # noqa: S101 - only asked of a lane that owes something
        return self.write.change_id if self.own else derived_id("circuit asserted", self.write.change_id, life)

    def done(self, *, own: bool) -> None:
        """The platform has the write that went under its own key, or the assertion."""
        if own:
            self.own, self.own_done = False, True
        else:
            self.again, self.again_done = False, True
        self.attempts = 0
        if not self.owes():
            self.write = None

    def drop(self) -> None:
        """Nothing of the present change is owed any more."""
        self.own = self.again = False
        self.own_done = self.again_done = True
        self.write, self.attempts = None, 0


def write_of(change: CircuitCapacity) -> Write:
    """The PATCH of a change. A value that is not known is null: the platform is to leave its own as it is."""
    imports, exports = _kw(change.available_import_w), _kw(change.available_export_w)
    body = {
        "available_import_kw": imports,
        "available_export_kw": exports,
        "effective_from": rfc3339(change.effective_from),
        "source": change.kind.value.lower(),
    }
    words = f"{_words(imports)} import and {_words(exports)} export from {rfc3339(change.effective_from)}"
    return Write(change.event_id, change.effective_from, words, json.dumps(body, separators=(",", ":")).encode())


def _kw(watts: float | None) -> float | None:
    return None if watts is None else round(watts / W_PER_KW, 6)


def _words(kilowatts: float | None) -> str:
    return "no known" if kilowatts is None else f"{kilowatts:g} kW"
