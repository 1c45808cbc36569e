"""Readings for soak runs: a seeded day at many sites, in the order in which they arrive, as Kafka messages.

Everything the metering rule has to bear is in it: disorder, duplicates, readings that come after their quarter was
closed (within the horizon), registers with resets, two phases, assets without power, BAD and ESTIMATED readings, two
readings of one identity, garbage, unknown assets, instants of the future; singles and batches mixed.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from schemas.config import Configuration
from schemas.telemetry import Measurement, MeasurementBatch
from schemas.topics import TELEMETRY
from sinks.codec import MARKER, fingerprint_of

T0 = datetime(2026, 10, 20, 10, 0, tzinfo=UTC)
_T0_MS = int(T0.timestamp() * 1000)
_SINGLE, _BATCH = MARKER + fingerprint_of(Measurement), MARKER + fingerprint_of(MeasurementBatch)
PARTITIONS = TELEMETRY.partitions
ALL, ONE, TWO = 0, 1, 2
GOOD, ESTIMATED, BAD = 0, 1, 2
PACE_HOURS = 3
PROBES_MS = 30 * 86_400_000
_NAN = float("nan")


@dataclass(frozen=True)
class Message:
    """A message to be produced: under its key, or, where that is empty, to a partition."""

    key: bytes
    value: bytes
    readings: int
    partition: int = -1


@dataclass(frozen=True)
class Plan:
    """How large a load is: so many sites with five assets each, speaking every so many seconds for so many hours; `late` is the
    share of readings that come up to 35 minutes later than they should."""

    sites: int
    hours: float
    every_s: float
    seed: int
    late: float = 0.01


@dataclass
class Load:
    """A configuration and its readings; `pace` are the messages that bring event time past everything else."""

    plan: Plan
    config: Configuration
    messages: list[Message]
    pace: list[Message]
    samples: dict[tuple[str, str, int], int]
    """How many readings each row of a site's asset should have: by (asset, phase, start in seconds), counted without the rule."""
    readings: int = field(init=False)

    def __post_init__(self) -> None:
        self.readings = sum(message.readings for message in (*self.messages, *self.pace))

    @property
    def end(self) -> datetime:
        """The end of the last quarter with readings of sites."""
        quarters = -(-self.plan.hours * 3600 // 900)
        return T0 + timedelta(seconds=900 * quarters)

    @property
    def clock_origin(self) -> datetime:
        """Where the clock should start so that nothing but what is meant to lies in the future."""
        return self.end + timedelta(hours=PACE_HOURS + 1)


def load(plan: Plan) -> Load:
    """The load of a plan: the same for the same plan."""
    dice, noise = random.Random(plan.seed), np.random.default_rng(plan.seed)
    arrivals: list[tuple[float, int, bytes, str]] = []
    samples: dict[tuple[str, str, int], int] = {}
    for site in range(plan.sites):
        for asset in _ASSETS:
            arrivals += _arrivals(plan, f"s{site:04d}", asset, noise, samples)
    arrivals.sort(key=lambda one: one[0])
    messages = [*(_paced(number, _T0_MS) for number in range(PARTITIONS)), *_messages(arrivals, plan, dice)]
    return Load(plan, _configuration(plan), messages, list(_pace(plan)), samples)


_ASSETS = ("grid", "pv", "bat", "load", "sub")


def _configuration(plan: Plan) -> Configuration:
    """Half of the sites have a connection meter, half do not; one asset of each site never speaks."""
    scopes, assets, groups = [], [], []
    for number in range(plan.sites):
        site = f"s{number:04d}"
        scopes.append({"id": site, "name": site})
        for asset in (*_ASSETS, "mute"):
            meter = asset == "grid" and number % 2 == 0
            assets.append({"id": f"{site}-{asset}", "scope_id": site, "category": "STORAGE", "connection_meter": meter})
        groups.append({"partner_id": "vector", "group_id": f"G-{site}", "scope_id": site})
    scopes.append({"id": "pace", "name": "pace"})
    assets += [
        {"id": f"{kind}-{number}", "scope_id": "pace", "category": "STORAGE"} for kind in ("pace", "probe") for number in range(PARTITIONS)
    ]
    partners = [{"id": "vector", "name": "Vector", "allow_private_addresses": True}]
    return Configuration.model_validate({"scopes": scopes, "assets": assets, "partners": partners, "groups": groups})


def _arrivals(
    plan: Plan, site: str, asset: str, noise: np.random.Generator, samples: dict[tuple[str, str, int], int]
) -> list[tuple[float, int, bytes, str]]:
    """(second of arrival, its place in case of a tie, datum, key) of all readings of one asset; counts them in `samples`."""
    count = int(plan.hours * 3600 / plan.every_s)
    at = np.sort(noise.uniform(0, plan.hours * 3600, count)).round(3) if asset == "load" else np.arange(count) * plan.every_s
    power = (2000 * np.sin(at / 1800) + noise.normal(0, 300, count)).round(3)
    columns: dict[str, Any] = {"power_w": power, "import_wh": None, "export_wh": None, "stored_wh": None}
    phases, qualities = np.zeros(count, np.int8), np.zeros(count, np.int8)
    match asset:
        case "grid":
            columns["import_wh"] = _register(np.maximum(power, 0), plan.every_s, noise)
            columns["export_wh"] = _register(np.maximum(-power, 0), plan.every_s, noise)
        case "bat":
            columns["import_wh"] = _register(np.maximum(power, 0), plan.every_s, noise)
            columns["stored_wh"] = np.abs(5000 + np.cumsum(power) * plan.every_s / 3600).round(3)
        case "load":
            phases[:] = np.where(noise.random(count) < 0.5, ONE, TWO)
        case "sub":
            columns |= {"power_w": None, "import_wh": _register(np.maximum(power, 0), plan.every_s, noise)}
    qualities[noise.random(count) < 0.01] = ESTIMATED
    qualities[noise.random(count) < 0.005] = BAD
    delay = noise.uniform(0, 20, count)
    odd = noise.random(count)
    slow, late = odd < plan.late + 0.06, odd < plan.late
    delay[slow] = noise.uniform(20, 55, int(slow.sum()))
    delay[late] = noise.uniform(70, 35 * 60, int(late.sum()))
    arrival = at + delay
    asset_id, found = f"{site}-{asset}".encode(), []
    millis = _T0_MS + (at * 1000).astype(np.int64)
    values = [None if column is None else column.tolist() for column in columns.values()]
    repeats = noise.random(count)
    _count(f"{site}-{asset}", millis, phases, qualities, samples)
    for row, (instant, phase, quality) in enumerate(zip(millis.tolist(), phases.tolist(), qualities.tolist(), strict=True)):
        fields = [None if column is None else column[row] for column in values]
        datum = _datum(asset_id, instant, fields, phase, quality)
        found.append((float(arrival[row]), row, datum, site))
        if repeats[row] < 0.02:
            found.append((float(arrival[row]) + repeats[row] * 30_000, row, datum, site))
        elif repeats[row] < 0.022:  # the same identity once more, saying something else
            other = _datum(asset_id, instant, [None if value is None else value + 1.5 for value in fields], phase, quality)
            found.append((float(arrival[row]) + repeats[row] * 10_000, row, other, site))
    return found


def _count(asset_id: str, millis: Any, phases: Any, qualities: Any, samples: dict[tuple[str, str, int], int]) -> None:
    """Distinct seconds of each phase and quarter, without BAD readings: faster ones are thinned (semantics 1.6)."""
    good = qualities != BAD
    distinct = set(zip(phases[good].tolist(), (millis[good] // 1000).tolist(), strict=True))
    for phase, second in distinct:
        key = (asset_id, ("ALL", "ONE", "TWO")[phase], second // 900 * 900)
        samples[key] = samples.get(key, 0) + 1


def _register(power: Any, every_s: float, noise: np.random.Generator) -> Any:
    """A cumulative register over the power, which starts again from zero now and then, with a few values that cannot be."""
    total = np.cumsum(power) * every_s / 3600 + 12_345
    for _ in range(2):
        place = int(noise.integers(1, len(total)))
        total[place:] -= total[place]
    total = np.maximum(total, 0).round(3)
    total[noise.random(len(total)) < 0.0005] /= 2
    return total.round(3)


def _messages(arrivals: list[tuple[float, int, bytes, str]], plan: Plan, dice: random.Random) -> Iterator[Message]:
    """Two sites of three send batches of up to 100, the others singles; garbage in between."""
    waiting: dict[str, list[bytes]] = {}
    wanted: dict[str, int] = {}
    for _, _, datum, site in arrivals:
        if dice.random() < 0.001:
            yield _garbage(datum, site, dice)
        if int(site[1:]) % 3 == 0:
            yield Message(site.encode(), _SINGLE + datum, 1)
            continue
        mine = waiting.setdefault(site, [])
        mine.append(datum)
        if len(mine) >= wanted.setdefault(site, dice.randint(1, 100)):
            yield batch(site.encode(), mine)
            waiting[site], wanted[site] = [], dice.randint(1, 100)
    for site, mine in waiting.items():
        if mine:
            yield batch(site.encode(), mine)


def _garbage(datum: bytes, site: str, dice: random.Random) -> Message:
    future = _T0_MS + 400 * 86_400_000
    kinds = (
        lambda: dice.randbytes(dice.randint(0, 60)),
        lambda: _SINGLE + datum[: dice.randint(0, len(datum) - 1)],
        lambda: _SINGLE + datum + b"\x00",
        lambda: _SINGLE + _datum(b"nobody", _T0_MS, [1.0, None, None, None], ALL, GOOD),
        lambda: _SINGLE + _datum(f"{site}-pv".encode(), _T0_MS + 60_500, [_NAN, None, None, None], ALL, GOOD),
        lambda: _SINGLE + _datum(f"{site}-pv".encode(), future, [1.0, None, None, None], ALL, GOOD),
    )
    return Message(site.encode(), dice.choice(kinds)(), 0)


def _pace(plan: Plan) -> Iterator[Message]:
    """For each partition an asset of its own that goes on speaking after the others: event time passes all they did."""
    end = _T0_MS + int(plan.hours * 3600_000)
    for minutes in range(1, PACE_HOURS * 60, 2):
        for number in range(PARTITIONS):
            yield _paced(number, end + minutes * 60_000)


def single(asset_id: str, seconds: float, power_w: float) -> Message:
    """One reading of any asset, so many seconds after `T0`, under the asset's key."""
    datum = _datum(asset_id.encode(), _T0_MS + round(seconds * 1000), [power_w, None, None, None], ALL, GOOD)
    return Message(asset_id.encode(), _SINGLE + datum, 1)


def _paced(partition: int, at: int) -> Message:
    return Message(b"", _SINGLE + _datum(f"pace-{partition}".encode(), at, [100.0, None, None, None], ALL, GOOD), 1, partition)


def probe(number: int, partition: int) -> Message:
    """A reading of long before everything else: that it is told to be too late says that the flow has come so far."""
    datum = _datum(f"probe-{partition}".encode(), _T0_MS - PROBES_MS + number, [1.0, None, None, None], ALL, GOOD)
    return Message(b"", _SINGLE + datum, 1, partition)


def probed(number: int) -> set[tuple[str, int]]:
    """(asset, instant in ms) of the probes of one number."""
    return {(f"probe-{partition}", _T0_MS - PROBES_MS + number) for partition in range(PARTITIONS)}


def _datum(asset_id: bytes, at: int, values: list[float | None], phase: int, quality: int) -> bytes:
    """One `Measurement` in Avro, written by hand: millions are needed."""
    parts = [_long(len(asset_id)), asset_id, _long(at)]
    parts += [b"\x00" if value is None else b"\x02" + struct.pack("<d", value) for value in values]
    return b"".join((*parts, _long(phase), _long(quality)))


def batch(key: bytes, data: list[bytes]) -> Message:
    """A `MeasurementBatch` of some data."""
    return Message(key, b"".join((_BATCH, _long(len(data)), *data, b"\x00")), len(data))


def _long(value: int) -> bytes:
    value <<= 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
