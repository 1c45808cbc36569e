"""Envelopes that say more than one message holds are said in parts, each in time."""

import pickle
from datetime import timedelta
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.records import Tick
from pipelines.rules.envelope_parts import AHEAD_MS, MOST_BYTES, Said, first_part
from pipelines.rules.envelopes import EnvelopeRule
from pipelines.rules.limits import FOREVER_MS, Limit, Stretch, within
from pipelines.rules.scope_items import GroupTerms
from schemas.capacity import CapacityBlock, CapacityForecast, LimitType, OperatingEnvelope, PieceKind
from schemas.topics import ENVELOPES
from schemas.units import Phase, from_ms, to_ms
from sinks.codec import encode
from tests.rules.scenes import HOUR_MS, ToldScope, block, forecast, group, ms
from tests.rules.test_envelope_laws import groups, stories

IMPORT, EXPORT = LimitType.IMPORT, LimitType.EXPORT
QUARTER_MS, MINUTE_MS, DAY_MS = 900_000, 60_000, 86_400_000
YEAR = 365 * 96
UNBOUNDED = 1 << 40


class LongScope(ToldScope):
    """A scope whose envelopes are bounded, and whose rule has a clock: `until` lets it pass."""

    def __init__(self, *known: GroupTerms, most_bytes: int = MOST_BYTES, restarting: bool = False) -> None:
        super().__init__(*known, restarting=restarting)
        self.rule = EnvelopeRule(most_bytes)

    def until(self, instant_ms: int) -> list[OperatingEnvelope]:
        """What the ticks say that are due up to an instant, each at its time."""
        first = len(self.envelopes)
        while (due := self.rule.due(self.state)) is not None and to_ms(due) <= instant_ms:
            if self.restarting:
                self.state = pickle.loads(pickle.dumps(self.state))
            said = list(self.rule.step(self.state, Tick(), due))
            for one in said:
                self._note(one.value)
        return self.envelopes[first:]

    def known(self, phase: Phase, until_ms: int = FOREVER_MS) -> list[tuple[int, Limit | None, Limit | None]]:
        """The changes of the timeline that readers have: from when on which limits hold."""
        found: list[tuple[int, Limit | None, Limit | None]] = []
        end = None
        for start_ms, end_ms, imports, exports in [*within(self.timelines[phase], 0, until_ms), Stretch(until_ms, until_ms, None, None)]:
            if end is not None and start_ms > end and found[-1][1:] != (None, None):
                found.append((end, None, None))
            if (found[-1][1:] if found else (None, None)) != (imports, exports):
                found.append((start_ms, imports, exports))
            end = end_ms
        return found


def blocks(number: int, length_ms: int, start: str = "09:00", phase: Phase = Phase.ALL) -> list[CapacityBlock]:
    first, begin = block("10:00", "11:00", 0, phase), ms(start)
    return [
        first.model_copy(
            update={"start": from_ms(begin + n * length_ms), "end": from_ms(begin + (n + 1) * length_ms), "limit_w": 1000.0 + n % 977}
        )
        for n in range(number)
    ]


def request(letter: str, length: int = 36) -> str:
    return letter * length


@pytest.fixture(scope="module")
def year() -> tuple[CapacityForecast, CapacityForecast]:
    """A year ahead in quarter hours, both ways."""
    plan = blocks(YEAR, QUARTER_MS)
    return forecast(request("c"), "08:00", *plan), forecast(request("g"), "08:01", *plan, of=EXPORT)


def told(*said: CapacityForecast, most_bytes: int = MOST_BYTES) -> LongScope:
    scope = LongScope(most_bytes=most_bytes)
    scope.hears(*said)
    return scope


def test_a_year_of_quarter_hours_both_ways_is_said_in_parts_each_piece_once(year: tuple[CapacityForecast, CapacityForecast]):
    scope, whole = told(*year), told(*year, most_bytes=UNBOUNDED)
    assert len(encode(whole.envelopes[-1])) > ENVELOPES.max_bytes
    assert whole.rule.due(whole.state) is None
    first = scope.envelopes[-1]
    assert first.pieces[0].start == from_ms(ms("09:00"))
    parts = [first, *scope.until(FOREVER_MS)]
    assert len(parts) > 2
    assert all(len(encode(part)) < MOST_BYTES for part in parts)
    assert all(one.pieces[-1].end == other.effective_at == other.pieces[0].start for one, other in pairwise(parts))
    assert [part.revision for part in parts] == list(range(first.revision, first.revision + len(parts)))
    assert {part.cause_id for part in parts} == {first.cause_id}
    assert len({part.event_id for part in parts}) == len(parts)
    assert [piece for part in parts for piece in part.pieces] == whole.envelopes[-1].pieces
    assert scope.timelines == whole.timelines
    assert scope.rule.due(scope.state) is None
    assert scope.plans == whole.plans  # circuits know all of it from the beginning


def test_the_next_part_is_said_before_it_is_in_force_but_not_long_before(year: tuple[CapacityForecast, CapacityForecast]):
    scope = told(*year)
    stated_ms = ms("08:01")
    while (due := scope.rule.due(scope.state)) is not None:
        until_ms = to_ms(scope.envelopes[-1].pieces[-1].end)
        assert to_ms(due) == until_ms - AHEAD_MS
        assert list(scope.rule.step(scope.state, Tick(), due - timedelta(milliseconds=1))) == []
        (part,) = scope.until(to_ms(due))
        assert to_ms(part.effective_at) == until_ms > to_ms(due) > stated_ms
        stated_ms = to_ms(due)


def test_minutes_under_a_long_name_are_said_half_the_way_before():
    plan = blocks(9_500, MINUTE_MS)
    said = forecast(request("c", 256), "08:00", *plan), forecast(request("g", 256), "08:00", *plan, of=EXPORT)
    scope, whole = told(*said), told(*said, most_bytes=UNBOUNDED)
    assert len(encode(whole.envelopes[-1])) > ENVELOPES.max_bytes
    assert len(encode(scope.envelopes[-1])) < MOST_BYTES
    until_ms = to_ms(scope.envelopes[-1].pieces[-1].end)
    assert scope.rule.due(scope.state) == from_ms((ms("08:00") + until_ms) // 2)
    assert all(len(encode(part)) < MOST_BYTES for part in scope.until(FOREVER_MS))
    assert scope.timelines == whole.timelines


def test_news_restates_from_its_own_instant_as_far_as_fits(year: tuple[CapacityForecast, CapacityForecast]):
    scope, whole = told(*year), told(*year, most_bytes=UNBOUNDED)
    for each in (scope, whole):
        each.linked("2026-11-01T00:00+00:00", away=True)
    assert scope.envelopes[-1].effective_at == whole.envelopes[-1].effective_at
    assert len(encode(scope.envelopes[-1])) < MOST_BYTES
    scope.until(FOREVER_MS)
    assert [scope.known(phase) for phase in Phase] == [whole.known(phase) for phase in Phase]


def test_news_about_what_was_not_said_yet_waits_for_its_turn(year: tuple[CapacityForecast, CapacityForecast]):
    scope = told(*year)
    far = block("2027-08-01T00:00+00:00", "2027-08-02T00:00+00:00", 1)
    before = len(scope.envelopes)
    (plan,) = scope.hears(forecast("far", "09:00", far))
    assert plan == scope.plans[-1]
    parts = scope.until(FOREVER_MS)
    assert len(scope.envelopes) == before + len(parts)
    assert {part.cause_id for part in parts} == {"inbound far"}
    assert scope.imports("2027-08-01T12:00+00:00") == Limit(1000.0, PieceKind.FORECAST, "far")


def test_what_was_taken_back_before_its_turn_makes_no_revision():
    scope = LongScope(group(hold=timedelta(0)), most_bytes=1000)
    scope.hears(forecast("f1", "08:00", *blocks(40, QUARTER_MS)))
    until_ms = to_ms(scope.envelopes[-1].pieces[-1].end)
    lifts = block("10:00", "11:00", 0).model_copy(update={"start": from_ms(until_ms), "end": from_ms(FOREVER_MS), "limit_w": None})
    scope.hears(forecast("f2", "08:01", lifts))
    due = scope.rule.due(scope.state)
    assert due is not None
    assert list(scope.rule.step(scope.state, Tick(), due)) == []
    assert scope.rule.due(scope.state) is None
    assert len(scope.envelopes) == 1


def test_a_scope_that_was_not_looked_after_says_what_it_owes_before_the_news():
    said = forecast("f1", "08:00", *blocks(200, QUARTER_MS))
    scope, whole = told(said, most_bytes=2000), told(said, most_bytes=UNBOUNDED)
    for each in (scope, whole):
        each.hears(forecast("f2", "2026-10-21T20:00+00:00", block("2026-10-21T21:00+00:00", "2026-10-21T22:00+00:00", 3)))
    assert scope.known(Phase.ALL, ms("2026-10-21T22:00+00:00")) == whole.known(Phase.ALL, ms("2026-10-21T22:00+00:00"))
    scope.until(FOREVER_MS)
    assert scope.known(Phase.ALL) == whole.known(Phase.ALL)


def test_all_phases_are_cut_at_one_instant():
    plan = [*blocks(40, QUARTER_MS), *blocks(20, 2 * QUARTER_MS, phase=Phase.ONE), *blocks(10, QUARTER_MS, "12:00", Phase.TWO)]
    scope, whole = told(forecast("f1", "08:00", *plan), most_bytes=1500), told(forecast("f1", "08:00", *plan), most_bytes=UNBOUNDED)
    scope.until(FOREVER_MS)
    assert len(scope.envelopes) > 3
    for part, following in pairwise(scope.envelopes):
        ends = {max(piece.end for piece in part.pieces if piece.phase is phase) for phase in {piece.phase for piece in part.pieces}}
        assert max(ends) == following.effective_at
        going_on = {piece.phase for piece in following.pieces if piece.start == following.effective_at}
        assert going_on <= {piece.phase for piece in part.pieces if piece.end == following.effective_at}
    for phase in Phase:
        assert scope.known(phase) == whole.known(phase)


def test_the_first_instant_is_said_however_large_it_is():
    long = Limit(1.0, PieceKind.FORECAST, "é" * 5000)
    found = {phase: [Stretch(0, 10, long, long), Stretch(10, 20, long, long)] for phase in (Phase.ALL, Phase.ONE)}
    assert first_part(found, 0, 1000) == ({phase: found[phase][:1] for phase in found}, 10)
    assert first_part(found, 10, 1000) == ({phase: found[phase][1:] for phase in found}, FOREVER_MS)
    assert first_part(found, 0, 4 * (64 + 30_000) - 1)[1] == 10
    assert first_part(found, 0, 4 * (64 + 30_000))[1] == FOREVER_MS


def test_a_part_is_due_later_than_it_was_stated_and_earlier_than_it_ends():
    assert Said().due_ms() is None
    assert Said(100, 98).due_ms() == 99
    assert Said(10 * DAY_MS, 0).due_ms() == 8 * DAY_MS
    assert Said(3 * DAY_MS, 0).due_ms() == 36 * HOUR_MS


def play(story: list[tuple], known: tuple[GroupTerms, ...], most_bytes: int, *, ticking: bool, restarting: bool = False) -> LongScope:
    """As in the laws of the envelope; `ticking` lets time pass in between, as it does in life but not in a replay."""
    scope = LongScope(*known, most_bytes=most_bytes, restarting=restarting)
    scope.configured("03:00", *known)
    for number, one in enumerate(story):
        when = one[3]
        if ticking:
            scope.until(when)
        if one[0] == "forecast":
            said = forecast(f"{one[1]}{when}{number}", "10:00", *one[4], of=one[2], source=one[1])
            scope.hears(CapacityForecast.model_validate({**said.model_dump(), "received_at": from_ms(when)}))
        else:
            scope.linked(from_ms(when).isoformat(), away=one[2], partner=one[1])
    return scope


@settings(max_examples=120)
@given(stories, groups, st.integers(1, 1500), st.booleans(), st.booleans())
@example([], (group("A", partner="A"), group("B", partner="B")), 1, True, False)
def test_whatever_is_said_in_between_the_parts_come_to_the_whole(
    story: list[tuple], known: tuple[GroupTerms, ...], most_bytes: int, ticking: bool, restarting: bool
):
    parts = play(story, known, most_bytes, ticking=ticking, restarting=restarting)
    whole = play(story, known, UNBOUNDED, ticking=ticking)
    for phase in Phase:
        until_ms = parts.state.said.until_ms
        assert parts.known(phase, until_ms) == whole.known(phase, until_ms)
    parts.until(FOREVER_MS)
    for phase in Phase:
        assert parts.known(phase) == whole.known(phase)
    assert parts.plans == whole.plans
    assert [each.revision for each in parts.envelopes] == list(range(1, len(parts.envelopes) + 1))


@settings(max_examples=60)
@given(stories, groups, st.integers(1, 1500))
def test_a_replay_says_the_same_parts(story: list[tuple], known: tuple[GroupTerms, ...], most_bytes: int):
    lived, replayed = (play(story, known, most_bytes, ticking=ticking) for ticking in (True, False))
    assert [each.model_copy(update={"at": None}) for each in lived.envelopes[: len(replayed.envelopes)]] == [
        each.model_copy(update={"at": None}) for each in replayed.envelopes
    ]
