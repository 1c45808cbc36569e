"""What the history says of messages owed to partners and of the attempts to deliver them; instants are ms since 1970 UTC.

The tables are read without FINAL, which would merge all of a table for one page of it: a message is the same in all its versions,
and of an attempt the highest version holds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from gateway.messages_model import MessageWish, Stand
from gateway.picture import MessageLine
from schemas.outbound import Delivery, OutboundMessage
from schemas.units import EPOCH, to_ms

Ask = Callable[[str, dict[str, Any]], list[dict[str, Any]]]

STEPS = (timedelta(days=1), timedelta(days=8))
LAST_MS = 7_258_118_400_000
_MESSAGE: Final = """message_id, partner_id, action, method, group_id, correlation_id, not_before, expires_at, event_id, at, cause_id"""
_DELIVERY: Final = """message_id, partner_id, action, method, url, group_id, correlation_id, attempt, outcome, status, words, duration_ms,
    event_id, at, cause_id"""
_DUE: Final = "fromUnixTimestamp64Milli({now:Int64}, 'UTC')"
_ENDED: Final = """SELECT cityHash64(message_id) FROM deliveries
        WHERE at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND ({partner:String} = '' OR partner_id = {partner:String})
            AND outcome IN"""
_OVER: Final = f"cityHash64(message_id) NOT IN ({_ENDED} ('DELIVERED', 'REFUSED', 'EXPIRED', 'DROPPED'))"
_ENDED_SO: Final = f"cityHash64(message_id) IN ({_ENDED} ({{stand:String}}))"
_TRIED: Final = f"""expires_at > {_DUE} AND message_id IN (SELECT message_id FROM deliveries WHERE {_ENDED_SO}
        GROUP BY message_id HAVING argMax(outcome, version) = {{stand:String}})"""  # noqa: S608 - constants of this module
_STANDS: Final = {
    Stand.WAITING: f"AND expires_at > {_DUE} AND {_OVER}",
    Stand.DELIVERED: f"AND {_ENDED_SO}",
    Stand.REFUSED: f"AND {_ENDED_SO}",
    Stand.DROPPED: f"AND {_ENDED_SO}",
    Stand.EXPIRED: f"AND ({_ENDED_SO} OR (expires_at <= {_DUE} AND {_OVER}))",
    **dict.fromkeys((Stand.RETRY, Stand.HELD, Stand.PARKED), f"AND {_TRIED}"),
}
"""What a message is narrowed down by; sets of hashes, since ids by the million would not fit the memory a question may take."""
_ORDER: Final = "ORDER BY at DESC, message_id DESC LIMIT 1 BY message_id LIMIT {most:UInt32}"
_LAST: Final = "FROM deliveries WHERE at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND message_id IN"
_FIT: Final = """FROM outbound_messages
WHERE ({partner:String} = '' OR partner_id = {partner:String}) AND ({action:String} = '' OR action = {action:String})
    AND ({group:String} = '' OR group_id = {group:String}) AND ({beats:UInt8} OR action != 'Heartbeat')
    AND at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
    """
_TEXT: Final = """AND (startsWith(message_id, {text:String}) OR ifNull(correlation_id, '') = {text:String})
    """
_BEFORE: Final = """AND (at < fromUnixTimestamp64Milli({before_at:Int64}, 'UTC')
        OR (at = fromUnixTimestamp64Milli({before_at:Int64}, 'UTC') AND message_id < {before_id:String}))
    """
ATTEMPTS: Final = f"SELECT {_DELIVERY} FROM deliveries FINAL WHERE message_id = {{id:String}} ORDER BY version"  # noqa: S608
ONE: Final = f"""SELECT {_MESSAGE}, body FROM outbound_messages
WHERE ({{partner:String}} = '' OR partner_id = {{partner:String}}) AND message_id = {{id:String}} LIMIT 1"""  # noqa: S608
COUNTS: Final = """SELECT owed.partner_id AS partner_id, owed.action AS action, count() AS owed,
    countIf(outcome = 'DELIVERED') AS delivered, countIf(outcome = 'REFUSED') AS refused, countIf(outcome = 'DROPPED') AS dropped,
    countIf(outcome = 'PARKED' AND NOT over) AS parked, countIf(outcome IN ('', 'RETRY', 'HELD') AND NOT over) AS waiting,
    countIf(outcome = 'EXPIRED' OR (over AND outcome IN ('', 'RETRY', 'HELD', 'PARKED'))) AS expired,
    if(delivered = 0, NULL, quantileExactIf(0.5)(greatest(took_ms, 0), outcome = 'DELIVERED')) AS p50_ms,
    if(delivered = 0, NULL, quantileExactIf(0.99)(greatest(took_ms, 0), outcome = 'DELIVERED')) AS p99_ms
FROM
(
    SELECT made.partner_id AS partner_id, made.action AS action, made.due_at <= fromUnixTimestamp64Milli({now:Int64}, 'UTC') AS over,
        last.said AS outcome, dateDiff('millisecond', made.made_at, last.last_at) AS took_ms
    FROM
    (
        SELECT partner_id, action, message_id, any(at) AS made_at, any(expires_at) AS due_at FROM outbound_messages
        WHERE at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
        GROUP BY partner_id, action, message_id
    ) AS made
    LEFT JOIN
    (
        SELECT message_id, argMax(CAST(outcome, 'String'), version) AS said, argMax(at, version) AS last_at FROM deliveries
        WHERE at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') GROUP BY message_id
    ) AS last ON last.message_id = made.message_id
) AS owed
GROUP BY partner_id, action ORDER BY partner_id, action"""


@dataclass(frozen=True, slots=True)
class MessageCount:
    """How many messages of an action a partner is owed since some instant, by where they stand now; `waiting` are those neither
    delivered nor given up nor parked. Latencies are from owed to delivered, ms; None where nothing was delivered."""

    partner_id: str
    action: str
    owed: int = 0
    waiting: int = 0
    parked: int = 0
    delivered: int = 0
    refused: int = 0
    expired: int = 0
    dropped: int = 0
    p50_ms: int | None = None
    p99_ms: int | None = None


def messages_that_fit(ask: Ask, wish: MessageWish, most: int) -> list[MessageLine]:
    """The newest `most` messages that fit as the history knows them, the newest first; bodies are left out (empty).

    How far back they lie is asked first, by few and narrow columns: ids are in no order of time, so that reading all columns of a
    month for one page would take seconds.
    """
    end = min(LAST_MS if wish.until is None else to_ms(wish.until), LAST_MS if wish.before is None else wish.before[0] + 1)
    bound: dict[str, Any] = {
        "partner": wish.partner_id,
        "action": wish.action,
        "group": wish.group_id,
        "beats": int(wish.heartbeats),
        "text": wish.text,
        "stand": wish.stand.value if wish.stand else "",
        "end": end,
        "now": to_ms(wish.now),
        "before_at": LAST_MS if wish.before is None else wish.before[0],
        "before_id": "" if wish.before is None else wish.before[1],
        "most": most,
        "enough": 2 * most + 100,  # a message may stand there twice until the table is merged
    }
    conditions = _FIT + (_TEXT if wish.text else "") + (_BEFORE if wish.before else "") + (_STANDS[wish.stand] if wish.stand else "")
    start = _since(ask, wish, conditions, bound)
    if start is None:
        return []
    page, bound = f"{conditions}\n{_ORDER}", bound | {"start": start}
    found = [OutboundMessage.model_validate(row) for row in ask(f"SELECT {_MESSAGE}, '' AS body {page}", bound)]
    tried = ask(f"SELECT {_DELIVERY} {_LAST} (SELECT message_id {page})\nORDER BY version DESC LIMIT 1 BY message_id", bound)
    last = {row["message_id"]: Delivery.model_validate(row) for row in tried}
    return [MessageLine(message.message_id, message, last.get(message.message_id)) for message in found]


def _since(ask: Ask, wish: MessageWish, conditions: str, bound: dict[str, Any]) -> int | None:
    """From when on at least `most` messages fit, or all that do (ms); None where none does."""
    earliest = 0 if wish.earliest is None else to_ms(wish.earliest)
    newest = min(bound["end"], bound["now"] + 1)
    narrowed = () if wish.text or wish.stand is None else STEPS  # what each message's attempts say is dear: nearer ones first
    newest_of = f"SELECT at {conditions}\nORDER BY at DESC LIMIT {{enough:UInt32}}"
    sql = f"SELECT toUnixTimestamp64Milli(min(at)) AS since, count() AS n FROM ({newest_of})"  # noqa: S608 - constants, as above
    for start in (*(max(earliest, newest - to_ms(EPOCH + step)) for step in narrowed), earliest):
        (row,) = ask(sql, bound | {"start": start})
        if row["n"] >= bound["enough"] or (row["n"] and start == earliest):
            return int(row["since"])
    return None


def one_message(ask: Ask, message_id: str, partner_id: str) -> tuple[MessageLine, list[Delivery]] | None:
    """A message with its body (tokens are not in the history), and all attempts, oldest first; None for one that is not there.
    `partner_id` may be empty: it is quicker with."""
    attempts = [Delivery.model_validate(row) for row in ask(ATTEMPTS, {"id": message_id})]
    partner_id = partner_id or (attempts[0].partner_id if attempts else "")
    rows = ask(ONE, {"id": message_id, "partner": partner_id})
    if not rows and not attempts:
        return None
    line = MessageLine(message_id, None, attempts[-1] if attempts else None)
    return (replace(line, message=OutboundMessage.model_validate(rows[0])) if rows else line), attempts


def counts_since(ask: Ask, since: datetime, now: datetime) -> list[MessageCount]:
    """The messages made in [since, now], by partner and action."""
    rows = ask(COUNTS, {"start": to_ms(since), "end": to_ms(now) + 1, "now": to_ms(now)})
    return [MessageCount(**row) for row in rows]
