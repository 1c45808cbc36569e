from datetime import timedelta
from importlib.resources import files

import pytest

from gateway.demo_platform import unwritten
from gateway.demo_report import Story, Truth, differences, read_truth, report, untold
from schemas.telemetry import Level, Method, QuarterHour
from tests.builders import T0
from tests.sinks.circuit_world import change


def row(import_wh: float, revision: int = 1, provisional: bool = False) -> QuarterHour:
    return QuarterHour(
        event_id=f"e{revision}",
        at=T0,
        level=Level.ASSET,
        id="a",
        start=T0,
        import_wh=import_wh,
        export_wh=0,
        net_wh=import_wh,
        mean_w=import_wh * 4,
        samples=15,
        coverage=1,
        method=Method.POWER,
        revision=revision,
        provisional=provisional,
    )


TRUTH = [Truth("a", T0, 1000.0, 0.0)]


@pytest.mark.parametrize(("got", "wrong"), [(1000.0, False), (1000.9, False), (1001.1, True), (998.9, True)])
def test_a_quarter_may_differ_by_a_thousandth(got: float, wrong: bool) -> None:
    story = Story()
    story.take(row(got))
    assert bool(differences(story, TRUTH)) is wrong


def test_the_highest_revision_counts_and_provisional_rows_do_not() -> None:
    story = Story()
    for value in (row(1000, revision=2), row(1, revision=1), row(5, revision=0, provisional=True)):
        story.take(value)
    assert differences(story, TRUTH) == []


def test_a_missing_quarter_is_a_difference() -> None:
    assert differences(Story(), TRUTH) == ["a 2026-10-20T10:00:00.000Z: no row, truth has 1000 Wh import, 0 Wh export"]


def test_an_empty_story_is_not_told() -> None:
    found = untold(Story(), {"problems": ["bad token"]}, {"problems": ["a: no key"]})
    assert "no breach was opened" in found
    assert "the partner found: bad token" in found
    assert "the circuit platform found: a: no key" in found
    assert report(Story(), TRUTH, {}, {}, {}, "x")["verdict"]["ok"] is False


def test_the_circuit_platform_has_to_have_the_last_change_of_each_circuit() -> None:
    changes = [change(5, 2000.0), change(1, 7.0), change(5, 1000.0, "b")]  # an older one said again comes later
    has = {"id": "feeder-17", "available_import_kw": 2.0, "available_export_kw": 4.0, "effective_from": "2026-10-20T10:05:00.000Z"}
    assert unwritten(changes[:2], {"circuits": [has]}) == []
    assert unwritten(changes, {"circuits": [has]}) == ["the circuit platform was told nothing of b"]
    assert "has 7 kW import" in unwritten(changes[:2], {"circuits": [{**has, "available_import_kw": 7}]})[0]
    assert "a value of x" in unwritten(changes[:2], {"circuits": [{**has, "effective_from": "x"}]})[0]


def test_the_demo_carries_its_truth() -> None:
    truth = read_truth(files("gateway").joinpath("demo_data", "truth.csv").read_text())
    assert len(truth) > 60
    assert max(t.start for t in truth) - min(t.start for t in truth) > timedelta(hours=4)
