"""How far a partner can be heard now, and what holds while it cannot (the external capability of a connection; semantics 3.3, 6). Pure."""

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.outlook import Outlook
from gateway.page_model import PartnerCard, State, When
from gateway.partner_actions import STATE_WORDS
from gateway.partner_card import partner_card, when
from schemas.capacity import EnvelopePiece, PieceKind
from schemas.connection import ConnectionState
from schemas.topology import Group
from schemas.units import W_PER_KW

AWAY = (ConnectionState.OFFLINE, ConnectionState.DEREGISTERED)
"""In these states the fallback limits hold (semantics 3.3)."""
HOLDS = {
    PieceKind.FALLBACK: State("the partner's fallback limits hold now", "risk"),
    PieceKind.HELD: State("no fallback covers now: the last limit is held on", "risk"),
    PieceKind.SAFE: State("no fallback covers now: the safe value holds", "risk"),
}


@dataclass(frozen=True, slots=True)
class Capability:
    """One group's connection as a scope's page shows it. `limits` says which kind of limits holds because of the connection."""

    group_id: str
    card: PartnerCard
    words: str
    withheld: str
    withheld_since: When | None
    limits: State
    fallback: str


def capabilities(outlook: Outlook) -> tuple[Capability, ...]:
    """The connections behind the scope's limits, in the order of its groups."""
    return tuple(_capability(outlook, group) for group in outlook.groups)


def _capability(outlook: Outlook, group: Group) -> Capability:
    zone = ZoneInfo(outlook.scope.time_zone)
    connection = outlook.picture.connections.get(group.partner_id)
    state = connection.state if connection else ConnectionState.NEW
    since = connection.withheld_since if connection else None
    suspended = state is ConnectionState.SUSPENDED
    withheld = (
        "measurements: the partner asks for a style we cannot send"
        if since
        else "everything, as long as it is suspended"
        if suspended
        else ""
    )
    return Capability(
        group_id=group.group_id,
        card=partner_card(outlook.picture, outlook.config, group.partner_id, outlook.now, zone),
        words=STATE_WORDS[state],
        withheld=withheld,
        withheld_since=when(since, zone, outlook.now) if since else None,
        limits=_limits(state, outlook.line.at(outlook.now) if outlook.line else None),
        fallback=_fallback(group),
    )


def _limits(state: ConnectionState, piece: EnvelopePiece | None) -> State:
    if state not in AWAY:
        return State("the normal forecasts limit, not the fallback", "quiet")
    kinds = [] if piece is None else [piece.import_kind, piece.export_kind]
    found = next((HOLDS[kind] for kind in HOLDS if kind in kinds), None)
    if found is not None:
        return found
    if piece is None or (piece.import_limit_w is None and piece.export_limit_w is None):
        return State("no fallback covers now, and no other limit is known", "bad")
    return State("no fallback covers now: the normal schedule limits", "risk")


def _fallback(group: Group) -> str:
    """What is configured for the time in which the partner cannot be heard."""
    safe = [
        f"{way} {say.kw(value * W_PER_KW)}"
        for way, value in (("import", group.safe_import_kw), ("export", group.safe_export_kw))
        if value is not None
    ]
    return f"the last limit is held on for {say.length(group.fallback_hold)}, then " + (
        f"the safe value ({', '.join(safe)})" if safe else "the normal schedule"
    )
