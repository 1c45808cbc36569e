"""What a partner's connection means for reporting: since when, in which style, and when not (semantics 6.4, 7.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipelines.rules.pauses import Pause, Pauses
from schemas.config import Style
from schemas.connection import Connection
from schemas.intervals import QUARTER


def style_for(required: Sequence[str], styles: Sequence[Style]) -> Style | None:
    """The measurement configuration to send in, None where measurements must be withheld (the table of semantics 6.4).

    `required` is what the partner's handshake asked for (empty: no preference), `styles` what the profile can send.
    """
    wanted = set(required) or {style.value for style in Style}
    return next((style for style in (Style.INTERMITTENT, Style.CONTINUOUS) if style.value in wanted and style in styles), None)


@dataclass(slots=True)
class Standing:
    """A partner as reporting sees it, made from the connection's changes in their order."""

    first_acknowledged_at: datetime | None = None
    required: tuple[str, ...] = ()
    silences: list[Pause] = field(default_factory=list)
    withheld: list[Pause] = field(default_factory=list)

    def take(self, connection: Connection, keep: timedelta) -> None:
        """Take in a change of the connection; pauses that ended more than `keep` ago are forgotten."""
        self.first_acknowledged_at = connection.first_acknowledged_at
        self.required = tuple(connection.peer_required_measurements)
        Pauses(self.silences, self.withheld).take(connection, keep)

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
