import pickle

from pipelines.records import Tick
from pipelines.rules.circuit_changes import CircuitChangesRule, Named, words_of
from schemas.capacity import CircuitCapacity, PieceKind
from schemas.connection import Event
from tests.rules.scenes import at

EARLIER = (
    b"\x80\x05\x95L\x00\x00\x00\x00\x00\x00\x00\x8c\x1fpipelines.rules.circuit_changes\x94\x8c\x0bChangesSeen\x94\x93\x94)\x81\x94}\x94(\x8c\x06l"
    b"atest\x94N\x8c\x03ids\x94)ub."
)


def capacity(effective: str, import_w: float | None, **more: object) -> CircuitCapacity:
    plain = {
        "event_id": f"{effective} {import_w}", "at": at(effective), "circuit_id": "feeder-17", "scope_id": "mg-1",
        "available_import_w": import_w, "available_export_w": None, "effective_from": at(effective), "kind": PieceKind.FORECAST,
        "import_kind": PieceKind.FORECAST,
    }  # fmt: skip
    return CircuitCapacity.model_validate({**plain, **more})


def test_a_change_is_told_in_words():
    change = capacity("10:00", 20_000, previous_import_w=110_000, available_export_w=150_000, export_kind=PieceKind.UNKNOWN)
    assert words_of(Named(change, "Harbour feeder (feeder-17)")) == (
        "from 2026-10-20T10:00:00.000Z circuit Harbour feeder (feeder-17) has "
        "20 kW import (as forecast, was 110 kW) and 150 kW export (the limit is unknown)"
    )
    assert "20.5 kW import (the safe limit) and no known export limit" in words_of(
        Named(capacity("10:00", 20_500, import_kind=PieceKind.SAFE), "feeder-17")
    )


def test_changes_pass_once_and_in_order():
    rule = CircuitChangesRule()
    state = rule.start("feeder-17")
    first, second, third = capacity("10:00", 1), capacity("10:00", 2), capacity("11:00", 3)
    came = [first, second, first, second, capacity("09:00", 9), third, first, second, third]
    passed = [change for one in came for change in rule.step(state, Named(one, "feeder-17"), at("12:00"))]
    assert [out.value.cause_id for out in passed if isinstance(out.value, Event)] == [first.event_id, second.event_id, third.event_id]
    for out in passed:
        assert isinstance(out.value, Event)
        assert (out.key, out.value.kind, out.value.at) == ("feeder-17", "circuit capacity changed", at("12:00"))
    assert list(rule.step(state, Tick(), at("12:00"))) == []
    assert rule.due(state) is None


def test_state_of_an_earlier_release_can_be_read():
    """It was pickled under the rule's own module."""
    state = pickle.loads(EARLIER)
    assert state == CircuitChangesRule().start("feeder-17")
