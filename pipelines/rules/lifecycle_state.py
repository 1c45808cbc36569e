"""What the lifecycle remembers of one partner, and how that becomes a `Connection` and comes back from one.

Registration and link are kept apart although people see one state: a partner that is ONLINE may exchange its
tokens anew without ceasing to be ONLINE, and what goes on beneath SUSPENDED is there again after it.
"""

from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipelines.rules.heartbeats import Grid
from pipelines.rules.pauses import SILENT, Pause, Pauses
from schemas.connection import Connection, ConnectionState, Credential
from schemas.facts import derived_id, digest

S = ConnectionState
LINKS = frozenset({S.ACKING, S.ONLINE, S.OFFLINE})
KEPT_IN_MEMORY = 16
"""So many of the request ids seen last, and of commands, travel with a `Connection`; the rest are in the recovery store."""
SKEW = timedelta(minutes=1)
"""By so much the clocks of two gateways may differ: what one takes in may stand behind what the other did, with an earlier instant."""


@dataclass(slots=True)
class Owed:
    """One message of an exchange that we owe.

    `about` is the event id of what made it due; for a Register also what its token is derived from.
    `emitted` says it is on `derms.outbound`, `failed` that it was refused or expired there.
    """

    message_id: str
    about: str
    at: datetime
    correlation_id: str | None = None
    emitted: bool = False
    failed: bool = False


@dataclass(slots=True)
class Notes:
    """The part of the state that a `Connection` does not show; it travels as its `memory`.

    `answer` is our Register that answers theirs, `opening` the one that starts, `registers` the message ids of the
    last of either, `unsettled` those of all messages of which dispatch has not said the last word. `seen` holds digests
    of request ids with that of their body (semantics 6.6), `obeyed` the ids of the last commands. `former_peer` is the address and
    token (ciphertext) that worked before a registration of ours that is under way.
    """

    registration: ConnectionState = S.NEW
    link: ConnectionState | None = None
    suspended: bool = False
    answer: Owed | None = None
    opening: Owed | None = None
    acknowledgement: Owed | None = None
    handshake: Owed | None = None
    farewell: Owed | None = None
    registers: list[str] = field(default_factory=list)
    unsettled: list[str] = field(default_factory=list)
    grid: Grid | None = None
    beat_seen: bool = False
    beats_failing: bool = False
    clock_off: bool = False
    seen: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    inbound_through: datetime | None = None
    commands_through: datetime | None = None
    obeyed: dict[str, datetime] = field(default_factory=dict)
    former_peer: tuple[str | None, str | None] | None = None

    def __setstate__(self, kept: tuple[None, dict[str, Any]]) -> None:
        """As `PartnerState.__setstate__`."""
        _restored(self, kept[1])


def _restored(made: Any, kept: dict[str, Any]) -> None:
    """What a recovery store of an earlier version kept: fields it did not know have their defaults."""
    for known in fields(made):
        default = known.default_factory() if known.default_factory is not MISSING else known.default
        setattr(made, known.name, kept.get(known.name, default))


@dataclass(slots=True)
class PartnerState:
    """Everything about one partner; plain types only. Fields named as in `Connection` mean the same there.

    `announced` is what was last said on `derms.connections`; `touched` that something has happened since the key
    was first seen, so that a `Connection` read from the topic is our own echo and no longer news. Before that it
    may be `adopted`, and rests `rest_until` all earlier ones have been read. `recheck_at`: whether it is still configured.
    What was received by `skip_inbound_through`, or ordered by `skip_commands_through`, was taken in before that connection was
    said, unless it is known not to have been: from `known_since` (for either) on, what was is in `notes.seen` and `notes.obeyed`.
    `said_at` is when a `Connection` was last said. `said_later` is the id and instant of one that an earlier life said after this
    state was kept: until what led to it has come again, what was said before it is not said again.
    `unrenewed` names the installation secret under which a token could not be put since the one it was made with is missing.
    `silences` and `withheld` are the connection's pauses.
    """

    partner_id: str
    version: int = 1
    since: datetime | None = None
    words: str = ""
    peer_base_url: str | None = None
    peer_version: str | None = None
    peer_token: str | None = None
    credentials: list[Credential] = field(default_factory=list)
    peer_required_heartbeat_s: float | None = None
    peer_required_measurements: list[str] = field(default_factory=list)
    our_required_heartbeat_s: float | None = None
    our_required_measurements: list[str] = field(default_factory=list)
    liveness_deadline: datetime | None = None
    registered_at: datetime | None = None
    first_acknowledged_at: datetime | None = None
    withheld_since: datetime | None = None
    taken: list[str] = field(default_factory=list)
    notes: Notes = field(default_factory=Notes)
    announced: str = ""
    touched: bool = False
    adopted: bool = False
    rest_until: datetime | None = None
    recheck_at: datetime | None = None
    settle_until: datetime | None = None
    skip_inbound_through: datetime | None = None
    skip_commands_through: datetime | None = None
    known_since: tuple[datetime | None, datetime | None] = (None, None)
    said_at: datetime | None = None
    said_later: tuple[str, datetime] | None = None
    unrenewed: str = ""
    silences: list[Pause] = field(default_factory=list)
    withheld: list[Pause] = field(default_factory=list)

    @property
    def pauses(self) -> Pauses:
        """The connection's pauses: what is done to them is done to the state."""
        return Pauses(self.silences, self.withheld)

    def __setstate__(self, kept: tuple[None, dict[str, Any]]) -> None:
        """What a recovery store of an earlier version kept: fields it did not know have their defaults, and pauses that last begin."""
        _restored(self, kept[1])
        if "silences" not in kept[1]:
            self.silences = [Pause(self.since)] if self.since is not None and shown(self) in SILENT else []
            self.withheld = [Pause(self.withheld_since)] if self.withheld_since is not None else []


_SHOWN = (
    "peer_base_url", "peer_version", "peer_token", "credentials", "peer_required_heartbeat_s", "peer_required_measurements",
    "our_required_heartbeat_s", "our_required_measurements", "liveness_deadline", "registered_at", "first_acknowledged_at",
    "withheld_since", "taken",
)  # fmt: skip
_UNWATCHED = frozenset({"liveness_deadline"})
_MEMORY: TypeAdapter[Notes] = TypeAdapter(Notes)


def shown(state: PartnerState) -> ConnectionState:
    """The one state people see (semantics 6.1)."""
    notes = state.notes
    if notes.suspended:
        return S.SUSPENDED
    if notes.registration in (S.DEREGISTERED, S.FAILED) or notes.link is None:
        return notes.registration
    return notes.link


def fingerprint(state: PartnerState) -> str:
    """A digest of what makes a new `Connection` necessary: everything but the deadline, which every heartbeat moves."""
    notes = state.notes
    owed = (notes.answer, notes.opening, notes.acknowledgement, notes.handshake, notes.farewell)
    grid = notes.grid and (notes.grid.since, notes.grid.interval_s)
    parts: list[Any] = [getattr(state, name) for name in _SHOWN if name not in _UNWATCHED]
    parts += [shown(state), notes.registration, notes.link, state.since, state.words, notes.registers, grid, *owed]
    return digest(repr(parts))


def connection_of(state: PartnerState, at: datetime, cause_id: str | None) -> Connection:
    """The state as its `Connection`, stated at `at` because of `cause_id`."""
    return Connection(
        event_id=derived_id("connection", state.partner_id, cause_id, state.announced),
        at=at,
        cause_id=cause_id,
        partner_id=state.partner_id,
        state=shown(state),
        since=state.since or at,
        words=state.words,
        handshake_id=state.notes.handshake.message_id if state.notes.handshake else None,
        memory=_memory(state.notes),
        **{name: getattr(state, name) for name in _SHOWN},
    )


def _memory(notes: Notes) -> str:
    seen = dict(list(notes.seen.items())[-KEPT_IN_MEMORY:])
    return _MEMORY.dump_json(replace(notes, seen=seen)).decode()


def adopt(state: PartnerState, connection: Connection) -> None:
    """Go on from a `Connection` read from its topic: our own state is gone, or never was here.

    What it had already taken in will come again from the topics and is skipped; what it still owed is owed again,
    under the same ids.
    """
    for name in _SHOWN:
        setattr(state, name, getattr(connection, name))
    state.credentials, state.taken = list(connection.credentials), list(connection.taken)
    state.since, state.words = connection.since, connection.words
    try:
        state.notes = _MEMORY.validate_json(connection.memory)
    except ValidationError:
        state.notes = _from_state_alone(connection)
    for owed in (state.notes.answer, state.notes.opening, state.notes.acknowledgement, state.notes.handshake, state.notes.farewell):
        if owed is not None:
            owed.emitted = owed.failed
    notes = state.notes
    state.skip_inbound_through, state.skip_commands_through = notes.inbound_through, notes.commands_through
    instants = [at for _, at in notes.seen.values()]
    state.known_since = _known_since(notes.inbound_through, instants), _known_since(notes.commands_through, list(notes.obeyed.values()))
    state.pauses.take(connection)  # one of an earlier version tells of none but its own
    state.adopted, state.said_at = True, connection.at
    state.announced = fingerprint(state)


def _known_since(through: datetime | None, kept: list[datetime]) -> datetime | None:
    """From when on everything that was taken in is among the `kept` ones: `SKEW` back, unless some of that may be forgotten."""
    if through is None or not kept:
        return through
    since = through - SKEW
    return through if len(kept) >= KEPT_IN_MEMORY and min(kept) > since else since


def _from_state_alone(connection: Connection) -> Notes:
    """Notes for a `Connection` that carries none this version can read."""
    if connection.state in LINKS:
        return Notes(registration=S.REGISTERED, link=connection.state)
    if connection.state is S.SUSPENDED:
        link = S.ONLINE if connection.first_acknowledged_at else None
        return Notes(registration=S.REGISTERED, link=link, suspended=True)
    return Notes(registration=connection.state)
