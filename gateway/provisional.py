"""The provisional rows of the live picture: quarters that run, or have ended and are not closed yet (semantics 1.9). Pure.

A quarter is closed only once lateness and the wait for registers have passed, so for minutes after its end its provisional
row is all there is to show.
"""

from datetime import datetime, timedelta

from gateway.picture import Picture, RowKey
from schemas.telemetry import QuarterHour

KEEP_PROVISIONAL = timedelta(hours=2)
"""How long a quarter may stay without its final row before its provisional one goes: at most nine a key are kept."""


def take_provisional(picture: Picture, key: RowKey, row: QuarterHour) -> None:
    """Keep a quarter's newest provisional row, unless its final one or that of a later quarter is there."""
    closed = max(picture.rows.get(key, {}), default=None)
    if closed is not None and closed >= row.start:
        return
    rows = {**picture.provisional.get(key, {}), row.start: row}
    picture.provisional[key] = rows
    keep_provisional(picture, key, max(rows) - KEEP_PROVISIONAL)


def keep_provisional(picture: Picture, key: RowKey, since: datetime) -> None:
    """Drop a key's provisional rows of quarters that start before `since`. Quarters are closed in order: with a final row,
    those of its quarter and of all before it have nothing more to say."""
    rows = picture.provisional.get(key)
    if rows is None or min(rows) >= since:
        return
    kept = {start: row for start, row in rows.items() if start >= since}
    if kept:
        picture.provisional[key] = kept
    else:
        del picture.provisional[key]


def forget_provisional(picture: Picture, since: datetime) -> None:
    """Drop the provisional rows of all quarters that start before `since`."""
    for key in list(picture.provisional):
        keep_provisional(picture, key, since)
