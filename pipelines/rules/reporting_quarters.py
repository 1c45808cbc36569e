"""When the rows of one group's quarter make a message, and which rows go in it (semantics 7.2).

Rows of assets and of the group come by different partitions, so their order of arrival says nothing.
What goes together is decided by `at`, the instant each row was written, so that a replay makes the same
messages: the first message holds the asset rows written up to the group's row (and `settle` after it),
each further one what was written within `settle` of the first row that is still untold. A group's row that is written
later than `orphans` after the first of its assets', or never, gathers nothing: a connection meter that fails must not
keep the other assets' energies from the partner. Arrival decides only how long to wait: not at all where every expected
member is there, and longer where it is known who is not.

What was told of a quarter is remembered for `recent`, and then no longer than while corrections follow each other within `apart`:
one that stands alone is told with all its entries, whether what was told happens to be remembered or not. So a replay, which
forgets nothing, makes the messages of the first run.
"""

from dataclasses import MISSING, dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from pipelines.rules.reporting_entries import Row
from pipelines.rules.reporting_past import last_about
from pipelines.rules.reporting_plan import Roster
from schemas.intervals import QUARTER_MS
from schemas.telemetry import Level, Method
from schemas.units import Phase, from_ms, to_ms

_MS = timedelta(milliseconds=1)
_ASSET, _GROUP, _SUM, _ALL = Level.ASSET.value, Level.GROUP.value, Method.SUM.value, Phase.ALL.value
"""Asked for with every row, and an enum's `value` costs more than all else that is asked."""


@dataclass(frozen=True, slots=True)
class Waits:
    """How long reporting waits, in clock time."""

    settle: timedelta = timedelta(seconds=0.5)
    """For rows of other partitions, written at the same time."""
    patience: timedelta = timedelta(seconds=30)
    """The same when the rows are old, or the group's row says that there are more: a replay, and the end of a quarter of thousands of
    groups, read partitions at different speeds."""
    live: timedelta = timedelta(minutes=1)
    """Rows written less than this ago are read as they are written."""
    orphans: timedelta = timedelta(minutes=6)
    """For the group's row, which may never come, when a quarter gets its first row."""
    recent: timedelta = timedelta(hours=2)
    """Quarters that began no longer than this before the newest are remembered entry by entry."""
    idle: timedelta = timedelta(minutes=10)
    """A remembered quarter is kept at least this long after its last row arrived."""
    apart: timedelta = timedelta(minutes=5)
    """Corrections of a quarter that is not recent, written further apart than this, know nothing of each other; less than `idle`."""


@dataclass(slots=True)
class GroupQuarter:
    """What is known and told of one quarter to one group.

    `opened`: the first message went, so each further change is told by itself. `told` says what each entry said last
    (`reporting_entries.marks_of`). `group_row` is the first of the group's rows that are pending. `phased` keeps the
    rows of assets metered by phases, which are told as their sum, so that a change of one needs the others.
    `after` stands for the messages that were made last (`reporting_past`), `after_ms` when the newest of its rows was written.
    `undecided`: due, but no handshake was acknowledged yet, or measurements are withheld since the quarter ended.
    """

    old: bool
    touched: datetime
    opened: bool = False
    undecided: bool = False
    due: datetime | None = None
    group_row: Row | None = None
    pending: list[Row] = field(default_factory=list)
    told: bytes = b""
    phased: dict[tuple[str, str], Row] = field(default_factory=dict)
    after: str = ""
    after_ms: int = 0

    def __setstate__(self, kept: tuple[None, dict[str, Any]]) -> None:
        """What a recovery store of an earlier version kept: what it did not know, or otherwise, has its default."""
        for known in fields(self):
            default = known.default_factory() if known.default_factory is not MISSING else known.default
            setattr(self, known.name, kept[1].get(known.name, default))
        self.told = self.told if isinstance(self.told, bytes) else b""


def first_seen(row: Row, now: datetime, waits: Waits, past: bytes) -> GroupQuarter:
    """A quarter of which nothing but `past` is remembered, met by `row`: an old one if it ended long before the row was written."""
    old = row.at_ms - row.start_ms - QUARTER_MS > waits.recent // _MS
    return GroupQuarter(old=old, touched=now, after=last_about(past, row.start_ms))


def take(quarter: GroupQuarter, row: Row, now: datetime, waits: Waits) -> None:
    """Take in a final row as pending and set when to look at the quarter.

    A row by itself waits for the group's row, but not for ever; in an old quarter not at all if it is a
    correction, since the first message is history then.
    """
    quarter.pending.append(row)
    quarter.touched = now
    if row.level == _GROUP:
        quarter.group_row = quarter.group_row or row
    if quarter.old and row.revision > 1:
        quarter.opened = True
    if quarter.opened or row.level == _GROUP:
        wait = _wait(quarter, row, now, waits)
        quarter.due = min(quarter.due or now + wait, now + wait)
    elif quarter.due is None and not quarter.undecided:
        # where there is a group's row it was written by then; `settle` is for its way here
        quarter.due = now + waits.orphans + waits.settle


def _wait(quarter: GroupQuarter, row: Row, now: datetime, waits: Waits) -> timedelta:
    live = now - from_ms(row.at_ms) < waits.live
    # The sum of members was written after their rows, so those are on their way.
    more = not quarter.opened and row.method == _SUM
    return waits.settle if live and not more else waits.patience


def complete(quarter: GroupQuarter, roster: Roster, now: datetime, waits: Waits) -> bool:
    """Whether nothing more is to be waited for before the first message; where only phases may be missing, that is waited for no longer.

    A group that is the sum of its members says how many have no row at all; a metered group says nothing about its
    other members.
    """
    group = quarter.group_row
    if quarter.opened or group is None:
        return False
    enough = len(roster.told) if group.method != _SUM else min(len(roster.told), roster.members - group.missing_members)
    if len(quarter.pending) <= enough:
        return False  # the group's row is among them
    cut = group.at_ms + waits.settle // _MS
    rows = [row for row in quarter.pending if row.at_ms <= cut and row.level == _ASSET]

    def all_of(there: set[str]) -> bool:
        return roster.told <= there or (group.method == _SUM and len(there) >= roster.members - group.missing_members)

    if all_of({row.id for row in rows if row.phase == _ALL}):
        return True
    if quarter.due is not None and all_of({row.id for row in rows}):
        quarter.due = min(quarter.due, now + waits.settle)
    return False


def next_batch(quarter: GroupQuarter, now: datetime, waits: Waits) -> list[Row]:
    """Take the rows of the next message out of `quarter`, the highest revision of each; sets when to look again."""
    first = min((row.at_ms for row in quarter.pending), default=0)
    until = first + waits.orphans // _MS
    group_at = [] if quarter.opened else [row.at_ms for row in quarter.pending if row.level == _GROUP and row.at_ms <= until]
    cut = min(group_at, default=first) + waits.settle // _MS
    batch: dict[tuple[str, str, str], Row] = {}
    for row in sorted((row for row in quarter.pending if row.at_ms <= cut), key=lambda row: row.revision):
        batch[row.level, row.id, row.phase] = row
    quarter.pending = [row for row in quarter.pending if row.at_ms > cut]
    quarter.opened, quarter.group_row = True, None
    quarter.due = now + waits.settle if quarter.pending else None
    return list(batch.values())


def stands_alone(quarter: GroupQuarter, batch: list[Row], waits: Waits) -> bool:
    """Whether the rows of this batch, some, are told whatever was told of the quarter: they are late, and long after it."""
    first = min(row.at_ms for row in batch)
    late = first - batch[0].start_ms - QUARTER_MS > waits.recent // _MS
    return late and first - quarter.after_ms > waits.apart // _MS


def forgettable(quarter: GroupQuarter, start_ms: int, newest_ms: int, now: datetime, waits: Waits) -> bool:
    """Whether the quarter need not be remembered any longer."""
    return quarter.due is None and start_ms < newest_ms - waits.recent // _MS and to_ms(now) - to_ms(quarter.touched) > waits.idle // _MS
