"""Which of a circuit's changes is the newest, however they come (semantics 4)."""

from dataclasses import dataclass
from datetime import datetime

from schemas.capacity import CircuitCapacity


@dataclass
class ChangesSeen:
    """The latest instant from which a change of one circuit takes effect, and the ids of the changes that do.

    What is stated again after a restart is known by its id, or by taking effect before what is known; of two changes that take
    effect at the same instant the one that came later holds.
    """

    latest: datetime | None = None
    ids: tuple[str, ...] = ()

    def take(self, change: CircuitCapacity) -> bool:
        """Whether the change is newer than all taken before, which it then overtakes."""
        since, change_id = change.effective_from, change.event_id
        if (self.latest is not None and since < self.latest) or change_id in self.ids:
            return False
        same_instant = since == self.latest
        self.latest, self.ids = since, (*(self.ids if same_instant else ()), change_id)
        return True
