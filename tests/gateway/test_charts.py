"""The drawn chart: what is where, what it says, and that every drawing is sound XML inside its frame."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chart_plane import NARROW, WIDE, Band, Bar, Drawing, Size, Step, fitted, window
from gateway.charts import scope_chart
from gateway.svg import gauge, ticks
from gateway.wording import ago, full, kw, kwh, moment, number, percent, zone_name
from schemas.intervals import QUARTER, quarters

PARIS = ZoneInfo("Europe/Paris")
START = datetime(2026, 10, 20, 8, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def drawing(
    *, bars: list[Bar] | None = None, steps: list[Step] | None = None, start: datetime = START, hours: int = 16, zone: ZoneInfo = PARIS
) -> Drawing:
    end = start + hours * HOUR
    return Drawing("c", "Title", "Words", zone, start, end, start + 4 * HOUR, bars or [], steps or [])


def drawn(picture: Drawing, size: Size = WIDE) -> ET.Element:
    return ET.fromstring(str(scope_chart(picture, size)))


def rects(root: ET.Element, look: str) -> list[tuple[float, float, float, float]]:
    found = [each for each in root.iter("rect") if look in (each.get("class") or "").split()]
    return [tuple(float(each.get(name) or 0) for name in ("x", "y", "width", "height")) for each in found]  # type: ignore[misc]


def times(root: ET.Element) -> list[str]:
    return [text for text in texts(root) if ":" in text and "now" not in text]


def lines(root: ET.Element, look: str) -> list[ET.Element]:
    return [each for each in root.iter("line") if set(look.split()) <= set((each.get("class") or "").split())]


def texts(root: ET.Element) -> list[str]:
    return [each.text or "" for each in root.iter("text")]


def test_import_stands_above_the_line_and_export_below() -> None:
    root = drawn(drawing(bars=[Bar(START, 2000, 0, "measured", "up"), Bar(START + QUARTER, 0, 1000, "measured", "down")]))
    (up,), (down,) = rects(root, "import"), rects(root, "export")
    zero = float(lines(root, "zero")[0].get("y1") or 0)
    assert up[1] + up[3] == pytest.approx(zero, abs=0.1)
    assert down[1] == pytest.approx(zero, abs=0.1)
    assert up[3] == pytest.approx(2 * down[3], abs=0.2)


def test_the_limit_is_a_stepped_line_named_where_it_begins() -> None:
    steps = [
        Step(START, START + 3 * HOUR, 4000, None, "forecast"),
        Step(START + 3 * HOUR, START + 9 * HOUR, 2500, None, "fallback"),
        Step(START + 11 * HOUR, START + 16 * HOUR, 2500, None, "held"),
    ]
    root = drawn(drawing(steps=steps))
    assert len(lines(root, "limit riser")) == 1
    assert len(lines(root, "limit fallback")) == 1
    assert [words for words in texts(root) if words.startswith("limit")] == ["limit 2.50\u00a0kW", "limit 4.00\u00a0kW"]


def test_a_limit_far_above_all_use_does_not_flatten_the_drawing() -> None:
    root = drawn(drawing(bars=[Bar(START, 500, 0, "measured", "")], steps=[Step(START, START + 16 * HOUR, 9000, None, "forecast")]))
    assert rects(root, "import")[0][3] > 100
    assert "limit 9.00\u00a0kW \u2191" in texts(root)
    assert lines(root, "limit forecast") == []


def test_the_running_quarter_is_outlined_up_to_its_projection() -> None:
    root = drawn(drawing(bars=[Bar(START, 1000, 0, "running risk", "so far", 3000, 0)]))
    (so_far,), (projected,) = rects(root, "import"), rects(root, "projected")
    assert projected[3] == pytest.approx(3 * so_far[3], rel=0.01)


def test_times_are_local_also_when_the_clock_changes() -> None:
    autumn = drawn(drawing(start=datetime(2026, 10, 24, 20, tzinfo=UTC), hours=12))
    assert times(autumn) == [
        "22:00",
        "00:00",
        "02:00",
        "02:00",
        "04:00",
        "06:00",
        "08:00",
    ]
    assert "Sun 25 Oct" in texts(autumn)
    kathmandu = drawn(drawing(zone=ZoneInfo("Asia/Kathmandu"), hours=6))
    assert times(kathmandu) == ["14:00", "15:00", "16:00", "17:00", "18:00", "19:00"]


def test_where_the_clocks_change_both_offsets_stand_and_hours_that_come_twice_are_written_twice() -> None:
    autumn = drawn(drawing(start=datetime(2026, 10, 24, 22, tzinfo=UTC), hours=25))
    assert times(autumn) == ["00:00", "02:00", "02:00", "03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00", "00:00"]
    assert [words for words in texts(autumn) if words[:1] == "+"] == ["+02", "+01"]
    spring = drawn(drawing(start=datetime(2026, 3, 28, 23, tzinfo=UTC), hours=23))
    assert "02:00" not in times(spring)
    assert [words for words in texts(spring) if words[:1] == "+"] == ["+01", "+02"]
    half = drawn(drawing(start=datetime(2026, 4, 4, 13, tzinfo=UTC), hours=24, zone=ZoneInfo("Australia/Lord_Howe")))
    assert [words for words in texts(half) if words[:1] == "+"] == ["+11", "+10:30"]
    assert lines(drawn(drawing(start=START, hours=12)), "clocks") == []


def test_a_breach_is_a_band_over_its_quarters_named_as_its_room_allows() -> None:
    def band(hours: float) -> list[str]:
        words = ("import breach 10:00\u201312:00, 0.5 kWh over", "breach, 0.5 kWh over", "breach")
        shown = replace(drawing(bars=[Bar(START, 2000, 0, "breached", "")]), bands=[Band(START, START + hours * HOUR, False, words, '<&"')])
        root = drawn(shown)
        (box,) = rects(root, "band")
        assert box[2] == pytest.approx(842 * hours / 16, abs=0.5)
        return [text for text in texts(root) if "breach" in text]

    assert [band(hours)[0].count(" ") for hours in (6, 3, 1)] == [5, 3, 0]
    assert band(0.25) == ["breach"]


watts = st.floats(0, 5e6, allow_nan=False)
limits = st.one_of(st.none(), watts)
looks = st.sampled_from(["measured", "breached", "unclosed risk", "running"])


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_every_drawing_is_sound_and_stays_in_its_frame(data: st.DataObject) -> None:
    starts = list(quarters(START - 2 * HOUR, START + 16 * HOUR))
    bars = [
        Bar(
            at,
            data.draw(watts),
            data.draw(watts),
            data.draw(looks),
            '<&"',
            data.draw(limits),
        )
        for at in data.draw(st.lists(st.sampled_from(starts), max_size=6, unique=True))
    ]
    steps, at = [], START - HOUR
    for _ in range(data.draw(st.integers(0, 4))):
        end = at + data.draw(st.integers(1, 20)) * QUARTER
        steps.append(Step(at, end, data.draw(limits), data.draw(limits), "forecast"))
        at = end
    size = data.draw(st.sampled_from([WIDE, NARROW]))
    root = drawn(drawing(bars=bars, steps=steps), size)
    for x, y, width, height in (box for look in ("import", "export", "projected", "label-ground") for box in rects(root, look)):
        assert size.left - 1 <= x <= x + width <= size.width
        assert size.top - 1 <= y <= y + height <= size.height - size.bottom + 1
    assert "nan" not in ET.tostring(root, encoding="unicode").lower()


@given(st.floats(-1e9, 0), st.floats(0.001, 1e9))
def test_ticks_are_few_round_and_inside(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 1 <= len(found) <= 8
    assert all(low - 1e-6 * (high - low) <= value <= high + 1e-6 * (high - low) for value in found)


def test_a_gauge_never_leaves_its_track() -> None:
    for value, bound, width in ((None, 10.0, "0.0"), (5.0, 10.0, "100.0"), (50.0, 10.0, "200.0"), (5.0, 0.0, "0.0"), (-5.0, 10.0, "0.0")):
        assert re.findall(r'class="fill" width="([\d.]+)"', str(gauge(value, bound, '<&"'))) == [width]
    assert "<&" not in gauge(1, 2, '<&"')


def test_a_window_begins_and_ends_on_quarters() -> None:
    start, end = window(START + timedelta(minutes=7), HOUR, HOUR)
    assert (start - START, end - START) == (-HOUR + QUARTER, HOUR + QUARTER)


def test_an_empty_beginning_is_left_out_but_six_hours_always_stay() -> None:
    start, end, least = START - 11 * HOUR, START + 5 * HOUR, 6 * HOUR

    def begins(first: datetime | None, zone: ZoneInfo = PARIS) -> timedelta:
        found, unchanged = fitted(start, end, first, zone, least)
        assert unchanged == end
        return found - START

    assert begins(None) == -11 * HOUR
    assert begins(START - 4 * HOUR + 2 * QUARTER) == -4 * HOUR
    assert begins(START - 4 * HOUR) == -4 * HOUR
    assert begins(START + HOUR) == -HOUR
    assert begins(start) == -11 * HOUR
    assert begins(START - 4 * HOUR, ZoneInfo("Asia/Kathmandu")) == -4 * HOUR - 3 * QUARTER


def boxes(root: ET.Element) -> dict[str, tuple[float, float]]:
    return {
        each.text or "": (float(each.get("x") or 0), float(each.get("y") or 0))
        for each in root.iter("text")
        if each.get("class") == "limit-label"
    }


def test_a_limits_words_stand_clear_of_bars_lines_and_each_other() -> None:
    now = START + 4 * HOUR
    tall = [Bar(now - number * QUARTER, 1500, 0, "breached", "") for number in range(1, 4)]
    steps = [
        Step(START, now - HOUR, 2500, None, "forecast"),
        Step(now - HOUR, now + 2 * QUARTER, 1000, None, "forecast"),
        Step(now + 2 * QUARTER, now + 12 * HOUR, 3500, None, "forecast"),
    ]
    picture = drawing(bars=tall, steps=steps)
    root = drawn(picture)
    here = boxes(root)
    assert len(here) == 3
    x, y = here["limit 1.00\u00a0kW"]
    assert x > float(lines(root, "now")[0].get("x1") or 0)
    assert y > float(lines(root, "limit forecast")[1].get("y1") or 0)  # below its line: above it stands the next limit's riser
    assert rects(root, "label-ground") == []


def test_a_limits_words_over_bars_have_a_ground_of_their_own() -> None:
    bars = [Bar(START + number * QUARTER, 2000, 0, "breached", "") for number in range(16)]
    steps = [Step(START, START + 3 * HOUR, 1000, None, "forecast"), Step(START + 3 * HOUR, START + 16 * HOUR, 1500, None, "forecast")]
    root = drawn(drawing(bars=bars, steps=steps))
    (ground,) = rects(root, "label-ground")
    x, y = boxes(root)["limit 1.00\u00a0kW"]
    assert ground[0] < x < ground[0] + ground[2]
    assert ground[1] < y < ground[1] + ground[3]


def test_figures_as_people_read_them() -> None:
    assert [kw(value) for value in (1791, 12_340, 250_000, -150, 0, None)] == [
        "1.79\u00a0kW", "12.3\u00a0kW", "250\u00a0kW", "\u22120.15\u00a0kW", "0.00\u00a0kW", "not known",
    ]  # fmt: skip
    assert number(-0.001) == "0.00"
    assert kwh(447.1) == "0.447\u00a0kWh"
    assert [percent(share) for share in (1, 0.999, 0.8667, 0.001, 0)] == ["100\u00a0%", "99\u00a0%", "87\u00a0%", "1\u00a0%", "0\u00a0%"]


def test_times_as_people_read_them() -> None:
    auckland = ZoneInfo("Pacific/Auckland")
    assert full(START, auckland) == "Tue 20 Oct 2026, 21:00:00 NZDT"
    assert zone_name(START, ZoneInfo("Asia/Dubai")) == "UTC+04"
    assert moment(START, PARIS, START + HOUR) == "10:00:00"
    assert moment(START - timedelta(days=1), PARIS, START) == "Mon 19 Oct 10:00:00"
    distances = (timedelta(0), timedelta(seconds=40), timedelta(minutes=130), timedelta(days=-3))
    assert [ago(START, START + each) for each in distances] == ["now", "40\u00a0s ago", "2\u00a0h 10\u00a0min ago", "in 3\u00a0d"]
