"""The pages of scopes: a list to search, and each scope's calendar day drawn and listed. Readable without JavaScript."""

from collections.abc import Mapping
from dataclasses import dataclass

import anyio.to_thread
from fastapi import APIRouter, Request
from fastapi.responses import Response

from gateway import wording as say
from gateway.capability import capabilities
from gateway.circuit_card import circuit_card
from gateway.circuit_owed import overdue_at
from gateway.day_reading import ReadDay, day_named, outlook_on, read_day
from gateway.day_words import day_page
from gateway.desk import Desk
from gateway.guard import Caller, Denied
from gateway.outlook import Outlook
from gateway.overview import URGENCY, page_zone
from gateway.page_frame import framed, part_of, reader_of
from gateway.page_model import State
from gateway.scope_card import scope_card, state_of
from gateway.scope_index import ScopeIndex
from schemas.topology import Scope
from schemas.units import Direction

router = APIRouter(include_in_schema=False)

SHOWN = 100


@dataclass(frozen=True, slots=True)
class ScopeLine:
    """A scope in the list: its running quarter's projection and limit in both directions."""

    id: str
    name: str
    state: State
    imported: str
    import_limit: str
    exported: str
    export_limit: str
    groups: str
    circuit_id: str
    circuit: str


def _line(outlook: Outlook, state: State) -> ScopeLine:
    scope, circuit = outlook.scope, outlook.index.circuit(outlook.scope)
    ways = [outlook.standing(direction) for direction in (Direction.IMPORT, Direction.EXPORT)]
    used = ["\u2013" if way.projected_w is None else say.kw(way.projected_w) for way in ways]
    return ScopeLine(
        id=scope.id,
        name=scope.name or scope.id,
        state=state,
        imported=used[0],
        import_limit=say.kw(ways[0].limit_w),
        exported=used[1],
        export_limit=say.kw(ways[1].limit_w),
        groups=", ".join(group.group_id for group in outlook.groups),
        circuit_id=circuit.id if circuit else "",
        circuit=(circuit.name or circuit.id) if circuit else "",
    )


def _fits(scope: Scope, sought: str, index: ScopeIndex) -> bool:
    words = (scope.id, scope.name, *(group.group_id for group in index.groups(scope.id)))
    return not sought or any(sought.casefold() in word.casefold() for word in words)


@router.get("/scopes")
async def scopes_page(request: Request) -> Response:
    """All scopes, those that need attention first; who is not signed in is asked to."""
    caller = reader_of(request)
    if isinstance(caller, Response):
        return caller
    # In a thread: where there are a thousand scopes, partners would wait for it.
    return await anyio.to_thread.run_sync(_scopes, request.app.state.desk, caller, request.query_params)


def _scopes(desk: Desk, caller: Caller, asked: Mapping[str, str]) -> Response:
    picture, config, now = desk.pictures.current(), desk.config.current(), desk.clock.now()
    index, sought = ScopeIndex(picture, config), asked.get("q", "")[:200].strip()
    outlooks = [Outlook(picture, config, scope, now, index) for scope in config.scopes if _fits(scope, sought, index)]
    found = sorted(((outlook, state_of(outlook)) for outlook in outlooks), key=lambda pair: URGENCY.index(pair[1].look))
    part = part_of(found, asked.get("page", ""), SHOWN, {"q": sought})
    lines = [_line(outlook, state) for outlook, state in part.items]
    return framed("scopes_page.html", desk, caller, "scopes", part=part, lines=lines, sought=sought, any=bool(config.scopes))


@router.get("/scopes/{scope_id:path}")
async def scope_page(request: Request, scope_id: str) -> Response:
    """A scope on one of its calendar days; who is not signed in is asked to."""
    caller = reader_of(request)
    if isinstance(caller, Response):
        return caller
    desk: Desk = request.app.state.desk
    scope = desk.config.current().scope(scope_id)
    if scope is None:
        raise Denied(404, "Unknown scope", f"there is no scope {scope_id!r}")
    outlook, wrong = outlook_on(desk, scope), ""
    try:
        chosen = day_named(request.query_params.get("day", ""), outlook)
    except ValueError as error:
        chosen, wrong = day_named("", outlook), str(error)
    read = await read_day(desk, outlook, chosen)
    return await anyio.to_thread.run_sync(_scope, desk, caller, outlook, read, wrong)


def _scope(desk: Desk, caller: Caller, outlook: Outlook, read: ReadDay, wrong: str) -> Response:
    scope = outlook.scope
    circuit = outlook.index.circuit(scope)
    zone, overdue = page_zone(outlook.config), overdue_at(desk)
    card = None
    if circuit is not None:
        card = circuit_card(outlook.picture, outlook.config, circuit, outlook.now, zone, outlook.index, overdue.get(circuit.id))
    return framed(
        "scope_page.html",
        desk,
        caller,
        "scopes",
        scope=scope_card(outlook),
        day=day_page(outlook, read.view, read.facts),
        wrong=wrong,
        capabilities=capabilities(outlook),
        groups=outlook.groups,
        circuit=card,
    )
