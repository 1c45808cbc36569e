"""How much a group weighs in the recovery store with everything it usually knows: worked out with the rules themselves."""

import pickle
from datetime import UTC, datetime, timedelta

from pipelines.rules.circuits import CircuitRule, CircuitTerms, Plan
from pipelines.rules.envelopes import EnvelopeRule
from pipelines.rules.scope_items import GroupTerms, ScopeTerms, Spoken
from schemas.oscp.translate import capacity_forecast
from schemas.oscp.v20 import ForecastType, UpdateGroupCapacityForecast
from schemas.topology import Scope
from tests.benchmarks.capacity.forecasts import Told

DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 10, 20, tzinfo=UTC)


def largest_state() -> int:
    """Bytes of both rules' snapshots: two types of 96 blocks for each of two days, the second received early on the first."""
    rule, circuits = EnvelopeRule(), CircuitRule()
    state, circuit = rule.start("mg-1"), circuits.start("mg-1")
    terms = ScopeTerms(CircuitTerms("feeder-1", 200e3, 200e3), (GroupTerms("G-1", "cp-1", 3_600_000),))
    most = 0
    for day in range(3):
        for number, type_ in enumerate((ForecastType.CONSUMPTION, ForecastType.GENERATION)):
            received = MIDNIGHT + (day - 1) * DAY + timedelta(hours=1)
            message = Told(1, 2 * day + number, MIDNIGHT + day * DAY).message(received)
            wire = UpdateGroupCapacityForecast.model_validate_json(message.body).model_copy(update={"type": type_})
            said = capacity_forecast(
                wire, scope=Scope(id="mg-1"), cause=message.request_id, received_at=received, body_digest=message.body_digest
            )
            for one in rule.step(state, Spoken(said, message.event_id, terms), received):
                if isinstance(one, Plan):
                    list(circuits.step(circuit, one, received))
            most = max(most, len(pickle.dumps(state, protocol=5)) + len(pickle.dumps(circuit, protocol=5)))
    return most
