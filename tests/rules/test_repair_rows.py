"""Which rows a repair writes: what differs, with the next revision; groups after their members; nothing known is lost."""

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import repairing
from pipelines.repairing import Wanted
from pipelines.rules.quarter_roster import Roster
from pipelines.rules.repair import Span
from pipelines.rules.repair_portions import batches, chunks, hull_of, windows
from pipelines.rules.repair_rows import EMPTY, LOST, OWN, differs
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.telemetry import Level, Method, Origin, QuarterHour
from schemas.units import from_ms
from tests.rules.archived import ListedHistory, asset_row, repaired, repairer
from tests.rules.metering import START, differences, minutes
from tests.rules.reference_quarter_hours import QUARTER, Reading
from tests.rules.test_quarter_hours_stream import stream
from tests.rules.test_repair import CONFIG, END, rows_in, truth, written

CLOCK = FrozenClock(from_ms(START) + timedelta(days=2))
law = settings(max_examples=20, deadline=None, derandomize=True)
HOUR = 3_600_000
FIRST = START
SPAN = (FIRST, FIRST + 4 * QUARTER)


def site(*assets: dict[str, Any], **more: Any) -> Configuration:
    """One scope with a group."""
    items = [{"scope_id": "s", "category": "CONSUMPTION", **asset} for asset in assets]
    plain = {
        "scopes": [{"id": "s"}], "assets": items, "partners": [{"id": "vector"}],
        "groups": [{"partner_id": "vector", "group_id": "g", "scope_id": "s"}],
    }  # fmt: skip
    return Configuration.model_validate(plain | more)


def power(asset: str, watts: float, quarter: int = 0, phase: int = 0, count: int = 15) -> list[Reading]:
    return [Reading(asset, FIRST + quarter * QUARTER + minutes(n), watts, phase=phase) for n in range(count)]


def run(
    history: ListedHistory, config: Configuration, *assets: str, span: Span = SPAN, origin: Origin = Origin.REPAIR
) -> list[QuarterHour]:
    CLOCK.advance(timedelta(seconds=1))
    return repaired(history, config, CLOCK, Wanted({asset: [span] for asset in assets}, origin))


def said(rows: list[QuarterHour]) -> list[tuple[str, int, float, int]]:
    return [(row.id, (to_quarter(row)), row.net_wh, row.revision) for row in rows]


def to_quarter(row: QuarterHour) -> int:
    return int((row.start - from_ms(FIRST)).total_seconds()) // 900


TWO = site({"id": "a"}, {"id": "b"})


def test_a_sum_follows_its_members_and_a_second_run_writes_nothing() -> None:
    history = ListedHistory([*power("a", 400.0), *power("b", 800.0), *power("b", 800.0, 1)])
    assert said(run(history, TWO, "a", "b")) == [
        ("a", 0, 100.0, 1),
        ("b", 0, 200.0, 1),
        ("b", 1, 200.0, 1),
        ("g", 0, 300.0, 1),
        ("g", 1, 200.0, 1),
    ]
    group = history.last[Level.GROUP, "g", "ALL", FIRST + QUARTER]
    assert (group.method, group.missing_members, group.coverage, group.origin) == (Method.SUM, 1, 0.5, Origin.REPAIR)
    assert run(history, TWO, "a", "b") == []
    history.add(power("a", 400.0, 1))
    assert said(run(history, TWO, "a")) == [("a", 1, 100.0, 1), ("g", 1, 300.0, 2)]


def test_a_group_that_a_crash_left_behind_its_members_follows_later() -> None:
    history = ListedHistory([*power("a", 400.0), *power("b", 800.0)])
    run(history, TWO, "a", "b")
    history.add([Reading("a", FIRST + minutes(14.5), 1600.0)])
    asset, group = run(history, TWO, "a")
    before = QuarterHour.model_validate(group.model_dump() | {"revision": 1, "at": from_ms(FIRST + HOUR), "net_wh": 300.0})
    history.last[Level.GROUP, "g", "ALL", FIRST] = before
    assert [row.id for row in run(history, TWO, "b")] == ["g"]
    assert run(history, TWO, "b") == []
    assert asset.id == "a"


def test_a_metered_group_follows_its_meter_only() -> None:
    config = site({"id": "a"}, {"id": "grid", "connection_meter": True})
    history = ListedHistory([*power("a", 400.0), *power("grid", 800.0)])
    assert said(run(history, config, "a", "grid")) == [("a", 0, 100.0, 1), ("grid", 0, 200.0, 1), ("g", 0, 200.0, 1)]
    assert history.last[Level.GROUP, "g", "ALL", FIRST].method is Method.METER
    history.add([Reading("a", FIRST + minutes(14.5), 1600.0)])
    assert [row.id for row in run(history, config, "a", "grid")] == ["a"]


def test_phases_are_summed_and_a_missing_one_is_missed_once_it_is_known() -> None:
    config = site({"id": "grid", "connection_meter": True})
    whole = [reading for phase in (1, 2, 3) for reading in power("grid", 400.0 * phase, phase=phase)]
    history = ListedHistory([*whole, *power("grid", 400.0, 1, phase=1)])
    rows = run(history, config, "grid")
    groups = [row for row in rows if row.level is Level.GROUP]
    assert [(row.net_wh, round(row.coverage, 3)) for row in groups] == [(600.0, 1.0), (100.0, 0.333)]


def test_the_other_phases_of_a_quarter_are_said_again_beside_one_that_changed() -> None:
    """A partner is told their sum, and a quarter of a day ago is remembered by nobody on the way to it."""
    history = ListedHistory([reading for n in (0, 1) for phase in (1, 2, 3) for reading in power("a", 400.0 * phase, n, phase=phase)])
    first = run(history, TWO, "a")
    history.add([Reading("a", FIRST + minutes(14.5), 12800.0, phase=2)])
    assets = [row for row in run(history, TWO, "a") if row.level is Level.ASSET]
    assert [(row.phase.value, row.revision, row.net_wh) for row in assets] == [("TWO", 2, 300.0), ("ONE", 1, 100.0), ("THREE", 1, 300.0)]
    assert {row.start for row in assets} == {from_ms(FIRST)}
    assert len({row.at for row in assets}) == 1
    assert {row.event_id for row in assets if row.revision == 1} < {row.event_id for row in first}
    assert run(history, TWO, "a") == []


def test_what_is_known_stays_where_the_history_has_nothing() -> None:
    """Missing is never zero: neither where readings are gone nor where some of them are."""
    history = ListedHistory([*power("a", 400.0), *power("a", 400.0, 1), *power("a", 400.0, 2)])
    run(history, TWO, "a")
    for at in [at for _, _, at in history.kept if at < FIRST + QUARTER + minutes(5)]:
        del history.kept["a", 0, at]
    history.add([Reading("a", FIRST + 2 * QUARTER + minutes(0.5), 0.0)])  # its quarter has all others: its neighbour may miss some
    [piece] = [piece for piece in repairer(history, TWO, CLOCK).run(Wanted({"a": [SPAN]})) if piece.tally]
    assert piece.rows == []
    assert (piece.tally[EMPTY], piece.tally[LOST]) == (1, 2)


def test_a_backfill_replaces_no_row_of_the_systems_own_time() -> None:
    history = ListedHistory([*power("a", 400.0), *power("b", 400.0)])
    run(history, TWO, "a", span=(FIRST, FIRST + QUARTER))
    before = dict(history.last)
    history.add([*power("a", 800.0, 1), Reading("a", FIRST + minutes(14.5), 0.0)])
    rows = run(history, TWO, "a", "b", origin=Origin.BACKFILL)
    assert said(rows) == [("a", 1, 200.0, 1), ("b", 0, 100.0, 1), ("g", 1, 200.0, 1)]
    assert {row.origin for row in rows} == {Origin.BACKFILL}
    assert all(history.last[place] is row for place, row in before.items())
    CLOCK.advance(timedelta(seconds=1))
    tallies = [piece.tally for piece in repairer(history, TWO, CLOCK).run(Wanted({"a": [SPAN], "b": [SPAN]}, Origin.BACKFILL))]
    assert sum(tally[OWN] for tally in tallies) == 2  # a's, and the group's
    assert [(row.id, row.revision) for row in run(history, TWO, "a", "b")] == [("a", 2), ("g", 2)]


def test_readings_that_do_not_count_are_left_out_and_told() -> None:
    config = site({"id": "a", "max_w": 1000.0})
    bad = [Reading("a", FIRST + minutes(1.5), 5000.0), Reading("a", FIRST + minutes(2.5), float("nan")), Reading("a", END + 10 * HOUR, 1.0)]
    history = ListedHistory([*power("a", 400.0), *bad, Reading("a", FIRST + minutes(3.5), 9.0, quality="BAD"), *power("stranger", 1.0)])
    [piece] = [piece for piece in repairer(history, config, CLOCK).run(Wanted({"a": [SPAN], "stranger": [SPAN]})) if piece.rows]
    assert [(row.id, row.net_wh, row.samples) for row in piece.rows] == [("a", 100.0, 15), ("g", 100.0, 15)]
    assert piece.left_out == {"power above the asset's max_w": 1, "non-finite value": 1}


def test_a_row_names_the_scope_of_its_quarter_whatever_was_written_before() -> None:
    content = truth(power("a", 100.0))["a", 0, FIRST]
    history = ListedHistory(power("a", 400.0), [asset_row("a", 0, FIRST, content, scope_id="elsewhere")])
    assert [row.scope_id for row in run(history, TWO, "a")] == ["s", "s"]


def test_rounding_is_no_difference() -> None:
    content = asset_row("a", 0, FIRST, truth(power("a", 400.0))["a", 0, FIRST]).model_dump()
    for name, other, different in [
        ("import_wh", 100.0 + 1e-8, False), ("import_wh", 100.0 + 1e-3, True), ("coverage", 0.5, True), ("samples", 16, True),
        ("min_w", None, True), ("stored_wh", None, False), ("reset", True, True), ("method", Method.REGISTER, True),
    ]:  # fmt: skip
        assert differs(content | {name: other}, content) is different, name
    far = content | {"import_register_wh": 1e12}
    assert not differs(far | {"import_wh": 100.0 + 5e-3}, far)


@law
@given(st.integers(0, 2**32), st.sampled_from([1, 40, 2_000]), st.sampled_from([1, 20, 1_000]))
def test_portions_change_no_row(seed: int, quarters: int, readings: int) -> None:
    found = stream(seed, 0, conflicts=False)
    rng = random.Random(seed)
    history = ListedHistory(found, written(truth([reading for reading in found if rng.random() < 0.8])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repairing, "QUARTERS_AT_ONCE", quarters)
        patch.setattr(repairing, "READINGS_AT_ONCE", readings)
        repaired(history, CONFIG, CLOCK, Wanted({f"asset-{n}": [(START - 2 * HOUR, END)] for n in range(3)}))
    want = truth(found)
    assert differences({place: row for place, row in rows_in(history).items() if place in want}, want) == []


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 300)), min_size=1, max_size=5), st.integers(1, 50))
def test_windows_hold_all_of_the_spans_and_no_window_twice(found: list[tuple[int, int]], size: int) -> None:
    spans = [(first, first + length) for first, length in found]
    made = list(windows(spans, size))
    assert made == sorted(set(made))
    assert all(until - first == size and first % size == 0 for first, until in made)
    wanted = {at for span in spans for at in range(*span)}
    hulls = [hull for window in made if (hull := hull_of(sorted(spans), window)) is not None]
    assert wanted <= {at for hull in hulls for at in range(*hull)}


def test_batches_are_whole_scopes_and_chunks_are_bounded() -> None:
    items = [{"id": f"{scope}-{n}", "scope_id": scope, "category": "STORAGE"} for scope in "xyz" for n in range(3)]
    config = Configuration.model_validate({"scopes": [{"id": scope} for scope in "xyz"], "assets": items})
    roster = Roster.of(config, CLOCK)
    spans = {asset.id: SPAN for asset in config.assets}
    assert [len(batch) for batch in batches(spans, roster, 6)] == [6, 3]
    assert [len(batch) for batch in batches(spans, roster, 1)] == [3, 3, 3]
    assert list(chunks(["a", "b", "c", "d"], {"a": 5, "b": 4, "c": 1, "d": 99}, 10)) == [["a", "b", "c"], ["d"]]
