"""Values to rows: pure, one function for each record type. What a table's columns mean is said in migrations/.

A row is a dict of column to value: instants int milliseconds, closed sets their words. `rows_of` says which rows of
which tables a value makes. Readings do not pass here: they stay columns (sinks.clickhouse.readings).

What makes replays harmless is the version each row carries (ReplacingMergeTree keeps the highest of a key):
the position in the topic, with the broker's life above it, since a broker that forgot counts from 0 again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from pydantic import ValidationError

from schemas.adjustment import Adjustment
from schemas.capacity import CircuitCapacity, EnvelopePiece, OperatingEnvelope
from schemas.compliance import Breach, Verdict
from schemas.config import ConfigChange
from schemas.connection import Command, Connection, Event, InboundMessage
from schemas.facts import Value
from schemas.oscp.translate import limit_w
from schemas.oscp.v20 import Action, CapacityUnit, ForecastedBlock, UpdateGroupCapacityForecast
from schemas.outbound import DeadLetter, Delivery, OutboundMessage
from schemas.telemetry import LateMeasurement, QuarterHour
from schemas.units import to_ms

Row = dict[str, Any]

OFFSET_BITS = 48
BACKFILL_BITS = 33
LIVES = (1 << 15) - 1
"""So many lives of the broker can be told apart; the number above them stands for backfills (`Place.backfilled`)."""
LEFT_OUT = "(left out)"
UNARCHIVED_OF_CONNECTION = frozenset(
    {
        "peer_base_url", "peer_token", "credentials", "peer_required_measurements", "our_required_measurements",
        "registered_at", "first_acknowledged_at", "handshake_id", "taken", "memory",
        "silences", "withheld",
    }
)  # fmt: skip
"""Credentials, and what the lifecycle keeps for itself."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: the broker's life (its ordinal, below 2^15) and the offset in its partition."""

    life: int
    offset: int

    @property
    def rising(self) -> int:
        """A UInt64 that grows with life and offset: the last word of a key holds."""
        return self.life << OFFSET_BITS | self.offset

    @property
    def backfilled(self) -> int:
        """As `rising` for readings of a backfill: above any place of a live one, whatever came first, since it was the live
        one that rows were made from; among each other they rise with life and offset, too."""
        return LIVES << OFFSET_BITS | self.life << BACKFILL_BITS | self.offset

    def of_revision(self, revision: int) -> int:
        """A UInt128 that grows with the revision, then with the place. Provisional rows have revision 0: any final one wins."""
        return max(revision, 0) << 64 | self.rising


def plain(value: Value, leave_out: frozenset[str] = frozenset()) -> Row:
    """A value's fields as column values; nested values are not for this."""
    return {name: _plain(getattr(value, name)) for name in type(value).model_fields if name not in leave_out}


def _plain(field: Any) -> Any:
    match field:
        case datetime():
            return to_ms(field)
        case Enum():
            return field.value
        case list():
            return [_plain(item) for item in field]
        case _:
            return field


def without_tokens(text: str) -> str:
    """JSON text with the value of every `token` left out; ciphertext and references to tokens go, too."""
    if '"token"' not in text:
        return text
    try:
        return json.dumps(json.loads(text, object_hook=_without_token), separators=(",", ":"))
    except ValueError:
        return LEFT_OUT


def _without_token(found: dict[str, Any]) -> dict[str, Any]:
    return {name: LEFT_OUT if name == "token" else value for name, value in found.items()}


def quarter_hour(value: QuarterHour, place: Place) -> Row:
    """A row of `quarter_hours`."""
    return {**plain(value), "version": place.of_revision(value.revision)}


def late_measurement(value: LateMeasurement, place: Place) -> Row:
    """A row of `late_telemetry`: the reading's own fields beside the fact's."""
    return {**plain(value, frozenset({"measurement"})), **plain(value.measurement), "version": place.rising}


def inbound_message(value: InboundMessage, place: Place) -> Row:
    """A row of `inbound_messages`, without any token or digest of one. Segments have rows, too, and the message joined from
    them has one whose `cause_id` is the last of them; the event `segments.joined` names them all (semantics 6.8)."""
    return {
        **plain(value, frozenset({"credential_digest", "segment_index", "segment_count"})),
        "body": without_tokens(value.body),
        "version": place.rising,
    }


def forecast_blocks(value: InboundMessage, place: Place) -> list[Row]:
    """Rows of `forecast_blocks`: the blocks of a forecast, none of another message (or of a segment of one)."""
    if value.action != Action.UPDATE_GROUP_CAPACITY_FORECAST or value.is_segment:
        return []
    try:
        forecast = UpdateGroupCapacityForecast.model_validate_json(value.body)
    except ValidationError:
        return []
    return [
        {
            "group_id": forecast.group_id,
            "type": forecast.type.value,
            "received_at": to_ms(value.received_at),
            "event_id": value.event_id,
            "block": number,
            "partner_id": value.partner_id,
            "request_id": value.request_id,
            "start": to_ms(block.start_time),
            "end": to_ms(block.end_time),
            "phase": block.phase.value,
            "capacity": block.capacity,
            "unit": block.unit.value,
            "limit_w": _limit_w(block),
            "version": place.rising,
        }
        for number, block in enumerate(forecast.forecasted_blocks)
    ]


def _limit_w(block: ForecastedBlock) -> float | None:
    """Amperes need the scope's voltage and phases, which a message does not carry."""
    return None if block.unit is CapacityUnit.A else limit_w(block, nominal_voltage_v=0, phases=0)


def outbound_message(value: OutboundMessage, place: Place) -> Row:
    """A row of `outbound_messages`."""
    return {**plain(value), "body": without_tokens(value.body), "version": place.rising}


def connection(value: Connection, place: Place) -> Row:
    """A row of `connections`, without credentials."""
    return {**plain(value, UNARCHIVED_OF_CONNECTION), "version": place.rising}


def command(value: Command, place: Place) -> Row:
    """A row of `commands`."""
    return {**plain(value), "payload": without_tokens(value.payload), "version": place.rising}


def dead_letter(value: DeadLetter, place: Place) -> Row:
    """A row of `dead_letters`. The id of a letter follows from a position, so the life belongs to its key."""
    return {**plain(value), "life": place.life, "version": place.rising}


def envelope(value: OperatingEnvelope, place: Place) -> Row:
    """A row of `envelopes`: the pieces as parallel arrays, so that an envelope is replaced whole."""
    pieces = {f"pieces.{name}": [_plain(getattr(piece, name)) for piece in value.pieces] for name in EnvelopePiece.model_fields}
    return {**plain(value, frozenset({"pieces"})), **pieces, "life": place.life, "version": place.rising}


def verdict(value: Verdict, place: Place) -> Row:
    """A row of `verdicts`. A projection has a key of its own: it is not replaced by the judgement."""
    return {**plain(value), "version": place.of_revision(value.revision)}


def revised(value: Breach | Adjustment, place: Place) -> Row:
    """A row of a table whose columns are the fact's own fields and whose highest revision holds."""
    return {**plain(value), "version": place.of_revision(value.revision)}


def fact(value: Value, place: Place) -> Row:
    """A row of a table whose columns are the fact's own fields."""
    return {**plain(value), "version": place.rising}


def rows_of(value: Value, place: Place) -> Iterable[tuple[str, Row]]:
    """The rows a value makes, each with its table. A value of no table makes none (readings: see the module's words)."""
    match value:
        case QuarterHour():
            yield "quarter_hours", quarter_hour(value, place)
        case LateMeasurement():
            yield "late_telemetry", late_measurement(value, place)
        case InboundMessage():
            yield "inbound_messages", inbound_message(value, place)
            for block in forecast_blocks(value, place):
                yield "forecast_blocks", block
        case OutboundMessage():
            yield "outbound_messages", outbound_message(value, place)
        case Delivery():
            yield "deliveries", fact(value, place)
        case Connection():
            yield "connections", connection(value, place)
        case Event():
            yield "connection_events", fact(value, place)
        case Command():
            yield "commands", command(value, place)
        case ConfigChange():
            yield "config_changes", {**plain(value, frozenset({"earlier"})), "version": place.rising}
        case DeadLetter():
            yield "dead_letters", dead_letter(value, place)
        case OperatingEnvelope():
            yield "envelopes", envelope(value, place)
        case CircuitCapacity():
            yield "circuit_capacity", fact(value, place)
        case Verdict():
            yield "verdicts", verdict(value, place)
        case Breach():
            yield "breaches", revised(value, place)
        case Adjustment():
            yield "adjustments", revised(value, place)
        case _:
            return


def columns_of(rows: list[Row]) -> dict[str, list[Any]]:
    """Rows of one table as columns, in the order of the first row."""
    return {name: [row[name] for row in rows] for name in rows[0]}
