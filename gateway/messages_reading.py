"""Messages owed to partners, from the live picture and, where that does not reach, from the history (semantics 7, 8).

The picture keeps the last 200; a backlog of 7 days is longer. A history that is away or absent is said in words, and what the picture
has is shown all the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from gateway.desk import Desk
from gateway.messages_model import MessageWish, cursor_of, fits, furthest, place_of
from gateway.messages_why import Reasons
from gateway.picture import KEEP_HEARTBEATS, KEEP_MESSAGES, MessageLine, Picture
from gateway.timeline_lines import Line, delivery_line
from gateway.timeline_reading import attempts_of
from schemas.units import rfc3339
from sinks.errors import Unavailable

NO_HISTORY = f"There is no history beside this gateway: only the last {KEEP_MESSAGES} messages can be found."


@dataclass(frozen=True, slots=True)
class FoundMessages:
    """Messages that fit, the newest first. `next` is the cursor of what is older, None at the end; `note` says what may be lacking."""

    lines: list[MessageLine]
    next: str | None
    note: str


@dataclass(frozen=True, slots=True)
class FoundMessage:
    """One message with all attempts that are known, oldest first."""

    line: MessageLine
    attempts: list[Line]


def reasons_at(desk: Desk, instant: Callable[[datetime], str] = rfc3339, lines: Iterable[MessageLine] = ()) -> Reasons:
    """Why messages wait now."""
    picture, config, now = desk.pictures.current(), desk.config.current(), desk.clock.now()
    return Reasons(picture, config, now, desk.clock.at_wall, instant=instant, lines=lines, wall=desk.wall.now())


async def read_messages(desk: Desk, wish: MessageWish, limit: int) -> FoundMessages:
    """The newest `limit` messages that fit. The history is asked only where the picture alone cannot say."""
    picture = desk.pictures.current()
    kept = [line for line in picture.all_messages() if fits(line, wish)]
    reach = _reach(picture, heartbeats=wish.heartbeats)
    certain = [line for line in kept if line.message is not None and reach is not None and line.about.at > reach]
    if len(certain) > limit:
        return FoundMessages(certain[:limit], cursor_of(place_of(certain[limit - 1])), "")
    if desk.past is None:
        return _kept_alone(kept, limit, "" if reach is None else NO_HISTORY)
    try:
        older = list(await desk.past.messages(wish, limit + 1))
    except Unavailable as error:
        return _kept_alone(kept, limit, error.words)
    return _merged(picture, older, wish, limit)


def _kept_alone(kept: list[MessageLine], limit: int, note: str) -> FoundMessages:
    """What the picture has, and what that may lack."""
    if len(kept) > limit:
        return FoundMessages(kept[:limit], cursor_of(place_of(kept[limit - 1])), "")
    return FoundMessages(kept, None, note)


def _merged(picture: Picture, older: list[MessageLine], wish: MessageWish, limit: int) -> FoundMessages:
    """The history's part and what the picture knows of the same time, which may be newer. Of a message whose attempts alone the
    picture knows it does not know the place: the history has that."""
    last = place_of(older[-1]) if len(older) > limit else None
    known = furthest([*older, *picture.all_messages()]).values()
    found = [line for line in known if line.message is not None and fits(line, wish) and (last is None or place_of(line) >= last)]
    found.sort(key=place_of, reverse=True)
    if len(found) > limit:
        return FoundMessages(found[:limit], cursor_of(place_of(found[limit - 1])), "")
    return FoundMessages(found, None if last is None else cursor_of(last), "")


def _reach(picture: Picture, *, heartbeats: bool) -> datetime | None:
    """From after when on the picture has every message; None while it has forgotten none (what was before it began is not counted)."""
    shelves = [(picture.messages, KEEP_MESSAGES)] + ([(picture.heartbeat_messages, KEEP_HEARTBEATS)] if heartbeats else [])
    full = [lines.values() for lines, keep in shelves if len(lines) >= keep]
    oldest = [min((line.message.at for line in lines if line.message is not None), default=None) for lines in full]
    return max((each for each in oldest if each is not None), default=None)


async def read_message(desk: Desk, message_id: str) -> FoundMessage | None:
    """One message, wherever it is; None where there is none. Raises Unavailable where only the history could say, and does not."""
    picture = desk.pictures.current()
    line = picture.messages.get(message_id) or picture.heartbeat_messages.get(message_id)
    attempts = {each.id: each for each in attempts_of(picture.timelines, line.about.partner_id, message_id) if each.outcome} if line else {}
    whole = line is not None and line.message is not None and len(attempts) >= (line.delivery.attempt if line.delivery else 0)
    if desk.past is not None and not whole:
        try:
            past = await desk.past.message(message_id, line.about.partner_id if line else "")
        except Unavailable:
            if line is None:
                raise
            past = None
        if past is not None:
            line = furthest([line, past[0]] if line else [past[0]])[message_id]
            attempts |= {each.event_id: delivery_line(each) for each in past[1]}
    if line is None:
        return None
    if line.delivery is not None:
        attempts.setdefault(line.delivery.event_id, delivery_line(line.delivery))
    return FoundMessage(line, sorted(attempts.values(), key=lambda each: (each.at_ms, each.attempt or 0)))
