"""What a partner's connection means for reporting: since when, in which style, and when not (semantics 6.4, 7.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.config import Style
from schemas.connection import Connection, ConnectionState
from schemas.intervals import QUARTER

SILENT = frozenset({ConnectionState.SUSPENDED, ConnectionState.DEREGISTERED})
"""States whose quarters are never reported, also not afterwards."""


def style_for(required: Sequence[str], styles: Sequence[Style]) -> Style | None:
    """The measurement configuration to send in, None where measurements must be withheld (the table of semantics 6.4).

    `required` is what the partner's handshake asked for (empty: no preference), `styles` what the profile can send.
    """
    wanted = set(required) or {style.value for style in Style}
    return next((style for style in (Style.INTERMITTENT, Style.CONTINUOUS) if style.value in wanted and style in styles), None)


@dataclass(slots=True)
class Pause:
    """A time whose quarters are not reported; `until` None while it lasts."""

    since: datetime
    until: datetime | None = None

    def holds(self, instant: datetime) -> bool:
        """Whether a quarter that ends at `instant` belongs to the pause."""
        return self.since < instant and (self.until is None or instant <= self.until)


@dataclass(slots=True)
class Standing:
    """A partner as reporting sees it, made from the connection's changes in their order.

    Pauses are kept by time, not by order of arrival, so a replay judges an old quarter as the first run did.
    """

    first_acknowledged_at: datetime | None = None
    required: tuple[str, ...] = ()
    silences: list[Pause] = field(default_factory=list)
    withheld: list[Pause] = field(default_factory=list)

    def take(self, connection: Connection, keep: timedelta) -> None:
        """Take in a change of the connection; pauses that ended more than `keep` ago are forgotten.

        Whether measurements are withheld is the lifecycle's word alone: it hears of the profile by a way of its own, and what was
        withheld is what people were shown.
        """
        self.first_acknowledged_at = connection.first_acknowledged_at
        self.required = tuple(connection.peer_required_measurements)
        withheld = connection.withheld_since is not None
        silent = connection.state in SILENT
        # one that deregistered is talked to again after its next handshake; one that was suspended from then on, whatever is going on
        _note(self.silences, silent, not silent and connection.first_acknowledged_at is not None, connection.since)
        _note(self.withheld, withheld, not withheld, connection.withheld_since or connection.at)
        for pauses in (self.silences, self.withheld):
            pauses[:] = [pause for pause in pauses if pause.until is None or pause.until > connection.at - keep]

    def silent(self, quarter: datetime) -> bool:
        """Whether nothing about that quarter is said because the connection was suspended or deregistered when it ended."""
        return any(pause.holds(quarter + QUARTER) for pause in self.silences)

    def measurements_owed(self, quarter: datetime) -> bool | None:
        """Whether the quarter's energies are owed; None while no handshake was acknowledged yet, so nobody can tell."""
        if self.first_acknowledged_at is None:
            return None
        if quarter + QUARTER <= self.first_acknowledged_at or self.silent(quarter):
            return False
        return not any(pause.holds(quarter + QUARTER) for pause in self.withheld)


def _gone(pauses: list[Pause]) -> bool:
    return bool(pauses) and pauses[-1].until is None


def _note(pauses: list[Pause], begins: bool, ends: bool, at: datetime) -> None:
    if begins and not _gone(pauses):
        pauses.append(Pause(at))
    elif ends and _gone(pauses):
        pauses[-1].until = at
