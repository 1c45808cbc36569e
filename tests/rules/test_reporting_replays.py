"""Whatever order partitions are read in by a run and by a replay of it, the partner ends with the newest values (semantics 7.2, 7.5)."""

import json
import pickle
from collections.abc import Iterable
from datetime import timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.records import Tick
from pipelines.rules.patience import Patience
from pipelines.rules.reporting import Owed, ReportingRule
from pipelines.rules.reporting_past import last_about, noted
from pipelines.rules.reporting_quarters import GroupQuarter, Waits
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.outbound import OutboundMessage
from schemas.telemetry import Method, QuarterHour
from tests.builders import T0, configuration
from tests.rules.test_reporting import WRITTEN, Reporting, connection, group_row, row

ASSETS = ("mg-1-a", "mg-1-b")
CONFIG = configuration(assets=[{"id": name, "scope_id": "mg-1", "category": "CONSUMPTION"} for name in ASSETS])


class Partner:
    """Takes each message once, as dispatch has it, and remembers the value told last."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.last: dict[str, float] = {}
        self.heard = 0

    def hear(self, owed: Iterable[Owed]) -> None:
        for message in owed:
            assert isinstance(message, OutboundMessage)
            if message.message_id not in self.known:
                self.known.add(message.message_id)
                self.heard += 1
                for entry in json.loads(message.body)["measurements"]:
                    self.last[entry["asset_id"]] = entry["energy_measurement"]["value"]


def rows_of(asset: str, offsets_ms: list[int]) -> list[QuarterHour]:
    """The revisions of one asset's quarter, as they stand in its partition."""
    return [
        row(asset, at=T0 + WRITTEN + timedelta(milliseconds=ms), revision=number, import_wh=1000.0 * number, method=Method.POWER)
        for number, ms in enumerate(sorted(offsets_ms), 1)
    ]


def told(partner: Partner, order: Iterable[QuarterHour | None]) -> None:
    """One run from the beginning; None is half a second in which nothing comes."""
    reporting = Reporting(CONFIG)
    for each in order:
        partner.hear(reporting.later(timedelta(seconds=0.5)) if each is None else reporting.feed(each))
    while reporting.rule.due(reporting.state) is not None:
        partner.hear(reporting.later(timedelta(minutes=10)))


def test_a_correction_that_was_told_first_is_told_again_after_what_a_replay_tells_before_it() -> None:
    first, second = rows_of("mg-1-a", [0, 300])
    group = group_row(method=Method.SUM, missing_members=1)
    partner = Partner()
    told(partner, [first, second, group])
    told(partner, [first, group, None, second])
    assert partner.last == {"mg-1-a": 2.0}


@st.composite
def orders(draw: st.DrawFn, partitions: list[list[QuarterHour]]) -> list[QuarterHour | None]:
    """The rows of all partitions, each in its order, with pauses between."""
    left = [list(partition) for partition in partitions]
    found: list[QuarterHour | None] = []
    while any(left):
        chosen = draw(st.sampled_from([part for part in left if part]))
        found.append(chosen.pop(0))
        found += [None] * draw(st.sampled_from([0, 0, 0, 1, 3]))
    return found


@given(st.data())
def test_a_partner_ends_with_the_newest_values_whatever_a_replay_makes_of_them(data: st.DataObject) -> None:
    instants = st.lists(st.integers(0, 1500), min_size=1, max_size=3, unique=True)
    partitions = [rows_of(name, data.draw(instants)) for name in ASSETS]
    partitions.append([group_row(method=Method.SUM, at=T0 + WRITTEN + timedelta(milliseconds=data.draw(st.integers(0, 800))))])
    partner = Partner()
    for _ in range(3):
        told(partner, data.draw(orders(partitions)))
        assert partner.last == {part[-1].id: float(part[-1].revision) for part in partitions[:-1]}
    heard = partner.heard
    told(partner, [each for part in partitions for each in part])
    told(partner, [each for part in partitions for each in part])
    assert partner.heard - heard <= sum(map(len, partitions))  # the same order says nothing new


BATTERY = configuration(assets=[{"id": "b", "scope_id": "mg-1", "category": "STORAGE"}])


def written(*corrections: timedelta) -> list[QuarterHour]:
    """A battery's rows of a day as they are written, and corrections of the first quarter's import, so long after its end."""
    rows = [
        made
        for number in range(96)
        for quarter in [T0 + number * QUARTER]
        for made in (row("b", quarter=quarter, import_wh=number, export_wh=5), group_row(quarter=quarter, method=Method.SUM))
    ]
    rows += [
        row("b", at=T0 + QUARTER + late, revision=number, import_wh=1000 * number, export_wh=5)
        for number, late in enumerate(corrections, 2)
    ]
    return sorted(rows, key=lambda each: each.at)


def ids(rows: list[QuarterHour], *, replayed_at: timedelta | None = None) -> dict[str, str]:
    """The messages of a run that reads rows as they are written, or all of them afterwards."""
    reporting, owed = Reporting(BATTERY), list[Owed]()
    if replayed_at is not None:
        reporting.now = T0 + replayed_at
    for each in rows:
        while replayed_at is None and (due := reporting.rule.due(reporting.state)) is not None and due < each.at:
            reporting.now = due
            owed += reporting.feed(Tick())
        reporting.now = max(reporting.now, each.at)
        owed += reporting.feed(each)
    while reporting.rule.due(reporting.state) is not None:
        owed += reporting.later()
    return {message.message_id: message.body for message in owed if isinstance(message, OutboundMessage)}


HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@pytest.mark.parametrize(
    "corrections",
    [
        [HOUR],
        [2 * HOUR, 2 * HOUR + SECOND],
        [2 * HOUR - SECOND, 2 * HOUR + SECOND],
        [5 * HOUR, 5 * HOUR + SECOND, 5 * HOUR + timedelta(minutes=5), 7 * HOUR],
        [HOUR, 3 * HOUR, 3 * HOUR + timedelta(minutes=7), 20 * HOUR],
    ],
    ids=str,
)
def test_a_replay_that_forgets_nothing_makes_the_ids_of_the_run_that_had_forgotten_the_quarter(corrections: list[timedelta]) -> None:
    rows = written(*corrections)
    first = ids(rows)
    assert len(first) == 96 + len(corrections)
    for at in (timedelta(hours=25), timedelta(days=6)):
        assert ids(rows, replayed_at=at) == first


def test_a_replay_in_which_part_of_a_quarter_has_expired_makes_the_ids_of_before() -> None:
    rows = written(HOUR, timedelta(minutes=90))
    again = ids(rows, replayed_at=QUARTER + timedelta(days=7, minutes=70))
    assert again.keys() < ids(rows).keys()
    assert any("3.0," in body for body in again.values())  # the second correction is still of use


def test_ids_of_an_asset_metered_by_phases_do_not_follow_their_order() -> None:
    phases = [row("b", phase=phase, import_wh=10) for phase in ("ONE", "TWO", "THREE")]
    found = set()
    for order in permutations(phases):
        reporting = Reporting(BATTERY)
        owed = [*reporting.feed(*order, group_row(method=Method.SUM)), *reporting.later()]
        found |= {message.message_id for message in owed if isinstance(message, OutboundMessage)}
    assert len(found) == 1


def test_a_quarter_kept_by_an_earlier_version_is_read() -> None:
    quarter = GroupQuarter(old=False, touched=T0, opened=True)
    slots = {name: getattr(quarter, name) for name in ("old", "touched", "opened", "undecided", "due", "group_row", "pending", "phased")}
    restored = GroupQuarter.__new__(GroupQuarter)
    restored.__setstate__((None, {**slots, "told": {"b\x1fIMPORT": 7}}))
    assert restored == quarter
    assert pickle.loads(pickle.dumps(restored)) == quarter
    assert Waits().apart < Waits().idle


def test_what_went_last_about_a_quarter_is_kept_for_as_long_as_it_may_be_corrected() -> None:
    past = b""
    for number in range(1000):
        past = noted(past, number * QUARTER_MS, f"{number:016x}", (number - 672) * QUARTER_MS)
    past = noted(past, 900 * QUARTER_MS, "f" * 16, 0)
    assert (len(past), last_about(past, 999 * QUARTER_MS)) == (12 * 674, f"{999:016x}")
    assert (last_about(past, 900 * QUARTER_MS), last_about(past, 1001 * QUARTER_MS), last_about(past, 3 * QUARTER_MS)) == ("f" * 16, "", "")


def test_after_a_restart_rows_that_were_written_meanwhile_are_read_before_a_timer_acts() -> None:
    """Killed between the asset's row and its group's: what was waited for is there by now."""
    first, second, group = row("b"), row("c", import_wh=7), group_row(method=Method.SUM)
    config = configuration(assets=[{"id": name, "scope_id": "mg-1", "category": "CONSUMPTION"} for name in "bc"])
    reporting = Reporting(config)
    reporting.feed(first)
    kept = pickle.dumps(reporting.state)
    again = Reporting(config, online=False)
    again.state, again.now = pickle.loads(kept), reporting.now + HOUR
    again.rule = ReportingRule(lambda: config, patience=Patience(again.now, timedelta(seconds=5)))
    assert again.rule.due(again.state) == again.now + timedelta(seconds=5)
    assert again.feed(Tick(), connection()) == []
    assert [message.message_id for message in again.feed(second, group) if isinstance(message, OutboundMessage)] == [
        message.message_id for message in reporting.feed(second, group) if isinstance(message, OutboundMessage)
    ]
