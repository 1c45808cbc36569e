"""What pages share: who may see them, their head, parts of long lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse

from gateway import wording as say
from gateway.auth import Right
from gateway.desk import Desk, caller_of
from gateway.guard import Caller, demand, demand_own_page
from gateway.overview import page_zone
from gateway.page_model import When
from gateway.rendering import form, refresh_s, render

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Head:
    """The clock at the top of every page, and its speed where it is not the wall's; `zone` is that of what concerns no scope."""

    clock: When
    speed: str
    zone: str


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of a long list: `number` from 1 of `count`; `query` are the list's other conditions, as an address has them."""

    items: Sequence[T]
    number: int
    count: int
    total: int
    query: str


def part_of(items: Sequence[T], number: str, size: int, conditions: dict[str, str]) -> Part[T]:
    """The part that `number` names; the first for a word that is none, the last for one beyond."""
    count = max(1, -(-len(items) // size))
    wanted = int(number) if number.isascii() and number.isdecimal() and len(number) < 7 else 1
    wanted = min(max(wanted, 1), count)
    query = urlencode({name: value for name, value in conditions.items() if value})
    return Part(items[(wanted - 1) * size : wanted * size], wanted, count, len(items), query)


def reader_of(request: Request) -> Caller | RedirectResponse:
    """Who reads the page, or the way to sign in. Raises Denied 403 for a role without pages."""
    caller = caller_of(request)
    if caller is None:
        return RedirectResponse("/sign-in", status_code=303)
    return demand(caller, Right.READ)


async def act_of(request: Request) -> tuple[Caller, dict[str, str]] | RedirectResponse:
    """Who pressed a button of one of our own pages, and the form's fields; or the way to sign in. Raises Denied 403 for another's page
    and for a role that may not act."""
    caller = caller_of(request)
    if caller is None:
        return RedirectResponse("/sign-in", status_code=303)
    fields = await form(request)
    demand_own_page(request, caller, fields.get("csrf", ""))
    return demand(caller, Right.ACT), fields


def framed(
    template: str, desk: Desk, caller: Caller, section: str, *, zone: ZoneInfo | None = None, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page of `section` (the entry of the navigation) with its head filled in, whose clock is in `zone`."""
    now, zone = desk.clock.now(), zone or page_zone(desk.config.current())
    head = Head(
        clock=When(now, say.full(now, zone), ""),
        speed="" if desk.clock.speed == 1 else f"\u00d7{desk.clock.speed:g}",
        zone=f"{say.zone_name(now, zone)} ({zone.key})",
    )
    text = render(
        template,
        page=head,
        section=section,
        operator=caller.operator,
        csrf=caller.session.csrf if caller.session else "",
        may_act=caller.operator.may(Right.ACT),
        refresh_s=refresh_s(desk.clock),
        **values,
    )
    return HTMLResponse(text, status_code=status)
