"""How a partner's connection stands, in words for people. Pure."""

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.liveness import liveness_deadline
from gateway.page_model import PartnerCard, State, When
from gateway.partner_queue import queue_words
from gateway.picture import Heartbeats, Picture
from gateway.redaction import clean
from gateway.timeline_lines import Line
from gateway.timeline_reading import credentials_refused, held_back
from schemas.config import Configuration, Partner
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


def partner_card(
    picture: Picture, config: Configuration, partner_id: str, now: datetime, zone: ZoneInfo, wall: datetime | None = None
) -> PartnerCard:
    """The card of one partner, configured or only known by its connection. `wall` is the wall's instant: without it, nobody asks how
    long ago dispatch said how the queue stands."""
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
        queue=queue_words(picture, partner, partner_id, now, wall or picture.queues_at or now),
        advice=_refused_words(picture, partner_id, partner) or _held_words(picture, partner_id) or _advice(partner_id, state),
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
    return _unmended(picture, partner_id, credentials_refused(picture.timelines, partner_id))


def held(picture: Picture, partner_id: str) -> Line | None:
    """The exchange since which what the partner is owed is held back, unless something was done about it since."""
    return _unmended(picture, partner_id, held_back(picture.timelines, partner_id))


def _unmended(picture: Picture, partner_id: str, line: Line | None) -> Line | None:
    connection = picture.connections.get(partner_id)
    if line is None or connection is None or connection.state in NOT_SENDING:
        return None
    mended = connection.registered_at is not None and connection.registered_at > from_ms(line.at_ms)
    return None if mended else line


def we_register(partner: Partner | None, connection: Connection | None) -> bool:
    """Whether a registration from our side can mend a partner that has forgotten us: it needs an address, and credentials that are
    not those of the registration that was lost."""
    if partner is None or not (partner.base_url or (connection and connection.peer_base_url)):
        return False
    return partner.initial_token_file is not None or partner.oauth is not None


def _refused_words(picture: Picture, partner_id: str, partner: Partner | None) -> str:
    """Nothing is lost, but only a person can mend it (semantics 8.3)."""
    line = refused_credentials(picture, partner_id)
    if line is None:
        return ""
    if not we_register(partner, picture.connections.get(partner_id)):
        cure = f"Make a new token with derms partner token {partner_id} and have the partner register with it."
    elif partner is not None and partner.initial_token_file is not None:
        cure = f"Put its new first token into the configured initial_token_file, then: derms partner register {partner_id}."
    else:
        cure = f"Register with it again: derms partner register {partner_id}."
    return (
        f"The partner answers {line.status} to what we send: it has lost our registration, or has changed its credentials. What it is "
        f"owed is kept, and one message is tried every 5 minutes. {cure} If it has mended itself, or a file named in the "
        f"configuration was wrong and is right now, derms partner resume {partner_id} tries at once."
    )


def _held_words(picture: Picture, partner_id: str) -> str:
    """As `_refused_words`, where it is something else that holds us back: most often on our own side."""
    line = held(picture, partner_id)
    if line is None:
        return ""
    why = f" ({clean(line.words)})" if line.words else ""
    return f"What the partner is owed is kept, but held back{why}. Correct that, then derms partner resume {partner_id} tries at once."


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
            return (
                f"The partner refused our registration or acknowledgement. Correct the cause, then derms partner resume {partner_id} "
                "tries again; a new handshake or registration of its own mends it, too."
            )
        case ConnectionState.DEREGISTERED:
            return f"The connection was ended. A new token made by derms partner token {partner_id} begins another."
        case _:
            return ""
