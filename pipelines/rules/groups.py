"""What a group's row says: the connection meter's, or the sum of its members' (semantics 2). Plain arithmetic, a quarter at a time.

The running flow has it compiled, for many scopes at once (`group_sums`); who computes a few quarters again uses this one, and
tests hold the two together to the last bit.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.rules.group_bindings import Member
from schemas.telemetry import Method
from schemas.topology import Asset
from schemas.units import Phase

ByPhase = dict[str, dict[str, Any]]
"""An asset's rows of one quarter as plain values, by phase."""

_SUMMED = ("import_wh", "export_wh", "mean_w", "samples")
_SUMMED_IF_ALL = ("import_register_wh", "export_register_wh", "stored_wh", "last_minute_w")
_W_PER_WH = 4.0
"""A quarter's mean power of its net energy."""


def group_content(members: Iterable[Asset | Member], rows: Mapping[str, ByPhase], phases: Mapping[str, list[str]]) -> dict[str, Any] | None:
    """What a group's row says of a quarter, from its members' rows; None where there is none.

    Sums run in the members' order: the flow's is that of their ids. `phases` are those each asset is known to report in the
    quarter, so that a missing one is seen: those with a row in it or in an earlier one.
    """
    members = list(members)
    meter = next((asset for asset in members if asset.connection_meter), None)
    if meter is not None:
        total = total_of(rows.get(meter.id, {}), phases.get(meter.id, []))
        return None if total is None else {**total, "method": Method.METER, "missing_members": 0}
    totals = [total for asset in members if (total := total_of(rows.get(asset.id, {}), phases.get(asset.id, []))) is not None]
    if not totals:
        return None
    net = sum(total["net_wh"] for total in totals)
    stored, minutes = ([total[name] for total in totals if total[name] is not None] for name in ("stored_wh", "last_minute_w"))
    return {
        "import_wh": max(net, 0.0),
        "export_wh": max(-net, 0.0),
        "net_wh": net,
        "mean_w": net * _W_PER_WH,
        "min_w": None,
        "max_w": None,
        "stored_wh": sum(stored) if stored else None,
        "import_register_wh": None,
        "export_register_wh": None,
        "samples": sum(total["samples"] for total in totals),
        "coverage": sum(total["coverage"] for total in totals) / len(members),
        "method": Method.SUM,
        "missing_members": len(members) - len(totals),
        "estimated": any(total["estimated"] for total in totals),
        "reset": any(total["reset"] for total in totals),
        "last_minute_w": sum(minutes) if minutes else None,
    }


def total_of(rows: ByPhase, phases: Iterable[str]) -> dict[str, Any] | None:
    """An asset's row over its phases: that of phase ALL where there is one, else the sum of the single ones.

    Coverage is the mean over the phases it reports, a missing one counting 0; extremes of a sum are not known.
    """
    whole = rows.get(Phase.ALL.value)
    singles = [rows[phase.value] for phase in Phase if phase is not Phase.ALL and phase.value in rows]
    if whole is not None or len(singles) == 1 == sum(phase != Phase.ALL.value for phase in phases):
        one = whole if whole is not None else singles[0]
        return dict(one)
    if not singles:
        return None
    expected = max(len(singles), sum(phase != Phase.ALL.value for phase in phases))
    total: dict[str, Any] = {name: sum(row[name] for row in singles) for name in _SUMMED}
    total["net_wh"] = total["import_wh"] - total["export_wh"]
    for name in _SUMMED_IF_ALL:
        values = [row[name] for row in singles]
        total[name] = None if None in values or len(values) < expected else sum(values)
    return total | {
        "min_w": None,
        "max_w": None,
        "coverage": sum(row["coverage"] for row in singles) / expected,
        "estimated": any(row["estimated"] for row in singles),
        "reset": any(row["reset"] for row in singles),
    }
