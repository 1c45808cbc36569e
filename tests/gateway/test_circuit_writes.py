"""The last word about writing a circuit, in the live picture, the operations API's view of it and the metrics."""

import json
from datetime import timedelta

from gateway.circuit_writes import circuit_written
from gateway.metrics import exposition
from gateway.picture import Picture
from gateway.projection import fold
from pipelines.records import Record
from schemas.connection import CIRCUIT_REFUSED, CIRCUIT_UNREACHABLE, CIRCUIT_WRITTEN, Event, SubjectKind
from schemas.topics import EVENTS
from tests.builders import T0


def said(kind: str, minute: int, status: int | None) -> Record:
    event = Event(
        event_id=f"{kind} {minute}", at=T0 + timedelta(minutes=minute), subject_kind=SubjectKind.CIRCUIT, subject_id="feeder-17", kind=kind,
        words=f"in words {minute}", data=json.dumps({"change_id": f"c{minute}", "status": status}),
    )  # fmt: skip
    return Record(EVENTS.name, 0, minute, T0, "feeder-17", event)


def test_the_last_word_by_its_instant_holds() -> None:
    picture = Picture()
    assert circuit_written(picture, "feeder-17") is None
    for record in (said(CIRCUIT_WRITTEN, 1, 204), said(CIRCUIT_REFUSED, 3, 422), said(CIRCUIT_UNREACHABLE, 2, None), said("other", 9, 1)):
        fold(picture, record)
    found = circuit_written(picture, "feeder-17")
    assert found is not None
    assert found.model_dump() == {
        "at": T0 + timedelta(minutes=3), "change_id": "c3", "outcome": "REFUSED", "status": 422, "words": "in words 3",
    }  # fmt: skip
    assert CIRCUIT_WRITTEN not in [event.kind for event in picture.events]  # they would push out what people have to see
    assert CIRCUIT_REFUSED in [event.kind for event in picture.events]
    text = exposition(picture, T0).decode()
    assert 'derms_circuit_writes_total{outcome="refused"} 1.0' in text
    assert 'derms_circuit_writes_total{outcome="written"} 1.0' in text
