"""`derms telemetry backfill`: readings from before the system's time to the history, and their rows (semantics 1.10).

They do not pass the running flow, which would call all of them late: they go to `derms.backfill`, which only the archive
reads, and the rows are computed from what the history then has. A row of the system's own time is never replaced.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gateway.readings_file import BadLine, lines
from gateway.recompute import Summary, System, recompute, wait_archived
from pipelines.rules.repair import Span, reached
from schemas.intervals import QUARTER_MS
from schemas.telemetry import Measurement, MeasurementBatch, Origin
from schemas.topics import BACKFILL
from schemas.units import from_ms, rfc3339, to_ms
from sinks.errors import Misconfigured

AT_ONCE = 20_000
"""So many readings are held while they are put together by asset."""
SHOWN = 5

Told = Callable[[str, int, int], None]
"""Told of progress: what is being done, how much of it is, how much there is."""


@dataclass
class Survey:
    """What a file holds: good readings, the stretch of each asset's (ms, both inclusive), bad lines with the first few of them."""

    readings: int = 0
    bad: int = 0
    first_bad: list[BadLine] = field(default_factory=list)
    stretches: dict[str, Span] = field(default_factory=dict)


def survey(path: Path) -> Survey:
    """Read a file once. Raises BadFile, OSError."""
    found = Survey()
    for line in lines(path):
        if isinstance(line, BadLine):
            found.bad += 1
            if len(found.first_bad) < SHOWN:
                found.first_bad.append(line)
            continue
        found.readings += 1
        at = to_ms(line.measured_at)
        first, last = found.stretches.get(line.asset_id, (at, at))
        found.stretches[line.asset_id] = (min(first, at), max(last, at))
    return found


@dataclass
class Bounds:
    """Up to where (ms) readings of each asset are from before the system's time."""

    by_asset: dict[str, int]

    def refused(self, found: Survey) -> Iterator[str]:
        """What is too new, with the rule and the cure."""
        for asset, (_, last) in sorted(found.stretches.items()):
            if last >= self.by_asset[asset]:
                yield (
                    f"{asset}, measured_at: {rfc3339(from_ms(last))} is not before the system's own time, which begins at "
                    f"{rfc3339(from_ms(self.by_asset[asset]))} for this asset; send readings from then on with derms telemetry replay"
                )


def bounds(system: System, assets: Iterable[str]) -> Bounds:
    """The system's own time begins with an asset's first row of it; and quarters the running flow may write are its own."""
    names = list(assets)
    open_from = system.open_from() // QUARTER_MS * QUARTER_MS
    own = system.history.own_time(names)
    return Bounds({asset: min(open_from, own.get(asset, open_from)) for asset in names})


def send(system: System, path: Path, limits: Bounds, batch: int, total: int, on_progress: Told) -> int:
    """Produce the file's good readings that are old enough; gives how many. Blocks until the broker has them all."""
    waiting: dict[str, list[Measurement]] = {}
    held = sent = 0
    for line in lines(path):
        if isinstance(line, BadLine) or to_ms(line.measured_at) >= limits.by_asset.get(line.asset_id, 0):
            continue
        waiting.setdefault(line.asset_id, []).append(line)
        held += 1
        if held >= AT_ONCE:
            sent += _sent(system, waiting, batch)
            held = 0
            on_progress("sending", sent, total)
    sent += _sent(system, waiting, batch)
    on_progress("sending", sent, total)
    # The embedded broker tells the end of a partition as its last batch's first offset + 1: with one message it is right.
    system.producer.send(BACKFILL, "", MeasurementBatch(measurements=[]))
    system.producer.flush()
    return sent


def _sent(system: System, waiting: dict[str, list[Measurement]], batch: int) -> int:
    count = 0
    for asset, readings in waiting.items():
        for first in range(0, len(readings), batch):
            system.producer.send(BACKFILL, asset, MeasurementBatch(measurements=readings[first : first + batch]))
        count += len(readings)
    system.producer.flush()
    waiting.clear()
    return count


def load(system: System, path: Path, *, batch: int, skip: bool, say: Callable[[str], None], on_progress: Told) -> Summary:
    """The whole of it: check, send, wait for the history, compute. Running it again changes nothing.

    Raises Misconfigured where the file is refused (with `skip`, what cannot be taken is left out instead), Unavailable.
    """
    found = survey(path)
    for line in found.first_bad:
        say(str(line))
    if found.bad:
        say(f"{found.bad} bad lines" + (", the first of them above" if found.bad > SHOWN else ""))
    if found.bad and not skip:
        raise Misconfigured(path.name, f"{found.bad} lines are bad", "mend them, or leave them out with --skip-bad; nothing was sent")
    if not found.readings:
        raise Misconfigured(path.name, "has no readings", "name a file with at least one line below the header")
    limits = bounds(system, found.stretches)
    refused = list(limits.refused(found))
    for words in refused[:SHOWN]:
        say(words)
    if refused and not skip:
        problem = f"readings of {len(refused)} assets are not from before the system's time"
        raise Misconfigured(
            path.name, problem, "send those with derms telemetry replay, or leave them out with --skip-bad; nothing was sent"
        )
    unknown = sorted(found.stretches.keys() - {asset.id for asset in system.config.assets})
    if unknown:
        some = ", ".join(unknown[:SHOWN]) + (f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else "")
        say(f"not configured, so without rows: {some}. Their readings are kept; once they are configured, run this again")
    sent = send(system, path, limits, batch, found.readings, on_progress)
    say(f"{sent} readings of {len(found.stretches)} assets sent")
    wait_archived(system, [BACKFILL], lambda done, of: on_progress("into the history", done, of))
    return _rows(system, found, limits, on_progress)


def _rows(system: System, found: Survey, limits: Bounds, on_progress: Told) -> Summary:
    timing, spans = system.timing, dict[str, list[Span]]()
    for asset, (first, last) in found.stretches.items():
        span = (reached(first, timing)[0], min(reached(last, timing)[1], limits.by_asset[asset]))
        if span[0] < span[1]:
            spans[asset] = [span]
    spans = system.repairer.beyond(spans, limits.by_asset)
    begin = min((found[0][0] for found in spans.values()), default=0)
    end = max((found[-1][1] for found in spans.values()), default=0)
    return recompute(
        system,
        spans,
        Origin.BACKFILL,
        lambda until: on_progress("computing", min(until, end) // QUARTER_MS - begin // QUARTER_MS, (end - begin) // QUARTER_MS),
    )
