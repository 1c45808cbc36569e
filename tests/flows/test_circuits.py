"""The flow `circuits`: each change once and in order, as an event and to the writer (semantics 4)."""

from datetime import timedelta

from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main
from bytewax.visualize import to_rendered

from pipelines.circuits import CircuitWriter, circuits_flow
from pipelines.records import Out, Record, Unreadable
from pipelines.views import FixedView
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.clock import FrozenClock
from schemas.connection import Event
from schemas.topics import CIRCUIT_CAPACITY, DEAD_LETTERS, EVENTS
from tests.builders import T0, configuration


class Platform:
    def __init__(self) -> None:
        self.written: list[CircuitCapacity] = []

    def submit(self, change: CircuitCapacity) -> None:
        self.written.append(change)


def capacity(minute: int, import_w: float, circuit_id: str = "feeder-17") -> CircuitCapacity:
    when = T0 + timedelta(minutes=minute)
    return CircuitCapacity(
        event_id=f"{circuit_id} {minute}", at=when, circuit_id=circuit_id, scope_id="mg-1", available_import_w=import_w,
        available_export_w=None, effective_from=when, kind=PieceKind.FORECAST, import_kind=PieceKind.FORECAST,
    )  # fmt: skip


def flow(values: list[CircuitCapacity | Unreadable], out: list[Out], writer: CircuitWriter | None = None) -> Dataflow:
    records = [[Record(CIRCUIT_CAPACITY.name, 0, offset, T0, "key", value)] for offset, value in enumerate(values)]
    return circuits_flow(
        records=TestingSource(records), out=TestingSink(out), clock=FrozenClock(T0), config=FixedView(configuration()), writer=writer
    )


CHANGES = [capacity(0, 1.0), capacity(5, 2.0), capacity(0, 1.0), capacity(5, 2.0), capacity(3, 9.0, "feeder-18"), capacity(9, 3.0)]


def test_changes_are_told_once_and_in_order():
    out: list[Out] = []
    run_main(flow([*CHANGES, Unreadable("no known prefix", b"x")], out))
    assert [(item.topic, item.key) for item in out if item.topic is EVENTS] == [
        (EVENTS, "feeder-17"), (EVENTS, "feeder-17"), (EVENTS, "feeder-18"), (EVENTS, "feeder-17"),
    ]  # fmt: skip
    assert [item.topic for item in out if item.topic is not EVENTS] == [DEAD_LETTERS]
    words = [item.value.words for item in out if isinstance(item.value, Event)]
    assert "circuit Harbour feeder (feeder-17) has 0.001 kW import" in words[0]
    assert "circuit feeder-18 has" in words[2]


def test_a_writer_gets_all_that_is_read_since_it_knows_what_is_newest():
    platform, out = Platform(), []
    run_main(flow([*CHANGES, Unreadable("no known prefix", b"x")], out, platform))
    assert platform.written == CHANGES
    assert len(out) == 5


def test_step_ids_are_recovery_keys():
    ids = {operator.step_id for operator in to_rendered(flow([], [])).substeps}
    assert ids == {f"circuits.{name}" for name in (
        "in", "in_each", "in_readable", "in_dead", "named", "changes_pair", "changes", "changes_value", "outs", "out",
    )}  # fmt: skip
