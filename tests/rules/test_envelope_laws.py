"""Laws of the envelope under any story of forecasts and connections of two groups."""

from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.rules.scope_items import GroupTerms
from schemas.capacity import CapacityForecast, LimitType
from schemas.units import from_ms
from tests.rules.scenes import ToldScope, block, forecast, group, ms

IMPORT, EXPORT, FALLBACK = LimitType.IMPORT, LimitType.EXPORT, LimitType.FALLBACK_IMPORT

starts = st.integers(0, 11).map(lambda half_hours: ms("04:00") + half_hours * 1_800_000)
blocks = st.builds(
    lambda start, length, kw: block("10:00", "11:00", kw).model_copy(
        update={"start": from_ms(start), "end": from_ms(start + length * 1_800_000)}
    ),
    starts,
    st.integers(1, 6),
    st.sampled_from([10.0, 20.0, 30.0]),
)
types = st.sampled_from([IMPORT, IMPORT, EXPORT, FALLBACK])
told = st.one_of(
    st.tuples(st.just("forecast"), st.sampled_from("AB"), types, starts, st.lists(blocks, min_size=1, max_size=3)),
    st.tuples(st.just("link"), st.sampled_from("AB"), st.booleans(), starts),
)
stories = st.lists(told, max_size=8).map(lambda story: sorted(story, key=lambda one: one[3]))
groups = st.sampled_from(
    [
        (group("A", partner="A"), group("B", partner="B")),
        (group("A", partner="A", safe_import_w=5_000.0), group("B", partner="B", hold=timedelta(minutes=30))),
        (group("A", partner="A", keep=False), group("B", partner="B", safe_export_w=15_000.0)),
    ]
)
INSTANTS = [ms("03:00") + n * 900_000 for n in range(80)]


def play(story: list[tuple], known: tuple[GroupTerms, ...], *, restarting: bool = False) -> ToldScope:
    scope = ToldScope(*known, restarting=restarting)
    scope.configured("03:00", *known)
    for number, one in enumerate(story):
        if one[0] == "forecast":
            _, source, of, when, spoken = one
            said = forecast(f"{source}{when}{number}", "10:00", *spoken, of=of, source=source)
            scope.hears(CapacityForecast.model_validate({**said.model_dump(), "received_at": from_ms(when)}))
        else:
            scope.linked(from_ms(one[3]).isoformat(), away=one[2], partner=one[1])
    return scope


def values_of(scope: ToldScope) -> list[tuple[float | None, float | None]]:
    found = []
    for instant in INSTANTS:
        imports, exports = scope.imports(instant), scope.exports(instant)
        found.append((imports.watts if imports else None, exports.watts if exports else None))
    return found


@settings(max_examples=60)
@given(stories, groups)
def test_pieces_partition_the_time_an_envelope_speaks_of(story: list[tuple], known: tuple[GroupTerms, ...]):
    scope = play(story, known)
    assert [envelope.revision for envelope in scope.envelopes] == list(range(1, len(scope.envelopes) + 1))
    for envelope in scope.envelopes:
        for phase in {piece.phase for piece in envelope.pieces}:
            pieces = [piece for piece in envelope.pieces if piece.phase is phase]
            assert pieces[0].start >= envelope.effective_at
            assert all(one.end == other.start for one, other in pairwise(pieces))
            assert all(piece.start < piece.end for piece in pieces)


@settings(max_examples=60)
@given(stories, groups)
def test_telling_it_all_again_changes_nothing(story: list[tuple], known: tuple[GroupTerms, ...]):
    forecasts = [one for one in story if one[0] == "forecast"]
    scope = play(forecasts, known)
    before = values_of(scope)
    for number, (_, source, of, when, spoken) in enumerate(forecasts):
        again = forecast(f"{source}{when}{number}", "10:00", *spoken, of=of, source=source)
        assert scope.hears(again) == []
    assert values_of(scope) == before


@settings(max_examples=60)
@given(stories, groups)
def test_the_order_between_groups_is_irrelevant(story: list[tuple], known: tuple[GroupTerms, ...]):
    # Within the past that is remembered (6 h): a replay may bring one partition's messages before another's.
    by_group = [one for name in "BA" for one in story if one[1] == name]
    assert values_of(play(story, known)) == values_of(play(by_group, known))


@settings(max_examples=60)
@given(stories, groups)
def test_ignorance_never_raises_a_limit(story: list[tuple], known: tuple[GroupTerms, ...]):
    """Whatever else is said, a group that fell silent is never followed by a higher limit of another one."""
    both = play(story, known)
    for name in "AB":
        if not next(one for one in known if one.group_id == name).keep:
            continue
        alone = play([one for one in story if one[1] == name], tuple(one for one in known if one.group_id == name))
        for of in ("imports", "exports"):
            last = None
            for instant in INSTANTS:
                own = getattr(alone, of)(instant)
                last = own or last
                found = getattr(both, of)(instant)
                if found is not None and last is not None:
                    assert found.watts <= last.watts


@settings(max_examples=40)
@given(stories, groups)
def test_a_restart_anywhere_changes_nothing(story: list[tuple], known: tuple[GroupTerms, ...]):
    one, other = play(story, known), play(story, known, restarting=True)
    assert one.envelopes == other.envelopes
    assert one.plans == other.plans
