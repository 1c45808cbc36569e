import pickle
from datetime import timedelta
from typing import Any

import pytest

from pipelines.records import Out, Tick
from pipelines.rules import envelopes
from pipelines.rules.envelopes import EnvelopeRule
from pipelines.rules.scope_items import OPERATOR
from schemas.capacity import LimitType, PieceKind
from schemas.units import Phase, from_ms, to_ms
from tests.rules.scenes import CASES, ToldScope, at, block, forecast, group, limit, received

IMPORT, EXPORT = LimitType.IMPORT, LimitType.EXPORT
FALLBACK = LimitType.FALLBACK_IMPORT
DAY = block("00:00", "2026-10-21T00:00+00:00", 100)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_what_is_in_force_in_a_quarter_is_as_worked(case: dict[str, Any]):
    scope = ToldScope()
    scope.hears(*received(case))
    start = at(case["quarter"]["start"])
    cuts = sorted({start, *(at(piece[end]) for piece in case["quarter"]["in_force"] for end in ("start", "end"))})
    for cut in cuts:
        piece = next((p for p in case["quarter"]["in_force"] if at(p["start"]) <= cut < at(p["end"])), None)
        found = scope.imports(to_ms(cut))
        if cut < start + timedelta(minutes=15):
            assert (found.watts, found.cause) == (piece["limit_w"], piece["cause"]) if piece and found else piece is found


# 3.4: revisions


def test_a_forecast_for_later_changes_the_envelope_from_then_on():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("10:00", "12:00", 50)))
    (envelope,) = scope.envelopes
    assert (envelope.revision, envelope.effective_at, envelope.cause_id) == (1, at("10:00"), "inbound f1")
    known, held = envelope.pieces
    assert (known.start, known.end, known.import_limit_w, known.kind, known.cause) == (at("10:00"), at("12:00"), 50_000, "FORECAST", "f1")
    assert (known.export_limit_w, known.export_kind) == (None, "UNKNOWN")
    assert (held.start, held.end, held.import_limit_w, held.import_kind) == (at("12:00"), at("13:00"), 50_000, "HELD")


def test_nothing_is_in_force_before_it_was_received():
    scope = ToldScope()
    scope.hears(forecast("f1", "10:05", block("09:30", "11:00", 10)))
    assert scope.envelopes[0].effective_at == at("10:05")
    assert scope.imports("10:04") is None
    assert scope.imports("10:05") == limit(10)


def test_what_changes_nothing_makes_no_revision():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY))
    assert scope.hears(forecast("f1", "09:00", DAY)) == []
    assert scope.linked("09:30", away=False) == []
    assert scope.hears(forecast("f2", "10:00", block("09:00", "09:30", 5))) == []  # wholly past
    assert list(scope.rule.step(scope.state, Tick(), at("11:00"))) == []
    assert scope.rule.due(scope.state) is None
    assert len(scope.envelopes) == 1


def test_what_is_told_again_is_not_worked_out_again(monkeypatch: pytest.MonkeyPatch):
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY), forecast("b1", "08:01", DAY, of=FALLBACK))
    scope.linked("09:00", away=True)
    monkeypatch.setattr(envelopes, "of_group", pytest.fail)
    scope.linked("09:00", away=True)  # the connection changed in something else
    scope.linked("09:30", away=True)  # it is gone for good now
    assert scope.hears(forecast("f1", "10:00", DAY)) == []
    assert scope.configured("10:00", group()) == []  # the second look
    assert len(scope.envelopes) == 2


def test_a_forecast_of_the_same_numbers_is_a_change_of_cause():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY), forecast("f2", "09:00", DAY))
    assert [envelope.effective_at for envelope in scope.envelopes] == [at("08:00"), at("09:00")]
    assert scope.imports("09:00") == limit(100, "f2")


def test_ids_follow_from_causes():
    twice = []
    for _ in range(2):
        scope = ToldScope()
        scope.hears(forecast("f1", "08:00", DAY), forecast("f2", "09:00", block("10:00", "11:00", 5), block("10:30", "12:00", 6)))
        twice.append([fact.event_id for fact in (*scope.envelopes, *scope.events)])
    assert twice[0] == twice[1]
    assert len(set(twice[0])) == 3


# 3.1: oddities


def test_overlapping_blocks_are_told():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("09:00", "12:00", 50), block("10:00", "11:00", 30)))
    (event,) = scope.events
    assert (event.subject_id, event.severity) == ("mg-1", "WARNING")
    assert "f1 of VEC-0001 overlap" in event.words
    assert scope.import_kw("09:30", "10:30", "11:30") == [(50, "FORECAST"), (30, "FORECAST"), (50, "FORECAST")]


def test_an_id_used_again_for_something_else_is_applied_and_told():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY), forecast("f1", "09:00", block("10:00", "11:00", 5)), forecast("f1", "09:30", DAY))
    (event,) = scope.events
    assert "came again with other contents" in event.words
    assert scope.import_kw("09:45", "10:30") == [(100, "FORECAST"), (5, "FORECAST")]


def test_a_message_is_known_for_a_week():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY))
    scope.hears(forecast("f2", "2026-10-27T07:59:59+00:00", block("08:00", "09:00", 5)))
    assert scope.hears(forecast("f1", "2026-10-27T08:00+00:00", DAY)) == []
    scope.hears(forecast("f3", "2026-10-27T08:00:01+00:00", block("08:00", "09:00", 5)))
    later = block("2026-10-28T00:00+00:00", "2026-10-29T00:00+00:00", 7)
    assert len(scope.hears(forecast("f1", "2026-10-27T09:00+00:00", later))) == 2
    assert scope.events == []  # nobody remembers that the id has been used


def test_a_source_that_speaks_every_quarter_for_a_week_does_not_weigh_much():
    scope = ToldScope()
    begin = to_ms(at("2026-10-01T00:00:00+00:00"))
    for number in range(700):
        start = from_ms(begin + number * 900_000)
        said = block("10:00", "11:00", number % 50).model_copy(update={"start": start, "end": from_ms(begin + (number + 1) * 900_000)})
        scope.hears(forecast(f"00000000-0000-0000-0000-{number:012}", start.isoformat(), said))
    assert len(pickle.dumps(scope.state, protocol=5)) < 24 * 1024


def test_an_optimum_limits_nothing():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", DAY, of=LimitType.OPTIMUM))
    assert scope.envelopes == []


def test_phases_have_pieces_of_their_own():
    scope = ToldScope(group(safe_import_w=1000.0))
    scope.hears(forecast("f1", "08:00", block("09:00", "12:00", 50), block("09:00", "12:00", 5, Phase.ONE)))
    scope.hears(forecast("f2", "08:30", block("10:00", "11:00", 4, Phase.ONE)))
    assert scope.imports("10:30") == limit(50)
    assert scope.imports("10:30", Phase.ONE) == limit(4, "f2")
    assert scope.imports("10:30", Phase.TWO) is None
    assert scope.imports("12:30", Phase.ONE) == limit(5, "f1", PieceKind.HELD)
    assert scope.imports("20:00") == limit(1, None, PieceKind.SAFE)
    assert scope.imports("20:00", Phase.ONE) is None  # the safe limits are for all phases together


# 3.3: several voices


def test_the_lower_of_several_groups_and_an_operator_wins():
    scope = ToldScope(group("A"), group("B", partner="other"))
    scope.hears(forecast("a1", "08:00", block("08:00", "20:00", 50), source="A"))
    scope.hears(forecast("b1", "09:00", block("10:00", "11:00", 30), source="B"))
    scope.hears(forecast("o1", "09:00", block("10:30", "10:45", 3), source=OPERATOR))
    assert [scope.imports(when) for when in ("09:30", "10:15", "10:30", "10:50")] == [
        limit(50, "a1"), limit(30, "b1"), limit(3, "o1", PieceKind.OPERATOR), limit(30, "b1"),
    ]  # fmt: skip
    # B is held until 12:00, then nobody knows whether more than its 30 kW would do.
    assert [scope.imports(when) for when in ("11:30", "12:00", "15:00")] == [limit(30, "b1", PieceKind.HELD), None, None]


def test_a_group_that_says_rating_when_unknown_restrains_nobody_then():
    scope = ToldScope(group("A"), group("B", keep=False))
    scope.hears(forecast("a1", "08:00", block("08:00", "20:00", 50), source="A"))
    scope.hears(forecast("b1", "09:00", block("10:00", "11:00", 30), source="B"))
    assert scope.import_kw("10:30", "11:30", "12:00") == [(30, "FORECAST"), (30, "HELD"), (50, "FORECAST")]


def test_a_group_that_has_not_spoken_restrains_nobody():
    scope = ToldScope(group("A"), group("B"))
    scope.hears(forecast("a1", "08:00", block("08:00", "20:00", 50), source="A"))
    assert scope.imports("10:00") == limit(50, "a1")


def test_a_removed_group_has_no_say_any_more():
    scope = ToldScope(group("A"), group("B"))
    scope.hears(forecast("a1", "08:00", DAY, source="A"), forecast("b1", "08:00", block("08:00", "20:00", 5), source="B"))
    scope.configured("10:00", group("A"))
    assert scope.import_kw("09:59", "10:00") == [(5, "FORECAST"), (100, "FORECAST")]


def test_export_has_limits_of_its_own():
    scope = ToldScope()
    scope.hears(forecast("f1", "08:00", block("09:00", "12:00", 50)), forecast("g1", "08:00", block("10:00", "11:00", 9), of=EXPORT))
    piece = next(piece for piece in scope.envelopes[-1].pieces if piece.start == at("10:00"))
    assert (piece.import_limit_w, piece.export_limit_w, piece.cause, piece.export_cause) == (50_000, 9_000, "f1", "g1")


# state


def test_what_is_older_than_is_remembered_stays_as_it_was():
    scope = ToldScope(group("A"), group("B"))
    scope.hears(forecast("a1", "02:00", block("02:00", "03:00", 50), source="A"))
    scope.hears(forecast("a2", "12:00", block("12:00", "20:00", 50), source="A"))
    scope.hears(forecast("b1", "02:30", block("02:30", "20:00", 30), source="B"))  # read late by far
    assert scope.envelopes[-1].effective_at == at("06:00")
    assert scope.import_kw("02:45", "05:00", "06:00", "12:00") == [(50, "FORECAST"), None, (30, "FORECAST"), (30, "FORECAST")]


def test_the_state_of_a_group_with_full_day_plans_stays_small():
    scope = ToldScope()
    day = to_ms(at("2026-10-01T00:00:00+00:00"))
    for number in range(30):
        for of in (IMPORT, EXPORT):
            start = day + number * 86_400_000
            plan = [
                block("10:00", "11:00", 10 + n / 7).model_copy(
                    update={"start": from_ms(start + n * 900_000), "end": from_ms(start + (n + 1) * 900_000)}
                )
                for n in range(96)
            ]
            said = forecast(f"f{number}{of}", from_ms(start - 36_000_000).isoformat(), *plan, of=of)
            scope.hears(said)
    assert len(pickle.dumps(scope.state, protocol=5)) < 16 * 1024


def test_a_rule_starts_empty():
    rule = EnvelopeRule()
    state = rule.start("mg-9")
    assert (state.scope_id, state.revision, rule.due(state)) == ("mg-9", 0, None)
    assert all(isinstance(one, Out) for one in rule.step(state, Tick(), at("10:00")))
