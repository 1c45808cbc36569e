"""The limits in a chart: stepped lines, and their values named where nothing else stands. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import escape

from gateway.chart_bands import band_boxes
from gateway.chart_plane import LETTER, WORDS, Box, Drawing, Plane, Step
from gateway.svg import line, rect, text
from gateway.wording import kw

NARROW_STEP = 24
"""A limit shorter than so much of the drawing's width is not named, unless it is the one in force."""
LINES, BARS = 100.0, 10.0
"""How bad it is for a label to lie over a line, over a bar."""


@dataclass(frozen=True, slots=True)
class _Way:
    """The limits of one direction: `sign` is that of its ordinates, `bound` the largest value in sight."""

    steps: tuple[Step, ...]
    sign: float
    bound: float

    def value(self, step: Step) -> float:
        """The step's limit in this direction, in W."""
        return (step.import_w if self.sign > 0 else step.export_w) or 0.0

    def kind(self, step: Step) -> str:
        """Why the step's limit holds in this direction."""
        return step.kind if self.sign > 0 else step.export_kind or step.kind

    def runs(self) -> Iterator[tuple[Step, Step | None]]:
        """The steps in sight, each with the one it follows at once."""
        previous: Step | None = None
        for step in self.steps:
            if self.value(step) > self.bound:
                previous = None
                continue
            yield step, previous if previous is not None and previous.end == step.start else None
            previous = step


def _ways(plane: Plane, drawing: Drawing) -> list[_Way]:
    shown = [step for step in drawing.steps if step.end > drawing.start and step.start < drawing.end]
    imports = tuple(step for step in shown if step.import_w is not None and plane.high > 0)
    exports = tuple(step for step in shown if step.export_w is not None and plane.low < 0)
    return [_Way(imports, 1.0, plane.high), _Way(exports, -1.0, -plane.low)]


def limits(plane: Plane, drawing: Drawing) -> Iterator[str]:
    """The limits of both directions as stepped lines; those out of sight are left out."""
    for way in _ways(plane, drawing):
        for step, previous in way.runs():
            y = plane.y(way.sign * way.value(step))
            yield line(plane.x(step.start), y, plane.x(step.end), y, f"limit {escape(way.kind(step))}")
            if previous is not None and way.value(previous) != way.value(step):
                x = plane.x(step.start)
                yield line(x, plane.y(way.sign * way.value(previous)), x, y, "limit riser")


def labels(plane: Plane, drawing: Drawing) -> Iterator[str]:
    """The limits' values in words, the one in force first; a limit that has no room goes without, it is in the table.

    Where only bars are in the way, the words stand on a ground of their own.
    """
    taken = list(_obstacles(plane, drawing))
    for way in _ways(plane, drawing):
        changes = [step for at, step in enumerate(way.steps) if at == 0 or way.value(way.steps[at - 1]) != way.value(step)]
        for step in sorted(changes, key=lambda step: not step.start <= drawing.now < step.end):
            in_force = step.start <= drawing.now < step.end
            if not in_force and plane.x(step.end) - plane.x(step.start) < NARROW_STEP:
                continue
            out = way.value(step) > way.bound
            words = f"{step.name} {kw(way.value(step))}".lstrip() + ("" if not out else " \u2191" if way.sign > 0 else " \u2193")
            places = list(_places(plane, drawing, way, step, LETTER * len(words)))
            costs = [sum(other.cost for other in taken if other.meets(place)) for place in places]
            best = min(range(len(places)), key=lambda index: costs[index])
            place = places[best]
            if costs[best] >= (WORDS if in_force else LINES):
                continue
            if costs[best] >= BARS:
                yield rect(place.left - 3, place.top - 1, place.right - place.left + 4, place.bottom - place.top + 2, "label-ground")
            yield text(place.left, place.bottom - 3, words, "limit-label", "start")
            taken.append(Box(place.left - 6, place.top, place.right + 6, place.bottom, WORDS))


def _places(plane: Plane, drawing: Drawing, way: _Way, step: Step, room: float) -> Iterator[Box]:
    """Where a step's label may stand, the best first: ahead of now, where no bars are, then along its line, then beside its end."""
    size = plane.size
    edge, floor = size.width - size.right, size.height - size.bottom
    left, right, now = plane.x(step.start), plane.x(step.end), plane.x(drawing.now)
    value = way.value(step)
    y = plane.y(way.sign * min(value, way.bound))
    inwards = value > way.bound
    heights = [y - 6, y + 13] if (way.sign > 0) != inwards else [y + 13, y - 6]
    heights = [height for height in heights if size.top <= height - 10 and height + 3 <= floor] or [min(max(y, size.top + 10), floor - 3)]
    ahead = [now + 8] if step.start <= drawing.now < step.end and now + 8 < right else []
    along = [left + 5 + 8 * index for index in range(max(1, int((right - left - room) // 8) + 1))]
    for x in (*ahead, *along):
        for height in heights:
            yield _box(min(x, edge - room), height, room)
    if right + 6 + room < edge:
        yield _box(right + 6, min(max(y + 4, size.top + 10), floor - 3), room)


def _box(x: float, y: float, room: float) -> Box:
    """The box of words of width `room` whose base line begins at (x, y)."""
    return Box(x, y - 10, x + room, y + 3, WORDS)


def _obstacles(plane: Plane, drawing: Drawing) -> Iterator[Box]:
    """What labels should not cover: bars with their projections, the limits' lines and the line of now."""
    yield from band_boxes(plane, drawing)
    zero = plane.y(0)
    for bar in drawing.bars:
        x, width = plane.bar(bar)
        top = plane.y(max(bar.import_w, bar.projected_import_w or 0.0))
        bottom = plane.y(-max(bar.export_w, bar.projected_export_w or 0.0))
        if bottom > top:
            yield Box(x, min(top, zero), x + width, max(bottom, zero), BARS)
    for way in _ways(plane, drawing):
        for step, previous in way.runs():
            x, y = plane.x(step.start), plane.y(way.sign * way.value(step))
            yield Box(x, y - 1, plane.x(step.end), y + 1, LINES)
            if previous is not None:
                before = plane.y(way.sign * way.value(previous))
                yield Box(x - 1, min(y, before), x + 1, max(y, before), LINES)
    if drawing.start <= drawing.now < drawing.end:
        now = plane.x(drawing.now)
        yield Box(now - 1, plane.size.top, now + 1, plane.size.height - plane.size.bottom, LINES / 2)
