"""The flows `envelopes`, `circuits` and `compliance` killed before every poll of a story, and behind what they wrote (semantics 3 to 5).

Whatever of a store is left, what stands on the topics in the end is what an undisturbed life says: no fact under another id, no
circuit's change lost or in another order.
"""

import shutil
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import init_db_dir

from pipelines.circuits import circuits_flow
from pipelines.compliance import compliance_flow
from pipelines.envelopes import envelopes_flow
from pipelines.records import Record
from pipelines.views import FixedView
from schemas.capacity import CircuitCapacity, OperatingEnvelope
from schemas.compliance import Breach, BreachState, Verdict
from schemas.topics import CIRCUIT_CAPACITY, ENVELOPES
from tests.builders import configuration
from tests.flows import capacity_stories as stories
from tests.flows.told_story import Flow, Life, Moment, StoryClock, Written, live, told

MEMORY = Path("/dev/shm")
CONFIG = FixedView(configuration())
RESTART = timedelta(seconds=1.5)
EACH_STEP, NEVER = timedelta(0), timedelta(hours=1)


def envelopes(source: Any, sink: Any, clock: StoryClock) -> Dataflow:
    return envelopes_flow(records=source, out=sink, clock=clock, config=CONFIG)


def compliance(source: Any, sink: Any, clock: StoryClock) -> Dataflow:
    return compliance_flow(records=source, out=sink, clock=clock, config=CONFIG)


class Platform:
    """The legacy platform's writer: it outlives the flow."""

    def __init__(self) -> None:
        self.submitted: list[CircuitCapacity] = []

    def submit(self, change: CircuitCapacity) -> None:
        self.submitted.append(change)

    def flow(self, source: Any, sink: Any, clock: StoryClock) -> Dataflow:
        return circuits_flow(records=source, out=sink, clock=clock, config=CONFIG, writer=self)


@pytest.fixture
def store() -> Iterator[Path]:
    """In memory where there is such a place: the engine waits for the disk at every step, and nothing here outlives its process."""
    with TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as directory:
        yield Path(directory) / "store"


def fresh(store: Path) -> Path:
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir()
    init_db_dir(store, 1)
    return store


class Lives:
    """One flow's lives over a story, and what all of them wrote."""

    def __init__(self, flow: Flow, moments: list[Moment], store: Path) -> None:
        self.flow, self.moments, self.store = flow, moments, store
        self.clock, self.written = StoryClock(moments[0].at), list[Written]()

    def life(self, *, epoch: timedelta = EACH_STEP, moments: list[Moment] | None = None, **kill: int | None) -> bool:
        """One life with the store, which is written at every step or never; whether it came to the end of the story."""
        life = Life(self.moments if moments is None else moments, self.clock, self.written, **kill)
        ended = live(self.flow, life, store=self.store, epoch_interval=epoch)
        self.clock.advance(RESTART)
        return ended

    def store_kept(self, poll: int) -> None:
        fresh(self.store)
        assert not self.life(killed_before=poll)
        assert self.life()

    def store_behind(self, poll: int) -> None:
        """The store is that of two polls ago, when the flow was killed for the first time."""
        fresh(self.store)
        assert not self.life(killed_before=max(poll - 2, 0))
        assert not self.life(epoch=NEVER, killed_before=poll)
        assert self.life()

    def store_gone(self, poll: int, first: str | None) -> None:
        """All that was there is read again, the barrier's topic first; then the story goes on."""
        fresh(self.store)
        assert not self.life(killed_before=poll)
        fresh(self.store)
        again = stories.replayed(self.moments[:poll], first=first, now=self.clock.now())
        assert self.life(moments=[*again, *self.moments[poll:]])


def ids(written: Iterable[Written]) -> list[tuple[str, str, str]]:
    """Each fact once, in the order in which it first came."""
    return list(dict.fromkeys((one.out.topic.name, one.out.key, one.out.value.event_id) for one in written))


def contents(written: Iterable[Written]) -> dict[str, dict[str, Any]]:
    """By id. Whether it was silence or the next row that showed the end of a breach depends on when the flow came back."""
    return {one.out.value.event_id: one.out.value.model_dump(exclude={"at", "cause_id"}) for one in written}


def same_facts(lives: Lives, whole: list[Written]) -> None:
    """Every fact of an undisturbed life, each topic's in its order, and no other."""
    for topic in {one.out.topic for one in whole}:
        found, expected = ([each for each in ids(some) if each[0] == topic.name] for some in (lives.written, whole))
        assert found == expected
    assert contents(lives.written) == contents(whole)


def in_force(written: Iterable[Written]) -> dict[str, OperatingEnvelope | CircuitCapacity]:
    """What a reader takes to hold: of an envelope the highest revision, of a circuit the newest change."""
    found: dict[str, OperatingEnvelope | CircuitCapacity] = {}
    for value in (one.out.value for one in written):
        if isinstance(value, OperatingEnvelope):
            known = found.get(value.scope_id)
            if not isinstance(known, OperatingEnvelope) or value.revision >= known.revision:
                found[value.scope_id] = value
        elif isinstance(value, CircuitCapacity):
            change = found.get(value.circuit_id)
            if not isinstance(change, CircuitCapacity) or value.effective_from >= change.effective_from:
                found[value.circuit_id] = value
    return {
        key: value.model_copy(update={"at": value.effective_at if isinstance(value, OperatingEnvelope) else value.effective_from})
        for key, value in found.items()
    }


LIMITS, ROWS = stories.limits(), stories.rows()


@pytest.fixture(scope="module")
def limits() -> list[Written]:
    """What the envelopes flow says undisturbed."""
    return told(envelopes, LIMITS)


@pytest.fixture(scope="module")
def judged() -> list[Written]:
    """What the compliance flow says undisturbed."""
    return told(compliance, ROWS)


def test_the_stories_have_everything_in_them(limits: list[Written], judged: list[Written]) -> None:
    changes = [one.out.value for one in limits if isinstance(one.out.value, CircuitCapacity)]
    assert {change.import_kind.value for change in changes} == {"FORECAST", "FALLBACK", "HELD", "OPERATOR", "UNKNOWN"}
    assert len(changes) > 15
    verdicts = [one.out.value for one in judged if isinstance(one.out.value, Verdict)]
    assert {(verdict.verdict.value, verdict.at_risk) for verdict in verdicts} == {
        ("WITHIN", False), ("BREACHED", False), ("UNKNOWN", False), ("UNKNOWN", True),
    }  # fmt: skip
    breaches = [one.out.value for one in judged if isinstance(one.out.value, Breach)]
    assert {breach.state for breach in breaches} == set(BreachState)
    assert len({breach.breach_id for breach in breaches}) > 4


@pytest.mark.parametrize("poll", range(len(LIMITS)))
def test_envelopes_killed_before_any_poll(limits: list[Written], store: Path, poll: int) -> None:
    for kill in (Lives.store_kept, Lives.store_behind):
        lives = Lives(envelopes, LIMITS, store)
        kill(lives, poll)
        same_facts(lives, limits)
    lives = Lives(envelopes, LIMITS, store)
    lives.store_gone(poll, None)
    same_facts(lives, limits)
    assert in_force(lives.written) == in_force(limits)


@pytest.mark.parametrize("poll", range(len(ROWS)))
def test_compliance_killed_before_any_poll(judged: list[Written], store: Path, poll: int) -> None:
    for kill in (Lives.store_kept, Lives.store_behind):
        lives = Lives(compliance, ROWS, store)
        kill(lives, poll)
        same_facts(lives, judged)
    lives = Lives(compliance, ROWS, store)
    lives.store_gone(poll, ENVELOPES.name)
    # What was corrected by an envelope that came late may be said with the correction at once: other steps, the same end.
    assert holding(lives.written) == holding(judged)


def holding(written: Iterable[Written]) -> dict[Any, dict[str, Any]]:
    """What the verdicts and breaches that hold say: the highest revision, of equal ones the later."""
    found: dict[Any, Any] = {}
    for value in (one.out.value for one in written):
        if isinstance(value, Verdict):
            key: Any = (value.quarter, value.direction, value.phase, value.at_risk)
        elif isinstance(value, Breach):
            key = value.breach_id
        else:
            continue
        if key not in found or value.revision >= found[key].revision:
            found[key] = value
    return {key: value.model_dump(exclude={"at", "event_id", "cause_id", "revision"}) for key, value in found.items()}


@pytest.mark.parametrize(("flow", "moments"), [(envelopes, LIMITS), (compliance, ROWS)], ids=["envelopes", "compliance"])
def test_killed_behind_any_write(flow: Flow, moments: list[Moment], store: Path) -> None:
    """In the middle of what follows from one poll: its other half is said by the next life."""
    whole = told(flow, moments)
    for write in range(1, len(whole), 3):
        lives = Lives(flow, moments, fresh(store))
        assert not lives.life(killed_behind=write)
        assert lives.life()
        same_facts(lives, whole)


def test_circuits_killed_before_any_poll_and_behind_any_write(limits: list[Written], store: Path) -> None:
    changes = [one.out.value for one in limits if isinstance(one.out.value, CircuitCapacity)]
    moments = [Moment(change.at, (Record(CIRCUIT_CAPACITY.name, 0, n, change.at, "key", change),)) for n, change in enumerate(changes)]
    whole = told(Platform().flow, moments)
    for number in range(len(moments)):
        for kill in ("store_kept", "store_behind", "store_gone", "behind a write"):
            platform = Platform()
            lives = Lives(platform.flow, moments, store)
            if kill == "behind a write":
                fresh(store)
                assert not lives.life(killed_behind=number + 1)
                assert lives.life()
            else:
                getattr(lives, kill)(number, *([None] if kill == "store_gone" else []))
            same_facts(lives, whole)
            submitted = platform.submitted
            assert list({change.event_id: change for change in submitted}.values()) == changes
            steps = [changes.index(change) for change in submitted]
            # one after the other; a new life begins again somewhere before, and goes on without a gap
            assert all(later <= earlier + 1 for earlier, later in pairwise(steps))
            assert steps[-1] == len(changes) - 1
