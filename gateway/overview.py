"""The page's contents as plain words and figures, made from the live picture and the configuration. Pure."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from gateway import wording as say
from gateway.flow_status import FlowView, WorkerState
from gateway.outlook import Outlook, circuit_outlook
from gateway.page_model import BreachRow, CircuitCard, EventRow, FlowLine, MessageRow, Overview, ScopeCard, State, When
from gateway.partner_card import OUTCOME_LOOKS, partner_card, when
from gateway.picture import OPEN_STATES, MessageLine, Picture
from gateway.redaction import clean
from gateway.scope_card import KIND_WORDS, scope_card
from gateway.svg import gauge
from schemas.compliance import Breach
from schemas.config import Configuration
from schemas.connection import ConnectionState, Event
from schemas.outbound import Outcome
from schemas.topology import Circuit
from schemas.units import W_PER_KW

UTC_ZONE = ZoneInfo("UTC")
SHOWN_MESSAGES, SHOWN_EVENTS, SHOWN_BREACHES = 15, 12, 8


def page_zone(config: Configuration) -> ZoneInfo:
    """The zone of what concerns no scope: that of most scopes, else UTC."""
    zones = Counter(scope.time_zone for scope in config.scopes)
    return ZoneInfo(zones.most_common(1)[0][0]) if zones else UTC_ZONE


class Page:
    """Makes the parts of the page for one picture at one instant, and of how the flows stand."""

    def __init__(self, picture: Picture, config: Configuration, now: datetime, speed: float, flows: Sequence[FlowView] = ()) -> None:
        self._picture, self._config, self._now, self._speed, self._flows = picture, config, now, speed, flows
        self._zone = page_zone(config)

    def overview(self) -> Overview:
        """All of it."""
        picture, config = self._picture, self._config
        known = [partner.id for partner in config.partners]
        known += sorted(set(picture.connections) - set(known))
        messages = sorted(picture.messages.values(), key=lambda line: line.about.at, reverse=True)
        breaches = sorted(picture.breaches.values(), key=lambda breach: (breach.state in OPEN_STATES, breach.first_quarter), reverse=True)
        events = sorted(picture.events, key=lambda event: event.at, reverse=True)
        scopes = tuple(scope_card(Outlook(picture, config, scope, self._now)) for scope in config.scopes)
        return Overview(
            clock=When(self._now, say.full(self._now, self._zone), ""),
            speed="" if self._speed == 1 else f"\u00d7{self._speed:g}",
            zone=f"{say.zone_name(self._now, self._zone)} ({self._zone.key})",
            headline=tuple(self._headline(scopes)),
            flows=tuple(map(_flow_line, self._flows)),
            partners=tuple(partner_card(picture, config, partner_id, self._now, self._zone) for partner_id in known),
            scopes=scopes,
            circuits=tuple(self._circuit(circuit) for circuit in config.circuits),
            breaches=tuple(self._breach(breach) for breach in breaches[:SHOWN_BREACHES]),
            messages=tuple(self._message(line) for line in messages[:SHOWN_MESSAGES]),
            events=tuple(self._event(event) for event in events[:SHOWN_EVENTS]),
            dead_letters=tuple(sorted(picture.dead_letter_counts.items(), key=lambda pair: -pair[1])),
        )

    def _when(self, instant: datetime | None, zone: ZoneInfo | None = None) -> When | None:
        return None if instant is None else self._at(instant, zone)

    def _at(self, instant: datetime, zone: ZoneInfo | None = None) -> When:
        return when(instant, zone or self._zone, self._now)

    def _headline(self, scopes: tuple[ScopeCard, ...]) -> list[tuple[str, str, str]]:
        """Label, figure and look of the tiles at the top."""
        connections = [self._picture.connections.get(partner.id) for partner in self._config.partners]
        online = sum(connection is not None and connection.state is ConnectionState.ONLINE for connection in connections)
        within = sum(scope.state.look == "good" for scope in scopes)
        breaches, letters = len(self._picture.open_breaches()), sum(self._picture.dead_letter_counts.values())
        lines = [line for line in self._picture.messages.values() if line.delivery is not None]
        delivered = sum(line.delivery is not None and line.delivery.outcome is Outcome.DELIVERED for line in lines)
        return [
            ("partners online", f"{online} of {len(connections)}", "good" if connections and online == len(connections) else "risk"),
            ("scopes within limit", f"{within} of {len(scopes)}", "good" if scopes and within == len(scopes) else "risk"),
            ("breaches open", str(breaches), "bad" if breaches else "good"),
            ("messages delivered", f"{delivered} of {len(self._picture.messages)}", "quiet" if delivered == len(lines) else "risk"),
            ("dead letters", str(letters), "risk" if letters else "quiet"),
        ]

    def _circuit(self, circuit: Circuit) -> CircuitCard:
        scope = next((each for each in self._config.scopes if each.circuit_id == circuit.id), None)
        zone = ZoneInfo(scope.time_zone) if scope else self._zone
        changes = self._picture.circuits.get(circuit.id, ())
        now = changes[0] if changes else None
        coming = circuit_outlook(self._picture, self._config, circuit, self._now)
        ratings = circuit.rated_import_kw * W_PER_KW, circuit.rated_export_kw * W_PER_KW
        values = (now.available_import_w, now.available_export_w) if now else (None, None)
        gauges = [
            gauge(value, rating, f"{say.kw(value)} available of {say.kw(rating)} {way}")
            for value, rating, way in zip(values, ratings, ("import", "export"), strict=True)
        ]
        return CircuitCard(
            id=circuit.id,
            name=circuit.name or circuit.id,
            scope=(scope.name or scope.id) if scope else "",
            import_now=say.kw(values[0]),
            import_rated=say.kw(ratings[0]),
            import_gauge=gauges[0],
            export_now=say.kw(values[1]),
            export_rated=say.kw(ratings[1]),
            export_gauge=gauges[1],
            since=self._when(now.effective_from if now else None, zone),
            previous=say.kw(now.previous_import_w) if now and now.previous_import_w is not None else "",
            source=KIND_WORDS[now.kind] if now else "",
            next_when=self._when(coming.at if coming else None, zone),
            next_words=f"import {say.kw(coming.import_w)}, export {say.kw(coming.export_w)}" if coming else "",
        )

    def _breach(self, breach: Breach) -> BreachRow:
        scope = self._config.scope(breach.scope_id)
        zone = ZoneInfo(scope.time_zone) if scope else self._zone
        still = breach.state in OPEN_STATES
        end = breach.last_quarter + timedelta(minutes=15)
        return BreachRow(
            scope=(scope.name or scope.id) if scope else breach.scope_id,
            direction=breach.direction.value.lower(),
            open=still,
            state=State("open", "bad") if still else State(breach.state.value.lower(), "quiet"),
            since=self._at(breach.first_quarter, zone),
            until="" if still else say.moment(end, zone, self._now),
            quarters=say.plural(breach.quarters, "quarter"),
            peak=say.kw(breach.peak_mean_w),
            over=say.kwh(breach.energy_over_wh),
            forecasts=", ".join(breach.forecasts),
        )

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
