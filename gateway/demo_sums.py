"""Whether the demo's partner was told the energies of the recording's truth, by what it received alone (semantics 7)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gateway.demo_report import Truth
from pipelines.rules.reporting_plan import plan_of, reported
from schemas.config import Configuration, ReportDirection
from schemas.intervals import QUARTER

TOLERANCE_WH = 0.1
"""Of the whole time, for each asset and direction."""


def mistold(partner: Mapping[str, Any], truth: Iterable[Truth], config: Configuration, since: datetime | None) -> list[str]:
    """Each asset and direction of which the partner's sum (the last value of each quarter, in Wh) is not the truth's, in words.

    `partner` is the simulator's own report. Only quarters that end after the first handshake, at `since`, are owed.
    """
    if since is None:
        return ["no handshake was acknowledged"]
    told = {(each["id"], each["direction"], datetime.fromisoformat(each["start"])): each["wh"] for each in partner.get("energies", [])}
    sums: dict[tuple[str, str], list[float]] = {}
    directions = _directions(config)
    for true in truth:
        for direction in directions.get(true.asset_id, ()) if true.start + QUARTER > since else ():
            found = sums.setdefault((true.asset_id, direction.value), [0.0, 0.0])
            found[0] += told.get((true.asset_id, direction.value, true.start), 0.0)
            found[1] += true.import_wh if direction is ReportDirection.IMPORT else true.export_wh
    wrong = ((key, got, want) for key, (got, want) in sums.items() if abs(got - want) > TOLERANCE_WH)
    return [f"the partner was told {got:g} Wh {way.lower()} of {name}, truth has {want:g} Wh" for (name, way), got, want in wrong]


def _directions(config: Configuration) -> dict[str, tuple[ReportDirection, ...]]:
    """The directions told of each asset that is told of, to the one partner of the demo; each is of the one or the other way."""
    plan, wanted = plan_of(config), config.partners[0].measurements.directions
    return {
        asset.id: tuple(each for each in wanted[asset.category.value] if each is not ReportDirection.NET)
        for members in plan.assets_by_scope.values()
        for asset in members
        if reported(asset, members)
    }
