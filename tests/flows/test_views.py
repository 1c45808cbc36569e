import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from gateway.composition import NEEDS, kinds_for
from pipelines.rules.configuration import changes_between
from pipelines.views import ConfigChangesView, ConfigView, ConnectionsView, FixedView
from schemas.clock import FrozenClock
from schemas.config import KINDS, ConfigChange, Configuration
from schemas.connection import Connection, ConnectionState
from schemas.topics import CONFIG, CONNECTIONS
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import Producer, create_topics
from sinks.settings import KafkaSettings
from tests.builders import T0, configuration

Register = Callable[[Any], Any]
CLOCK = FrozenClock(T0)


def connection(partner_id: str, state: ConnectionState) -> Connection:
    return Connection(event_id=f"{partner_id}-{state}", at=T0, partner_id=partner_id, state=state, since=T0)


def publish(producer: Producer, changes: list[ConfigChange]) -> None:
    for change in changes:
        producer.send(CONFIG, f"{change.kind}/{change.id}", change)
    producer.flush()


def apply(producer: Producer, old: dict[str, ConfigChange], new: Configuration, *, prune: bool = False) -> None:
    publish(producer, changes_between(old, new, prune=prune, by="test", at=T0))


def started(view: Any, register: Register) -> Any:
    register(view)
    view.start()
    view.wait_ready(10)
    return view


def test_a_fixed_view_stays():
    assert FixedView(configuration()).current() == configuration()


def test_the_last_value_of_a_key_wins_on_either_broker(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [CONNECTIONS])
    producer = Producer(kafka_settings, "test")
    for state in (ConnectionState.NEW, ConnectionState.REGISTERED, ConnectionState.ONLINE):
        for partner in ("vector", "orion"):
            producer.send(CONNECTIONS, partner, connection(partner, state))
    producer.send(CONNECTIONS, "orion", connection("orion", ConnectionState.OFFLINE))
    producer.flush()
    view = started(ConnectionsView(kafka_settings, CLOCK), closing)
    before = view.current()
    assert {key: value.state for key, value in before.items()} == {"vector": ConnectionState.ONLINE, "orion": ConnectionState.OFFLINE}
    producer.send(CONNECTIONS, "orion", connection("orion", ConnectionState.ONLINE))
    producer.flush()
    asyncio.run(view.catch_up(5))
    assert view.current()["orion"].state == ConnectionState.ONLINE
    assert before["orion"].state == ConnectionState.OFFLINE  # who holds an older answer keeps it


def test_catching_up_is_quick_enough_for_who_waits_at_the_door(kafka_settings: KafkaSettings, closing: Register):
    create_topics(kafka_settings, [CONNECTIONS])
    producer = Producer(kafka_settings, "test")
    view = started(ConnectionsView(kafka_settings, CLOCK), closing)
    asyncio.run(view.catch_up(5))
    producer.send(CONNECTIONS, "vector", connection("vector", ConnectionState.ONLINE))
    producer.flush()
    begun = time.monotonic()
    asyncio.run(view.catch_up(1.0))  # semantics 6.3: at most 1 s
    assert time.monotonic() - begun < 1.0
    assert "vector" in view.current()


def test_bytes_that_are_no_value_leave_the_one_before(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [CONNECTIONS])
    producer = Producer(embedded_settings, "test")
    producer.send(CONNECTIONS, "vector", connection("vector", ConnectionState.ONLINE))
    producer.send(CONNECTIONS, "vector", b"garbage")
    producer.send(CONNECTIONS, "orion", connection("orion", ConnectionState.NEW))
    producer.send(CONNECTIONS, "orion", b"")  # a tombstone
    producer.flush()
    view = started(ConnectionsView(embedded_settings, CLOCK), closing)
    assert {key: value.state for key, value in view.current().items()} == {"vector": ConnectionState.ONLINE}


def test_the_configuration_is_what_was_applied_and_says_who_changed_what(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    apply(producer, {}, configuration())
    view = started(ConfigChangesView(embedded_settings, CLOCK), closing)
    assert view.current().scope("mg-1") == configuration().scope("mg-1")
    assert len(view.current().assets) == 3
    assert view.changes()["partners/vector"].by == "test"
    assert view.changed_at == T0
    apply(producer, dict(view.changes()), Configuration(), prune=True)
    asyncio.run(view.catch_up(5))
    assert view.current() == Configuration()
    assert view.changes()["partners/vector"].revision == 2


def test_a_state_that_does_not_fit_together_never_shows(embedded_settings: KafkaSettings, closing: Register):
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    changes = changes_between({}, configuration(), by="test", at=T0)
    publish(producer, changes)
    view = started(ConfigView(embedded_settings, CLOCK), closing)
    good = view.current()
    (scope,) = [change for change in changes if change.kind == "scopes"]
    publish(producer, [scope.model_copy(update={"body": None, "revision": 2})])
    asyncio.run(view.catch_up(5))
    assert view.current() == good
    assert "there is no scope 'mg-1'" in view.problem
    publish(producer, [scope.model_copy(update={"revision": 3})])
    asyncio.run(view.catch_up(5))
    assert view.current() == good
    assert view.problem is None


def test_what_another_one_went_by_a_moment_ago_is_known(embedded_settings: KafkaSettings, closing: Register) -> None:
    """Also where this view went past it in one poll, or before it was ready; never where the items did not fit together."""
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    whole = configuration()
    first, second, third = (asset.id for asset in whole.assets)
    apply(producer, {}, whole)
    view = closing(ConfigView(embedded_settings, CLOCK, remembers=True))
    forgetful = started(ConfigView(embedded_settings, CLOCK), closing)
    view.start()
    view.wait_ready(10)
    before = view.current()
    changes = {f"{each.kind}/{each.id}": each for each in changes_between({}, whole, by="test", at=T0)}
    wider = whole.asset(second).model_copy(update={"max_w": 7.0}).model_dump_json()
    producer.send(CONFIG, f"assets/{first}", b"")
    publish(producer, [changes[f"assets/{second}"].model_copy(update={"body": wider, "revision": 2})])
    for each in (view, forgetful):
        asyncio.run(each.catch_up(5))

    def then(place: int) -> dict[str, float | None] | None:
        found = view.at(place)
        assert found is None or found.place == place
        return None if found is None else {asset.id: asset.max_w for asset in found.assets}

    said = {asset.id: asset.max_w for asset in whole.assets}
    assert (before.place, view.current().place) == (len(changes) - 1, len(changes) + 1)
    assert then(before.place) == said
    assert then(before.place + 1) == {second: said[second], third: said[third]}
    assert then(before.place + 2) == {second: 7.0, third: said[third]}
    assert then(before.place + 3) is None
    assert then(0) == {}  # the circuit alone
    assert forgetful.at(before.place) is None
    assert forgetful.at(before.place + 2) == forgetful.current()
    (partner,) = [change for change in changes.values() if change.kind == "partners"]
    publish(producer, [partner.model_copy(update={"body": None, "revision": 2}), partner.model_copy(update={"revision": 3})])
    asyncio.run(view.catch_up(5))
    assert (then(before.place + 3), then(before.place + 4)) == (None, {second: 7.0, third: said[third]})


@pytest.mark.parametrize("kinds", [None, {"partners", "timing"}])
def test_flows_do_not_begin_without_a_configuration(
    embedded_settings: KafkaSettings, closing: Register, monkeypatch: pytest.MonkeyPatch, kinds: set[str] | None
):
    """They would know of no partner and no asset, and pass over all that concerns one."""
    create_topics(embedded_settings, [CONFIG])
    producer = Producer(embedded_settings, "test")
    changes = changes_between({}, configuration(), by="test", at=T0)
    (partner,) = [change for change in changes if change.kind == "partners"]
    publish(producer, [*changes, partner.model_copy(update={"body": '{"id":"vector","max_rate":0}', "revision": 2})])
    monkeypatch.setattr("pipelines.views.RIGHT_WITHIN_S", 0.2)
    view = closing(ConfigView(embedded_settings, CLOCK, kinds))
    view.start()
    with pytest.raises(Misconfigured, match=r"derms\.config: its items are no configuration: .*vector.*max_rate"):
        view.wait_ready(10)
    whole = started(ConfigChangesView(embedded_settings, CLOCK), closing)  # who changes it may begin
    with pytest.raises(Unavailable, match="no configuration is in force"):
        asyncio.run(whole.check())
    publish(producer, [partner.model_copy(update={"revision": 3})])
    asyncio.run(whole.catch_up(5))
    asyncio.run(whole.check())
    assert whole.current().partners == configuration().partners


def test_nothing_is_said_before_all_has_been_read(embedded_settings: KafkaSettings, closing: Register):
    view = closing(ConfigView(embedded_settings, CLOCK))
    with pytest.raises(Unavailable):
        view.current()
    view.start()
    with pytest.raises(Unavailable, match=r"derms\.config"):
        view.wait_ready(0.3)  # there is no such topic
    create_topics(embedded_settings, [CONFIG])
    view.wait_ready(10)
    assert view.current() == Configuration()


def test_a_view_of_some_kinds_holds_nothing_else(embedded_settings: KafkaSettings, closing: Register) -> None:
    create_topics(embedded_settings, [CONFIG])
    whole = configuration()
    apply(Producer(embedded_settings, "test"), {}, whole)
    view = started(ConfigView(embedded_settings, CLOCK, kinds={"partners", "timing"}), closing)
    assert (view.problem, view.current()) == (None, Configuration(partners=whole.partners))


@pytest.mark.parametrize("flow", sorted(NEEDS))
def test_what_a_flow_asks_for_is_closed_under_references(flow: str) -> None:
    """A configuration without a kind that another one refers to would never be consistent."""
    refers = {"scopes": {"circuits"}, "assets": {"scopes"}, "groups": {"partners", "scopes"}}
    needs = NEEDS[flow]
    assert needs <= set(KINDS)
    assert all(refers.get(kind, set()) <= needs for kind in needs)
    assert kinds_for([flow]) == needs
    assert kinds_for([flow, "reporting"]) is None
