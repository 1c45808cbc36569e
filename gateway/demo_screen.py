"""What the demo shows in the terminal: a compact table while it runs, the verdict at the end."""

from collections import Counter
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.progress_bar import ProgressBar
from rich.table import Table

from gateway.demo_report import Story
from gateway.replay import Progress
from schemas.compliance import BreachState
from schemas.outbound import Outcome
from schemas.telemetry import Level


def _kw(watts: float | None) -> str:
    return "unknown" if watts is None else f"{watts / 1000:g} kW"


def screen(story: Story, progress: Progress, now: datetime, link: str) -> Group:
    """The table of the moment."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    table.add_row("clock", f"{now:%Y-%m-%d %H:%M} UTC")
    table.add_row("connection", _connection(story))
    asset_rows = [row for (level, _, _), row in story.quarters.items() if level is Level.ASSET]
    last = max((row.start for row in asset_rows), default=None)
    table.add_row("quarter hours", f"{len(asset_rows)} measured" + (f", the last {last:%H:%M}" if last else ""))
    table.add_row("circuit", _circuit(story))
    table.add_row("breaches", _breaches(story))
    table.add_row("messages", _messages(story))
    table.add_row("page", f"[link={link}]{link}[/link]")
    bar = ProgressBar(total=max(progress.total, 1), completed=progress.sent, width=50)
    return Group(table, bar)


def _connection(story: Story) -> str:
    if story.connection is None:
        return "not known yet"
    colour = "green" if story.connection.state.value == "ONLINE" else "yellow"
    return f"[{colour}]{story.connection.state.value}[/{colour}]"


def _circuit(story: Story) -> str:
    if not story.circuits:
        return "nothing received yet"
    last = story.circuits[-1]
    values = f"{_kw(last.available_import_w)} import, {_kw(last.available_export_w)} export"
    return f"{values} available since {last.effective_from:%H:%M} ({len(story.circuits)} changes)"


def _breaches(story: Story) -> str:
    if not story.breaches:
        return "none"
    return "; ".join(
        f"{'[red]open[/red]' if breach.state in (BreachState.OPENED, BreachState.CONTINUED) else breach.state.value.lower()}"
        f" {breach.first_quarter:%H:%M}, {breach.quarters} quarters, peak {_kw(breach.peak_mean_w)}, {breach.energy_over_wh:.0f} Wh over"
        for breach in story.breaches.values()
    )


def _messages(story: Story) -> str:
    delivered = Counter(d.action for d in story.deliveries.values() if d.outcome is Outcome.DELIVERED and d.status == 204)
    others = Counter(d.outcome.value.lower() for d in story.deliveries.values() if d.outcome is not Outcome.DELIVERED)
    words = [f"{count} {action}" for action, count in sorted(delivered.items())]
    return (f"answered with 204: {', '.join(words)}" if words else "none delivered yet") + (f"; {dict(others)}" if others else "")


def closing(console: Console, report: dict[str, Any], seconds: float) -> None:
    """The verdict."""
    verdict = report["verdict"]
    quarters = sum(len(rows) for rows in report["quarters"].values())
    rows = ", ".join(f"{count} {name}" for name, count in report["history_rows"].items())
    console.print(f"history: {rows}")
    if verdict["ok"]:
        console.print(f"[green]as the recording's truth says[/green]: {quarters} asset quarters, told in {seconds:.0f} s")
    for line in [*verdict["differences"], *verdict["untold"]]:
        console.print(f"[red]not right[/red]: {line}")
    console.print(report["attribution"], style="dim")
