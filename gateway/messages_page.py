"""The pages of messages to partners: what is owed, what became of it and why it waits; a message sent again, or given up.

Readable without JavaScript. What changes something is a plain form with the session's own token; giving up is asked about first.
"""

from dataclasses import dataclass
from datetime import date, datetime
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response

from gateway import wording as say
from gateway.api_body import Problem
from gateway.auth import Right
from gateway.desk import Desk
from gateway.guard import Caller, Denied, demand
from gateway.messages_acts import asked_about
from gateway.messages_model import MessageWish, Stand, read_cursor
from gateway.messages_reading import FoundMessage, read_message, read_messages, reasons_at
from gateway.messages_rows import Rows
from gateway.messages_standing import count_rows, queue_cards, stale_words
from gateway.messages_summary import read_summary
from gateway.overview import page_zone
from gateway.page_frame import act_of, framed, reader_of
from gateway.scope_day import day_bounds
from schemas.connection import CommandKind
from schemas.oscp.v20 import Action

router = APIRouter(include_in_schema=False)

SHOWN = 50
MOST_QUEUES = 12
NAMES = ("partner", "action", "group", "state", "id", "from", "to")
STATES = tuple(each.value.lower() for each in Stand)
ACTIONS = (
    Action.UPDATE_ASSET_MEASUREMENTS,
    Action.UPDATE_GROUP_MEASUREMENTS,
    Action.GROUP_CAPACITY_COMPLIANCE_ERROR,
    Action.ADJUST_GROUP_CAPACITY_FORECAST,
    Action.REGISTER,
    Action.HANDSHAKE,
    Action.HANDSHAKE_ACKNOWLEDGE,
    Action.HEARTBEAT,
)
"""What we can owe a partner."""


@dataclass(frozen=True, slots=True)
class Act:
    """A button. `question` is what a person is asked first, empty where none is needed."""

    kind: CommandKind
    label: str
    words: str
    done: str
    question: str = ""


ACTS = {
    "retry": Act(
        CommandKind.RETRY_MESSAGE,
        "Send again",
        "sends it as soon as the partner's queue lets it, without waiting for its own pause; in a held queue one message is tried at once",
        "It was asked for that it goes again.",
    ),
    "drop": Act(
        CommandKind.DROP_MESSAGE,
        "Give up",
        "it is not sent any more",
        "It was asked for that it is given up.",
        "The partner will not get this message, and nothing makes up for it: for measurements it keeps a gap. Those behind it go on.",
    ),
}


def wish_of(words: dict[str, str], before: str, now: datetime, zone: ZoneInfo) -> tuple[MessageWish, list[str]]:
    """What is asked for, and words about conditions that mean nothing and are left out."""
    wrong: list[str] = []
    since, until = _day(words["from"], zone, wrong), _day(words["to"], zone, wrong)
    state = words["state"].lower()
    if state and state not in STATES:
        wrong.append(f"{words['state'][:40]!r} is no state; it is one of {', '.join(STATES)}")
        state = ""
    wish = MessageWish(
        now,
        partner_id=words["partner"],
        action=words["action"],
        group_id=words["group"].strip(),
        stand=Stand(state.upper()) if state else None,
        text=words["id"].strip(),
        since=since[0] if since else None,
        until=until[1] if until else None,
        before=_cursor(before, wrong),
        heartbeats=words["action"] == Action.HEARTBEAT or bool(words["id"].strip()),
    )
    return wish, wrong


def _day(text: str, zone: ZoneInfo, wrong: list[str]) -> tuple[datetime, datetime] | None:
    if not text:
        return None
    try:
        return day_bounds(date.fromisoformat(text), zone)
    except ValueError:
        wrong.append(f"{text[:40]!r} is no day; write it as 2026-10-25")
        return None


def _cursor(text: str, wrong: list[str]) -> tuple[int, str] | None:
    try:
        return read_cursor(text) if text else None
    except ValueError:
        wrong.append("the part that was asked for is none")
        return None


@router.get("/messages")
async def messages_page(request: Request) -> Response:
    """All messages that fit; who is not signed in is asked to."""
    caller = reader_of(request)
    if isinstance(caller, Response):
        return caller
    desk: Desk = request.app.state.desk
    words = {name: request.query_params.get(name, "")[:200] for name in NAMES}
    before = request.query_params.get("before", "")[:250]
    config, now = desk.config.current(), desk.clock.now()
    zone = page_zone(config)
    wish, wrong = wish_of(words, before, now, zone)
    found, summary = await read_messages(desk, wish, SHOWN), await read_summary(desk)
    picture, wall = desk.pictures.current(), desk.wall.now()
    reasons = reasons_at(desk, lambda instant: say.moment(instant, zone, now), found.lines)
    rows = Rows(config, reasons, zone, now)
    queues = queue_cards(picture, config, zone, now, desk.clock.at_wall, wall)
    query = urlencode({name: value for name, value in words.items() if value})
    return framed(
        "messages_page.html",
        desk,
        caller,
        "messages",
        rows=[rows.row(line) for line in found.lines],
        queues=queues[:MOST_QUEUES],
        more_queues=len(queues) - MOST_QUEUES,
        stale=stale_words(picture, wall),
        words=words,
        query=query,
        older=found.next or "",
        before=before,
        note=found.note,
        wrong=wrong,
        counts=count_rows(summary.counts, config),
        counted=summary.note,
        partners=[(partner.id, partner.name or partner.id) for partner in config.partners],
        groups=[group.group_id for group in config.groups[:200]],
        actions=[each.value for each in ACTIONS],
        states=STATES,
    )


@router.get("/messages/{message_id:path}")
async def message_page(request: Request, message_id: str, confirm: str = "", done: str = "") -> Response:
    """One message, or the question before it is given up."""
    caller = reader_of(request)
    if isinstance(caller, Response):
        return caller
    desk: Desk = request.app.state.desk
    if confirm:
        demand(caller, Right.ACT)
        act = ACTS.get(confirm)
        if act is None or not act.question:
            raise Denied(404, "Nothing to ask", "there is no such question")
        row = _rows(desk).row((await _demand_known(desk, message_id)).line)
        return framed("message_confirm.html", desk, caller, "messages", row=row, act=act, name=confirm, here=_path(message_id))
    return await _page(desk, caller, message_id, notice=ACTS[done].done if done in ACTS else "")


@router.post("/messages/{message_id:path}")
async def act_on(request: Request, message_id: str) -> Response:
    """What a button of the page asks for."""
    asked = await act_of(request)
    if isinstance(asked, Response):
        return asked
    caller, fields = asked
    desk: Desk = request.app.state.desk
    name = fields.get("action", "")
    act = ACTS.get(name)
    if act is None:
        raise Denied(400, "Unknown action", "go back to the page and use one of its buttons")
    if act.question and fields.get("confirmed") != "yes":
        return RedirectResponse(f"{_path(message_id)}?confirm={name}", status_code=303)
    try:
        await asked_about(desk, caller, act.kind, message_id)
    except Problem as problem:
        if problem.status == 404:
            raise Denied(404, problem.title, str(problem)) from None
        return await _page(desk, caller, message_id, refused=str(problem), status=problem.status)
    return RedirectResponse(f"{_path(message_id)}?done={name}", status_code=303)


async def _page(desk: Desk, caller: Caller, message_id: str, *, notice: str = "", refused: str = "", status: int = 200) -> Response:
    found = await _demand_known(desk, message_id)
    page = _rows(desk, found).one(found, desk.pictures.current())
    return framed(
        "message_page.html", desk, caller, "messages", status=status, one=page, here=_path(message_id), acts=ACTS, notice=notice,
        refused=refused,
    )  # fmt: skip


def _rows(desk: Desk, found: FoundMessage | None = None) -> Rows:
    config, now = desk.config.current(), desk.clock.now()
    zone = page_zone(config)
    lines = [found.line] if found is not None else []
    return Rows(config, reasons_at(desk, lambda instant: say.moment(instant, zone, now), lines), zone, now)


async def _demand_known(desk: Desk, message_id: str) -> FoundMessage:
    """The message. Raises Denied 404, Unavailable where only the history could say."""
    found = await read_message(desk, message_id)
    if found is None:
        raise Denied(404, "Unknown message", f"{message_id!r} is no message that is known here")
    return found


def _path(message_id: str) -> str:
    return f"/messages/{quote(message_id, safe='')}"
