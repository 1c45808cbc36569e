"""Scopes, groups and circuits: what may be used, what is used, and what the circuit may carry (semantics 2, 3, 4)."""

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from gateway import api_day
from gateway.api_body import Problem
from gateway.api_common import Items
from gateway.circuit_writes import CircuitWritten, circuit_written
from gateway.desk import AtDesk, Desk, Reader
from gateway.outlook import Outlook, circuit_outlook
from gateway.scope_index import ScopeIndex
from schemas.capacity import CircuitCapacity, EnvelopePiece
from schemas.telemetry import QuarterHour
from schemas.topology import Asset, Circuit, Group, Scope
from schemas.units import W_PER_KW, Direction, Instant

router = APIRouter()
router.include_router(api_day.router)
"""Before the scopes themselves, whose ids may hold slashes."""


class Running(BaseModel):
    """The running quarter in one direction, in W of mean power; null where not known."""

    quarter: Instant
    so_far_w: float | None
    projected_w: float | None
    allowed_w: float | None
    limit_now_w: float | None
    over: bool


class ScopeSummary(BaseModel):
    """A scope as configured, and how its running quarter stands."""

    scope: Scope
    groups: list[Group]
    assets: list[Asset]
    running_import: Running
    running_export: Running
    open_breaches: list[str]


class EnvelopeView(BaseModel):
    """A scope's limits over time: what was in force stays, the revision holds from `effective_at` on."""

    revision: int
    effective_at: Instant
    pieces: list[EnvelopePiece]


class ScopeView(ScopeSummary):
    """A scope with its envelope and the closed quarter hours of the last 48 h, oldest first.

    `running_quarter` is the provisional row of the quarter that runs now; those of ended quarters that are not closed
    yet are under /quarter-hours with `provisional=true`.
    """

    envelope: EnvelopeView | None
    quarter_hours: list[QuarterHour]
    running_quarter: QuarterHour | None


class Forthcoming(BaseModel):
    """A value to come."""

    at: Instant
    available_import_w: float | None
    available_export_w: float | None


class CircuitView(BaseModel):
    """A circuit: rating, what is available now, what comes next by the present envelope, the last changes, newest first, and the last
    word about writing it to the legacy platform."""

    circuit: Circuit
    scope_id: str | None
    rated_import_w: float
    rated_export_w: float
    now: CircuitCapacity | None
    next: Forthcoming | None
    changes: list[CircuitCapacity]
    written: CircuitWritten | None


def outlook_of(desk: Desk, scope: Scope) -> Outlook:
    """The scope as things stand now."""
    return Outlook(desk.pictures.current(), desk.config.current(), scope, desk.clock.now())


def running_view(outlook: Outlook, direction: Direction) -> Running:
    """The running quarter in one direction."""
    found = outlook.standing(direction)
    return Running(
        quarter=found.quarter,
        so_far_w=found.so_far_w,
        projected_w=found.projected_w,
        allowed_w=found.allowed_w,
        limit_now_w=found.limit_w,
        over=found.over,
    )


def summary_fields(outlook: Outlook) -> dict[str, Any]:
    """What both views of a scope show."""
    return {
        "scope": outlook.scope,
        "groups": list(outlook.groups),
        "assets": list(outlook.assets),
        "running_import": running_view(outlook, Direction.IMPORT),
        "running_export": running_view(outlook, Direction.EXPORT),
        "open_breaches": [breach.breach_id for breach in outlook.open_breaches],
    }


def scope_view(outlook: Outlook) -> ScopeView:
    """One scope with all its figures."""
    line, rows = outlook.line, outlook.rows
    return ScopeView(
        **summary_fields(outlook),
        envelope=None if line is None else EnvelopeView(revision=line.revision, effective_at=line.effective_at, pieces=list(line.pieces)),
        quarter_hours=[rows[start] for start in sorted(rows)],
        running_quarter=outlook.running,
    )


def circuit_view(desk: Desk, circuit: Circuit) -> CircuitView:
    """One circuit."""
    config, picture = desk.config.current(), desk.pictures.current()
    scope = next((each for each in config.scopes if each.circuit_id == circuit.id), None)
    changes = picture.circuits.get(circuit.id, ())
    upcoming = circuit_outlook(picture, config, circuit, desk.clock.now())
    return CircuitView(
        circuit=circuit,
        scope_id=scope.id if scope else None,
        rated_import_w=circuit.rated_import_kw * W_PER_KW,
        rated_export_w=circuit.rated_export_kw * W_PER_KW,
        now=changes[0] if changes else None,
        next=upcoming and Forthcoming(at=upcoming.at, available_import_w=upcoming.import_w, available_export_w=upcoming.export_w),
        changes=list(changes),
        written=circuit_written(picture, circuit.id),
    )


@router.get("/groups", tags=["scopes"])
async def list_groups(_: Reader, desk: AtDesk) -> Items[Group]:
    """All capacity groups and the scopes they are bound to."""
    return Items(items=list(desk.config.current().groups))


@router.get("/groups/{group_id:path}", tags=["scopes"])
async def one_group(_: Reader, desk: AtDesk, group_id: str) -> Group:
    """One group; its id is unique over all partners."""
    found = desk.config.current().group_by_id(group_id)
    if found is None:
        raise Problem(404, "Unknown group", f"there is no group {group_id!r}")
    return found


@router.get("/scopes", tags=["scopes"])
async def list_scopes(_: Reader, desk: AtDesk) -> Items[ScopeSummary]:
    """All scopes and their running quarters."""
    picture, config, now = desk.pictures.current(), desk.config.current(), desk.clock.now()
    index = ScopeIndex(picture, config)
    return Items(items=[ScopeSummary(**summary_fields(Outlook(picture, config, scope, now, index))) for scope in config.scopes])


@router.get("/scopes/{scope_id:path}", tags=["scopes"])
async def one_scope(_: Reader, desk: AtDesk, scope_id: str) -> ScopeView:
    """One scope with its envelope, its quarter hours of the last 48 h and the running one."""
    found = desk.config.current().scope(scope_id)
    if found is None:
        raise Problem(404, "Unknown scope", f"there is no scope {scope_id!r}")
    return scope_view(outlook_of(desk, found))


@router.get("/circuits", tags=["circuits"])
async def list_circuits(_: Reader, desk: AtDesk) -> Items[CircuitView]:
    """All circuits."""
    return Items(items=[circuit_view(desk, circuit) for circuit in desk.config.current().circuits])


@router.get("/circuits/{circuit_id:path}", tags=["circuits"])
async def one_circuit(_: Reader, desk: AtDesk, circuit_id: str) -> CircuitView:
    """One circuit."""
    found = desk.config.current().circuit(circuit_id)
    if found is None:
        raise Problem(404, "Unknown circuit", f"there is no circuit {circuit_id!r}")
    return circuit_view(desk, found)
