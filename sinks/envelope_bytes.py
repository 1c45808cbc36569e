"""An operating envelope's datum in Avro, written by hand: fastavro takes 5 us a piece, and most envelopes have hundreds.

It follows `schemas/avsc/OperatingEnvelope.avsc` field by field; a test compares it with fastavro's bytes for any envelope.
What is saved: an instant that ends one piece begins the next, and most pieces have their reasons in common with the one before.
"""

from collections.abc import Iterator, Sequence
from enum import Enum
from struct import Struct

from schemas.capacity import EnvelopePiece, OperatingEnvelope, PieceKind
from schemas.units import Phase, to_ms

_DOUBLE = Struct("<d").pack
_NULL, _PRESENT = b"\x00", b"\x02"


def datum_of(envelope: OperatingEnvelope) -> bytes:
    """The bytes of the record, without the header of the single-object encoding."""
    head = (
        _text(envelope.event_id), _long(to_ms(envelope.at)), _text_or_null(envelope.cause_id), _text(envelope.scope_id),
        _long(envelope.revision), _long(to_ms(envelope.effective_at)),
    )  # fmt: skip
    count = _long(len(envelope.pieces)) if envelope.pieces else b""
    return b"".join((*head, count, *_pieces(envelope.pieces), _NULL))


def _pieces(pieces: Sequence[EnvelopePiece]) -> Iterator[bytes]:
    end, end_bytes = None, b""
    reasons: object = None
    reasons_bytes = b""
    for piece in pieces:
        yield end_bytes if piece.start == end else _long(to_ms(piece.start))
        end, end_bytes = piece.end, _long(to_ms(piece.end))
        yield end_bytes
        import_w, export_w = piece.import_limit_w, piece.export_limit_w
        yield _NULL if import_w is None else _PRESENT + _DOUBLE(import_w)
        yield _NULL if export_w is None else _PRESENT + _DOUBLE(export_w)
        mine = piece.phase, piece.cause, piece.kind, piece.import_cause, piece.import_kind, piece.export_cause, piece.export_kind
        if mine != reasons:
            reasons, reasons_bytes = mine, _reasons(piece)
        yield reasons_bytes


def _reasons(piece: EnvelopePiece) -> bytes:
    return b"".join(
        (
            _PHASES[piece.phase], _text_or_null(piece.cause), _KINDS[piece.kind], _text_or_null(piece.import_cause),
            _KINDS[piece.import_kind], _text_or_null(piece.export_cause), _KINDS[piece.export_kind],
        )
    )  # fmt: skip


def _long(number: int) -> bytes:
    """Zigzag, then seven bits a byte, the lowest first."""
    rest = (number << 1) ^ (number >> 63)
    found = bytearray()
    while rest > 0x7F:
        found.append(rest & 0x7F | 0x80)
        rest >>= 7
    found.append(rest)
    return bytes(found)


def _text(text: str) -> bytes:
    raw = text.encode()
    return _long(len(raw)) + raw


def _text_or_null(text: str | None) -> bytes:
    return _NULL if text is None else _PRESENT + _text(text)


def _symbols(of: type[Enum]) -> dict[Enum, bytes]:
    return {one: _long(number) for number, one in enumerate(of)}


_PHASES, _KINDS = _symbols(Phase), _symbols(PieceKind)
