"""Semantics 1 written down a second time: slow, one reading at a time, in exact order of its sentences.

Nothing here is shared with the product's rule. Instants are ms, lists are plain, every quarter is computed from all
readings that were ever accepted.
"""

from dataclasses import dataclass, field
from typing import Any

MINUTE = 60_000
QUARTER = 15 * MINUTE
HOUR = 60 * MINUTE


@dataclass(frozen=True)
class Reading:
    asset: str
    at: int
    power: float | None = None
    imported: float | None = None
    exported: float | None = None
    stored: float | None = None
    phase: int = 0
    quality: str = "GOOD"
    partition: int = 0


def accepted_register(readings: list[Reading], which: str, max_w: float) -> tuple[list[tuple[int, float, float, str]], int]:
    """1.2: (instant, value, energy since the one before, how) of the values that count, and how many do not."""
    values = [(r.at, getattr(r, which)) for r in readings if getattr(r, which) is not None]
    out: list[tuple[int, float, float, str]] = []
    dropped = sum(1 for _, value in values if value < 0)
    low: list[tuple[int, float]] = []
    for at, value in values:
        if value < 0:
            continue
        if not out:
            out.append((at, value, 0.0, "first"))
            continue
        before_at, before = out[-1][0], out[-1][1]
        if value >= before:
            out.append((at, value, value - before, "rise"))
            dropped, low = dropped + len(low), []
        elif value <= max_w * ((at - before_at) / HOUR):
            out.append((at, value, value, "reset"))
            dropped, low = dropped + len(low), []
        else:
            if low and value < low[-1][1]:
                dropped, low = dropped + len(low), []
            low.append((at, value))
            if len(low) == 3:
                out.append((*low[0], 0.0, "base"))
                out.append((*low[1], low[1][1] - low[0][1], "rise"))
                out.append((*low[2], low[2][1] - low[1][1], "rise"))
                low = []
    return out, dropped + len(low)


def register_quarter(values: list[tuple[int, float, float, str]], start: int, max_interpolation: int = HOUR) -> dict[str, Any] | None:
    """1.1 and the register half of 1.5 for one register and quarter; None where it gives no energy."""
    end = start + QUARTER

    def around(b: int) -> tuple[int | None, int | None]:
        before = [i for i, v in enumerate(values) if v[0] < b]
        after = [i for i, v in enumerate(values) if v[0] >= b]
        return (before[-1] if before else None), (after[0] if after else None)

    inside = [i for i, v in enumerate(values) if start <= v[0] < end]

    def place(b: int, nearest: int | None) -> tuple[str, Any]:
        before, after = around(b)
        if after is not None and values[after][0] == b:
            return "exact", after
        if before is not None and after is not None and values[after][0] - values[before][0] <= max_interpolation:
            return "line", (before, after)
        return ("nearest", nearest) if nearest is not None else ("none", None)

    head, tail = place(start, inside[0] if inside else None), place(end, inside[-1] if inside else None)
    if "none" in (head[0], tail[0]) or (head[0] != "line" and tail[0] != "line" and head[1] == tail[1]):
        return None
    energy = 0.0
    first = head[1][0] if head[0] == "line" else head[1]
    last = tail[1][1] if tail[0] == "line" else tail[1]
    for i in range(first + 1, last + 1):
        a, b = values[i - 1][0], values[i][0]
        energy += values[i][2] * (min(b, end) - max(a, start)) / (b - a)

    if tail[0] == "exact":
        shown = values[tail[1]][1]
    elif tail[0] == "line" and values[tail[1][1]][3] in ("rise", "first"):
        (a, va), (b, vb) = values[tail[1][0]][:2], values[tail[1][1]][:2]
        shown = va + (vb - va) * (end - a) / (b - a)
    else:
        shown = values[around(end)[0]][1]  # type: ignore[index]

    def uncovered(b: int, nearest: int | None) -> float:
        before, after = around(b)
        if after is not None and values[after][0] == b:
            return 0.0
        if before is not None and after is not None and values[after][0] - values[before][0] <= QUARTER:
            return 0.0
        return float(QUARTER) if nearest is None else abs(values[nearest][0] - b)

    bare = uncovered(start, inside[0] if inside else None) + uncovered(end, inside[-1] if inside else None)
    return {"wh": energy, "register": shown, "coverage": max(0.0, 1 - bare / QUARTER)}


def power_quarter(readings: list[Reading], start: int, max_hold: int = 5 * MINUTE) -> dict[str, Any]:
    """1.3 and the power half of 1.4 and 1.5."""
    power = [(r.at, r.power) for r in readings if r.power is not None]
    inside = [p for at, p in power if start <= at < start + QUARTER]
    minutes = []
    for begin in range(start, start + QUARTER, MINUTE):
        own = [p for at, p in power if begin <= at < begin + MINUTE]
        if own:
            minutes.append(sum(own) / len(own))
            continue
        earlier = [(at, p) for at, p in power if at < begin]
        if earlier and begin - earlier[-1][0] < max_hold:
            minutes.append(earlier[-1][1])
    return {
        "import": sum(m for m in minutes if m > 0) / 60,
        "export": -sum(m for m in minutes if m < 0) / 60,
        "mean": sum(minutes) / len(minutes) if minutes else None,
        "covered": len(minutes),
        "inside": inside,
    }


def quarter_row(readings: list[Reading], start: int, max_w: float = 1e6) -> dict[str, Any] | None:
    """One key's quarter from all its accepted readings, by instant; None where there is no row."""
    power = power_quarter(readings, start)
    registers: dict[str, dict[str, Any] | None] = {}
    reset = False
    for which in ("imported", "exported"):
        values, _ = accepted_register(readings, which, max_w)
        registers[which] = register_quarter(values, start)
        reset = reset or any(how in ("reset", "base") and start < at <= start + QUARTER for at, _, _, how in values)
    used = [one for one in registers.values() if one is not None]
    if not used and not power["inside"]:
        return None
    imported, exported = registers["imported"], registers["exported"]
    import_wh = imported["wh"] if imported else power["import"]
    export_wh = exported["wh"] if exported else power["export"]
    own = [r for r in readings if start <= r.at < start + QUARTER]
    stored = [r.stored for r in own if r.stored is not None]
    return {
        "import_wh": import_wh,
        "export_wh": export_wh,
        "mean_w": power["mean"] if power["inside"] else 4 * (import_wh - export_wh),
        "min_w": min(power["inside"]) if power["inside"] else None,
        "max_w": max(power["inside"]) if power["inside"] else None,
        "stored_wh": stored[-1] if stored else None,
        "import_register_wh": imported["register"] if imported else None,
        "export_register_wh": exported["register"] if exported else None,
        "samples": len(own),
        "coverage": min(one["coverage"] for one in used) if used else power["covered"] / 15,
        "method": "REGISTER" if used else "POWER",
        "estimated": any(r.quality == "ESTIMATED" for r in own),
        "reset": reset,
    }


@dataclass
class Reference:
    """The stream: readings come in one by one, event time passes, quarters freeze behind the horizon."""

    max_w: dict[str, float] = field(default_factory=dict)
    lateness: int = MINUTE
    horizon: int = HOUR
    accepted: dict[tuple[str, int], dict[int, Reading]] = field(default_factory=dict)
    frozen: dict[tuple[str, int, int], dict[str, Any] | None] = field(default_factory=dict)
    frozen_until: dict[int, int] = field(default_factory=dict)
    home: dict[str, int] = field(default_factory=dict)
    newest: dict[int, int] = field(default_factory=dict)
    late: list[Reading] = field(default_factory=list)
    conflicts: int = 0

    def read(self, reading: Reading) -> None:
        if reading.quality != "BAD":
            self._accept(reading)
        self.newest[reading.partition] = max(self.newest.get(reading.partition, 0), reading.at)
        self._freeze(reading.partition)

    def _accept(self, reading: Reading) -> None:
        home = self.home.setdefault(reading.asset, reading.partition)
        if reading.at // QUARTER * QUARTER < self.frozen_until.get(home, 0):
            self.late.append(reading)
            return
        of_key = self.accepted.setdefault((reading.asset, reading.phase), {})
        if of_key.setdefault(reading.at, reading) != reading:
            self.conflicts += 1

    def _freeze(self, partition: int) -> None:
        """A quarter that ends more than the horizon before the watermark is never written again."""
        watermark = self.newest[partition] - self.lateness
        edge = max(0, -(-(watermark - self.horizon - QUARTER) // QUARTER) * QUARTER)
        before = self.frozen_until.get(partition, 0)
        if edge <= before:
            return
        for (asset, phase), start, row in list(self._rows()):
            if self.home[asset] == partition and before <= start < edge:
                self.frozen[asset, phase, start] = row
        self.frozen_until[partition] = edge

    def _rows(self) -> Any:
        for (asset, phase), of_key in self.accepted.items():
            readings = [of_key[at] for at in sorted(of_key)]
            quarters = {r.at // QUARTER * QUARTER for r in readings}
            quarters |= {q - back for q in quarters for back in range(0, HOUR + 1, QUARTER)}
            for start in sorted(quarters):
                yield (asset, phase), start, quarter_row(readings, start, self.max_w.get(asset, 1e6))

    def rows(self) -> dict[tuple[str, int, int], dict[str, Any]]:
        """What the highest revisions say once everything is closed."""
        out = {key: row for key, row in self.frozen.items() if row is not None}
        for (asset, phase), start, row in self._rows():
            if start >= self.frozen_until.get(self.home[asset], 0) and row is not None:
                out[asset, phase, start] = row
        return out
