"""How a partner's connection stands, in words for people. Pure."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.liveness import liveness_deadline
from gateway.page_model import PartnerCard, State, When
from gateway.picture import Heartbeats, Picture
from gateway.redaction import clean
from gateway.timeline_lines import Line
from gateway.timeline_reading import credentials_refused
from schemas.config import Configuration
from schemas.connection import Connection, ConnectionState
from schemas.outbound import Outcome
from schemas.units import from_ms

CONNECTION_LOOKS = {
    ConnectionState.ONLINE: "good",
    ConnectionState.OFFLINE: "bad",
    ConnectionState.FAILED: "bad",
    ConnectionState.SUSPENDED: "risk",
}
NOT_SENDING = frozenset({ConnectionState.NEW, ConnectionState.AWAITING_REGISTER, ConnectionState.SUSPENDED, ConnectionState.DEREGISTERED})
OUTCOME_LOOKS = {
    Outcome.DELIVERED: "good",
    Outcome.RETRY: "risk",
    Outcome.HELD: "risk",
    Outcome.PARKED: "risk",
    Outcome.REFUSED: "bad",
    Outcome.EXPIRED: "bad",
    Outcome.DROPPED: "quiet",
}


def when(instant: datetime, zone: ZoneInfo, now: datetime) -> When:
    """An instant in the zone, and how far from `now` it is."""
    return When(instant, say.moment(instant, zone, now), say.ago(instant, now))


def partner_card(picture: Picture, config: Configuration, partner_id: str, now: datetime, zone: ZoneInfo) -> PartnerCard:
    """The card of one partner, configured or only known by its connection."""
    partner, connection = config.partner(partner_id), picture.connections.get(partner_id)
    beats = picture.heartbeats.get(partner_id, Heartbeats())
    state = connection.state if connection else ConnectionState.NEW

    def at(instant: datetime | None) -> When | None:
        return None if instant is None else when(instant, zone, now)

    return PartnerCard(
        id=partner_id,
        name=(partner.name if partner else "") or partner_id,
        state=State(state.value.replace("_", " ").capitalize(), CONNECTION_LOOKS.get(state, "quiet")),
        since=at(connection.since if connection else None),
        words=clean(connection.words) if connection else "",
        heartbeat_in=at(beats.received_at),
        heartbeat_in_words=_every(connection.our_required_heartbeat_s if connection else None, "not asked of the partner"),
        heartbeat_out=at(beats.delivered_at),
        heartbeat_out_words=_every(connection.peer_required_heartbeat_s if connection else None, "not asked of us"),
        deadline=at(liveness_deadline(picture, config, partner_id)),
        base_url=clean((connection.peer_base_url if connection else None) or ""),
        asks=_asks(connection),
        advice=_refused_words(picture, partner_id) or _advice(partner_id, state),
    )


def _every(seconds: float | None, otherwise: str) -> str:
    return otherwise if seconds is None else f"every {say.length(timedelta(seconds=seconds))}"


def _asks(connection: Connection | None) -> str:
    if connection is None or connection.first_acknowledged_at is None:
        return ""
    asked = ", ".join(one.lower() for one in connection.peer_required_measurements) or "any"
    withheld = "; withheld, since we cannot send these" if connection.withheld_since else ""
    return f"{asked} measurements{withheld}"


def refused_credentials(picture: Picture, partner_id: str) -> Line | None:
    """The exchange that shows that a partner does not know our token any more, unless something was done about it since."""
    connection = picture.connections.get(partner_id)
    if connection is None or connection.state in NOT_SENDING:
        return None
    line = credentials_refused(picture.timelines, partner_id)
    mended = line is not None and connection.registered_at is not None and connection.registered_at > from_ms(line.at_ms)
    return None if mended else line


def _refused_words(picture: Picture, partner_id: str) -> str:
    """Nothing is lost, but only a person can mend it (semantics 8.3)."""
    line = refused_credentials(picture, partner_id)
    if line is None:
        return ""
    return (
        f"The partner answers {line.status} to what we send: it does not know our token, or has lost what it knew of us. What it is "
        f"owed is kept. Register again (derms partner register {partner_id}), or make a new token with derms partner token "
        f"{partner_id} and have the partner register with it."
    )


def _advice(partner_id: str, state: ConnectionState) -> str:
    """What to do next, where the connection waits for someone."""
    match state:
        case ConnectionState.NEW:
            return f"Not registered. Give the partner a token made by derms partner token {partner_id}."
        case ConnectionState.AWAITING_REGISTER:
            return "Waiting for the partner to register with the token it was given."
        case ConnectionState.REGISTERED:
            return "Registered. The partner has to send its handshake now."
        case ConnectionState.SUSPENDED:
            return f"Nothing is sent. derms partner resume {partner_id} goes on."
        case ConnectionState.FAILED:
            return f"Given up. Make a new token with derms partner token {partner_id} and have the partner register again."
        case ConnectionState.DEREGISTERED:
            return f"The connection was ended. A new token made by derms partner token {partner_id} begins another."
        case _:
            return ""
