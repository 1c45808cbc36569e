"""Tables and cells for a terminal."""

from datetime import UTC, date, datetime
from typing import Any

from rich.table import Table
from rich.text import Text


def plain(value: Any) -> Text:
    """A cell: nothing for None, and neither markup nor control characters, whoever wrote the words."""
    return Text("" if value is None else "".join(each if each.isprintable() else " " for each in str(value)))


def moment(instant: str | None, today: date | None = None) -> str:
    """`2026-10-20 10:15:00Z` of an RFC 3339 instant, on `today` without its date; `-` for none."""
    if instant is None:
        return "-"
    found = datetime.fromisoformat(instant).astimezone(UTC)
    return f"{found:%H:%M:%S}Z" if found.date() == today else f"{found:%Y-%m-%d %H:%M:%S}Z"


def table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> Table:
    """A table of plain cells; columns are keys of the rows."""
    made = Table(*columns, title=title, title_justify="left")
    for row in rows:
        made.add_row(*(plain(row.get(name)) for name in columns))
    return made
