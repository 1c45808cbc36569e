"""Of which circuits the legacy platform has not got the newest change yet, from the live picture; and the gauges of it (semantics 4)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from prometheus_client.core import Metric

from gateway.desk import Desk
from gateway.flow_metrics import metric_of
from gateway.following import BACK
from gateway.picture import Picture
from schemas.config import Configuration
from schemas.connection import Event

Owed = Mapping[str, datetime]
"""Since when (clock time) writes are owed, by circuit: when the first change that did not get through took effect."""
OVERDUE = timedelta(seconds=10)


def owed_writes(picture: Picture, config: Configuration, now: datetime, *, used: bool) -> Owed | None:
    """What the platform is owed of the circuits that a scope has; None where there is no platform: neither is one `used` here, nor was a
    word about one heard. What it refused is not owed. Of a circuit that changed longer ago than events are read, and of which no word
    was heard since, nothing is known, and nothing said. Pure."""
    if not (used or picture.circuit_outcomes):
        return None
    names = {scope.circuit_id for scope in config.scopes if scope.circuit_id}
    found = ((name, _owed_since(picture, name, now)) for name in sorted(names))
    return {name: since for name, since in found if since is not None}


def _owed_since(picture: Picture, name: str, now: datetime) -> datetime | None:
    changes, settled, last = picture.circuits.get(name, ()), picture.circuit_settled.get(name), picture.circuit_writes.get(name)
    if not changes or (settled is not None and settled.cause_id == changes[0].event_id):
        return None
    if settled is not None:
        since, settled_from = None, _effective_from(settled)
        for change in changes:
            if change.event_id == settled.cause_id or (settled_from is not None and change.effective_from < settled_from):
                break
            since = change.effective_from
        return since
    if last is not None:  # that it could not be told of one of them
        return next((change.effective_from for change in changes if change.event_id == last.cause_id), changes[0].effective_from)
    return changes[0].effective_from if changes[0].effective_from > now - BACK else None


def _effective_from(event: Event) -> datetime | None:
    try:
        return datetime.fromisoformat(json.loads(event.data)["effective_from"])
    except (ValueError, LookupError, TypeError):
        return None


def owed_at(desk: Desk) -> Owed | None:
    """What the platform is owed now."""
    return owed_writes(desk.pictures.current(), desk.config.current(), desk.clock.now(), used=desk.writes_circuits)


def overdue_at(desk: Desk) -> Owed:
    """What of it is owed for longer than a write takes: 10 s, or the clock's floor for slow machinery."""
    now, patience = desk.clock.now(), desk.clock.allowance(OVERDUE)
    return {name: since for name, since in (owed_at(desk) or {}).items() if now - since > patience}


@dataclass(frozen=True, slots=True)
class OwedMetered:
    """A gauge: its name, what it says, and how it is read from what is owed at an instant of the clock. It has no labels."""

    name: str
    words: str
    read: Callable[[Owed, datetime], float]
    labels: tuple[str, ...] = ()
    counter: bool = False

    def metric(self, owed: Owed | None, now: datetime) -> Metric:
        """Its present sample; none where there is no platform."""
        samples = [] if owed is None else [((), self.read(owed, now))]
        return metric_of(self.name, self.words, self.labels, samples, counter=self.counter)


def _oldest_s(owed: Owed, now: datetime) -> float:
    return max(((now - since).total_seconds() for since in owed.values()), default=0.0)


OWED_CATALOGUE: tuple[OwedMetered, ...] = (
    OwedMetered(
        "derms_circuit_writes_owed",
        "Circuits whose newest change has not been written to the legacy platform; only where there is one",
        lambda owed, _: float(len(owed)),
    ),
    OwedMetered(
        "derms_circuit_writes_owed_oldest_seconds",
        "Clock time since the longest owed of them took effect; 0 where nothing is owed",
        _oldest_s,
    ),
)
