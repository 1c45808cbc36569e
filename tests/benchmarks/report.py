"""What came of a run: medians, the numbers asked for beside those measured, tables for people and JSON."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.benchmarks.live import Live
from tests.benchmarks.rounds import Result
from tests.benchmarks.variants import FLOOR

MIB = 2**20


@dataclass(frozen=True)
class Median:
    """The middle of a variant's rounds with so many assets."""

    variant: str
    assets: int
    rounds: int
    rate: float
    cpu: float
    rss: int
    spread: float
    finished: bool
    others: float

    @property
    def per_reading(self) -> float:
        """Wall seconds a reading."""
        return 1 / self.rate


def medians(results: Iterable[Result]) -> dict[tuple[str, int], Median]:
    """By variant and assets; `spread` is (fastest - slowest) / median."""
    rounds: dict[tuple[str, int], list[Result]] = {}
    for one in results:
        rounds.setdefault((one.variant, one.assets), []).append(one)
    found = {}
    for key, some in rounds.items():
        rates = [one.rate for one in some]
        rate = median(rates)
        found[key] = Median(
            *key, len(some), rate, median(one.cpu_per_million for one in some), max(one.rss for one in some),
            (max(rates) - min(rates)) / rate, all(one.finished for one in some), median(one.others for one in some),
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Asked:
    """A number the engine is to reach. `ratio` is 1 or more where it does."""

    what: str
    asked: str
    measured: str
    ratio: float
    stretch: bool | None = None

    @property
    def reached(self) -> bool:
        return self.ratio >= 1


def _least(what: str, value: float, least: float, stretch: float | None = None, unit: str = "x") -> Asked:
    text = f">= {least:g} {unit}" + ("" if stretch is None else f" (stretch {stretch:g})")
    return Asked(what, text, f"{value:.2f} {unit}", value / least, None if stretch is None else value >= stretch)


def _most(what: str, value: float, most: float, stretch: float | None = None, unit: str = "x") -> Asked:
    text = f"<= {most:g} {unit}" + ("" if stretch is None else f" (stretch {stretch:g})")
    return Asked(
        what, text, f"{value:.3g} {unit}", most / value if value > 0 else float("inf"), None if stretch is None else value <= stretch
    )


def asked(found: dict[tuple[str, int], Median], live: Live | None) -> list[Asked]:
    """Every number asked for that this run has measured."""
    out: list[Asked] = []
    for assets in sorted({assets for _, assets in found}):
        of = {variant: one for (variant, size), one in found.items() if size == assets}
        singles, batches = of.get("ours-singles-1"), of.get("ours-batches-1")
        at = f"{assets:,} assets"
        if singles:
            if floor := of.get(FLOOR):
                out.append(_least(f"singles / raw single-message floor, {at}", singles.rate / floor.rate, 0.45, 0.6))
            if stock := of.get("bytewax"):
                out.append(_least(f"singles / stock Bytewax, {at}{_open(stock)}", singles.rate / stock.rate, 8))
            if quix := of.get("quix"):
                out.append(_least(f"singles / Quix Streams, {at}{_open(quix)}", singles.rate / quix.rate, 15))
        if batches and (floor := of.get(FLOOR)):
            out.append(_least(f"batches of 100 / raw single-message floor, {at}", batches.rate / floor.rate, 2, 3))
        for peer, name, first, second in (("flink", "Flink", 2, 5), ("streams", "Kafka Streams", 4, 10)):
            if other := of.get(peer):
                if singles:
                    out.append(_most(f"CPU of singles / that of {name}, {at}{_open(other)}", singles.cpu / other.cpu, 1 / first))
                if batches:
                    out.append(
                        _most(f"CPU of batches / that of {name} with singles, {at}{_open(other)}", batches.cpu / other.cpu, 1 / second)
                    )
        for form in ("singles", "batches"):
            one, two = of.get(f"ours-{form}-1"), of.get(f"ours-{form}-2")
            if one and two:
                out.append(_least(f"two processes / one, {form}, {at}", two.rate / one.rate, 1.4))
    for form in ("singles", "batches"):
        few, many = found.get((f"ours-{form}-1", 1_000)), found.get((f"ours-{form}-1", 100_000))
        if few and many:
            out.append(_most(f"time a reading, 100,000 assets / 1,000, {form}", many.per_reading / few.per_reading, 2.5))
    return out + (_asked_live(live) if live else [])


def _open(other: Median) -> str:
    return "" if other.finished else " (which did not finish)"


def _asked_live(live: Live) -> list[Asked]:
    at = f"{live.assets:,} assets, live"
    out = [_most(f"resident memory, {at}", live.peak_rss / MIB, 1536, 800, "MiB")]
    if live.snapshot is None:
        out.append(Asked(f"snapshots' share of the running time, {at}", "<= 3 %", "not reported", 0.0))
    else:
        out.append(_most(f"snapshots' share of the running time, {at}", live.snapshot["share"] * 100, 3, unit="%"))
    return [
        *out,
        _most(f"longest pause, {at}", live.longest_pause_s, 0.5, unit="s"),
        _most(f"from SIGKILL to caught up, {at}", live.restart_s, 5, unit="s"),
        _most(f"from the watermark to the last row, {at}", live.row_delay_s, 2, unit="s"),
    ]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, ["-" * width for width in widths], *rows]:
        lines.append(
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        )
    return "\n".join(line.rstrip() for line in lines)


def measured_table(found: dict[tuple[str, int], Median]) -> str:
    """One line for each variant and number of assets."""
    rows = []
    for (variant, assets), one in sorted(found.items(), key=lambda item: item[0][1]):
        floor = found.get((FLOOR, assets))
        share = f"{one.rate / floor.rate:.2f}" if floor else "-"
        note = "" if one.finished else "did not finish"
        rows.append(
            [
                variant,
                f"{assets:,}",
                str(one.rounds),
                f"{one.rate / 1e6:.3f}",
                share,
                f"{one.cpu:.2f}",
                f"{one.rss / MIB:.0f}",
                f"{one.spread:.0%}",
                f"{one.others:.2f}",
                note,
            ]
        )
    return table(["variant", "assets", "rounds", "M readings/s", "x floor", "CPU s/M", "RSS MiB", "spread", "others", ""], rows)


def asked_table(found: Sequence[Asked]) -> str:
    """Asked beside measured; a ratio of 1 or more has reached it."""
    words = {True: "reached", False: "NOT REACHED"}
    rows = [
        [one.what, one.asked, one.measured, f"{one.ratio:.2f}", words[one.reached] + (", stretch" if one.stretch else "")] for one in found
    ]
    return table(["what", "asked", "measured", "ratio", ""], rows)


def live_table(live: Live) -> str:
    """What the live part saw."""
    rows = [
        ["history read, start-up included", f"{live.history_readings / 1e6:.1f} M readings in {live.history_s:.1f} s"],
        ["resident after it / at most", f"{live.rss_after_history / MIB:.0f} / {live.peak_rss / MIB:.0f} MiB"],
        ["SIGTERM to end", f"{live.drained_s:.1f} s"],
        ["start to caught up", f"{live.started_s:.1f} s"],
        ["SIGKILL to caught up", f"{live.restart_s:.1f} s"],
        ["reading to its effect, usual / longest beyond it", f"{live.usual_delay_s:.2f} / {live.longest_pause_s:.2f} s"],
        ["CPU while live", f"{live.cpu_share:.0%} of a core"],
        ["last row after the watermark", f"{live.row_delay_s:.2f} s for {live.rows:,} rows"],
    ]
    for name, stage in sorted(live.stages.items()):
        rows.append(
            [f"stage {name}", f"{stage['share']:.2%} of the time, {stage['runs']:.0f} runs, longest {stage['longest_s'] * 1000:.0f} ms"]
        )
    return table([f"live, {live.assets:,} assets every 5 s", ""], rows)


def plain(results: Iterable[Result], found: dict[tuple[str, int], Median], numbers: Sequence[Asked], live: Live | None) -> dict[str, Any]:
    """All of it for JSON."""
    return {
        "rounds": [one.plain() for one in results],
        "medians": [vars(one) for one in found.values()],
        "asked": [{**vars(one), "reached": one.reached} for one in numbers],
        "live": live.plain() if live else None,
    }
