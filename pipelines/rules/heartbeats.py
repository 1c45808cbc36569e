"""When our heartbeats are due, and until when the partner is taken to be there (semantics 6.5). Pure arithmetic."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from schemas.oscp.wire import NAIVE_FORMAT as NAIVE_FORMAT
from schemas.units import rfc3339

SHARE = 0.8
"""We beat every 0.8 of the interval the partner asked for, so that one lost beat's retry is still in time."""
HORIZON = 3
"""Each beat vouches for us for so many intervals."""
SHORTEST, LONGEST = timedelta(seconds=1), timedelta(days=1)


@dataclass(slots=True)
class Grid:
    """Where our beats fall: `since` + n x 0.8 x the interval. `about` is the handshake that asked, `sent` the last n."""

    since: datetime
    interval_s: float
    about: str
    sent: int = -1


def interval_of(seconds: float) -> timedelta:
    """An interval as asked, held between 1 s and 1 day: a peer may ask for any number."""
    return timedelta(seconds=min(max(seconds, SHORTEST.total_seconds()), LONGEST.total_seconds()))


def beat_at(grid: Grid, number: int) -> datetime:
    """When beat `number` (from 0, at the acknowledgement itself) falls."""
    return grid.since + number * (interval_of(grid.interval_s) * SHARE)


def newest_beat(grid: Grid, now: datetime) -> int:
    """The last beat due by `now`; -1 before the first. Beats missed on the way are not made up."""
    return max((now - grid.since) // (interval_of(grid.interval_s) * SHARE), -1)


def beat_body(vouched_until: datetime, *, naive_in: tzinfo | None = None, naive: bool = False) -> str:
    """The JSON text of our Heartbeat; `naive` writes local time of zone `naive_in` (None: this machine's) without saying so."""
    text = vouched_until.astimezone(naive_in).strftime(NAIVE_FORMAT) if naive else rfc3339(vouched_until)
    return json.dumps({"offline_mode_at": text}, separators=(",", ":"))


def deadline_of(offline_mode_at: datetime, received_at: datetime, *, interval: timedelta, grace: timedelta) -> tuple[datetime, bool]:
    """Until when the partner that sent this beat is taken to be there, and whether its clock seems wrong.

    The peer's own instant plus `grace`, at most P1D ahead (or one interval plus grace where we ask for a beat
    a day). An instant already past counts as one interval from receipt: the peer lives, its clock is off.
    """
    skewed = offline_mode_at <= received_at
    vouched = received_at + interval if skewed else offline_mode_at
    furthest = received_at + max(LONGEST - grace, interval)
    return min(vouched, furthest) + grace, skewed


def first_deadline(acknowledged_at: datetime, *, interval: timedelta, grace: timedelta) -> datetime:
    """The deadline before the first beat: three intervals after the acknowledgement, and the grace."""
    return acknowledged_at + HORIZON * interval + grace
