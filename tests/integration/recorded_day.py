"""A recorded day as it might arrive, and what is true of it: for the proof that partners are told the truth.

The house of the recording (its grid meter is the connection meter; one sub-meter stands for a charger), the roof moved by whole days
to the same day, the roof with its sign turned as a battery, and the grid meter once more as a connection meter that is alone in
its scope. Some readings come twice, out of order or late; those of two assets and two hours do not come until the next night.
"""

import csv
import gzip
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.records import Mark, Out, Outs, Poll
from pipelines.reporting import reporting_flow
from pipelines.telemetry import telemetry_flow
from pipelines.views import FixedView
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.connection import Connection, ConnectionState
from schemas.facts import Value
from schemas.intervals import QUARTER
from schemas.outbound import OutboundMessage
from schemas.telemetry import LateMeasurement, Measurement, QuarterHour
from schemas.topics import CONNECTIONS, QUARTER_HOURS
from tests.flows.full_day import record
from tests.flows.polls import MINUTE, Topic
from tests.flows.told_story import Moment, told
from tests.outs import each

RECORDED = Path(__file__).parents[1] / "data" / "recording"
DAY = datetime(2007, 6, 9, tzinfo=UTC)
END = DAY + timedelta(days=1)
HOUR = timedelta(hours=1)
ROOF = "serf-east-pv"
ROOF_MOVED = DAY - datetime(2022, 3, 18, tzinfo=UTC)
HOUSE = {"house-main", "house-kitchen", "house-laundry", "house-waterheat-ac"}
WITHHELD = {"house-waterheat-ac": (DAY + 18 * HOUR, DAY + 20 * HOUR), "battery": (DAY + 16 * HOUR, DAY + 18 * HOUR)}
"""Whose readings of which stretch of time come at `AFTERWARDS` only."""
AFTERWARDS = END + 2 * HOUR + timedelta(minutes=10)
LATEST = AFTERWARDS + HOUR
APART = 5 * MINUTE
"""Between two polls: fewer of them take less of the machine's time than one a second, and make nothing easier."""

Key = tuple[str, str, datetime]
"""Asset or group, direction, start of the quarter; energies by it are in Wh."""

SITE: dict[str, Any] = {
    "scopes": [{"id": name} for name in ("house", "roof", "store", "alone")],
    "assets": [
        {"id": "house-main", "scope_id": "house", "category": "CONSUMPTION", "connection_meter": True},
        {"id": "house-kitchen", "scope_id": "house", "category": "CONSUMPTION"},
        {"id": "house-laundry", "scope_id": "house", "category": "CONSUMPTION"},
        {"id": "house-waterheat-ac", "scope_id": "house", "category": "CHARGING"},
        {"id": ROOF, "scope_id": "roof", "category": "GENERATION"},
        {"id": "battery", "scope_id": "store", "category": "STORAGE"},
        {"id": "lone-meter", "scope_id": "alone", "category": "CONSUMPTION", "connection_meter": True},
    ],
}
DIRECTIONS = {
    "house-kitchen": ("IMPORT",), "house-laundry": ("IMPORT",), "house-waterheat-ac": ("IMPORT",), ROOF: ("EXPORT",),
    "battery": ("IMPORT", "EXPORT"), "lone-meter": ("IMPORT",),
}  # fmt: skip
"""What is told of whom by the defaults of the profile: not the house's connection meter, which has company."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A reading, and when it comes to which partition."""

    at: datetime
    partition: int
    reading: Measurement


def recorded() -> Iterator[Measurement]:
    """All readings of the site about the day, by their instants."""
    with gzip.open(RECORDED / "readings.csv.gz", "rt") as file:
        for line in csv.DictReader(file):
            asset, at = line["asset_id"], datetime.fromisoformat(line["measured_at"])
            at += ROOF_MOVED if asset == ROOF else timedelta(0)
            if not DAY - HOUR <= at <= END + HOUR:
                continue
            power = float(line["power_w"])
            register = float(line["import_wh"]) if line["import_wh"] else None
            yield Measurement(asset_id=asset, measured_at=at, power_w=power, import_wh=register)
            if asset == ROOF:
                stored = 5000.0 + (at - DAY) / MINUTE
                yield Measurement(asset_id="battery", measured_at=at, power_w=-power or 0.0, stored_wh=stored)
            if asset == "house-main":
                yield Measurement(asset_id="lone-meter", measured_at=at, power_w=power)


def is_withheld(reading: Measurement) -> bool:
    """Whether it does not come in its time."""
    first, until = WITHHELD.get(reading.asset_id, (END, END))
    return first <= reading.measured_at < until


def arrivals(seed: int = 7) -> list[Arrival]:
    """When the readings come: within a minute and in some disorder, one in fifty twice, one in a hundred up to 40 minutes late."""
    dice, found = random.Random(seed), list[Arrival]()
    for reading in recorded():
        partition = 0 if reading.asset_id in HOUSE else 1
        if is_withheld(reading):
            found.append(Arrival(AFTERWARDS, partition, reading))
            continue
        delay = timedelta(seconds=dice.uniform(60, 2400) if dice.random() < 0.01 else dice.uniform(0, 45))
        found.append(Arrival(reading.measured_at + delay, partition, reading))
        if dice.random() < 0.02:
            found.append(Arrival(found[-1].at + timedelta(seconds=dice.uniform(0, 600)), partition, reading))
    return sorted(found, key=lambda one: one.at)


def polls(coming: Iterable[Arrival]) -> Iterator[Poll]:
    """The topic read every five minutes, until long after the last; a partition that says nothing is marked as silent."""
    topic, now, since = Topic(), DAY - HOUR, dict.fromkeys((0, 1), DAY - HOUR)
    by_poll = {at: list(some) for at, some in groupby(coming, key=lambda one: one.at - (one.at - DAY) % APART + APART)}
    while now < LATEST:
        now += APART
        runs = [[one.reading for one in by_poll.get(now, ()) if one.partition == number] for number in (0, 1)]
        silent = [number for number, run in enumerate(runs) if not run]
        yield topic.poll(now, *runs, marks=[Mark(number, since[number], now) for number in silent])
        since |= dict.fromkeys((number for number, run in enumerate(runs) if run), now)


@dataclass
class Metered:
    """What the telemetry flow made of the day: rows in the order of writing, and what came too late for it."""

    rows: list[QuarterHour] = field(default_factory=list)
    late: list[LateMeasurement] = field(default_factory=list)


def metered(config: Configuration, coming: Iterable[Arrival]) -> Metered:
    """Run the telemetry flow over the day, by a clock that each poll sets."""
    clock, out = FrozenClock(DAY - HOUR), list[Out | Outs]()

    def timed() -> Iterator[Poll]:
        for poll in polls(coming):
            clock.set(poll.now)
            yield poll

    run_main(telemetry_flow(polls=TestingSource(timed(), batch_size=1), out=TestingSink(out), clock=clock, config=FixedView(config)))
    values = [one.value for one in each(out)]
    rows = [value for value in values if isinstance(value, QuarterHour) and not value.provisional]
    return Metered(rows, [value for value in values if isinstance(value, LateMeasurement)])


def owed(config: Configuration, rows: Iterable[QuarterHour], partners: Iterable[str]) -> list[OutboundMessage]:
    """What the reporting flow owes the partners for these rows, written when they say; the partners are online since the day began."""
    moments: dict[datetime, list[Value]] = {DAY: [_online(name) for name in partners]}
    for row in sorted(rows, key=lambda row: row.at):
        moments.setdefault(max(row.at, DAY + MINUTE), []).append(row)
    now, last = DAY, max(moments) + timedelta(minutes=20)
    while now < last:
        now += APART
        moments.setdefault(now, [])
    topics = {Connection: CONNECTIONS, QuarterHour: QUARTER_HOURS}
    story = [Moment(at, tuple(record(topics[type(value)], value) for value in moments[at])) for at in sorted(moments)]
    written = told(lambda s, o, c: reporting_flow(records=s, out=o, clock=c, config=FixedView(config)), story)
    found = [one.out.value for one in written if isinstance(one.out.value, OutboundMessage)]
    assert len(found) == len(written)
    return found


def _online(name: str) -> Connection:
    state = ConnectionState.ONLINE
    return Connection(event_id=f"c-{name}", at=DAY, partner_id=name, state=state, since=DAY, first_acknowledged_at=DAY)


def truth() -> dict[Key, float]:
    """The recording's truth of the day, of whatever the site has, by asset and direction."""
    found: dict[Key, float] = {}
    with (RECORDED / "truth.csv").open() as file:
        for line in csv.DictReader(file):
            asset, start = line["asset_id"], datetime.fromisoformat(line["start"])
            start += ROOF_MOVED if asset == ROOF else timedelta(0)
            imported, exported = float(line["import_wh"]), float(line["export_wh"])
            if not DAY <= start < END:
                continue
            for name, both in _names(asset, imported, exported):
                found[name, "IMPORT", start], found[name, "EXPORT", start] = both
    return found


def _names(asset: str, imported: float, exported: float) -> Iterator[tuple[str, tuple[float, float]]]:
    yield asset, (imported, exported)
    if asset == ROOF:
        yield "battery", (exported, imported)
    if asset == "house-main":
        yield "lone-meter", (imported, exported)


def of_assets(names: Iterable[str]) -> dict[Key, float]:
    """What a partner must have been told of these assets."""
    wanted = {(name, direction) for name in names for direction in DIRECTIONS[name]}
    return {key: wh for key, wh in truth().items() if key[:2] in wanted}


def net_of(asset: str, group: str) -> dict[Key, float]:
    """What a partner must have been told of a group that is measured by this asset alone."""
    true = truth()
    return {
        (group, "NET", start): wh - true[name, "EXPORT", start]
        for (name, way, start), wh in true.items()
        if (name, way) == (asset, "IMPORT")
    }


def untrue(told: Mapping[Key, float], true: Mapping[Key, float], day_wh: float = 0.1, quarter_wh: float = 0.001) -> list[str]:
    """Where the day's energies as told (the last value of each quarter) are not the truth, in words: sums, then quarters."""
    today = {key: wh for key, wh in told.items() if DAY <= key[2] < END}
    words = []
    for name, direction in sorted({key[:2] for key in (*true, *today)}):
        sums = [sum(wh for key, wh in some.items() if key[:2] == (name, direction)) for some in (today, true)]
        if abs(sums[0] - sums[1]) > day_wh:
            words.append(f"{name} {direction}: {sums[0]:.3f} Wh of the day were told, {sums[1]:.3f} Wh are true")
    for key in sorted({*true, *today}):
        if key not in today or key not in true:
            words.append(f"{key}: {'never told' if key in true else 'told, and there is no such quarter'}")
        elif abs(today[key] - true[key]) > quarter_wh:
            words.append(f"{key}: {today[key]} Wh were told, {true[key]} Wh are true")
    return words


QUARTERS_OF_WITHHELD = {name: [first + n * QUARTER for n in range((until - first) // QUARTER)] for name, (first, until) in WITHHELD.items()}
