"""Times whose quarters are not reported (semantics 7.1): kept by the lifecycle, told with each `Connection`, and gone by in reporting.

Both make them in the same way from a connection's changes. They are kept by time, not by order of arrival, so a replay judges an
old quarter as the first run did; and they are told, so that one that begins with the last `Connection` alone, the others having
been compacted away, does too.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas import connection as told
from schemas.connection import Connection, ConnectionState
from schemas.intervals import quarter_of

SILENT = frozenset({ConnectionState.SUSPENDED, ConnectionState.DEREGISTERED})
"""States whose quarters are never reported, also not afterwards."""


COUNTS = timedelta(days=8)
"""A row counts for so long after it was written, however old its quarter is: as long as measurements are owed, and what they wait for."""


@dataclass(slots=True)
class Pause:
    """A time whose quarters are not reported; `until` None while it lasts."""

    since: datetime
    until: datetime | None = None

    def holds(self, instant: datetime) -> bool:
        """Whether a quarter that ends at `instant` belongs to the pause."""
        return self.since < instant and (self.until is None or instant <= self.until)

    @property
    def matters(self) -> bool:
        """Whether it lasts, or a quarter ended in it. A partner may begin and end others as often as it likes."""
        return self.until is None or self.holds(quarter_of(self.until))


@dataclass(slots=True)
class Pauses:
    """When a connection was suspended or deregistered (`silences`), and when measurements alone were `withheld`; the earliest first."""

    silences: list[Pause] = field(default_factory=list)
    withheld: list[Pause] = field(default_factory=list)

    def take(self, connection: Connection, horizon: timedelta | None = None, ended_at: datetime | None = None) -> None:
        """Take in a change of the connection, and what it tells of earlier ones.

        What ended longer ago than anything is told of is forgotten: the `horizon` of repairs, and `COUNTS` beyond it. Measurements that
        are no longer withheld are not since `ended_at`, which the lifecycle knows: it may have come to that late. Whether they are
        withheld is its word alone: it hears of the profile by a way of its own, and what was withheld is what people were shown.
        """
        self.join(connection)
        said, withheld = connection.at, connection.withheld_since is not None
        silent = connection.state in SILENT
        # one that deregistered is talked to again after its next handshake; one that was suspended from then on, whatever is going on
        _note(self.silences, silent, not silent and connection.first_acknowledged_at is not None, connection.since, said)
        _note(self.withheld, withheld, not withheld, connection.withheld_since or ended_at or said, said)
        if horizon is not None:
            since = said - horizon - COUNTS
            for pauses in (self.silences, self.withheld):
                last = pauses[-1:]  # which always stays: that nothing is told of any means that there never was one
                pauses[:] = [pause for pause in pauses[:-1] if pause.until is not None and pause.until > since] + last

    def join(self, connection: Connection) -> None:
        """Take in what a connection tells of pauses alone."""
        _join(self.silences, connection.silences, connection.at)
        _join(self.withheld, connection.withheld, connection.at)

    def told(self, connection: Connection) -> Connection:
        """The connection with these."""
        silences, withheld = ([told.Pause(since=one.since, until=one.until) for one in some] for some in (self.silences, self.withheld))
        return connection.model_copy(update={"silences": silences, "withheld": withheld})


def _join(pauses: list[Pause], others: list[told.Pause], at: datetime) -> None:
    """What a connection of that instant knows is joined: it knows how all ended of which only the beginning is known here."""
    if not others:  # there never were any, or it is one of before they were told
        return
    said = {one.since: Pause(one.since, one.until) for one in others}
    # An earlier connection may come after a later one: it knows nothing of what ended or began since.
    known = {pause.since: pause for pause in pauses if (pause.matters if pause.until is not None else pause.since > at)}
    pauses[:] = sorted((said | known).values(), key=lambda pause: pause.since)


def _gone(pauses: list[Pause]) -> bool:
    return bool(pauses) and pauses[-1].until is None


def _note(pauses: list[Pause], begins: bool, ends: bool, at: datetime, said_at: datetime) -> None:
    if begins and not _gone(pauses) and all(pause.since != at for pause in pauses):
        if pauses and not pauses[-1].matters:
            pauses.pop()
        pauses.append(Pause(at))
    elif ends and _gone(pauses) and said_at >= pauses[-1].since:  # what was said before it does not end it
        pauses[-1].until = max(at, pauses[-1].since)  # clocks of two gateways may differ
