"""How dataflows stand, made of what their workers reported: the picture, the status, the metrics, the terminal."""

import io
import re
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from gateway.auth import Role
from gateway.commands.watching import status_view
from gateway.flow_metrics import FLOW_CATALOGUE
from gateway.flow_status import FlowView, WorkerState, flow_views
from gateway.metrics import exposition
from gateway.picture import KEEP_REPORTS, Picture
from gateway.projection import fold
from pipelines.records import Record
from schemas.clock import FrozenClock
from schemas.flows import StageTime
from tests.gateway.facts import NOW, WALL, report, reported
from tests.gateway.operations_world import World

MINUTE = timedelta(minutes=1)


def picture_of(records: Iterable[Record]) -> Picture:
    picture = Picture()
    for each in records:
        fold(picture, each)
    return picture


def steady() -> list[Record]:
    """A worker that takes 1,000 readings a second."""
    return [reported(report(ago, 90_000 - 1_000 * ago), ago) for ago in (30, 20, 10, 0)]


def views(records: Iterable[Record], *, speed: float = 1) -> list[FlowView]:
    return flow_views(picture_of(records), FrozenClock(NOW, speed), WALL, MINUTE)


def samples(records: Iterable[Record], name: str, *, later: timedelta = timedelta(0)) -> dict[tuple[str, ...], float]:
    picture = picture_of(records)
    text = exposition(picture, NOW + later, flow_views(picture, FrozenClock(NOW + later), WALL + later, MINUTE)).decode()
    family = next(family for family in text_string_to_metric_families(text) if family.name == name)
    labels = next(metered.labels for metered in FLOW_CATALOGUE if metered.name == name)
    return {tuple(sample.labels[label] for label in labels): sample.value for sample in family.samples}


def shown(found: dict[str, Any], **options: bool) -> str:
    written = io.StringIO()
    Console(file=written, width=100).print(status_view(found, **options))
    return written.getvalue()


def test_the_picture_keeps_the_last_reports_of_an_instance() -> None:
    records = [reported(report(ago, 0), ago) for ago in range(60, 0, -5)]
    picture = picture_of([*records, records[-1]])
    found = picture.flows["telemetry/0"]
    assert len(found) == KEEP_REPORTS
    assert [each.at for each in found] == [WALL - timedelta(seconds=ago) for ago in range(5, 5 * KEEP_REPORTS + 1, 5)]
    anew = report(0, 7, started_at=WALL)
    fold(picture, reported(anew))
    assert [each.report for each in picture.flows["telemetry/0"]] == [anew]


def test_a_steady_flow() -> None:
    (flow,) = views(steady())
    assert (flow.flow, flow.state, flow.readings_per_s, flow.lag, flow.behind_s) == ("telemetry", "running", 1_000.0, 0, 64.0)
    (worker,) = flow.workers
    assert (worker.worker, worker.words, worker.report_age_s) == ("0", "", 0.0)
    (stage,) = worker.stages
    assert (stage.stage, stage.share) == ("decode", pytest.approx(0.001))
    assert [(each.partition, each.worker, each.lag, each.behind_s) for each in flow.partitions] == [(0, "0", 0, 62.0), (1, "0", 0, 64.0)]


def test_the_first_report_has_no_rate_yet() -> None:
    (flow,) = views(steady()[:1])
    assert flow.readings_per_s is None
    assert flow.workers[0].stages[0].share is None


def test_nothing_known_is_nothing_made_up() -> None:
    assert views([]) == []
    (flow,) = views([reported(report(0, 0, lags=(None, 4), behind_s=(None, None)))])
    assert (flow.lag, flow.behind_s) == (4, None)
    assert [(each.partition, each.worker, each.watermark) for each in flow.partitions] == [(0, None, None), (1, "0", None)]


def lagging(waits: int, behind_s: float) -> list[Record]:
    said = {"lags": (0, waits), "behind_s": (62, behind_s)}
    return [reported(report(ago, 1_000, **said), ago) for ago in (5, 0)]  # type: ignore[arg-type]


def test_messages_that_wait_while_event_time_is_old_are_a_lag() -> None:
    (flow,) = views(lagging(1_250, 500))
    assert (flow.state, flow.lag) == (WorkerState.LAGGING, 1_250)
    assert flow.workers[0].words == "1,250 messages wait at the broker, event time is 500 s behind the clock"
    for fine in (lagging(1_250, 119), lagging(0, 500), lagging(1_250, 500)[1:]):
        assert views(fine)[0].state is WorkerState.RUNNING


def test_the_allowances_of_a_fast_clock_are_wall_time() -> None:
    (flow,) = views(lagging(1_250, 500), speed=240)
    assert flow.state is WorkerState.RUNNING


def test_a_worker_that_does_not_report_is_silent_and_has_no_rate() -> None:
    (flow,) = views([reported(report(50, 1_000), 50), reported(report(45, 6_000), 45)])
    assert (flow.state, flow.readings_per_s) == (WorkerState.SILENT, None)
    assert flow.workers[0].words == "no report for 45 s: it does not run, or does not reach the broker"


def test_a_worker_that_was_stopped_says_so() -> None:
    (flow,) = views([reported(report(600, 1_000, ended=True), 600)])
    assert (flow.state, flow.workers[0].words) == (WorkerState.STOPPED, "has been stopped")


def test_a_cluster_adds_up_and_its_event_time_is_the_slowest_workers() -> None:
    first = [reported(report(ago, 20_000 - 1_000 * ago, lags=(10, None), behind_s=(62, 70)), ago) for ago in (10, 0)]
    other = [reported(report(ago, 9_000 - 500 * ago, worker="1", lags=(None, 30), behind_s=(80, 64)), ago + 1) for ago in (10, 0)]
    (flow,) = views([*first, *other])
    assert (flow.readings_per_s, flow.lag, flow.behind_s) == (1_500.0, 40, 80.0)
    assert [(each.partition, each.worker, each.lag, each.behind_s) for each in flow.partitions] == [(0, "0", 10, 80.0), (1, "1", 30, 70.0)]


def test_a_worker_whose_partitions_others_read_now_is_gone() -> None:
    gone = reported(report(600, 5_000, worker="1", lags=(None, 9), behind_s=(660, 660)), 600)
    (flow,) = views([gone, *steady()])
    assert [worker.worker for worker in flow.workers] == ["0"]
    assert (flow.state, flow.lag, flow.behind_s) == ("running", 0, 64.0)
    still = reported(report(0, 5_000, lags=(0, None)), 0)
    (flow,) = views([gone, still])
    assert [(worker.worker, worker.state) for worker in flow.workers] == [("0", "running"), ("1", "silent")]
    ended = reported(report(600, 5_000, worker="1", ended=True, lags=(None, 9), behind_s=(660, 660)), 600)
    (flow,) = views([ended, still])
    assert [worker.worker for worker in flow.workers] == ["0"]


def test_a_stopped_worker_does_not_hold_event_time_back_while_it_is_still_shown() -> None:
    ended = reported(report(20, 5_000, worker="1", ended=True, behind_s=(400, 400)), 20)
    (flow,) = views([ended, reported(report(0, 1_000))])
    assert flow.behind_s == 64.0
    assert [worker.state for worker in flow.workers] == ["running", "stopped"]


def test_metrics_are_those_of_each_worker() -> None:
    records = [*steady(), reported(report(0, 500, worker="1", lags=(None, None), behind_s=(None, None)))]
    items = samples(records, "derms_flow_items")
    assert items["telemetry", "0", "readings", "taken"] == 90_000
    assert items["telemetry", "1", "readings", "taken"] == 500
    assert items["telemetry", "0", "readings", "unknown asset"] == 15
    assert samples(records, "derms_flow_lag_messages") == {("telemetry", "0", "derms.telemetry", str(n)): 0 for n in (0, 1)}
    assert samples(records, "derms_flow_watermark_delay_seconds")["telemetry", "0", "derms.telemetry", "1"] == 64
    assert samples(records, "derms_flow_stage_seconds")["telemetry", "0", "decode"] == 0.09
    assert samples(records, "derms_flow_stage_longest_seconds")["telemetry", "0", "decode"] == 0.012
    assert samples(records, "derms_flow_report_age_seconds", later=timedelta(seconds=7))["telemetry", "0"] == 7
    states = samples(records, "derms_flow_worker_state")
    assert [states["telemetry", "0", state.value] for state in WorkerState] == [1, 0, 0, 0]
    assert samples(records, "derms_flow_start_timestamp_seconds")["telemetry", "0"] == (WALL - timedelta(hours=2)).timestamp()


def test_a_restart_is_a_counters_reset() -> None:
    before = [reported(report(60, 90_000), 60)]
    after = [*before, reported(report(0, 4_000, started_at=WALL))]
    key = ("telemetry", "0", "readings", "taken")
    assert samples(before, "derms_flow_items")[key] == 90_000
    assert samples(after, "derms_flow_items")[key] == 4_000


def test_event_time_is_measured_when_it_is_reported_and_grows_once_nobody_reports() -> None:
    """On a fast clock the seconds since the report would be hours."""

    def delay(later_s: float) -> float:
        found = samples(steady(), "derms_flow_watermark_delay_seconds", later=timedelta(seconds=later_s))
        return found["telemetry", "0", "derms.telemetry", "1"]

    assert [delay(later) for later in (0, 15, 30, 40, 400)] == [64, 64, 64, 104, 464]


def test_bytes_are_told_where_they_are_known() -> None:
    stages = [StageTime(stage="decode", runs=3, seconds=1), StageTime(stage="snapshot", runs=4, seconds=0.5, size_bytes=2_000)]
    records = [reported(report(0, 0, stages=stages))]
    assert samples(records, "derms_flow_stage_bytes") == {("telemetry", "0", "snapshot"): 2_000}
    assert samples(records, "derms_flow_stage_runs") == {("telemetry", "0", "decode"): 3, ("telemetry", "0", "snapshot"): 4}


def status_of(tmp_path: Path, records: Iterable[Record]) -> dict[str, Any]:
    world = World(tmp_path, records=list(records))
    assert world.ask("GET", "/health/ready").status_code == 200  # whatever flows say
    answer: dict[str, Any] = world.ask("GET", "/api/v1/status", Role.VIEWER).json()
    return answer


def line(text: str, start: str) -> list[str]:
    found = next(each for each in text.splitlines() if each.strip("│ ").startswith(start))
    return [cell.strip() for cell in found.strip("│").split("│")]


def test_the_status_shows_a_line_a_flow(tmp_path: Path) -> None:
    found = status_of(tmp_path, steady())
    assert found["flows"][0]["readings_per_s"] == 1_000
    text = shown(found)
    assert line(text, "telemetry") == ["telemetry", "running", "1,000", "0", "64 s", "1"]
    assert "partitions" not in text
    assert "…" not in text


def test_every_partition_is_shown_where_it_is_asked_for(tmp_path: Path) -> None:
    text = shown(status_of(tmp_path, steady()), partitions=True)
    assert line(text, "derms.telemetry │ 1") == ["derms.telemetry", "1", "0", "45000", "0", "18:25:36Z", "64 s"]
    assert line(text, "0 ")[1:] == ["2026-06-09 16:26:40Z", "0 s ago", "1,000", "decode 0 %"]
    assert "…" not in text


def test_the_partition_that_stands_out_is_named(tmp_path: Path) -> None:
    lags, behind = (800, 10, 5), (90.0, 62.0, 4_000.0)
    records = [reported(report(ago, 0, lags=lags, behind_s=behind), ago) for ago in (5, 0)]
    assert line(shown(status_of(tmp_path, records)), "telemetry")[3:5] == ["815 (800 on 0)", "1 h 6 min (on 2)"]


def test_a_silent_worker_is_said_aloud_and_changes_nothing_about_health(tmp_path: Path) -> None:
    found = status_of(tmp_path, [reported(report(45, 6_000), 45)])
    assert found["ready"] is True
    text = shown(found)
    assert "telemetry, worker 0: no report for 45 s: it does not run, or does not reach the broker" in text
    assert line(text, "telemetry")[:3] == ["telemetry", "silent", "-"]


def test_a_lagging_worker_is_said_aloud(tmp_path: Path) -> None:
    text = shown(status_of(tmp_path, lagging(1_250, 500)))
    assert "telemetry, worker 0: 1,250 messages wait at the broker, event time is 500 s behind the clock" in text


def test_without_reports_there_is_no_table(tmp_path: Path) -> None:
    found = status_of(tmp_path, [])
    assert found["flows"] == []
    assert "flows" not in shown(found)


def page_of(tmp_path: Path, records: Iterable[Record]) -> str:
    html = World(tmp_path, records=list(records)).ask("GET", "/", Role.VIEWER).text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html).replace("\u00a0", " ").replace("\u2009", " "))


def test_the_page_has_a_line_a_flow(tmp_path: Path) -> None:
    text = page_of(tmp_path, steady())
    assert "Dataflow telemetry: 1 000 readings a second, no message waiting, event time 64 s behind the clock." in text
    assert "worker" not in text
    assert "Dataflow" not in page_of(tmp_path, [])


def test_the_page_says_what_is_wrong_with_a_flow(tmp_path: Path) -> None:
    other = [reported(report(ago, 5, worker="1", lags=(None, None, 3), behind_s=(None,) * 3), ago) for ago in (50, 45)]
    text = page_of(tmp_path, [*lagging(1_250, 500), *other])
    assert "Dataflow telemetry, worker 0: 1,250 messages wait at the broker, event time is 500 s behind the clock." in text
    assert "Dataflow telemetry, worker 1: no report for 45 s: it does not run, or does not reach the broker." in text
    assert "1 253 messages waiting, event time 500 s behind the clock" in text
