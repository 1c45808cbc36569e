"""Are a variant's results right? Every row it wrote against the truth, and when the last one was acknowledged."""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from typing import Any, cast

import fastavro
import numpy as np

from sinks.codec import HEADER_LENGTH, MARKER, WRITERS
from tests.benchmarks.broker import Message
from tests.benchmarks.product import SCOPE, group_of, scope_of
from tests.benchmarks.readings import EVERY_MS, QUARTER_MS, Fleet, Truth, truth

PEER_ROW = struct.Struct("<qid")
"""What the peers write, under the asset's id: start of the quarter (ms), count, sum of the powers."""
_KINDS = np.dtype([("start", "<i8"), ("count", "<i4"), ("sum", "<f8")])
RELATIVE = 1e-6


@dataclass
class Finding:
    """What is there of the expected rows; `last_at` is when (s since 1970) the broker had the last of those."""

    expected: int
    right: int = 0
    last_at: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Every expected row is there, and each says what it must."""
        return not self.wrong and self.right == self.expected


def peer_rows(fleet: Fleet, messages: Iterable[Message]) -> Finding:
    """The peers' rows: one for each asset and quarter, exactly (their sums are of whole numbers)."""
    finding = Finding(fleet.assets * len(fleet.quarters))
    found = [one for one in messages if one.key.startswith(_beginning(fleet)) and len(one.value) == PEER_ROW.size]
    rows = np.frombuffer(b"".join(one.value for one in found), _KINDS)
    asset = np.array([int(one.key[-6:]) for one in found], np.int64)
    at = np.array([one.at for one in found])
    for expected in truth(fleet):
        mine = rows["start"] == expected.quarter
        index, counts, sums = asset[mine], rows["count"][mine], rows["sum"][mine]
        good = (counts == expected.count) & (sums == expected.power_sum[index])
        finding.wrong += [
            f"{fleet.ids[index[n]].decode()} {expected.quarter}: {counts[n]} readings, {sums[n]} W" for n in np.flatnonzero(~good)[:5]
        ]
        finding.right += len(np.unique(index[good]))
        finding.last_at = max(finding.last_at, float(at[mine].max(initial=0.0)))
    return finding


def product_rows(fleet: Fleet, messages: Iterable[Message], quarters: Sequence[int] | None = None) -> Finding:
    """Our rows: final ones of assets and groups, the highest revision counts, energies to a millionth."""
    scopes = [scope_of(fleet, first) for first in range(0, fleet.assets, SCOPE)]
    quarters = fleet.quarters.tolist() if quarters is None else quarters
    finding = Finding((fleet.assets + len(scopes)) * len(quarters))
    latest: dict[tuple[str, str, int], tuple[int, float, dict[str, Any]]] = {}
    for one in messages:
        row = decoded(one.value)
        if row is None or row["provisional"]:
            continue
        key = (row["level"], row["id"], row["start"])
        if key not in latest or latest[key][0] < row["revision"]:
            latest[key] = (row["revision"], one.at, row)
    names = [(number, name.decode()) for number, name in enumerate(fleet.ids)]
    for expected in truth(fleet, quarters):
        whole = expected.count * EVERY_MS == QUARTER_MS
        for number, name in names:
            _compare(finding, latest.get(("ASSET", name, expected.quarter)), _asset(expected, number, whole))
        net = expected.import_wh - expected.export_wh
        for number, scope in enumerate(scopes):
            energy = float(net[number * SCOPE : (number + 1) * SCOPE].sum())
            want = {"import_wh": max(energy, 0.0), "export_wh": max(-energy, 0.0), "missing_members": 0}
            _compare(finding, latest.get(("GROUP", group_of(scope), expected.quarter)), want)
    return finding


def _asset(expected: Truth, number: int, whole: bool) -> dict[str, float]:
    want = {
        "import_wh": float(expected.import_wh[number]),
        "export_wh": float(expected.export_wh[number]),
        "samples": expected.count,
    }
    return want | ({"mean_w": float(expected.power_sum[number]) / expected.count} if whole else {})


def _compare(finding: Finding, found: tuple[int, float, dict[str, Any]] | None, want: dict[str, float]) -> None:
    if found is None:
        return
    _, at, row = found
    off = {name: row[name] for name, value in want.items() if abs(row[name] - value) > RELATIVE * max(1.0, abs(value))}
    if off:
        finding.wrong.append(f"{row['id']} {row['start']}: {off} where {want} is right")
    else:
        finding.right += 1
        finding.last_at = max(finding.last_at, at)


def _beginning(fleet: Fleet) -> bytes:
    return bytes(fleet.ids[0])[:6]


def decoded(raw: bytes) -> dict[str, Any] | None:
    """A `QuarterHour`, instants as ms since 1970; None for anything else."""
    header = raw[len(MARKER) : HEADER_LENGTH]
    schema = _schema(header)
    if schema is None:
        return None
    stream = BytesIO(raw)
    stream.seek(HEADER_LENGTH)
    row: Any = fastavro.schemaless_reader(stream, schema, None)
    return cast("dict[str, Any]", row)


@cache
def _schema(header: bytes) -> Any:
    writer = WRITERS.get(header)
    if writer is None or writer.record != "QuarterHour":
        return None
    return fastavro.parse_schema(_bare(json.loads(writer.text)))


def _bare(schema: Any) -> Any:
    """Without logical types: a datetime for each row would cost more than all else."""
    if isinstance(schema, dict):
        return {name: _bare(value) for name, value in schema.items() if name != "logicalType"}
    return [_bare(each) for each in schema] if isinstance(schema, list) else schema
