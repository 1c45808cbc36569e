"""What a record means for which scope: the seam where protocol and configuration become plain items for the rule."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from pydantic import ValidationError

from pipelines.records import Out, Record
from pipelines.rules.circuits import CircuitTerms
from pipelines.rules.fan_out import Fan
from pipelines.rules.scope_changes import LookAgain, Whereabouts
from pipelines.rules.scope_items import OPERATOR, Configured, GroupTerms, Item, Linked, ScopeTerms, Spoken
from pipelines.views import View
from schemas.capacity import CapacityBlock, CapacityForecast, EnvelopeCommand, LimitType
from schemas.clock import Clock
from schemas.config import Configuration
from schemas.connection import (
    Command,
    CommandKind,
    Connection,
    ConnectionState,
    Event,
    InboundMessage,
    Severity,
    SubjectKind,
    refused_command,
)
from schemas.facts import derived_id, digest
from schemas.oscp.translate import capacity_forecast
from schemas.oscp.v20 import Action, UpdateGroupCapacityForecast
from schemas.topics import EVENTS
from schemas.topology import Circuit, Group, Scope
from schemas.units import W_PER_KW

AWAY = frozenset({ConnectionState.OFFLINE, ConnectionState.DEREGISTERED})
"""The states in which a partner's fallback limits hold (semantics 3.3)."""

News = Out | tuple[str, Item]
"""An event, or an item with the scope it concerns."""


def whereabouts(connection: Connection) -> Whereabouts:
    """Whether the partner is away, in neutral terms."""
    return Whereabouts(connection.partner_id, connection.state in AWAY, connection.since, connection.event_id)


def operators_limit(asked: EnvelopeCommand, *, cause: str, received_at: datetime, body_digest: str) -> CapacityForecast:
    """What an operator asked for, in the terms in which everyone speaks about limits; it counts from `received_at`."""
    blocks = [
        CapacityBlock(
            start=block.start,
            end=block.end,
            limit_w=block.limit_w,
            phase=block.phase,
            received_capacity=block.limit_w,
            received_unit="W",
            received_phase=block.phase.value,
        )
        for block in asked.blocks
    ]
    return CapacityForecast(
        cause=cause,
        source_id=OPERATOR,
        scope_id=asked.scope_id,
        type=LimitType(asked.direction.value),
        received_at=received_at,
        body_digest=body_digest,
        blocks=blocks,
    )


class ScopeNews:
    """Reads the configuration's present view; keeps nothing but an index of it."""

    def __init__(self, config: View[Configuration], clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._index = _Index(Configuration())

    def of_record(self, record: Record) -> Iterator[News]:
        """What a record of the flow's topics means; nothing for those that concern no scope."""
        match record.value:
            case InboundMessage(action=Action.UPDATE_GROUP_CAPACITY_FORECAST, is_segment=False) as message:
                yield self._spoken(message)
            case Command(kind=CommandKind.ENVELOPE) as command:
                yield self._commanded(command)
            case _:
                return

    def of_connection(self, record: Record) -> tuple[str, Fan] | None:
        """Whom news of a connection concerns, by partner; None for other records."""
        if not isinstance(record.value, Connection):
            return None
        found = whereabouts(record.value)
        return found.partner_id, Fan(found, self._current().scopes_of.get(found.partner_id, ()))

    def of_link(self, link: tuple[str, Whereabouts]) -> tuple[str, Item]:
        """That a scope's partner is away, or back."""
        scope_id, found = link
        return scope_id, Linked(*found, self._current().terms(scope_id))

    def of_look(self, look: LookAgain) -> Iterator[News]:
        """The scope with what the configuration says about it now, and where its groups' partners are."""
        terms = self._current().terms(look.scope_id)
        yield look.scope_id, Configured(look.at, look.event_id, terms)
        for partner_id, away, since, event_id in look.partners:
            yield look.scope_id, Linked(partner_id, away, since, event_id, terms)

    def _spoken(self, message: InboundMessage) -> News:
        index = self._current()
        try:
            forecast = UpdateGroupCapacityForecast.model_validate_json(message.body)
        except ValidationError as error:
            return self._unused(message, f"it cannot be read: {error.errors()[0]['msg']}")
        group = index.groups.get(forecast.group_id)
        if group is None or group.partner_id != message.partner_id:
            return self._unused(message, f"group {forecast.group_id} is not one of this partner's any more")
        neutral = capacity_forecast(
            forecast,
            scope=index.scopes[group.scope_id],
            cause=message.request_id,
            received_at=message.received_at,
            body_digest=message.body_digest,
        )
        return group.scope_id, Spoken(neutral, message.event_id, index.terms(group.scope_id))

    def _commanded(self, command: Command) -> News:
        """An operator's own limit goes the way forecasts go (semantics 3.3)."""
        index = self._current()
        try:
            asked = EnvelopeCommand.model_validate_json(command.payload)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            return self._refused(command, f"it cannot be read: {'.'.join(map(str, first['loc'])) or 'payload'}: {first['msg']}")
        if asked.scope_id != command.scope_id:
            return self._refused(command, f"it is for scope {command.scope_id}, but its payload speaks of {asked.scope_id}")
        if asked.scope_id not in index.scopes:
            return self._refused(command, f"there is no scope {asked.scope_id}")
        limit = operators_limit(asked, cause=command.event_id, received_at=command.at, body_digest=digest(command.payload))
        return asked.scope_id, Spoken(limit, command.event_id, index.terms(asked.scope_id))

    def _refused(self, command: Command, why: str) -> Out:
        event = refused_command(command, why, self._clock.now())
        return Out(EVENTS, event.subject_id, event)

    def _unused(self, message: InboundMessage, why: str) -> Out:
        event = Event(
            event_id=derived_id("forecast not used", message.event_id),
            at=self._clock.now(),
            cause_id=message.event_id,
            subject_kind=SubjectKind.PARTNER,
            subject_id=message.partner_id,
            kind="forecast not used",
            severity=Severity.WARNING,
            words=f"forecast {message.request_id} was not used: {why}",
        )
        return Out(EVENTS, message.partner_id, event)

    def _current(self) -> "_Index":
        configuration = self._config.current()
        if configuration is not self._index.configuration:
            self._index = _Index(configuration)
        return self._index


class _Index:
    """A configuration by what is asked of it; made once for each that is seen."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.scopes: dict[str, Scope] = {scope.id: scope for scope in configuration.scopes}
        self.groups: dict[str, Group] = {group.group_id: group for group in configuration.groups}
        self.scopes_of: dict[str, tuple[str, ...]] = {}
        self._of_scope: dict[str, list[Group]] = defaultdict(list)
        self._circuits: dict[str, Circuit] = {circuit.id: circuit for circuit in configuration.circuits}
        self._terms: dict[str, ScopeTerms] = {}
        scopes_of: dict[str, dict[str, None]] = defaultdict(dict)
        for group in sorted(configuration.groups, key=lambda group: group.group_id):
            scopes_of[group.partner_id][group.scope_id] = None
            self._of_scope[group.scope_id].append(group)
        self.scopes_of = {partner_id: tuple(scope_ids) for partner_id, scope_ids in scopes_of.items()}

    def terms(self, scope_id: str) -> ScopeTerms:
        """What is configured about the scope's limits; nothing for a scope that is not there."""
        if scope_id not in self._terms:
            groups = tuple(_group_terms(group) for group in self._of_scope[scope_id])
            self._terms[scope_id] = ScopeTerms(self._circuit(scope_id, groups), groups)
        return self._terms[scope_id]

    def _circuit(self, scope_id: str, groups: tuple[GroupTerms, ...]) -> CircuitTerms | None:
        scope = self.scopes.get(scope_id)
        circuit = self._circuits.get(scope.circuit_id) if scope and scope.circuit_id else None
        if circuit is None:
            return None
        keep = not groups or any(group.keep for group in groups)
        return CircuitTerms(circuit.id, circuit.rated_import_kw * W_PER_KW, circuit.rated_export_kw * W_PER_KW, keep)


def _group_terms(group: Group) -> GroupTerms:
    return GroupTerms(
        group_id=group.group_id,
        partner_id=group.partner_id,
        hold_ms=int(group.fallback_hold.total_seconds() * 1000),
        safe_import_w=None if group.safe_import_kw is None else group.safe_import_kw * W_PER_KW,
        safe_export_w=None if group.safe_export_kw is None else group.safe_export_kw * W_PER_KW,
        keep=group.when_unknown == "keep",
    )
