"""Segments through the flows: the lifecycle joins them, envelopes apply the whole message once (semantics 6.8, 3.1)."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from pipelines.envelopes import envelopes_flow
from pipelines.lifecycle import lifecycle_flow
from pipelines.records import Out, Record
from pipelines.views import FixedView
from schemas.capacity import OperatingEnvelope
from schemas.clock import FrozenClock
from schemas.connection import InboundMessage
from schemas.topics import INBOUND
from tests.builders import T0, configuration
from tests.rules.lifecycle_world import token_digest
from tests.rules.test_segmented import message

SECOND = timedelta(seconds=1)
CLOCK = FrozenClock(T0 + 5 * SECOND)
CONFIG = FixedView(configuration())


def polls(*values: InboundMessage) -> list[Any]:
    return [[Record(INBOUND.name, 0, offset, T0, value.partner_id, value)] for offset, value in enumerate(values)]


def lifecycle(fed: list[Any], out: list[Out], **options: Any) -> None:
    flow = lifecycle_flow(
        records=TestingSource(fed),
        out=TestingSink(out),
        clock=CLOCK,
        config=CONFIG,
        token_digest=token_digest,
        public_url="https://derms.example/",
    )
    run_main(flow, **options)


def envelopes(*values: InboundMessage) -> list[Out]:
    out: list[Out] = []
    run_main(envelopes_flow(records=TestingSource(polls(*values)), out=TestingSink(out), clock=CLOCK, config=CONFIG))
    return out


def inbound(out: list[Out]) -> list[InboundMessage]:
    return [item.value for item in out if isinstance(item.value, InboundMessage)]


def parts(style: str = "previous") -> list[InboundMessage]:
    three = message(3, style)
    return [each.model_copy(update={"received_at": T0 + n * SECOND, "at": T0 + n * SECOND}) for n, each in enumerate(three)]


def test_what_envelopes_read_is_the_segments_and_the_whole_and_the_whole_alone_counts():
    segments, out = parts(), []
    lifecycle(polls(*segments), out)
    (whole,) = inbound(out)
    assert envelopes(*segments) == []
    told = envelopes(*segments, whole)
    (envelope,) = [item.value for item in told if isinstance(item.value, OperatingEnvelope)]
    assert envelope.effective_at == T0 + timedelta(minutes=15)
    limits = [(piece.start, piece.import_limit_w) for piece in envelope.pieces]
    assert limits[:3] == [(T0 + n * timedelta(minutes=15), (10 + n) * 1000) for n in (1, 2, 3)]


@pytest.mark.parametrize("crash", [1, 2, 3])
def test_a_kill_between_any_two_applies_it_once(tmp_path: Path, crash: int):
    init_db_dir(tmp_path, 1)
    segments, out = polls(*parts("first")), []
    broken = [*segments[:crash], TestingSource.ABORT(), *segments[crash:]]
    for _ in range(2):
        lifecycle(broken, out, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(str(tmp_path)))
    said = inbound(out)
    assert len({each.model_dump_json() for each in said}) == 1
    again = envelopes(*said, said[0])
    assert len([item for item in again if isinstance(item.value, OperatingEnvelope)]) == 1
    assert len(again) == len(envelopes(said[0]))


def test_the_flow_leaves_alone_what_it_has_said_and_whole_messages():
    out: list[Out] = []
    lifecycle(polls(*parts()), out)
    (whole,) = inbound(out)
    again: list[Out] = []
    lifecycle(polls(whole, whole.model_copy(update={"cause_id": None})), again)
    assert inbound(again) == []
