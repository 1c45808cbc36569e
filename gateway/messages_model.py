"""Messages owed to partners as people look for them: how each stands, which fit a wish, their order and the cursor into it. Pure.

The same message may be known twice, from the live picture and from the history: what is further on holds (`furthest`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from gateway.picture import MessageLine
from schemas.oscp.v20 import Action
from schemas.outbound import FINAL_OUTCOMES, Delivery, Outcome
from schemas.units import EPOCH, to_ms

BACK = timedelta(days=31)
"""So far back a list goes that names neither a beginning nor an id."""
LONGEST_ID = 200


class Stand(StrEnum):
    """What a list can be narrowed to: the outcome of the last attempt, or WAITING: no final outcome, tried or not, parked or not."""

    WAITING = "WAITING"
    DELIVERED = "DELIVERED"
    RETRY = "RETRY"
    HELD = "HELD"
    PARKED = "PARKED"
    REFUSED = "REFUSED"
    EXPIRED = "EXPIRED"
    DROPPED = "DROPPED"


@dataclass(frozen=True, slots=True)
class MessageWish:
    """Which messages are asked for; an empty field is no condition. Made from `since` on and before `until`; `text` is a message's id
    or its beginning, or the correlation id; `before` a place in the order, of which only what is older is wanted."""

    now: datetime
    partner_id: str = ""
    action: str = ""
    group_id: str = ""
    stand: Stand | None = None
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: tuple[int, str] | None = None
    heartbeats: bool = True

    @property
    def earliest(self) -> datetime | None:
        """From when on messages are looked for; None: from the beginning."""
        if self.since is not None or self.text:
            return self.since
        return max(min(self.now, self.until or self.now), EPOCH + BACK) - BACK


@dataclass(frozen=True, slots=True)
class Lane:
    """Within one of these messages are sent in their order (semantics 8.1)."""

    partner_id: str
    group_id: str | None
    action: str


def place_of(line: MessageLine) -> tuple[int, str]:
    """Where a message stands in the order of lists, which is from the highest place down."""
    return to_ms(line.about.at), line.message_id


def cursor_of(place: tuple[int, str]) -> str:
    """A place as a word."""
    return f"{place[0]}.{place[1]}"


def read_cursor(cursor: str) -> tuple[int, str]:
    """The place of a cursor. Raises ValueError for what is none."""
    at_ms, dot, message_id = cursor.partition(".")
    if not dot or not (at_ms.isascii() and at_ms.isdecimal()) or len(at_ms) > 14:
        raise ValueError("this is no cursor of messages: take `next` as it was answered")
    return int(at_ms), message_id


def lane_of(line: MessageLine) -> Lane:
    """What a message has to wait its turn in."""
    return Lane(line.about.partner_id, line.about.group_id, line.about.action)


def is_final(line: MessageLine) -> bool:
    """Whether nothing more becomes of it."""
    return line.delivery is not None and line.delivery.outcome in FINAL_OUTCOMES


def overdue(line: MessageLine, now: datetime) -> bool:
    """Whether its time is over and nobody recorded that: dispatch did not run, or its broker forgot the message."""
    return not is_final(line) and line.message is not None and line.message.expires_at <= now


def stand_of(line: MessageLine, now: datetime) -> Stand:
    """Where a message stands: the outcome of its last attempt, WAITING before any, EXPIRED once its time is over."""
    if overdue(line, now):
        return Stand.EXPIRED
    return Stand.WAITING if line.delivery is None else Stand(line.delivery.outcome.value)


def waits(line: MessageLine, now: datetime) -> bool:
    """Whether it is owed still."""
    return not is_final(line) and not overdue(line, now)


def fits(line: MessageLine, wish: MessageWish) -> bool:
    """Whether a message meets all conditions."""
    about, earliest = line.about, wish.earliest
    return (
        wish.partner_id in ("", about.partner_id)
        and wish.action in ("", about.action)
        and wish.group_id in ("", about.group_id)
        and (wish.heartbeats or about.action != Action.HEARTBEAT)
        and (not wish.text or line.message_id.startswith(wish.text) or about.correlation_id == wish.text)
        and (earliest is None or about.at >= earliest)
        and (wish.until is None or about.at < wish.until)
        and (wish.before is None or place_of(line) < wish.before)
        and _stands(line, wish)
    )


def _stands(line: MessageLine, wish: MessageWish) -> bool:
    if wish.stand is None:
        return True
    if wish.stand is Stand.WAITING:
        return waits(line, wish.now)
    return stand_of(line, wish.now) is wish.stand


def furthest(lines: Iterable[MessageLine]) -> dict[str, MessageLine]:
    """Each message once: with the half that only one source has, and the attempt that is further on."""
    found: dict[str, MessageLine] = {}
    for line in lines:
        known = found.get(line.message_id)
        if known is None:
            found[line.message_id] = line
            continue
        found[line.message_id] = replace(known, message=known.message or line.message, delivery=_later(known.delivery, line.delivery))
    return found


def _later(one: Delivery | None, other: Delivery | None) -> Delivery | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda each: (each.outcome in FINAL_OUTCOMES, each.attempt, each.at))


def latency_ms(line: MessageLine) -> int | None:
    """From when it was owed until the partner had taken it, by the installation's clock; None where that is not known."""
    if line.message is None or line.delivery is None or line.delivery.outcome is not Outcome.DELIVERED:
        return None
    return max(0, to_ms(line.delivery.at) - to_ms(line.message.at))
