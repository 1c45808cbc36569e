"""What is told where a group's row never comes, and of assets and groups that are moved to another scope (semantics 2, 7.1, 7.2)."""

import json
from datetime import timedelta
from typing import Any

from pipelines.records import Tick
from pipelines.rules.reporting import Owed, ReportingRule, ScopeState
from schemas.config import Configuration
from schemas.intervals import QUARTER
from schemas.outbound import OutboundMessage
from schemas.telemetry import Method, QuarterHour
from tests.builders import T0, Applied, configuration
from tests.rules.test_reporting import WRITTEN, Reporting, connection, group_row, row, values

MS = timedelta(milliseconds=1)
ORPHANS = timedelta(minutes=6)


def asset(name: str, scope: str = "mg-1", category: str = "GENERATION", **more: Any) -> dict[str, Any]:
    return {"id": name, "scope_id": scope, "category": category, **more}


# A group's row that does not come


def test_assets_are_told_where_the_groups_row_never_comes() -> None:
    """A connection meter that says nothing has no row, so its group has none; the other assets' energies are owed all the same."""
    reporting = Reporting()
    assert reporting.feed(row("mg-1-pv", export_wh=7), row("mg-1-bat", import_wh=1, export_wh=2)) == []
    assert reporting.later(ORPHANS) == []
    assert values(reporting.later(timedelta(seconds=1))) == {
        ("mg-1-pv", "EXPORT"): 0.007, ("mg-1-bat", "IMPORT"): 0.001, ("mg-1-bat", "EXPORT"): 0.002,
    }  # fmt: skip
    assert reporting.later(timedelta(hours=1)) == []


def test_a_groups_row_in_time_gathers_and_one_too_late_does_not() -> None:
    """The same live and in a replay, in which all rows are old and there at once: by when they were written, not by when they came."""

    def rows(apart: timedelta) -> list[QuarterHour]:
        first = row("mg-1-pv", export_wh=7)
        return [first, row("mg-1-bat", import_wh=1, export_wh=2, at=first.at + apart), group_row(at=first.at + apart)]

    for apart, count in ((ORPHANS, 1), (ORPHANS + MS, 2)):
        ids = []
        for replayed in (False, True):
            reporting = Reporting()
            owed: list[Owed] = []
            reporting.now += timedelta(hours=1) if replayed else timedelta(0)
            for item in rows(apart):
                if not replayed:
                    owed += reporting.later(item.at - reporting.now)
                owed += reporting.feed(item)
            owed += [each for _ in range(4) for each in reporting.later()]
            ids.append([message.message_id for message in owed if isinstance(message, OutboundMessage)])
        assert ids[0] == ids[1]
        assert len(ids[0]) == count


# Assets and groups that are moved


class Moving:
    """Two scopes of which one's asset or group goes to the other; each scope with a rule of its own."""

    def __init__(self, before: Configuration, after: Configuration, at: timedelta) -> None:
        applied = Applied()
        applied.apply(before, T0 - timedelta(days=1))
        self.config = applied.apply(after, T0 + at)
        self.rule = ReportingRule(lambda: self.config, connection_of=lambda _: connection())
        self.states: dict[str, ScopeState] = {}
        self.now = T0

    def told(self, *rows: QuarterHour) -> list[tuple[str, list[str]]]:
        """Groups and assets of the messages that these rows make."""
        owed: list[Owed] = []
        for item in rows:
            self.now = max(self.now, item.at)
            state = self.states.setdefault(str(item.scope_id), self.rule.start(str(item.scope_id)))
            owed += self.rule.step(state, item, self.now)
        self.now += timedelta(minutes=7)
        for state in self.states.values():
            owed += self.rule.step(state, Tick(), self.now)
        messages = [message for message in owed if isinstance(message, OutboundMessage)]
        return [(str(m.group_id), [entry["asset_id"] for entry in json.loads(m.body)["measurements"]]) for m in messages]


def two_scopes(pv: str, group: str | None = None, **more: Any) -> Configuration:
    """The PV is in one of the scopes; the group `G` in one, or each has one of its own."""
    bound = {"G": group} if group else {"G-mg-1": "mg-1", "G-mg-2": "mg-2"}
    return configuration(
        scopes=[{"id": "mg-1"}, {"id": "mg-2"}], circuits=[],
        assets=[asset("mg-1-load", "mg-1", "CONSUMPTION"), asset("mg-2-load", "mg-2", "CONSUMPTION"), asset("pv", pv, **more)],
        groups=[{"partner_id": "vector", "group_id": name, "scope_id": scope} for name, scope in bound.items()],
    )  # fmt: skip


def quarter_rows(number: int, scope: str, group: str, *assets: str, revision: int = 1, late: timedelta = timedelta(0)) -> list[QuarterHour]:
    quarter = T0 + number * QUARTER
    common: dict[str, Any] = {"quarter": quarter, "at": quarter + WRITTEN + late, "scope_id": scope, "revision": revision}
    rows = [row(name, import_wh=10.0 * revision, export_wh=10.0 * revision, **common) for name in assets]
    return [*rows, group_row(**{**common, "id": group, "method": Method.SUM})]


def test_an_asset_that_moves_is_told_where_it_was_until_its_quarter_is_over() -> None:
    moving = Moving(two_scopes("mg-1"), two_scopes("mg-2"), timedelta(minutes=7))
    assert moving.told(*quarter_rows(0, "mg-1", "G-mg-1", "mg-1-load", "pv")) == [("G-mg-1", ["mg-1-load", "pv"])]
    assert moving.told(*quarter_rows(0, "mg-2", "G-mg-2", "mg-2-load")) == [("G-mg-2", ["mg-2-load"])]
    assert moving.told(*quarter_rows(1, "mg-2", "G-mg-2", "mg-2-load", "pv")) == [("G-mg-2", ["mg-2-load", "pv"])]
    assert moving.told(*quarter_rows(1, "mg-1", "G-mg-1", "mg-1-load")) == [("G-mg-1", ["mg-1-load"])]
    late = quarter_rows(0, "mg-1", "G-mg-1", "pv", revision=2, late=timedelta(days=2))
    assert moving.told(*late) == [("G-mg-1", ["pv"])]


def test_what_was_the_connection_meter_then_is_told_as_one() -> None:
    before, after = two_scopes("mg-1", connection_meter=True), two_scopes("mg-1")
    moving = Moving(before, after, timedelta(minutes=7))
    assert moving.told(*quarter_rows(0, "mg-1", "G-mg-1", "mg-1-load", "pv")) == [("G-mg-1", ["mg-1-load"])]
    assert moving.told(*quarter_rows(1, "mg-1", "G-mg-1", "mg-1-load", "pv")) == [("G-mg-1", ["mg-1-load", "pv"])]


def test_a_group_that_moves_is_told_of_its_old_scope_until_the_quarter_is_over() -> None:
    moving = Moving(two_scopes("mg-1", "mg-1"), two_scopes("mg-1", "mg-2"), timedelta(minutes=7))
    assert moving.told(*quarter_rows(0, "mg-1", "G", "mg-1-load", "pv")) == [("G", ["mg-1-load", "pv"])]
    assert moving.told(*quarter_rows(0, "mg-2", "elsewhere", "mg-2-load")) == []
    assert moving.told(*quarter_rows(1, "mg-2", "G", "mg-2-load")) == [("G", ["mg-2-load"])]
    assert moving.told(*quarter_rows(1, "mg-1", "elsewhere", "mg-1-load")) == []
    assert sorted(moving.rule.plan.scopes_of("vector")) == ["mg-1", "mg-2"]


def test_an_asset_that_is_no_longer_configured_disturbs_nothing() -> None:
    gone = two_scopes("mg-1").model_copy(update={"assets": two_scopes("mg-1").assets[:2]})
    moving = Moving(two_scopes("mg-1"), gone, timedelta(minutes=7))
    assert moving.told(*quarter_rows(0, "mg-1", "G-mg-1", "mg-1-load", "pv")) == [("G-mg-1", ["mg-1-load"])]


def test_only_bound_quarters_of_an_asset_are_told() -> None:
    reporting = Reporting(configuration(assets=[asset("pv", valid_from=T0 + QUARTER, valid_to=T0 + 2 * QUARTER)]))
    told = []
    for number in range(3):
        quarter = T0 + number * QUARTER
        reporting.now = quarter + WRITTEN
        owed = reporting.feed(row("pv", quarter=quarter, export_wh=1), group_row(quarter=quarter))
        told.append(len([*owed, *reporting.later()]))
    assert told == [0, 1, 0]
