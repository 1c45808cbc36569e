"""The page's contents as plain words and figures, made from the live picture and the configuration. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.breach_rows import breach_row, errors_about
from gateway.circuit_card import circuit_card
from gateway.flow_status import FlowView, WorkerState
from gateway.outlook import Outlook
from gateway.page_model import CircuitCard, EventRow, FlowLine, MessageRow, Overview, State, When
from gateway.partner_card import OUTCOME_LOOKS, partner_card, when
from gateway.picture import OPEN_STATES, MessageLine, Picture
from gateway.redaction import clean
from gateway.scope_card import scope_card, state_of
from gateway.scope_index import ScopeIndex
from schemas.config import Configuration
from schemas.connection import ConnectionState, Event
from schemas.outbound import Outcome
from schemas.topology import Circuit

UTC_ZONE = ZoneInfo("UTC")
SHOWN_MESSAGES, SHOWN_EVENTS, SHOWN_BREACHES = 15, 12, 8
SHOWN_SCOPES, SHOWN_CIRCUITS = 20, 20
"""The page stays short and quick where there are a thousand; all of them have pages of their own."""
URGENCY = ("bad", "risk", "quiet", "good")


def page_zone(config: Configuration) -> ZoneInfo:
    """The zone of what concerns no scope: that of most scopes, else UTC."""
    zones = Counter(scope.time_zone for scope in config.scopes)
    return ZoneInfo(zones.most_common(1)[0][0]) if zones else UTC_ZONE


def foremost(outlooks: Sequence[Outlook], states: Sequence[State], most: int) -> list[Outlook]:
    """All of them in their order, or, where there are more than `most`, those that need attention first."""
    if len(outlooks) <= most:
        return list(outlooks)
    ranked = sorted(range(len(outlooks)), key=lambda at: URGENCY.index(states[at].look))
    return [outlooks[at] for at in ranked[:most]]


class Page:
    """Makes the parts of the page for one picture at one instant, and of how the flows stand. `overdue` says since when the legacy
    platform is owed a write, by circuit; `wall` is the wall's instant."""

    def __init__(
        self,
        picture: Picture,
        config: Configuration,
        now: datetime,
        speed: float,
        flows: Sequence[FlowView] = (),
        overdue: Mapping[str, datetime] | None = None,
        wall: datetime | None = None,
    ) -> None:
        self._picture, self._config, self._now, self._speed, self._flows = picture, config, now, speed, flows
        self._overdue, self._wall = overdue or {}, wall
        self._zone, self._index = page_zone(config), ScopeIndex(picture, config)

    def overview(self) -> Overview:
        """All of it."""
        picture, config, wall = self._picture, self._config, self._wall
        known = [partner.id for partner in config.partners]
        known += sorted(set(picture.connections) - set(known))
        messages = sorted(picture.messages.values(), key=lambda line: line.about.at, reverse=True)
        breaches = sorted(picture.breaches.values(), key=lambda breach: (breach.state in OPEN_STATES, breach.first_quarter), reverse=True)
        events = sorted(picture.events, key=lambda event: event.at, reverse=True)
        outlooks = [Outlook(picture, config, scope, self._now, self._index) for scope in config.scopes]
        states = [state_of(outlook) for outlook in outlooks]
        shown = foremost(outlooks, states, SHOWN_SCOPES)
        circuits = [circuit for outlook in shown if (circuit := self._index.circuit(outlook.scope)) is not None]
        circuits = list(dict.fromkeys([*circuits, *config.circuits[:SHOWN_CIRCUITS]]))[:SHOWN_CIRCUITS]
        errors = errors_about(picture, picture.breaches.values())
        return Overview(
            clock=When(self._now, say.full(self._now, self._zone), ""),
            speed="" if self._speed == 1 else f"\u00d7{self._speed:g}",
            zone=f"{say.zone_name(self._now, self._zone)} ({self._zone.key})",
            headline=tuple(self._headline(states)),
            flows=tuple(map(_flow_line, self._flows)),
            partners=tuple(partner_card(picture, config, partner_id, self._now, self._zone, wall) for partner_id in known),
            scopes=tuple(map(scope_card, shown)),
            more_scopes=len(outlooks) - len(shown),
            circuits=tuple(map(self._circuit, circuits)),
            more_circuits=len(config.circuits) - len(circuits),
            breaches=tuple(breach_row(breach, self._index, errors, self._now, self._zone) for breach in breaches[:SHOWN_BREACHES]),
            messages=tuple(self._message(line) for line in messages[:SHOWN_MESSAGES]),
            events=tuple(self._event(event) for event in events[:SHOWN_EVENTS]),
            dead_letters=tuple(sorted(picture.dead_letter_counts.items(), key=lambda pair: -pair[1])),
        )

    def _circuit(self, circuit: Circuit) -> CircuitCard:
        overdue = self._overdue.get(circuit.id)
        return circuit_card(self._picture, self._config, circuit, self._now, self._zone, self._index, overdue)

    def _at(self, instant: datetime) -> When:
        return when(instant, self._zone, self._now)

    def _headline(self, states: Sequence[State]) -> list[tuple[str, str, str]]:
        """Label, figure and look of the tiles at the top."""
        connections = [self._picture.connections.get(partner.id) for partner in self._config.partners]
        online = sum(connection is not None and connection.state is ConnectionState.ONLINE for connection in connections)
        within = sum(state.look == "good" for state in states)
        breaches, letters = len(self._picture.open_breaches()), sum(self._picture.dead_letter_counts.values())
        lines = [line for line in self._picture.messages.values() if line.delivery is not None]
        delivered = sum(line.delivery is not None and line.delivery.outcome is Outcome.DELIVERED for line in lines)
        return [
            ("partners online", f"{online} of {len(connections)}", "good" if connections and online == len(connections) else "risk"),
            ("scopes within limit", f"{within} of {len(states)}", "good" if states and within == len(states) else "risk"),
            ("breaches open", str(breaches), "bad" if breaches else "good"),
            ("messages delivered", f"{delivered} of {len(self._picture.messages)}", "quiet" if delivered == len(lines) else "risk"),
            ("dead letters", str(letters), "risk" if letters else "quiet"),
        ]

    def _message(self, line: MessageLine) -> MessageRow:
        about, delivery = line.about, line.delivery
        if delivery is None:
            state, words = State("waiting", "quiet"), ""
        else:
            status = f" {delivery.status}" if delivery.status else ""
            state = State(f"{delivery.outcome.value.lower()}{status}", OUTCOME_LOOKS[delivery.outcome])
            tries = f"{say.plural(delivery.attempt, 'attempt')}; " if delivery.attempt > 1 else ""
            words = (tries + clean(delivery.words)).rstrip("; ")
        return MessageRow(
            at=self._at(about.at),
            partner=about.partner_id,
            action=about.action,
            about=about.group_id or "",
            state=state,
            words=words,
            id=line.message_id,
            correlation=about.correlation_id or "",
        )

    def _event(self, event: Event) -> EventRow:
        looks = {"INFO": "quiet", "WARNING": "risk", "ALARM": "bad"}
        return EventRow(self._at(event.at), looks[event.severity.value], event.severity.value.lower(), event.subject_id, clean(event.words))


def _flow_line(flow: FlowView) -> FlowLine:
    rate = "" if flow.readings_per_s is None else f"{say.count(flow.readings_per_s)} readings a second"
    waiting = "" if flow.lag is None else f"{say.count(flow.lag)} messages waiting" if flow.lag else "no message waiting"
    behind = "" if flow.behind_s is None else f"event time {say.delay(flow.behind_s)} behind the clock"
    troubles = tuple(
        State(f"Dataflow {flow.flow}, worker {worker.worker}: {worker.words}", "bad" if worker.state is WorkerState.SILENT else "risk")
        for worker in flow.workers
        if worker.state is not WorkerState.RUNNING
    )
    return FlowLine(flow.flow, ", ".join(filter(None, (rate, waiting, behind))), troubles)
