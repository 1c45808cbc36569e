"""The pages of circuits: what each may carry now, why, what comes next, and its last changes. Readable without JavaScript."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import Response
from markupsafe import Markup

from gateway import wording as say
from gateway.chart_plane import NARROW, WIDE, Drawing, Step
from gateway.charts import scope_chart
from gateway.circuit_card import KEPT, circuit_card, source_words, when_in
from gateway.circuit_owed import Owed, overdue_at
from gateway.desk import Desk
from gateway.guard import Denied
from gateway.overview import page_zone
from gateway.page_frame import framed, part_of, reader_of
from gateway.page_model import CircuitCard, When
from gateway.picture import Picture
from gateway.scope_card import KIND_WORDS
from gateway.scope_index import ScopeIndex
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.config import Configuration
from schemas.topology import Circuit
from schemas.units import W_PER_KW

router = APIRouter(include_in_schema=False)

SHOWN, FEW = 24, 4
BACK = timedelta(hours=24)
KINDS = {kind: KEPT if kind is PieceKind.UNKNOWN else words for kind, words in KIND_WORDS.items()}


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One change of a circuit's available capacity."""

    at: When
    imported: str
    exported: str
    before: str
    source: str
    cause: str


@dataclass(frozen=True, slots=True)
class CircuitOnPage:
    """A circuit with its last changes, newest first."""

    card: CircuitCard
    changes: tuple[ChangeRow, ...]


def shown_circuit(
    picture: Picture, config: Configuration, circuit: Circuit, now: datetime, zone: ZoneInfo, index: ScopeIndex, overdue: Owed, most: int
) -> CircuitOnPage:
    """A circuit and its last `most` changes, in its scope's zone; `zone` is the page's, `overdue` what the legacy platform is owed."""
    scope = index.scope_of(circuit.id)
    own = ZoneInfo(scope.time_zone) if scope else zone
    changes = picture.circuits.get(circuit.id, ())[:most]
    card = circuit_card(picture, config, circuit, now, zone, index, overdue.get(circuit.id))
    return CircuitOnPage(card, tuple(_change(change, own, zone, now) for change in changes))


def _change(change: CircuitCapacity, own: ZoneInfo, zone: ZoneInfo, now: datetime) -> ChangeRow:
    first = change.previous_import_w is None and change.previous_export_w is None
    return ChangeRow(
        at=when_in(change.effective_from, own, zone, now),
        imported=say.kw(change.available_import_w),
        exported=say.kw(change.available_export_w),
        before="" if first else f"{say.kw(change.previous_import_w)} / {say.kw(change.previous_export_w)}",
        source=source_words(change),
        cause=change.cause or "",
    )


def circuit_drawing(circuit: Circuit, changes: tuple[CircuitCapacity, ...], zone: ZoneInfo, now: datetime) -> Drawing:
    """What was available over the last 24 h as steps, against the rating."""
    start = now - BACK
    steps = [Step(start, now, circuit.rated_import_kw * W_PER_KW, circuit.rated_export_kw * W_PER_KW, "rated", name="rated")]
    end = now
    for change in changes:
        since = max(change.effective_from, start)
        if since < end:
            kinds = change.import_kind.value.lower(), change.export_kind.value.lower()
            steps.append(Step(since, end, change.available_import_w, change.available_export_w, *kinds, name=""))
            end = since
    steps = [steps[0], *reversed(steps[1:])]
    name = circuit.name or circuit.id
    words = f"{say.plural(len(steps) - 1, 'value')} in 24 hours. The same figures stand in the table below."
    return Drawing("circuit", f"{name}: available capacity over the last 24 hours", words, zone, start, now, now, (), steps, two_way=True)


@router.get("/circuits")
async def circuits_page(request: Request) -> Response:
    """All circuits, and the scopes that have none; who is not signed in is asked to."""
    caller = reader_of(request)
    if isinstance(caller, Response):
        return caller
    desk: Desk = request.app.state.desk
    picture, config, now = desk.pictures.current(), desk.config.current(), desk.clock.now()
    index, sought = ScopeIndex(picture, config), request.query_params.get("q", "")[:200].strip()
    fitting = [circuit for circuit in config.circuits if _names(sought, circuit, index)]
    part = part_of(fitting, request.query_params.get("page", ""), SHOWN, {"q": sought})
    zone, overdue = page_zone(config), overdue_at(desk)
    bare = [scope for scope in config.scopes if index.circuit(scope) is None]
    return framed(
        "circuits_page.html",
        desk,
        caller,
        "circuits",
        part=part,
        circuits=[shown_circuit(picture, config, circuit, now, zone, index, overdue, FEW) for circuit in part.items],
        sought=sought,
        one=False,
        bare=[(scope.id, scope.name or scope.id) for scope in bare[:100]],
        more_bare=max(0, len(bare) - 100),
    )


def _names(sought: str, circuit: Circuit, index: ScopeIndex) -> bool:
    scope = index.scope_of(circuit.id)
    words = (circuit.id, circuit.name, scope.id if scope else "", scope.name if scope else "")
    return not sought or any(sought.casefold() in word.casefold() for word in words)


@router.get("/circuits/{circuit_id:path}")
async def circuit_page(request: Request, circuit_id: str) -> Response:
    """One circuit with all changes that are kept, drawn over the last 24 h."""
    caller = reader_of(request)
    if isinstance(caller, Response):
        return caller
    desk: Desk = request.app.state.desk
    picture, config, now = desk.pictures.current(), desk.config.current(), desk.clock.now()
    circuit = config.circuit(circuit_id)
    if circuit is None:
        raise Denied(404, "Unknown circuit", f"there is no circuit {circuit_id!r}")
    index = ScopeIndex(picture, config)
    scope, changes = index.scope_of(circuit.id), picture.circuits.get(circuit.id, ())
    zone = ZoneInfo(scope.time_zone) if scope else page_zone(config)
    shown = circuit_drawing(circuit, changes, zone, now)
    drawn = {kind for step in shown.steps for kind in (step.kind, step.export_kind)}
    empty = Markup("")
    return framed(
        "circuits_page.html",
        desk,
        caller,
        "circuits",
        circuits=[shown_circuit(picture, config, circuit, now, zone, index, overdue_at(desk), len(changes))],
        one=True,
        chart_wide=scope_chart(shown, WIDE) if changes else empty,
        chart_narrow=scope_chart(shown, NARROW) if changes else empty,
        kinds=[(kind.value.lower(), words) for kind, words in KINDS.items() if kind.value.lower() in drawn],
        zone=zone,
    )
