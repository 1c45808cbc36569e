"""What became of writing a circuit to the legacy platform: kept in the live picture, and as the operations API says it (semantics 4)."""

import json

from pydantic import BaseModel

from gateway.picture import Picture
from schemas.connection import CIRCUIT_UNREACHABLE, CIRCUIT_WRITES, Event
from schemas.units import Instant


class CircuitWritten(BaseModel):
    """The last word about writing a circuit: `outcome` is WRITTEN, REFUSED or UNREACHABLE (it is tried on), `status` the platform's
    HTTP status where it answered, `change_id` the event id of the change it is about."""

    at: Instant
    change_id: str
    outcome: str
    status: int | None
    words: str


def take_circuit_write(picture: Picture, value: Event) -> None:
    """Keep an event in `picture` if it says what became of writing a circuit. No I/O."""
    if value.kind not in CIRCUIT_WRITES:
        return
    picture.circuit_outcomes[value.kind] = picture.circuit_outcomes.get(value.kind, 0) + 1
    for kept in (picture.circuit_writes, *([] if value.kind == CIRCUIT_UNREACHABLE else [picture.circuit_settled])):
        known = kept.get(value.subject_id)
        if known is None or value.at >= known.at:
            kept[value.subject_id] = value


def circuit_written(picture: Picture, circuit_id: str) -> CircuitWritten | None:
    """The last word about writing a circuit; None where nothing is known."""
    event = picture.circuit_writes.get(circuit_id)
    if event is None:
        return None
    try:
        data = json.loads(event.data)
    except ValueError:
        data = {}
    return CircuitWritten(
        at=event.at,
        change_id=data.get("change_id", event.cause_id or ""),
        outcome=event.kind.partition(".")[2].upper(),
        status=data.get("status"),
        words=event.words,
    )
