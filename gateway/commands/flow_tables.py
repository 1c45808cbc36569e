"""How dataflows stand, for a terminal: what `derms status` shows of `/status`'s `flows`."""

from collections.abc import Callable
from datetime import date
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from gateway.commands.tables import moment, plain, table
from gateway.wording import delay

RUNNING = "running"


def flows_view(flows: list[dict[str, Any]], today: date, *, partitions: bool) -> list[RenderableType]:
    """A line for each flow, what is wrong with its workers in words, and, if asked, its workers and partitions one by one."""
    if not flows:
        return []
    columns = ("flow", "state", "readings/s", "messages behind", "event time behind", "workers")
    parts: list[RenderableType] = [table("flows", [_flow(flow) for flow in flows], columns)]
    for flow in flows:
        parts += [_trouble(flow["flow"], worker) for worker in flow["workers"] if worker["state"] != RUNNING]
        if partitions:
            name = flow["flow"]
            parts.append(table(f"{name}: workers", [_worker(worker, today) for worker in flow["workers"]], _WORKER))
            parts.append(table(f"{name}: partitions", [_partition(each, today) for each in flow["partitions"]], _PARTITION))
    return parts


_WORKER = ("worker", "since", "report", "readings/s", "where the time goes")
_PARTITION = ("topic", "partition", "worker", "position", "messages behind", "event time", "behind")


def _trouble(flow: str, worker: dict[str, Any]) -> Text:
    return Text(f"{flow}, worker {worker['worker']}: {plain(worker['words'])}", style="bold yellow")


def _flow(flow: dict[str, Any]) -> dict[str, Any]:
    return {
        "flow": flow["flow"],
        "state": flow["state"],
        "readings/s": _number(flow["readings_per_s"]),
        "messages behind": _worst(_number(flow["lag"]), flow["partitions"], "lag", _number),
        "event time behind": _worst(_seconds(flow["behind_s"]), flow["partitions"], "behind_s", _seconds),
        "workers": len(flow["workers"]),
    }


def _worst(total: str, partitions: list[dict[str, Any]], name: str, words: Callable[[float], str]) -> str:
    """The figure of the whole flow, and the partition that stands out in it, if one does."""
    known = sorted((each[name] for each in partitions if each[name] is not None), reverse=True)
    if len(known) < 2 or known[0] < 2 * known[1] + 1:
        return total
    worst = next(each for each in partitions if each[name] == known[0])
    figure = "" if total == words(known[0]) else f"{words(known[0])} "
    return f"{total} ({figure}on {worst['partition']})"


def _worker(worker: dict[str, Any], today: date) -> dict[str, Any]:
    stages = [each for each in worker["stages"] if each["share"] is not None]
    return {
        "worker": worker["worker"],
        "since": moment(worker["started_at"], today),
        "report": f"{_seconds(worker['report_age_s'])} ago",
        "readings/s": _number(worker["readings_per_s"]),
        "where the time goes": ", ".join(f"{each['stage']} {100 * each['share']:.0f} %" for each in stages),
    }


def _partition(each: dict[str, Any], today: date) -> dict[str, Any]:
    return {
        **each,
        "messages behind": _number(each["lag"]),
        "event time": moment(each["watermark"], today),
        "behind": _seconds(each["behind_s"]),
    }


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else delay(value)
