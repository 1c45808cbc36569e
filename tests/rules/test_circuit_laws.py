"""Laws of a scope's circuit under any story of forecasts, operators, connections and configuration, on any clock."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.circuits import CircuitTerms
from pipelines.rules.limits import FOREVER_MS, Stretch, within
from pipelines.rules.scope_items import OPERATOR
from schemas.capacity import CapacityForecast, CircuitCapacity, LimitType, PieceKind
from schemas.units import Phase, from_ms, to_ms
from tests.rules.scenes import CIRCUIT, HOUR_MS, ToldScope, block, forecast, group, ms
from tests.rules.told_circuit import Circuit

HALF = 1_800_000
FIRST = ms("04:00")
SMALL = CIRCUIT._replace(rated_import_w=15_000.0, rated_export_w=25_000.0)
OTHER = CircuitTerms("feeder-18", 18_000.0, 18_000.0)

starts = st.integers(0, 11).map(lambda halves: FIRST + halves * HALF)
blocks = st.builds(
    lambda start, length, kw: block("10:00", "11:00", kw or 0).model_copy(
        update={"start": from_ms(start), "end": from_ms(start + length * HALF), "limit_w": None if kw is None else kw * 1000}
    ),
    starts,
    st.integers(1, 6),
    st.sampled_from([10.0, 20.0, 30.0]),
)
lifts = blocks.map(lambda one: one.model_copy(update={"limit_w": None}))
types = st.sampled_from([LimitType.IMPORT, LimitType.IMPORT, LimitType.EXPORT, LimitType.FALLBACK_IMPORT])
told = st.one_of(
    st.tuples(st.just("VEC-0001"), types, starts, st.lists(blocks, min_size=1, max_size=3)),
    st.tuples(st.just(OPERATOR), st.just(LimitType.IMPORT), starts, st.lists(blocks | lifts, min_size=1, max_size=3)),
    st.tuples(st.just("link"), st.booleans(), starts),
    st.tuples(st.just("circuit"), st.sampled_from([CIRCUIT, SMALL, OTHER, None]), starts),
)
# Of what happens in one instant the circuit tells each, and the timeline knows the last: so one thing at a time.
stories = st.lists(told, max_size=7, unique_by=lambda one: one[2]).map(lambda story: sorted(story, key=lambda one: one[2]))
groups = st.sampled_from([group(), group(safe_import_w=5_000.0), group(hold=timedelta(0)), group(hold=timedelta(minutes=45))])


class Site:
    """A scope and its circuit; the circuit hears of each plan at once, and its timers ring on the way."""

    def __init__(self, known: Any) -> None:
        self.known, self.scope, self.circuit, self.heard = known, ToldScope(known), Circuit(), 0
        self.terms: list[tuple[int, CircuitTerms | None]] = [(0, CIRCUIT)]

    def tell(self, number: int, one: Any) -> None:
        what, when = one[0], from_ms(one[2]).isoformat()
        self.ring(one[2] - 1)
        if what == "link":
            self.scope.linked(when, away=one[1])
        elif what == "circuit":
            self.terms.append((one[2], one[1]))
            self.scope.configured(when, self.known, circuit=one[1])
        else:
            said = forecast(f"m{number}", "10:00", *one[3], of=one[1], source=what)
            self.scope.hears(CapacityForecast.model_validate({**said.model_dump(), "received_at": from_ms(one[2])}))
        for plan in self.scope.plans[self.heard :]:
            self.circuit.told(plan, when)
        self.heard = len(self.scope.plans)

    def ring(self, until_ms: int) -> None:
        self.circuit.rung(from_ms(until_ms).isoformat())


def play(story: list[Any], known: Any, *, often: bool = True) -> Site:
    site = Site(known)
    for number, one in enumerate(story):
        if often:
            for instant in range(FIRST, one[2], HALF // 2):
                site.ring(instant)
        site.tell(number, one)
    site.ring(FIRST + 24 * HOUR_MS)
    return site


def of_circuit(changes: list[CircuitCapacity], circuit_id: str) -> list[CircuitCapacity]:
    return [change for change in changes if change.circuit_id == circuit_id]


@settings(max_examples=60)
@given(stories, groups)
def test_a_circuits_value_is_the_lower_of_the_limit_in_force_and_the_rating(story: list[Any], known: Any):
    site = play(story, known)
    # A boundary and news of the same instant are told one after the other, whether the timer rang before or not: the last one holds.
    for change in {change.effective_from: change for change in site.circuit.said}.values():
        at_ms = to_ms(change.effective_from)
        since, terms = next((since, terms) for since, terms in reversed(site.terms) if since <= at_ms)
        if terms is None or change.circuit_id != terms.circuit_id:
            assert since == at_ms  # a boundary of the circuit before, in the instant in which it was taken away
            continue
        for value, last, kind, limit, rated in (
            (change.available_import_w, change.previous_import_w, change.import_kind, site.scope.imports(at_ms), terms.rated_import_w),
            (change.available_export_w, change.previous_export_w, change.export_kind, site.scope.exports(at_ms), terms.rated_export_w),
        ):
            if limit is not None:
                assert (value, kind) == (min(limit.watts, rated), limit.kind)
            else:  # ignorance never raises
                assert (value, kind) == (None if last is None else min(last, rated), PieceKind.UNKNOWN)


@settings(max_examples=60)
@given(stories, groups)
def test_every_change_begins_where_the_last_one_ended(story: list[Any], known: Any):
    said = play(story, known).circuit.said
    for circuit_id in (CIRCUIT.circuit_id, OTHER.circuit_id):
        for one, other in pairwise(of_circuit(said, circuit_id)):
            assert one.effective_from <= other.effective_from
            again = (other.previous_import_w, other.previous_export_w) == (None, None)  # it had been taken away meanwhile
            assert again or (other.previous_import_w, other.previous_export_w) == (one.available_import_w, one.available_export_w)
            changed = (one.available_import_w, one.available_export_w, one.import_kind, one.export_kind) != (
                other.available_import_w, other.available_export_w, other.import_kind, other.export_kind,
            )  # fmt: skip
            assert again or changed
    assert len({change.event_id for change in said}) == len(said)


@settings(max_examples=60)
@given(stories, groups)
def test_when_timers_ring_changes_nothing_that_is_said(story: list[Any], known: Any):
    def brief(site: Site) -> list[tuple[Any, ...]]:
        return [(change.event_id, change.effective_from, change.cause, change.kind) for change in site.circuit.said]

    assert brief(play(story, known)) == brief(play(story, known, often=False))


@settings(max_examples=60)
@given(stories, groups, st.lists(st.integers(0, 24 * HOUR_MS), min_size=2, max_size=5, unique=True))
def test_the_energy_of_an_interval_is_that_of_its_parts(story: list[Any], known: Any, cuts: list[int]):
    timeline = play(story, known).scope.timelines[Phase.ALL]

    def energy(start: int, end: int) -> float:
        return sum(one.imports.watts * (one.end_ms - one.start_ms) for one in within(timeline, start, end) if one.imports)

    marks = sorted(FIRST + cut for cut in cuts)
    assert sum(energy(*pair) for pair in pairwise(marks)) == energy(marks[0], marks[-1])
    assert within(within(timeline, marks[0]), 0, marks[-1]) == within(timeline, marks[0], marks[-1])
    assert all(isinstance(one, Stretch) and one.end_ms <= FOREVER_MS for one in timeline)
