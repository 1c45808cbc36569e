"""The capacity scenes' own arithmetic: what they expect of a plan, and how much a group weighs."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from pipelines.records import Out
from pipelines.rules.envelopes import EnvelopeRule
from pipelines.rules.scope_items import GroupTerms, ScopeTerms, Spoken
from schemas.capacity import OperatingEnvelope
from schemas.oscp.translate import capacity_forecast
from schemas.oscp.v20 import UpdateGroupCapacityForecast
from schemas.topology import Scope
from tests.benchmarks.capacity.forecasts import BLOCKS, RATED_KW, STEP, Told
from tests.benchmarks.capacity.installation import configuration
from tests.benchmarks.capacity.run import Capacity
from tests.benchmarks.capacity.states import largest_state

NOON = datetime(2026, 10, 20, 12, tzinfo=UTC)


def test_what_a_plan_is_expected_to_become_is_what_the_rule_says():
    told, received = Told(7, 1, NOON), NOON + timedelta(minutes=20)
    message = told.message(received)
    forecast = capacity_forecast(
        UpdateGroupCapacityForecast.model_validate_json(message.body), scope=Scope(id="mg-7"), cause=message.request_id,
        received_at=received, body_digest=message.body_digest,
    )  # fmt: skip
    rule, terms = EnvelopeRule(), ScopeTerms(None, (GroupTerms("G-7", "cp-7", 3_600_000),))
    outs = [one.value for one in rule.step(rule.start("mg-7"), Spoken(forecast, "i", terms), received) if isinstance(one, Out)]
    (envelope,) = [one for one in outs if isinstance(one, OperatingEnvelope)]
    assert [(p.start, p.end, p.import_limit_w, p.kind.value) for p in envelope.pieces] == told.pieces(received)


def test_every_block_and_every_turn_changes_the_circuit():
    for group in range(200):
        values = [Told(group, 0, NOON).value_w(block) for block in range(BLOCKS)]
        assert all(one != other for one, other in pairwise(values))
        assert values[1] != Told(group, 1, NOON + STEP).value_w(0)
        assert max(values) <= RATED_KW * 1000


def test_the_configuration_of_the_scenes_is_one():
    assert len(configuration(20).groups) == 20


def test_a_group_weighs_less_than_it_may():
    assert largest_state() < 16 * 1024


def test_what_is_wrong_is_not_reached_however_fast():
    found = Capacity(groups=1, arriving_s=1.0, behind_s=0.1, paced=[0.1], boundary=[0.1], state_bytes=1)
    assert all(one.reached for one in found.asked())
    found.problems.append("wrong")
    assert not any(one.reached for one in found.asked())
