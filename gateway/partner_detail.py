"""What a partner's own page shows, as plain words and figures made from the live picture. Pure."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.liveness import Vouched, last_vouched
from gateway.overview import page_zone
from gateway.page_model import PartnerCard, State, When
from gateway.partner_actions import STATE_WORDS, Action, advised, sensible
from gateway.partner_card import OUTCOME_LOOKS, held, partner_card, refused_credentials, we_register, when
from gateway.picture import Picture
from gateway.redaction import clean, shown
from gateway.timeline_lines import Kept, Line, Way
from gateway.timeline_reading import Kind, part_of
from schemas.config import Configuration
from schemas.connection import ConnectionState
from schemas.outbound import Outcome
from schemas.units import from_ms

SHOWN_LINES = 50
LONGEST_BODY = 4000
"""Characters of a body on the page; the API gives it whole."""
SEVERITY_LOOKS = {"INFO": "quiet", "WARNING": "risk", "ALARM": "bad"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the timeline. `way` is in, out, or empty for an event; `body` is JSON text without secrets."""

    id: str
    at: When
    way: str
    what: str
    url: str
    state: State
    took: str
    request_id: str
    correlation_id: str
    words: str
    body: str
    body_note: str


@dataclass(frozen=True, slots=True)
class Detail:
    """The whole page of a partner. `older` is the cursor of the next part, empty at the end."""

    card: PartnerCard
    clock: When
    speed: str
    zone: str
    state_words: str
    asks_of_us: str
    asked_of_it: str
    its_clock: str
    version: str
    groups: str
    registered: When | None
    acknowledged: When | None
    actions: tuple[Action, ...]
    advised: str
    refused: str
    rows: tuple[Row, ...]
    older: str
    forgotten: str


def detail(
    picture: Picture,
    config: Configuration,
    partner_id: str,
    now: datetime,
    speed: float,
    *,
    wall: datetime | None = None,
    before: str | None = None,
    heartbeats: bool = False,
) -> Detail:
    """One partner's page. Raises ValueError for a cursor that is none."""
    zone, connection = page_zone(config), picture.connections.get(partner_id)
    state = connection.state if connection else ConnectionState.NEW
    part = part_of(picture.timelines, partner_id, limit=SHOWN_LINES, before=before, heartbeats=heartbeats, kind=Kind.ALL)
    bodies, refused = picture.timelines.bodies(partner_id), refused_credentials(picture, partner_id)
    known, reachable = config.partner(partner_id), bool(connection and connection.peer_base_url)
    waits = refused is not None or held(picture, partner_id) is not None
    groups = [group.group_id for group in config.groups if group.partner_id == partner_id]

    def at(instant: datetime | None) -> When | None:
        return None if instant is None else when(instant, zone, now)

    return Detail(
        card=partner_card(picture, config, partner_id, now, zone, wall),
        clock=When(now, say.full(now, zone), ""),
        speed="" if speed == 1 else f"\u00d7{speed:g}",
        zone=f"{say.zone_name(now, zone)} ({zone.key})",
        state_words=STATE_WORDS[state],
        asks_of_us=_asked(
            connection.peer_required_heartbeat_s, connection.peer_required_measurements, withheld=connection.withheld_since is not None
        )
        if connection and connection.first_acknowledged_at
        else "",
        asked_of_it=_asked(connection.our_required_heartbeat_s, connection.our_required_measurements)
        if connection and connection.first_acknowledged_at
        else "",
        its_clock=_its_clock(last_vouched(picture, partner_id)),
        version=(connection.peer_version if connection else None) or "",
        groups=", ".join(groups),
        registered=at(connection.registered_at if connection else None),
        acknowledged=at(connection.first_acknowledged_at if connection else None),
        actions=tuple(sensible(state, reachable=reachable, held=waits)) if known else (),
        advised=advised(state, refused=refused is not None, held=waits, we_register=we_register(known, connection)),
        refused="" if refused is None else f"{refused.status}",
        rows=tuple(_row(line, bodies, zone, now) for line in part.lines),
        older=part.next or "",
        forgotten="" if part.whole_since_ms is None else say.moment(from_ms(part.whole_since_ms), zone, now),
    )


def _asked(heartbeat_s: float | None, measurements: list[str], *, withheld: bool = False) -> str:
    beats = "no heartbeats" if heartbeat_s is None else f"a heartbeat every {say.length(timedelta(seconds=heartbeat_s))}"
    styles = " and ".join(one.lower() for one in measurements) or "any"
    return f"{beats}; {styles} measurements" + (", which are withheld since we cannot send these" if withheld else "")


def _its_clock(vouched: Vouched | None) -> str:
    """How the partner's clock looks from its last heartbeat: `offline_mode_at` must lie ahead of when the beat came (semantics 6.5)."""
    if vouched is None:
        return ""
    ahead = vouched.until - vouched.received_at
    if ahead <= timedelta(0):
        return f"wrong by {say.length(-ahead)} or more: its last heartbeat vouched until an instant already past"
    return f"its last heartbeat vouched for {say.length(ahead)} ahead"


def _row(line: Line, bodies: dict[tuple[Way, str], list[Kept]], zone: ZoneInfo, now: datetime) -> Row:
    body, note = _body(line, bodies)
    return Row(
        id=line.id,
        at=when(from_ms(line.at_ms), zone, now),
        way=line.direction.value if line.direction else "",
        what=f"{line.method} {line.action}".strip() if line.is_exchange else line.kind,
        url=clean(line.url),
        state=_state(line),
        took="" if line.duration_ms is None else f"{line.duration_ms}\u00a0ms",
        request_id=line.request_id or "",
        correlation_id=line.correlation_id or "",
        words=_words(line),
        body=body,
        body_note=note,
    )


def _words(line: Line) -> str:
    tries = f"attempt {line.attempt}" if line.attempt is not None and line.attempt > 1 else ""
    return "; ".join(filter(None, (tries, clean(line.words))))


def _state(line: Line) -> State:
    if not line.is_exchange:
        return State((line.severity or "").lower(), SEVERITY_LOOKS.get(line.severity or "", "quiet"))
    if line.outcome is None:
        good = line.status is not None and line.status < 300
        return State(str(line.status) if line.status is not None else "no answer", "good" if good else "bad")
    answer = f" {line.status}" if line.status is not None else ""
    return State(f"{line.outcome.lower()}{answer}", OUTCOME_LOOKS[Outcome(line.outcome)])


def _body(line: Line, bodies: dict[tuple[Way, str], list[Kept]]) -> tuple[str, str]:
    """The body that passed with a line, and what is to be said of it. An id used again has several: the last one before the line."""
    found = bodies.get((line.direction, line.request_id), []) if line.direction and line.request_id else []
    if not found:
        return "", ""
    kept = next((each for each in reversed(found) if each.at_ms <= line.at_ms), found[0])
    if kept.body is None:
        return "", f"{say.count(kept.length)} characters, too long to be kept here; the history has it"
    text = json.dumps(shown(kept.body), indent=2, ensure_ascii=False)
    if len(text) <= LONGEST_BODY:
        return text, ""
    return text[:LONGEST_BODY] + "\u2026", "the beginning; the API and the history have it whole"
