"""Flow `dispatch`: hands over what it reads, in order, without blocking, and keeps no state of its own."""

from datetime import timedelta
from typing import Any

import pytest
from bytewax.errors import BytewaxRuntimeError
from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.dispatch import READS, DispatchSink, dispatch_flow
from pipelines.records import Out, Record, Unreadable
from schemas.clock import FrozenClock
from schemas.connection import Command, CommandKind
from schemas.facts import Value
from schemas.outbound import DeadLetter, OutboundMessage
from schemas.topics import COMMANDS, OUTBOUND, Topic
from tests.builders import T0


def record(topic: Topic, offset: int, value: Value | Unreadable) -> Record:
    return Record(topic.name, 1, offset, T0, "vector", value)


def message(number: int) -> OutboundMessage:
    return OutboundMessage(
        event_id=f"m{number}", at=T0, message_id=f"m{number}", partner_id="vector", action="Heartbeat", body="{}",
        not_before=T0, expires_at=T0 + timedelta(hours=1),
    )  # fmt: skip


COMMAND = Command(event_id="c", at=T0, partner_id="vector", kind=CommandKind.DROP_MESSAGE, by="ana", payload='{"message_id":"m1"}')


class Remembering:
    """Stands for the dispatcher: remembers what it was handed."""

    def __init__(self, fails: bool = False) -> None:
        self.taken: list[tuple[str, int, int]] = []
        self.fails = fails

    def take(self, message: OutboundMessage, partition: int, offset: int) -> None:
        if self.fails:
            raise RuntimeError("the dispatcher failed")
        self.taken.append((message.message_id, partition, offset))

    def command(self, command: Command, partition: int, offset: int) -> None:
        self.taken.append((command.kind.value, partition, offset))


def run(records: list[Record], dispatcher: Any) -> list[Out]:
    letters: list[Out] = []
    flow = dispatch_flow(
        records=TestingSource([records], batch_size=1), dispatch=DispatchSink(dispatcher), out=TestingSink(letters), clock=FrozenClock(T0)
    )
    run_main(flow)
    return letters


def test_messages_and_commands_are_handed_over_in_their_order_with_their_places() -> None:
    remembering = Remembering()
    records = [record(OUTBOUND, 3, message(1)), record(OUTBOUND, 4, message(2)), record(COMMANDS, 9, COMMAND)]
    assert run(records, remembering) == []
    assert remembering.taken == [("m1", 1, 3), ("m2", 1, 4), ("DROP_MESSAGE", 1, 9)]


def test_what_cannot_be_read_becomes_a_dead_letter() -> None:
    remembering = Remembering()
    (letter,) = run([record(OUTBOUND, 3, Unreadable("no Avro", b"x")), record(OUTBOUND, 4, message(2))], remembering)
    assert isinstance(letter.value, DeadLetter)
    assert remembering.taken == [("m2", 1, 4)]


def test_a_dispatcher_that_failed_ends_the_flow() -> None:
    with pytest.raises(BytewaxRuntimeError):
        run([record(OUTBOUND, 3, message(1))], Remembering(fails=True))


def test_it_reads_what_it_says() -> None:
    assert READS == (OUTBOUND, COMMANDS)
    flow = dispatch_flow(
        records=TestingSource([]), dispatch=DispatchSink(Remembering()), out=TestingSink([]), clock=FrozenClock(T0)
    )  # type: ignore[arg-type]  # fmt: skip
    assert flow.flow_id == "dispatch"
