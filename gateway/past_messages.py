"""What the history says of messages owed to partners and of the attempts to deliver them; instants are ms since 1970 UTC.

The tables are read without FINAL, which would merge all of a table for one page of it: a message is the same in all its versions,
and of an attempt the highest version holds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from gateway.messages_model import MessageWish, Stand
from gateway.picture import MessageLine
from schemas.outbound import Delivery, OutboundMessage
from schemas.units import to_ms

Ask = Callable[[str, dict[str, Any]], list[dict[str, Any]]]

AT_ONCE = 100
"""So many ids are asked about in one question: they stand in its address."""
LAST_MS = 7_258_118_400_000
_MESSAGE: Final = """message_id, partner_id, action, method, group_id, correlation_id, not_before, expires_at, event_id, at, cause_id"""
_DELIVERY: Final = """message_id, partner_id, action, method, url, group_id, correlation_id, attempt, outcome, status, words, duration_ms,
    event_id, at, cause_id"""
_FINAL: Final = """(SELECT message_id FROM deliveries
        WHERE at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND ({partner:String} = '' OR partner_id = {partner:String})
            AND outcome IN ('DELIVERED', 'REFUSED', 'EXPIRED', 'DROPPED'))"""
_STANDING: Final = """(SELECT message_id FROM deliveries
        WHERE at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND ({partner:String} = '' OR partner_id = {partner:String})
        GROUP BY message_id HAVING argMax(outcome, version) = {stand:String})"""
_DUE: Final = "fromUnixTimestamp64Milli({now:Int64}, 'UTC')"
_STANDS: Final = {
    None: "",
    Stand.WAITING: f"AND expires_at > {_DUE} AND message_id NOT IN {_FINAL}",
    Stand.EXPIRED: f"AND (message_id IN {_STANDING} OR (expires_at <= {_DUE} AND message_id NOT IN {_FINAL}))",
}
_STANDS_AS: Final = f"AND message_id IN {_STANDING} AND (expires_at > {_DUE} OR message_id IN {_FINAL})"
_PAGE: Final = """SELECT partner_id, message_id FROM outbound_messages
    WHERE ({partner:String} = '' OR partner_id = {partner:String}) AND ({action:String} = '' OR action = {action:String})
        AND ({group:String} = '' OR group_id = {group:String}) AND ({beats:UInt8} OR action != 'Heartbeat')
        AND ({text:String} = '' OR startsWith(message_id, {text:String}) OR ifNull(correlation_id, '') = {text:String})
        AND at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC') AND at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
        AND (toUnixTimestamp64Milli(at), message_id) < ({before_at:Int64}, {before_id:String})
        """
_ORDER: Final = "ORDER BY at DESC, message_id DESC LIMIT 1 BY message_id"
_LIST: Final = f"SELECT {_MESSAGE}, '' AS body FROM outbound_messages WHERE (partner_id, message_id) IN ("  # noqa: S608 - constants
LAST_ATTEMPTS: Final = f"""SELECT {_DELIVERY} FROM deliveries WHERE message_id IN {{ids:Array(String)}}
ORDER BY version DESC LIMIT 1 BY message_id"""  # noqa: S608
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
    """The newest `most` messages that fit as the history knows them, the newest first; bodies are left out (empty)."""
    bound = {
        "partner": wish.partner_id,
        "action": wish.action,
        "group": wish.group_id,
        "beats": int(wish.heartbeats),
        "text": wish.text,
        "stand": wish.stand.value if wish.stand else "",
        "start": 0 if wish.earliest is None else to_ms(wish.earliest),
        "end": LAST_MS if wish.until is None else to_ms(wish.until),
        "now": to_ms(wish.now),
        "before_at": LAST_MS if wish.before is None else wish.before[0],
        "before_id": "" if wish.before is None else wish.before[1],
        "most": most,
    }
    inner = _PAGE + _STANDS.get(wish.stand, _STANDS_AS) + f"\n    {_ORDER} LIMIT {{most:UInt32}}"
    found = [OutboundMessage.model_validate(row) for row in ask(f"{_LIST}{inner})\n{_ORDER}", bound)]
    last = last_attempts(ask, [message.message_id for message in found])
    return [MessageLine(message.message_id, message, last.get(message.message_id)) for message in found]


def last_attempts(ask: Ask, message_ids: Sequence[str]) -> dict[str, Delivery]:
    """The last attempt of each message that was tried."""
    found: dict[str, Delivery] = {}
    for first in range(0, len(message_ids), AT_ONCE):
        rows = ask(LAST_ATTEMPTS, {"ids": list(message_ids[first : first + AT_ONCE])})
        found |= {row["message_id"]: Delivery.model_validate(row) for row in rows}
    return found


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
