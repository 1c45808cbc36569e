"""The one adapter between pure rules and the engine: a keyed state machine with timers on the clock."""

import pickle
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol, TypeVar

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream, operator
from bytewax.inputs import Source
from bytewax.operators import KeyedStream

from pipelines.containment import MUTED, Containment
from pipelines.records import Out, Record, Tick, Unreadable
from schemas.clock import Clock
from schemas.facts import derived_id
from schemas.outbound import DeadLetter
from schemas.topics import DEAD_LETTERS

S = TypeVar("S")
I_contra = TypeVar("I_contra", contravariant=True)
I = TypeVar("I")  # noqa: E741 - the item, beside S for the state and O for the output
O = TypeVar("O")  # noqa: E741
O_co = TypeVar("O_co", covariant=True)


class Rule(Protocol[S, I_contra, O_co]):
    """A pure state machine for one key. It may change `state` in place; it does no I/O and asks no clock."""

    def start(self, key: str) -> S:
        """The state of a key never seen before (plain picklable types only)."""

    def step(self, state: S, item: I_contra | Tick, now: datetime) -> Iterable[O_co]:
        """Take in one item, or the news that time has come, and say what follows."""

    def due(self, state: S) -> datetime | None:
        """When, by the clock, `step` wants a `Tick`; None for not at all. Asked after every step."""


class _Keyed(op.StatefulLogic[Any, Any, bytes]):
    def __init__(self, rule: Rule[Any, Any, Any], clock: Clock, resume: bytes | None, failures: Containment, told: bool) -> None:
        self._rule, self._clock, self._failures, self._told = rule, clock, failures, told
        self._state: Any = None
        self._key = ""
        self._known = resume is not None
        self._muted_until: datetime | None = None
        if resume is not None:
            self._state = pickle.loads(resume)  # noqa: S301 - our own recovery store

    def on_item(self, value: Any) -> tuple[Iterable[Any], bool]:
        self._key, item = value
        if not self._known:
            self._state, self._known = self._rule.start(self._key), True
        return self._step(item, self._clock.now()), op.StatefulLogic.RETAIN

    def on_notify(self) -> tuple[Iterable[Any], bool]:
        now, due = self._clock.now(), self._due()
        if due is None or due > now:
            return (), op.StatefulLogic.RETAIN
        return self._step(Tick(), now), op.StatefulLogic.RETAIN

    def _step(self, item: Any, now: datetime) -> list[Any]:
        try:
            said = list(self._rule.step(self._state, item, now))
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this key alone
            self._muted_until = now + MUTED if isinstance(item, Tick) else self._muted_until
            letters = self._failures.failed(self._key, item, error, now)
            return [*letters] if self._told else []
        self._failures.went_well()
        return said

    def _due(self) -> datetime | None:
        try:
            due = self._rule.due(self._state)
        except Exception as error:  # noqa: BLE001 - as in `_step`
            now = self._clock.now()
            self._failures.failed(self._key, self._state, error, now)
            return now + MUTED
        return due if due is None or self._muted_until is None else max(due, self._muted_until)

    def on_eof(self) -> tuple[Iterable[Any], bool]:
        return (), op.StatefulLogic.RETAIN

    def notify_at(self) -> datetime | None:
        due = self._due()
        return None if due is None else self._clock.wall_at(due)

    def snapshot(self) -> bytes:
        return pickle.dumps(self._state, protocol=5)


def run_rule(step_id: str, stream: KeyedStream[I], rule: Rule[Any, I, O], clock: Clock, *, told: bool = False) -> Stream[O]:
    """Run `rule` for each key of `stream`; emits what its steps say, in order.

    State is snapshotted by value at each epoch. Timers wake by wall time and ask the clock again. An item at which the rule fails
    is left out (`pipelines.containment`); with `told` the dead letter and the alarm about it
    (`Out`) come in the stream.
    """
    # The engine does not tell a builder its key, so each item carries it.
    paired = op.map(f"{step_id}_pair", stream, lambda pair: (pair[0], pair))
    failures = Containment(step_id)
    emitted = op.stateful(step_id, paired, lambda resume: _Keyed(rule, clock, resume, failures, told))
    return op.map(f"{step_id}_value", emitted, lambda pair: pair[1])


@operator
def stateful_together(
    step_id: str, up: KeyedStream[I], builder: Callable[[bytes | None], op.StatefulBatchLogic[I, O, bytes]]
) -> KeyedStream[O]:
    """As `bytewax.operators.stateful`, and with the same place in the recovery store, for a logic that takes what comes at once."""
    return op.stateful_batch("stateful_batch", up, builder)


def read_records(flow: Dataflow, source: Source[Iterable[Record]], clock: Clock, step_id: str = "in") -> tuple[Stream[Record], Stream[Out]]:
    """The records `source` polls, one by one, and beside them a dead letter for each that cannot be read."""
    records = op.flatten(f"{step_id}_each", op.input(step_id, flow, source))
    sides = op.branch(f"{step_id}_readable", records, lambda record: not isinstance(record.value, Unreadable))
    return sides.trues, op.map(f"{step_id}_dead", sides.falses, lambda record: dead_letter(record, clock))


def dead_letter(record: Record, clock: Clock) -> Out:
    """The dead letter of a record whose value is `Unreadable`; its id follows from where the record stands."""
    unreadable = record.value
    if not isinstance(unreadable, Unreadable):
        raise TypeError("only an unreadable record makes a dead letter")
    letter = DeadLetter(
        event_id=derived_id("dead-letter", record.topic, record.partition, record.offset),
        at=clock.now(),
        reason=unreadable.reason,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        raw=unreadable.raw,
    )
    return Out(DEAD_LETTERS, record.topic, letter)
