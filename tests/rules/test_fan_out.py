import pickle

from pipelines.records import Tick
from pipelines.rules.fan_out import AT_ONCE, Fan, FanOut
from pipelines.rules.scope_changes import Whereabouts
from tests.rules.scenes import at

RULE = FanOut()
GONE = Whereabouts("vector", True, at("10:00"), "c1")
BACK = Whereabouts("vector", False, at("10:01"), "c2")
SCOPES = tuple(f"mg-{n}" for n in range(2 * AT_ONCE + 7))


def test_a_few_are_told_at_a_time_and_none_is_forgotten():
    state = RULE.start("vector")
    assert RULE.due(state) is None
    told = [list(RULE.step(state, Fan(GONE, SCOPES), at("10:00:01")))]
    while (due := RULE.due(state)) is not None:
        assert due <= at("10:00:01")
        state = pickle.loads(pickle.dumps(state))
        told.append(list(RULE.step(state, Tick(), at("10:00:01"))))
    assert [len(some) for some in told] == [AT_ONCE, AT_ONCE, 7]
    assert [one for some in told for one in some] == [(scope_id, GONE) for scope_id in SCOPES]


def test_what_comes_meanwhile_is_told_after_it():
    state = RULE.start("vector")
    told = list(RULE.step(state, Fan(GONE, SCOPES), at("10:00:01")))
    told += RULE.step(state, Fan(BACK, SCOPES), at("10:01:01"))
    while RULE.due(state) is not None:
        told += RULE.step(state, Tick(), at("10:01:01"))
    assert told == [*((scope_id, GONE) for scope_id in SCOPES), *((scope_id, BACK) for scope_id in SCOPES)]


def test_a_partner_without_scopes_concerns_nobody():
    state = RULE.start("vector")
    assert list(RULE.step(state, Fan(GONE, ()), at("10:00"))) == []
    assert RULE.due(state) is None
