"""Repairs of quarters from before an asset or group was bound otherwise: who belonged where then, belongs there (semantics 2)."""

from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import pytest

from pipelines import repairing
from pipelines.repairing import Wanted
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.repair import Span
from pipelines.rules.repair_portions import batches
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.telemetry import Method, QuarterHour
from schemas.units import from_ms, to_ms
from tests.builders import Applied
from tests.rules.archived import ListedHistory, repaired, repairer
from tests.rules.metering import START, minutes
from tests.rules.reference_quarter_hours import QUARTER, Reading

CLOCK = FrozenClock(from_ms(START) + timedelta(days=2))
MOVED_AT = START + 2 * QUARTER - minutes(8)
"""Takes effect at the quarter from START + 2 QUARTER."""
SPAN = (START, START + 4 * QUARTER)
NET = {"a": 100.0, "b": 10.0, "c": 1.0}
GROUPS = {"G-north": "north", "G-south": "south"}


def sites(a: str | None = "north", groups: dict[str, str] = GROUPS, partner: str = "vector", meter: str = "") -> Configuration:
    """Asset `a` wherever it is (None: removed), `b` in north, `c` in south, nobody on the hill; each scope may have a group."""
    homes = {"a": a, "b": "north", "c": "south"}
    assets: list[dict[str, Any]] = [
        {"id": asset, "scope_id": scope, "category": "CONSUMPTION", "connection_meter": asset == meter}
        for asset, scope in homes.items()
        if scope is not None
    ]
    plain = {
        "scopes": [{"id": scope} for scope in ("north", "south", "hill")], "assets": assets, "partners": [{"id": partner}],
        "groups": [{"partner_id": partner, "group_id": group, "scope_id": scope} for group, scope in groups.items()],
    }  # fmt: skip
    return Configuration.model_validate(plain)


def after(*steps: Configuration, at: int = MOVED_AT) -> Configuration:
    """What is in force when each has followed the one before, the second at an instant and the rest a quarter after each other."""
    applied, found = Applied(), steps[0]
    for number, each in enumerate(steps):
        found = applied.apply(each, from_ms(at + (number - 1) * QUARTER) if number else from_ms(START) - timedelta(days=9))
    return found


def told(rows: list[QuarterHour]) -> dict[str, list[float]]:
    """What each group's quarters amount to, in order."""
    groups = sorted((row for row in rows if row.level == "GROUP"), key=lambda row: (row.id, row.start))
    return {name: [round(row.net_wh, 6) for row in some] for name, some in groupby(groups, lambda row: row.id)}


def history() -> ListedHistory:
    quarters = (SPAN[1] - SPAN[0]) // QUARTER
    return ListedHistory(Reading(asset, START + minutes(n), 4 * net) for asset, net in NET.items() for n in range(15 * quarters))


def run(config: Configuration, *assets: str, span: Span = SPAN) -> list[QuarterHour]:
    known = history()
    repaired(
        known, config, CLOCK, Wanted({asset: [SPAN] for asset in NET if asset not in assets and asset in {a.id for a in config.assets}})
    )
    known.last = {place: row for place, row in known.last.items() if row.level == "ASSET"}
    return repaired(known, config, CLOCK, Wanted({asset: [span] for asset in assets}))


def test_an_asset_that_moved_counts_where_it_was_and_where_it_is() -> None:
    config = after(sites(), sites("south"))
    rows = run(config, "a", "b", "c")
    assert told(rows) == {"G-north": [110.0, 110.0, 10.0, 10.0], "G-south": [1.0, 1.0, 101.0, 101.0]}
    assert told(run(config, "a")) == {"G-north": [110.0, 110.0], "G-south": [101.0, 101.0]}
    assert [row.scope_id for row in rows if row.id == "a"] == ["north", "north", "south", "south"]
    assert {(row.id, row.scope_id) for row in rows if row.level == "GROUP"} == {("G-north", "north"), ("G-south", "south")}
    assert {row.missing_members or 0 for row in rows} == {0}
    assert {row.coverage for row in rows} == {1.0}


def test_quarters_from_before_a_move_are_those_of_the_old_scope_alone() -> None:
    rows = run(after(sites(), sites("south"), at=START + 90 * QUARTER), "a")
    assert told(rows) == {"G-north": [110.0] * 4}


def test_an_asset_that_went_and_came_back_was_nowhere_in_between() -> None:
    config = after(sites(), sites(None), sites("north"), at=START + minutes(8))
    rows = run(config, "a", "b")
    assert told(rows) == {"G-north": [110.0, 10.0, 110.0, 110.0]}
    assert [row.scope_id for row in rows if row.id == "a"] == ["north", None, "north", "north"]


def test_an_asset_that_was_removed_stays_in_the_sums_of_its_time() -> None:
    known = history()
    repaired(known, sites(), CLOCK, Wanted({asset: [SPAN] for asset in NET}))
    known.last = {place: row for place, row in known.last.items() if row.level == "ASSET"}
    assert told(repaired(known, after(sites(), sites(None)), CLOCK, Wanted({"b": [SPAN]}))) == {"G-north": [110.0, 110.0, 10.0, 10.0]}


def test_a_group_reports_the_scope_it_was_bound_to() -> None:
    config = after(sites(groups={"G": "north"}), sites(groups={"G": "south"}))
    assert told(run(config, "a", "c")) == {"G": [110.0, 110.0, 1.0, 1.0]}
    assert told(run(after(sites(), sites(groups={"G-north": "north"})), "a", "c")) == {"G-north": [110.0] * 4, "G-south": [1.0, 1.0]}


def test_a_meter_counts_from_when_it_was_one() -> None:
    rows = run(after(sites(), sites(meter="b")), "b")
    assert told(rows) == {"G-north": [110.0, 110.0, 10.0, 10.0]}
    assert [row.method for row in rows if row.id == "G-north"] == [Method.SUM, Method.SUM, Method.METER, Method.METER]


@pytest.mark.parametrize("partner", ["vector", "nz/vector"])
def test_ids_with_slashes_are_told_apart(partner: str) -> None:
    one, other = (sites(groups={"V/1": scope}, partner=partner) for scope in ("north", "south"))
    assert told(run(after(one, other), "a", "c")) == {"V/1": [110.0, 110.0, 1.0, 1.0]}
    gone = sites(groups={}, partner="other")
    assert told(run(after(one, gone), "a", "c")) == {"V/1": [110.0, 110.0]}


def test_scopes_that_had_the_same_asset_are_one_batch_and_others_are_not() -> None:
    def sizes(config: Configuration, span: Span) -> list[set[str]]:
        return [set(batch) for batch in batches(dict.fromkeys(NET, span), Roster.of(config, CLOCK), 1)]

    config = after(sites(), sites("south"))
    assert sizes(config, SPAN) == [{"a", "b", "c"}]
    assert sizes(config, (START, START + 2 * QUARTER)) == [{"a", "b"}, {"c"}]
    assert sizes(config, (START + 2 * QUARTER, SPAN[1])) == [{"a", "c"}, {"b"}]
    assert sizes(after(sites(), sites("hill"), sites("south")), SPAN) == [{"a", "b", "c"}]


def test_no_group_is_numbered_twice_while_rows_are_not_yet_in_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repairing, "QUARTERS_AT_ONCE", 1)
    pieces = list(repairer(history(), after(sites(), sites("south")), CLOCK).run(Wanted({asset: [SPAN] for asset in NET})))
    rows = [row for piece in pieces for row in piece.rows]
    places: list[tuple[str, datetime]] = [(row.id, row.start) for row in rows]
    assert len(places) == len(set(places)) == 20
    assert told(rows) == {"G-north": [110.0, 110.0, 10.0, 10.0], "G-south": [1.0, 1.0, 101.0, 101.0]}
    assert max(to_ms(row.start) for row in rows) == SPAN[1] - QUARTER
