"""Breaches in a chart: bands behind the bars, named where there is room. Pure."""

from collections.abc import Iterator

from markupsafe import escape

from gateway.chart_plane import LETTER, WORDS, Band, Box, Drawing, Plane
from gateway.svg import rect, text

_AIR = 3.0


def bands(plane: Plane, drawing: Drawing) -> Iterator[str]:
    """The grounds of the breaches, from the line of nothing to the edge of their direction's half."""
    zero = plane.y(0)
    top, floor = plane.size.top, plane.size.height - plane.size.bottom
    for band in drawing.bands:
        x, width = plane.x(band.start), plane.x(band.end) - plane.x(band.start)
        low, high = (zero, floor) if band.exports else (top, zero)
        yield rect(x, low, width, high - low, "band", f"<title>{escape(band.words)}</title>")


def band_words(plane: Plane, drawing: Drawing) -> Iterator[str]:
    """The bands' names; one without room goes without, it is in the list below the drawing."""
    for box, words in _named(plane, drawing):
        yield text(box.left, box.bottom - 3, words, "band-label", "start")


def band_boxes(plane: Plane, drawing: Drawing) -> Iterator[Box]:
    """The room the bands' names take, for other words to stay out of."""
    for box, _ in _named(plane, drawing):
        yield box


def _named(plane: Plane, drawing: Drawing) -> Iterator[tuple[Box, str]]:
    edge = plane.size.width - plane.size.right
    for exports in (False, True):
        row = sorted((band for band in drawing.bands if band.exports is exports), key=lambda band: band.start)
        ends = [plane.x(following.start) for following in row[1:]]
        for band, end in zip(row, [*ends, float(edge)], strict=False):
            named = _place(plane, band, end)
            if named is not None:
                yield named


def _place(plane: Plane, band: Band, end: float) -> tuple[Box, str] | None:
    """Where the longest name that fits into the band stands, else the shortest, if that ends before `end`."""
    left = plane.x(band.start) + _AIR
    y = plane.size.height - plane.size.bottom - 4 if band.exports else plane.size.top + 11
    rooms = [(words, LETTER * len(words)) for words in band.label]
    within = next(((words, room) for words, room in rooms if left + room <= min(plane.x(band.end), end)), None)
    found = within or next(((words, room) for words, room in reversed(rooms) if left + room <= end), None)
    return None if found is None else (Box(left, y - 10, left + found[1], y + 3, WORDS), found[0])
