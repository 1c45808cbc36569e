"""Flow `lifecycle`: what partners send, what became of our messages, and what operators ask moves each connection (semantics 6).

Beside it, messages that come in segments are joined here, since one flow must do it: the whole ones go back to `derms.inbound`.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import tzinfo

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import read_records, run_rule
from pipelines.records import Out, Record
from pipelines.rules.lifecycle import Item, LifecycleRule
from pipelines.rules.lifecycle_turn import Surroundings
from pipelines.rules.segmented import PATIENCE, SETTLE, SegmentRule
from pipelines.views import View
from schemas.clock import Clock
from schemas.config import ConfigChange, Configuration
from schemas.connection import Command, CommandKind, Connection, InboundMessage
from schemas.oscp.v20 import BASE_PATH, Action
from schemas.outbound import Delivery
from schemas.topics import COMMANDS, CONFIG, CONNECTIONS, DELIVERIES, INBOUND

READS = (CONFIG, CONNECTIONS, COMMANDS, INBOUND, DELIVERIES)
"""Causes before what follows from them: a replay meets the records of one instant in this order. They must be read `in_order`: a
delivery that came before the handshake whose acknowledgement it is about would be about nothing."""
BARRIER = (CONFIG, CONNECTIONS)
"""Read to their ends before the rest of a poll: a partner whose state is gone goes on from its last connection."""

EXCHANGES = frozenset({Action.REGISTER, Action.HANDSHAKE, Action.HANDSHAKE_ACKNOWLEDGE, Action.HEARTBEAT})
"""The messages whose deliveries matter here; reports and the like are nobody's life."""


def lifecycle_flow(
    *,
    records: Source[Iterable[Record]],
    out: Sink[Out],
    clock: Clock,
    config: View[Configuration],
    token_digest: Callable[[str, str], str],
    public_url: str,
    local_zone: tzinfo | None = None,
    key_id: str = "",
    renewed: Callable[[str, str], str] = lambda ciphertext, partner_id: ciphertext,
    connections: View[Mapping[str, Connection]] | None = None,
) -> Dataflow:
    """Reads `READS` (with `BARRIER`); writes `Connection`, `OutboundMessage`, `Event` and, joined from segments,
    `InboundMessage`, all with key partner.

    `public_url` is where partners reach us, without the OSCP path. `local_zone` is the zone of peers that write
    naive times (None: this machine's). `key_id` and `renewed` as in `Surroundings`. The rule's own `Connection` values come
    back to it as input: they are news only to a flow whose recovery store is gone, which rests until it has read the last one,
    as `connections` tells, or for a while without it.
    """
    around = Surroundings(
        partner=lambda partner_id: config.current().partner(partner_id),
        token_digest=token_digest,
        base_url=public_url.rstrip("/") + BASE_PATH,
        allowance=clock.allowance,
        started_at=clock.now(),
        local_zone=local_zone,
        key_id=key_id,
        renewed=renewed,
        last_said=lambda partner_id: _last_said(connections, partner_id),
    )
    flow = Dataflow("lifecycle")
    readable, dead = read_records(flow, records, clock)
    news = op.filter_map("news", readable, _keyed)
    said = run_rule("connection", news, LifecycleRule(around), clock, told=True)

    parts = op.filter_map("parts", readable, _part)
    rule = SegmentRule(clock.now(), clock.allowance(PATIENCE), clock.allowance(SETTLE))
    whole = run_rule("segments", parts, rule, clock, told=True)
    op.output("out", op.merge("outs", dead, said, whole), out)
    return flow


def _last_said(connections: View[Mapping[str, Connection]] | None, partner_id: str) -> str | None:
    last = connections.current().get(partner_id) if connections is not None else None
    return None if last is None else last.event_id


def _part(record: Record) -> tuple[str, InboundMessage] | None:
    """A segment of a message, or a message that was joined from segments (nothing else inbound has a cause), by partner."""
    match record.value:
        case InboundMessage() as message if message.is_segment or message.cause_id is not None:
            return message.partner_id, message
        case _:
            return None


def _keyed(record: Record) -> tuple[str, Item] | None:
    """The partner a record is about, and the record's value; None for what does not concern a connection.

    Every inbound message counts, also a forecast or a segment of one: any of them may be the first use of a new token.
    """
    match record.value:
        case Command(kind=CommandKind.ENVELOPE):
            return None  # about a scope, and no partner
        case InboundMessage() | Command() | Connection():
            return record.value.partner_id, record.value
        case Delivery() if record.value.action in EXCHANGES:
            return record.value.partner_id, record.value
        case ConfigChange() if record.value.kind == "partners":
            return record.value.id, record.value
        case _:
            return None
