"""Envelopes written by hand are those that fastavro writes."""

from io import BytesIO

import fastavro
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.avro import schema_of
from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.units import Phase
from sinks.codec import HEADER_LENGTH, decode, encode
from tests.builders import T0
from tests.schemas.strategies import law, models

SCHEMA = fastavro.parse_schema(schema_of(OperatingEnvelope))
EMPTY = OperatingEnvelope(event_id="e", at=T0, scope_id="mg-1", revision=1, effective_at=T0, pieces=[])
PIECE = EnvelopePiece(start=T0, end=T0, import_limit_w=0.0, cause="f1", kind=PieceKind.HELD, phase=Phase.THREE)


def written(envelope: OperatingEnvelope) -> bytes:
    stream = BytesIO()
    fastavro.schemaless_writer(stream, SCHEMA, envelope.model_dump())
    return stream.getvalue()


@law
@example(EMPTY)
@example(EMPTY.model_copy(update={"pieces": [PIECE, PIECE, PIECE.model_copy(update={"kind": PieceKind.SAFE}), PIECE]}))
@example(EMPTY.model_copy(update={"pieces": [PIECE] * 200, "scope_id": "Ōtāhuhu " * 30, "revision": 2**40}))
@given(models(OperatingEnvelope) | st.lists(models(EnvelopePiece), max_size=5).map(lambda some: EMPTY.model_copy(update={"pieces": some})))
def test_an_envelope_is_written_as_its_schema_says(envelope: OperatingEnvelope):
    raw = encode(envelope)
    assert raw[HEADER_LENGTH:] == written(envelope)
    assert decode(raw) == envelope
