"""Has everything that is compiled compiled (or read from where it was kept) before the first reading comes.

Compiling takes some ten seconds, once for a version of the program and a kind of processor: `make install` and the image
do it, and so does the telemetry flow before it says that it is ready. With nothing left to compile it takes a fraction of a second.
"""

from datetime import UTC, datetime, timedelta

from pipelines.meters import Meters
from pipelines.records import Poll, Run
from pipelines.rules.quarter_roster import Rosters
from pipelines.telemetry_intake import DeadLetterLimit, Intake, uncounted
from pipelines.telemetry_shards import GroupLogic, ShardLogic
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.telemetry import Measurement, MeasurementBatch
from schemas.units import Phase
from sinks.codec import encode

_START = datetime(2026, 1, 1, tzinfo=UTC)


def prepare() -> None:
    """Take a made-up hour through the telemetry flow's parts. Blocks while anything is being compiled."""
    clock = FrozenClock(_START + timedelta(days=1))
    config = Configuration.model_validate(
        {
            "scopes": [{"id": "sum"}, {"id": "metered"}],
            "assets": [
                {"id": "a", "scope_id": "sum", "category": "CONSUMPTION"},
                {"id": "b", "scope_id": "metered", "category": "CONSUMPTION", "connection_meter": True},
            ],
            "partners": [{"id": "partner", "name": "Partner"}],
            "groups": [{"partner_id": "partner", "group_id": scope, "scope_id": scope} for scope in ("sum", "metered")],
        }
    )
    rosters = Rosters(lambda: config, clock)
    intake = Intake(rosters, 1, DeadLetterLimit(), uncounted)
    meters = Meters("telemetry", clock=clock)
    shard, group = ShardLogic(None, rosters, None, meters), GroupLogic(None, rosters, clock, meters)
    for poll in _polls():
        for part in intake.take(poll).parts:
            for due in shard.on_item((part,))[0]:
                for number, news in due.result().news:
                    group.on_batch([(number, news)])


def _polls() -> list[Poll]:
    """Single readings and batches, registers and phases, too early, late, repeated and unreadable ones, over some quarters."""
    single = [_reading("a", minute, power_w=1.0, import_wh=minute, export_wh=0.0) for minute in range(0, 40, 2)]
    batch = MeasurementBatch(measurements=tuple(_reading("b", minute / 6, phase=Phase.ONE, import_wh=minute) for minute in range(300)))
    late = [_reading("a", 3, power_w=5.0, import_wh=3.0), single[0], _reading("nobody", 5, stored_wh=1.0)]
    last = [_reading("a", 100, power_w=1.0), _reading("b", 100, import_wh=400.0)]
    rounds = [[*map(encode, single), encode(batch)], [*map(encode, late), b"garbage"], [encode(each) for each in last], []]
    return [_poll(payloads) for payloads in rounds]


def _reading(asset_id: str, minutes: float, phase: Phase = Phase.ALL, **values: float) -> Measurement:
    return Measurement(asset_id=asset_id, measured_at=_START + timedelta(minutes=minutes), phase=phase, **values)


def _poll(payloads: list[bytes]) -> Poll:
    runs = (Run(0, 0, len(payloads), range(len(payloads))),) if payloads else ()
    return Poll(payloads, runs, (), (0,), _START + timedelta(days=1))


if __name__ == "__main__":
    prepare()
