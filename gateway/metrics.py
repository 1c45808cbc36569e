"""`/metrics`: the live picture as Prometheus metrics. `CATALOGUE`, `PARTNER_CATALOGUE`, `OWED_CATALOGUE` and `FLOW_CATALOGUE` are
all; tests read them, and the alerts of `deploy/prometheus` are made of them.

Everything is made from the picture at the time of asking, so nothing is counted twice and nothing has to be kept. The picture begins
two days back, so a gateway that starts again may count less than before: alerts ask for ages instead.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from gateway.api_status import flows_of
from gateway.auth import Right
from gateway.circuit_owed import OWED_CATALOGUE, Owed, owed_at
from gateway.desk import Desk, caller_of
from gateway.flow_metrics import FLOW_CATALOGUE, Samples, metric_of
from gateway.flow_status import FlowView
from gateway.guard import demand, from_this_machine
from gateway.partner_metrics import PARTNER_CATALOGUE, Seen
from gateway.picture import Picture
from schemas.intervals import QUARTER

router = APIRouter()


@dataclass(frozen=True, slots=True)
class Metered:
    """One metric: its name, what it says, its labels, and how it is read from the picture at an instant of the clock."""

    name: str
    words: str
    labels: tuple[str, ...]
    read: Callable[[Picture, datetime], Samples]
    counter: bool = False

    def metric(self, picture: Picture, now: datetime) -> Metric:
        """Its present samples."""
        return metric_of(self.name, self.words, self.labels, self.read(picture, now), counter=self.counter)


def _partner_state(picture: Picture, _: datetime) -> Samples:
    return [((name, connection.state.value), 1.0) for name, connection in picture.connections.items()]


def _heartbeat_age(picture: Picture, now: datetime) -> Samples:
    for name, beats in picture.heartbeats.items():
        if beats.received_at is not None:
            yield (name, "in"), (now - beats.received_at).total_seconds()
        if beats.delivered_at is not None:
            yield (name, "out"), (now - beats.delivered_at).total_seconds()


def _lag(picture: Picture, now: datetime) -> Samples:
    newest = picture.newest_quarter()
    return [] if newest is None else [((), max(0.0, (now - newest - QUARTER).total_seconds()))]


def _circuits(picture: Picture, _: datetime) -> Samples:
    for name, changes in picture.circuits.items():
        for direction, value in (("import", changes[0].available_import_w), ("export", changes[0].available_export_w)):
            if value is not None:
                yield (name, direction), value


def _circuit_writes(picture: Picture, _: datetime) -> Samples:
    return [((kind.partition(".")[2],), float(count)) for kind, count in picture.circuit_outcomes.items()]


def _open_breaches(picture: Picture, _: datetime) -> Samples:
    return [((), float(len(picture.open_breaches())))]


def _outcomes(picture: Picture, _: datetime) -> Samples:
    return [(key, float(count)) for key, count in picture.outcomes.items()]


def _inbound(picture: Picture, _: datetime) -> Samples:
    return [(key, float(count)) for key, count in picture.inbound_counts.items()]


def _dead_letters(picture: Picture, _: datetime) -> Samples:
    return [((reason,), float(count)) for reason, count in picture.dead_letter_counts.items()]


def _dead_letter_age(picture: Picture, now: datetime) -> Samples:
    return [((topic,), max(0.0, (now - at).total_seconds())) for topic, at in picture.dead_letter_at.items()]


def _alarm_age(picture: Picture, now: datetime) -> Samples:
    return [((kind,), max(0.0, (now - at).total_seconds())) for kind, at in picture.alarm_at.items()]


def _records(picture: Picture, _: datetime) -> Samples:
    return [((topic,), float(count)) for topic, count in picture.records.items()]


CATALOGUE: tuple[Metered, ...] = (
    Metered("derms_partner_state", "1 for the state each partner's connection is in", ("partner", "state"), _partner_state),
    Metered("derms_heartbeat_age_seconds", "Clock time since the last heartbeat", ("partner", "direction"), _heartbeat_age),
    Metered("derms_event_time_lag_seconds", "How far the newest closed quarter's end lies behind the clock", (), _lag),
    Metered("derms_circuit_available_watts", "Available capacity of a circuit", ("circuit", "direction"), _circuits),
    Metered(
        "derms_circuit_writes",
        "Writes of circuits to the legacy platform: written, refused, unreachable",
        ("outcome",),
        _circuit_writes,
        True,
    ),
    Metered("derms_open_breaches", "Breaches that last", (), _open_breaches),
    Metered("derms_delivery_attempts", "Attempts to deliver, by what became of them", ("partner", "action", "outcome"), _outcomes, True),
    Metered("derms_inbound_messages", "Messages received from partners", ("partner", "action"), _inbound, True),
    Metered("derms_dead_letters", "Readings and messages that could not be used", ("reason",), _dead_letters, True),
    Metered(
        "derms_dead_letter_age_seconds", "Clock time since the last dead letter of a topic, in the last 48 h", ("topic",), _dead_letter_age
    ),
    Metered("derms_alarm_age_seconds", "Clock time since the last alarm of a kind, in the last 48 h", ("kind",), _alarm_age),
    Metered("derms_records_followed", "Records read into the live picture", ("topic",), _records, True),
)


class PictureCollector(Collector):
    """All metrics of one picture at one instant, of how the flows and the partners stand then, and of what the legacy platform is owed."""

    def __init__(self, picture: Picture, now: datetime, flows: Sequence[FlowView], owed: Owed | None, seen: Seen | None) -> None:
        self._picture, self._now, self._flows, self._owed, self._seen = picture, now, flows, owed, seen

    def collect(self) -> Iterator[Metric]:
        """The metrics in the catalogues' order."""
        for metered in CATALOGUE:
            yield metered.metric(self._picture, self._now)
        for partners in PARTNER_CATALOGUE:
            yield partners.metric(self._seen)
        for gauge in OWED_CATALOGUE:
            yield gauge.metric(self._owed, self._now)
        for each in FLOW_CATALOGUE:
            yield each.metric(self._flows)


def exposition(
    picture: Picture, now: datetime, flows: Sequence[FlowView] = (), owed: Owed | None = None, seen: Seen | None = None
) -> bytes:
    """Prometheus' text of the picture, the flows, what the legacy platform is owed (None: there is none), and the partners."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(PictureCollector(picture, now, flows, owed, seen))
    return generate_latest(registry)


@router.get("/metrics", tags=["health"], response_class=Response)
async def metrics(request: Request) -> Response:
    """Prometheus metrics; a caller from another machine needs the role viewer."""
    if not from_this_machine(request):
        demand(caller_of(request), Right.READ)
    desk: Desk = request.app.state.desk
    picture, now = desk.pictures.current(), desk.clock.now()
    text = exposition(picture, now, flows_of(desk), owed_at(desk), Seen(picture, desk.config.current(), now, desk.wall.now()))
    return Response(text, media_type=CONTENT_TYPE_LATEST)
