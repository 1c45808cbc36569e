"""How the last day's messages to partners stand, by partner and action: from the history, else from what the picture keeps."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from gateway.desk import Desk
from gateway.messages_model import Stand, latency_ms, stand_of, waits
from gateway.past_messages import MessageCount
from gateway.picture import KEEP_MESSAGES, MessageLine, Picture
from sinks.errors import Unavailable

DAY = timedelta(hours=24)
OF_PICTURE = f"Counted among the last {KEEP_MESSAGES} messages and 50 heartbeats alone."


@dataclass(frozen=True, slots=True)
class Summary:
    """The counts since an instant; `whole` says whether they come from the history, else `note` says what they leave out."""

    since: datetime
    counts: Sequence[MessageCount]
    whole: bool
    note: str


async def read_summary(desk: Desk) -> Summary:
    """The last 24 hours."""
    now = desk.clock.now()
    since, note = now - DAY, OF_PICTURE
    if desk.past is not None:
        try:
            return Summary(since, await desk.past.message_counts(since, now), True, "")
        except Unavailable as error:
            note = f"{error.words} {OF_PICTURE}"
    return Summary(since, counted(desk.pictures.current(), since, now), False, note)


def counted(picture: Picture, since: datetime, now: datetime) -> list[MessageCount]:
    """What the picture's messages made since then amount to."""
    by: defaultdict[tuple[str, str], list[MessageLine]] = defaultdict(list)
    for line in picture.all_messages():
        if line.message is not None and line.message.at >= since:
            by[line.about.partner_id, line.about.action].append(line)
    return [_count(*about, by[about], now) for about in sorted(by)]


def _count(partner_id: str, action: str, lines: list[MessageLine], now: datetime) -> MessageCount:
    stands = Counter(stand_of(line, now) for line in lines)
    took = sorted(each for line in lines if (each := latency_ms(line)) is not None)
    return MessageCount(
        partner_id,
        action,
        owed=len(lines),
        waiting=sum(waits(line, now) for line in lines) - stands[Stand.PARKED],
        parked=stands[Stand.PARKED],
        delivered=stands[Stand.DELIVERED],
        refused=stands[Stand.REFUSED],
        expired=stands[Stand.EXPIRED],
        dropped=stands[Stand.DROPPED],
        p50_ms=_quantile(took, 0.5),
        p99_ms=_quantile(took, 0.99),
    )


def _quantile(values: Sequence[int], share: float) -> int | None:
    """As ClickHouse's quantileExact has it."""
    return values[min(len(values) - 1, int(share * len(values)))] if values else None
