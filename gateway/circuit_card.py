"""One circuit as the pages show it: what is available now of its rating, why, since when, and what comes next (semantics 4). Pure."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.circuit_writes import CircuitWritten, circuit_written
from gateway.outlook import keeps, next_change
from gateway.page_model import CircuitCard, State, When
from gateway.partner_card import when
from gateway.picture import Picture
from gateway.redaction import clean
from gateway.scope_card import KIND_WORDS
from gateway.scope_index import ScopeIndex
from gateway.svg import gauge
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.config import Configuration
from schemas.topology import Circuit
from schemas.units import W_PER_KW


def circuit_card(
    picture: Picture,
    config: Configuration,
    circuit: Circuit,
    now: datetime,
    zone: ZoneInfo,
    index: ScopeIndex | None = None,
    overdue: datetime | None = None,
) -> CircuitCard:
    """The card of a circuit; times in its scope's zone, or in the page's `zone` where no scope stands for it. `overdue` is since when
    the legacy platform is owed a write of it, if it is for long."""
    scope = (index or ScopeIndex(picture, config)).scope_of(circuit.id)
    own = ZoneInfo(scope.time_zone) if scope else zone
    held = next(iter(picture.circuits.get(circuit.id, ())), None)
    line = picture.envelopes.get(scope.id) if scope else None
    coming = next_change(circuit, line, held, now, keeps(config, scope.id)) if scope and line else None
    ratings = circuit.rated_import_kw * W_PER_KW, circuit.rated_export_kw * W_PER_KW
    values = (held.available_import_w, held.available_export_w) if held else (None, None)
    told = circuit_written(picture, circuit.id)
    written_at = overdue or (told.at if told else None)
    gauges = [
        gauge(value, rating, f"{say.kw(value)} available of {say.kw(rating)} {way}", way)
        for value, rating, way in zip(values, ratings, ("import", "export"), strict=True)
    ]
    return CircuitCard(
        id=circuit.id,
        name=circuit.name or circuit.id,
        scope_id=scope.id if scope else "",
        scope=(scope.name or scope.id) if scope else "",
        import_now=say.kw(values[0]),
        import_rated=say.kw(ratings[0]),
        import_gauge=gauges[0],
        export_now=say.kw(values[1]),
        export_rated=say.kw(ratings[1]),
        export_gauge=gauges[1],
        since=when_in(held.effective_from, own, zone, now) if held else None,
        previous=before_words(held),
        source=source_words(held),
        cause=(held.cause or "") if held else "",
        next_when=when_in(coming.at, own, zone, now) if coming else None,
        next_words=f"import {say.kw(coming.import_w)}, export {say.kw(coming.export_w)}" if coming else "",
        written=_written(told, held, overdue=overdue is not None),
        written_at=when_in(written_at, own, zone, now) if written_at else None,
        written_words=clean(told.words) if told and told.outcome in (("UNREACHABLE",) if overdue else ("UNREACHABLE", "REFUSED")) else "",
    )


def when_in(instant: datetime, own: ZoneInfo, zone: ZoneInfo, now: datetime) -> When:
    """An instant in a scope's `own` zone, which is named where it reads otherwise than the page's `zone`."""
    found, name, elsewhere = when(instant, own, now), say.zone_name(instant, own), say.zone_name(instant, zone)
    if name == elsewhere and say.local(instant, own).utcoffset() == say.local(instant, zone).utcoffset():
        return found
    return replace(found, words=f"{found.words} {own.key if name == elsewhere else name}")


def _written(told: CircuitWritten | None, held: CircuitCapacity | None, *, overdue: bool) -> State | None:
    """Whether the platform has what holds now, in a word; None where nothing is known."""
    if overdue:
        return State("unreachable, owed since" if told and told.outcome == "UNREACHABLE" else "owed since", "risk")
    if told is None:
        return None
    status = f" ({told.status})" if told.status else ""
    if told.outcome == "WRITTEN":
        current = held is None or told.change_id == held.event_id
        return State("written" if current else "written, an earlier value", "good" if current else "quiet")
    return State(f"{told.outcome.lower()}{status}", "bad" if told.outcome == "REFUSED" else "risk")


def before_words(held: CircuitCapacity | None) -> str:
    """What was available before the last change, in the directions in which it was another."""
    if held is None:
        return ""
    pairs = (
        ("import", held.previous_import_w, held.available_import_w),
        ("export", held.previous_export_w, held.available_export_w),
    )
    return ", ".join(f"{way} {say.kw(earlier)}" for way, earlier, now in pairs if earlier is not None and earlier != now)


def source_words(held: CircuitCapacity | None) -> str:
    """Why the value holds, in words; of both directions where they differ."""
    if held is None:
        return ""
    ways = (("import", held.import_kind, held.available_import_w), ("export", held.export_kind, held.available_export_w))
    known = [(way, kind) for way, kind, value in ways if value is not None or kind is not PieceKind.UNKNOWN]
    kinds = {kind for _, kind in known} or {held.kind}
    if len(kinds) == 1:
        return KEPT if kinds == {PieceKind.UNKNOWN} and known else KIND_WORDS[kinds.pop()]
    return "; ".join(f"{way} {KEPT if kind is PieceKind.UNKNOWN else KIND_WORDS[kind]}" for way, kind in known)


KEPT = "the limit is not known, the last value stays"
