"""What every page needs: templates filled in, forms read, errors told to people."""

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from gateway.guard import Denied
from schemas.clock import Clock
from schemas.units import rfc3339

HERE = Path(__file__).parent
STATIC = HERE / "static"


@lru_cache(maxsize=1)
def _templates() -> Environment:
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["rfc3339"] = rfc3339
    return found


def render(template: str, **values: Any) -> str:
    """A template filled in; everything is escaped but the charts, which escape for themselves."""
    return _templates().get_template(template).render(**values)


def error_page(status: int, title: str, detail: str) -> HTMLResponse:
    """What a person sees instead of a problem document."""
    return HTMLResponse(render("error.html", status=status, title=title, detail=detail), status_code=status)


def refresh_s(clock: Clock) -> int:
    """How often a page looks for news, in wall seconds."""
    return 3 if clock.speed > 1 else 10


async def form(request: Request) -> dict[str, str]:
    """The fields of a plain form. Raises Denied 415 for anything else."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise Denied(415, "Not a form", "send the form as the page does")
    try:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    except ValueError:  # more fields than any form has
        raise Denied(400, "Not our form", "send the form as the page does") from None
    return {name: values[-1] for name, values in fields.items()}
