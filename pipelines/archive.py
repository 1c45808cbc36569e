"""Flow `archive`: every topic into the history, for analysts (contract 6). Rows, versions and tokens: sinks.clickhouse.sink.

What cannot be read becomes a dead letter where another flow reads the topic; for the topics no flow reads this one
writes it, so that nothing unreadable goes unnoticed. Letters themselves come by `derms.dead-letters` like all else.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import bytewax.operators as op
import numpy as np
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.outputs import Sink

from pipelines.operators import dead_letter
from pipelines.places import places
from pipelines.records import Out, Payload, Poll, Record, Unreadable
from schemas.clock import Clock
from schemas.facts import Value
from schemas.topics import ADJUSTMENTS, BACKFILL, BREACHES, CONFIG, DEAD_LETTERS, EVENTS, FLOW_REPORTS, LATE_TELEMETRY, TELEMETRY, TOPICS
from sinks.clickhouse.readings import frame_of
from sinks.clickhouse.sink import Batch, batches
from sinks.columns import decode_readings

READS = tuple(topic for topic in TOPICS if topic not in (TELEMETRY, FLOW_REPORTS))
"""The topics of `records`; `polls` reads telemetry. What flows report of themselves is monitoring's, and not kept."""

UNREAD_ELSEWHERE = frozenset(topic.name for topic in (LATE_TELEMETRY, EVENTS, BREACHES, ADJUSTMENTS, CONFIG, DEAD_LETTERS))
"""Topics of which no flow but this one sees every record."""


def archive_flow(
    *, records: Source[Iterable[Record]], polls: Source[Poll], history: Sink[tuple[str, Batch]], out: Sink[Out], clock: Clock
) -> Dataflow:
    """Reads `READS` by `records` and telemetry by `polls`; writes batches to `history` and dead letters to `out`.

    Rows are in the store at the latest when the epoch ends: run it with epochs of a second or two. If the store does
    not take them the flow fails, and goes on from its last finished epoch when it is started again: nothing is lost.
    """
    flow = Dataflow("archive")
    records_read = op.input("records", flow, records)
    values = op.flat_map("values", records_read, record_batches)
    dead = op.flat_map("dead", records_read, lambda read: unread_letters(read, clock))

    polled = op.input("polls", flow, polls)
    readings = op.flat_map("readings", polled, reading_batches)

    op.output("history", op.merge("rows", values, readings), history)
    op.output("out", dead, out)
    return flow


def record_batches(records: Iterable[Record]) -> Iterator[tuple[str, Batch]]:
    """The readable records of a poll as batches, one for each partition, keyed by topic and partition."""
    topics: dict[str, list[tuple[int, int, Value]]] = {}
    payloads: dict[int, list[tuple[int, bytes]]] = {}
    for record in records:
        if isinstance(record.value, Payload):
            payloads.setdefault(record.partition, []).append((record.offset, record.value.raw))
        elif not isinstance(record.value, Unreadable):
            topics.setdefault(record.topic, []).append((record.partition, record.offset, record.value))
    for topic, values in topics.items():
        for batch in batches(topic, values):
            yield f"{topic}/{batch.partition}", batch
    for partition, found in sorted(payloads.items()):
        offsets = np.array([offset for offset, _ in found], np.int64)
        readings = frame_of(decode_readings([raw for _, raw in found]), offsets, backfilled=True)
        yield f"{BACKFILL.name}/{partition}", Batch(BACKFILL.name, partition, int(offsets[0]), int(offsets[-1]), readings=readings)


def reading_batches(poll: Poll) -> Iterator[tuple[str, Batch]]:
    """The readings of a poll as batches of columns, one for each run of a partition."""
    if not poll.payloads:
        return
    _, offsets = places(poll, np.arange(len(poll.payloads), dtype=np.int32))
    readings = decode_readings(poll.payloads)
    frame = frame_of(readings, offsets)
    for run in poll.runs:
        first, after = np.searchsorted(readings.payload, (run.first, run.first + run.count))
        if after > first:
            rows = frame.slice(int(first), int(after - first))
            key = f"{TELEMETRY.name}/{run.partition}"
            yield key, Batch(TELEMETRY.name, run.partition, run.offsets[0], run.offsets[-1], readings=rows)


def unread_letters(records: Iterable[Record], clock: Clock) -> Iterator[Out]:
    """Dead letters for what cannot be read on the topics no other flow reads."""
    payloads: list[tuple[Record, bytes]] = []
    for record in records:
        if isinstance(record.value, Payload):
            payloads.append((record, record.value.raw))
        elif isinstance(record.value, Unreadable) and record.topic in UNREAD_ELSEWHERE:
            yield dead_letter(record, clock)
    for index, reason in decode_readings([raw for _, raw in payloads]).broken if payloads else ():
        record, raw = payloads[index]
        yield dead_letter(replace(record, value=Unreadable(reason, raw)), clock)
