"""What the pages ask the history: the facts come back as they went in, and a history that is away is not waited for twice."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest

from gateway.history import serving_history
from gateway.past import SLOW, AskedHistory, BreachWish
from schemas.compliance import BreachState, VerdictKind
from schemas.connection import Event, SubjectKind
from schemas.facts import Value
from schemas.units import Direction, Phase
from sinks.clickhouse.client import client_of
from sinks.clickhouse.rows import Place, columns_of, rows_of
from sinks.errors import Unavailable
from tests.embedded_history import emptied_store, history_store, settings_of
from tests.gateway.facts import envelope, event, piece, row
from tests.gateway.test_scope_day import HOUR, MIDNIGHT, breach, verdict

DAY = (MIDNIGHT, MIDNIGHT + timedelta(days=1))


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving_history(settings_of(history_store())) as address:
        yield address


@pytest.fixture
def past(url: str) -> AskedHistory:
    return AskedHistory(partial(client_of, url, timeout_s=5), within_s=20)


def stored(*values: Value) -> None:
    store = emptied_store()
    for offset, value in enumerate(values):
        for table, plain in rows_of(value, Place(1, offset)):
            store.insert_columns(table, columns_of([plain]))


def told(at: datetime, subject: str, kind: SubjectKind) -> Event:
    return event(at, "breach.opened", f"about {subject}").model_copy(update={"subject_id": subject, "subject_kind": kind})


def test_a_day_comes_back_as_it_was(past: AskedHistory) -> None:
    odd = "it's {a:String} \\ scope"
    group = "VEC-0001"
    stored(
        row(MIDNIGHT, 1.0, coverage=0.5, revision=1),
        row(MIDNIGHT, 1.5, coverage=0.75, revision=2),
        row(MIDNIGHT - HOUR, 9.0),
        verdict(MIDNIGHT, VerdictKind.BREACHED, forecasts=["f1"], reason="why"),
        verdict(MIDNIGHT, VerdictKind.WITHIN, phase=Phase.THREE),
        envelope(1, MIDNIGHT - HOUR, [piece(MIDNIGHT - HOUR, MIDNIGHT + 30 * HOUR, 4, None, "f1")]),
        envelope(2, MIDNIGHT + HOUR, [piece(MIDNIGHT + HOUR, MIDNIGHT + 2 * HOUR, 2, 3, "f2")]),
        breach(MIDNIGHT, 2, revision=1),
        breach(MIDNIGHT, 3, revision=2),
        breach(MIDNIGHT - 5 * HOUR, 1),
        told(MIDNIGHT, "sceaux-house", SubjectKind.SCOPE),
        told(MIDNIGHT, "c1", SubjectKind.CIRCUIT),
        told(MIDNIGHT, "other", SubjectKind.SCOPE),
    )
    found = asyncio.run(past.day("sceaux-house", group, "c1", *DAY))
    assert [(one.import_wh, one.coverage, one.revision) for one in found.rows.values()] == [(375.0, 0.75, 2)]
    assert found.verdicts[MIDNIGHT, Direction.IMPORT].forecasts == ["f1"]
    assert [one.phase for one in found.phase_verdicts] == [Phase.THREE]
    limits = [(one.start - MIDNIGHT, one.end - MIDNIGHT, one.import_limit_w, one.export_limit_w, one.import_cause) for one in found.pieces]
    assert limits == [(-HOUR, HOUR, 4000.0, None, "f1"), (HOUR, 2 * HOUR, 2000.0, 3000.0, "f2")]
    assert [(one.quarters, one.revision) for one in found.breaches] == [(3, 2)]
    assert sorted(one.subject_id for one in found.events) == ["c1", "sceaux-house"]
    assert asyncio.run(past.day(odd, odd, odd, *DAY)).rows == {}


def test_breaches_are_found_by_all_conditions(past: AskedHistory) -> None:
    stored(
        breach(MIDNIGHT, 2),
        breach(MIDNIGHT + 5 * HOUR, 1, direction=Direction.EXPORT, state=BreachState.VOIDED, scope_id="s2", group_id="g2", partner_id="p2"),
    )

    def count(**wish: Any) -> int:
        return len(asyncio.run(past.breaches(BreachWish(**wish))))

    assert count() == 2
    assert [count(partner_id="p2"), count(group_id="g2"), count(scope_id="s2"), count(direction="EXPORT")] == [1, 1, 1, 1]
    assert [count(states=("VOIDED",)), count(states=("OPENED", "CONTINUED")), count(states=("CLOSED", "VOIDED"))] == [1, 0, 2]
    assert [count(since=MIDNIGHT + HOUR), count(until=MIDNIGHT + HOUR), count(since=MIDNIGHT + timedelta(minutes=29))] == [1, 1, 2]
    assert count(group_id="' OR 1=1 --") == 0
    assert asyncio.run(past.breaches(BreachWish()))[0].breach_id == breach(MIDNIGHT + 5 * HOUR, 1).breach_id


def test_a_history_that_is_away_is_asked_once_and_then_left_alone() -> None:
    asked = []

    def connect() -> Any:
        asked.append(1)
        raise Unavailable("nobody is there")

    past = AskedHistory(connect)
    for _ in range(3):
        with pytest.raises(Unavailable, match="did not answer in time"):
            asyncio.run(past.breaches(BreachWish()))
    assert len(asked) == 1


def test_a_history_that_hangs_is_not_waited_for() -> None:
    released = threading.Event()

    class Hanging:
        def query(self, query: str, *, parameters: dict[str, Any]) -> Any:
            released.wait(30)
            raise RuntimeError

        def close(self) -> None:
            """Nothing to let go of."""

    past = AskedHistory(Hanging, within_s=0.05)

    async def ask() -> None:
        try:
            await past.breaches(BreachWish())
        finally:
            released.set()

    with pytest.raises(Unavailable, match=SLOW):
        asyncio.run(ask())
