import json
from datetime import timedelta
from typing import Any

from pipelines.records import Tick
from pipelines.rules.scope_changes import ChangesState, LookAgain, ScopeChanges, Whereabouts
from schemas.config import ConfigChange
from tests.rules.scenes import at

RULE = ScopeChanges(timedelta(seconds=2))


def change(kind: str, name: str, body: dict[str, Any] | None, when: str = "10:00") -> ConfigChange:
    text = None if body is None else json.dumps(body)
    return ConfigChange(event_id=f"{kind}/{name} {when}", at=at(when), kind=kind, id=name, body=text, revision=1, by="ada")


def scopes(state: ChangesState, one: ConfigChange, now: str = "10:00") -> list[str]:
    return [look.scope_id for look in RULE.step(state, one, at(now))]


def test_a_change_concerns_the_scopes_it_speaks_of():
    state = RULE.start("configuration")
    assert scopes(state, change("circuits", "feeder-17", {"id": "feeder-17"})) == []  # nobody uses it yet
    assert scopes(state, change("scopes", "mg-1", {"id": "mg-1", "circuit_id": "feeder-17"})) == ["mg-1"]
    assert scopes(state, change("circuits", "feeder-17", {"id": "feeder-17"})) == ["mg-1"]
    assert scopes(state, change("groups", "vector/V1", {"scope_id": "mg-1", "partner_id": "vector"})) == ["mg-1"]
    assert scopes(state, change("groups", "vector/V1", {"scope_id": "mg-2", "partner_id": "vector"})) == ["mg-1", "mg-2"]
    assert scopes(state, change("groups", "vector/V1", None)) == ["mg-2"]
    assert scopes(state, change("assets", "pv", {"scope_id": "mg-1"})) == []


def test_each_scope_is_looked_at_again_when_views_have_followed():
    state = RULE.start("configuration")
    scopes(state, change("scopes", "mg-1", {"id": "mg-1"}), "10:00:00.100")
    assert RULE.due(state) == at("10:00:02.100")
    assert list(RULE.step(state, Tick(), at("10:00:02"))) == []
    assert list(RULE.step(state, Tick(), at("10:00:02.100"))) == [LookAgain("mg-1", at("10:00"), "scopes/mg-1 10:00")]
    assert RULE.due(state) is None


def test_a_scope_new_to_a_partner_learns_where_the_partner_is():
    state = RULE.start("configuration")
    away = Whereabouts("vector", True, at("09:00"), "gone")
    assert list(RULE.step(state, away, at("09:00"))) == []
    assert list(RULE.step(state, Whereabouts("other", True, at("09:00"), "gone too"), at("09:00"))) == []
    (look,) = RULE.step(state, change("groups", "vector/V1", {"scope_id": "mg-1", "partner_id": "vector"}), at("10:00"))
    assert look == LookAgain("mg-1", at("10:00"), "groups/vector/V1 10:00", (away,))
    back = Whereabouts("vector", False, at("10:00:01"), "back")
    assert list(RULE.step(state, back, at("10:00:01"))) == []
    assert [look.partners for look in RULE.step(state, Tick(), at("10:00:02"))] == [(back,)]
