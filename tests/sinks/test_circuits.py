"""The circuit writer over real sockets: order, retries, supersession, keys, refusals, what is told (semantics 4)."""

import asyncio
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from schemas.capacity import PieceKind
from schemas.connection import Severity, SubjectKind
from sinks.circuit_history import Found
from sinks.circuit_queue import Outcome
from sinks.circuit_requests import FencedPlatform
from tests.sinks.circuit_world import (
    NOTHING_BEFORE,
    Gate,
    NoWaiting,
    Request,
    Told,
    change,
    circuit_of,
    fake_partner,
    key_of,
    script,
    until,
    writing,
)
from tests.sinks.test_fence import Given


def now_change(import_w: float, circuit_id: str = "feeder-17", name: str = "now") -> Any:
    """A change that takes effect now."""
    at = datetime.now(UTC).replace(microsecond=0)
    return change(0, import_w, circuit_id).model_copy(update={"effective_from": at, "event_id": name})


def test_a_change_is_one_patch_with_the_four_fields_under_its_own_key() -> None:
    told = Told()
    with fake_partner() as platform, writing(f"{platform.url}/api/", told, token="hush", wanted=lambda: {"feeder/17 ä"}) as writer:
        writer.submit(change(5, circuit_id="feeder-99"))  # an old one of a circuit that is configured no more
        writer.submit(change(5, 250_000.0, "feeder/17 ä", kind=PieceKind.OPERATOR, available_export_w=1500.5))
        until(lambda: told.events, "written")
        (request,) = platform.requests
    assert (request.method, request.path) == ("PATCH", "/api/circuits/feeder%2F17%20%C3%A4")
    assert request.json == {
        "available_import_kw": 250.0, "available_export_kw": 1.5005, "effective_from": "2026-10-20T10:05:00.000Z", "source": "operator",
    }  # fmt: skip
    assert (key_of(request), request.headers["authorization"]) == ("feeder/17 ä 5", "Bearer hush")
    assert request.headers["content-type"] == "application/json"
    event = told.events[0]
    assert (event.kind, event.severity, event.subject_kind, event.subject_id) == (
        "circuit.written", Severity.INFO, SubjectKind.CIRCUIT, "feeder/17 ä",
    )  # fmt: skip
    data = json.loads(event.data)
    assert data.pop("duration_ms") >= 0
    assert data == {
        "change_id": "feeder/17 ä 5", "status": 204, "attempts": 1, "effective_from": "2026-10-20T10:05:00.000Z", "asserted": False,
    }  # fmt: skip


def test_what_is_not_known_is_null() -> None:
    told = Told()
    with fake_partner() as platform, writing(platform.url, told) as writer:
        writer.submit(change(5, kind=PieceKind.UNKNOWN))
        until(lambda: told.events)
        assert platform.requests[0].json["available_export_kw"] is None
        assert platform.requests[0].json["source"] == "unknown"


@pytest.mark.parametrize("answer", [500, 501, 503, 408, 425, 429, 302])
def test_what_may_pass_is_tried_again_under_the_same_key(answer: int) -> None:
    told = Told()
    with fake_partner(script({"feeder-17": [answer, answer, 200]})) as platform, writing(platform.url, told) as writer:
        writer.submit(change(5))
        until(lambda: told.events)
        assert [key_of(request) for request in platform.requests] == ["feeder-17 5"] * 3
    assert told.kinds() == ["circuit.written"]
    assert json.loads(told.events[0].data)["attempts"] == 3


@pytest.mark.parametrize("answer", [400, 401, 403, 404, 409, 422])
def test_another_refusal_is_an_alarm_without_secrets_and_is_not_tried_again(answer: int) -> None:
    told = Told()
    words = (answer, b'{"message": "no such circuit, said hush"}', {})
    with fake_partner(script({"feeder-17": [words, 204]})) as platform, writing(platform.url, told, token="hush") as writer:
        writer.submit(change(5))
        until(lambda: told.events)
        writer.submit(change(5))  # said once more by whoever makes changes
        writer.submit(change(6))
        until(lambda: len(told.events) == 2)
        assert [key_of(request) for request in platform.requests] == ["feeder-17 5", "feeder-17 6"]
    alarm = told.events[0]
    assert (alarm.kind, alarm.severity, alarm.cause_id) == ("circuit.refused", Severity.ALARM, "feeder-17 5")
    assert f"answered {answer}: no such circuit, said ***" in alarm.words
    assert json.loads(alarm.data)["status"] == answer
    assert "hush" not in alarm.model_dump_json()


def test_back_off_grows_with_full_jitter_up_to_five_minutes() -> None:
    chance = NoWaiting()
    with fake_partner(script({"feeder-17": [500] * 4 + [204]})) as platform, writing(platform.url, told := Told(), chance=chance) as writer:
        writer.submit(change(5))
        until(lambda: told.events)
    assert chance.bounds == [1.0, 2.0, 4.0, 8.0]


def test_retry_after_is_obeyed_for_all_circuits() -> None:
    told, came = Told(), []

    def answer(request: Request) -> Any:
        came.append((circuit_of(request), time.monotonic()))
        return (429, b"", {"Retry-After": "1"}) if len(came) == 1 else 204

    with fake_partner(answer) as platform, writing(platform.url, told) as writer:
        writer.submit(change(5))
        until(lambda: came)
        until(lambda: platform.statuses)
        until(lambda: writer._queue.paused_until)
        writer.submit(change(5, circuit_id="feeder-18"))
        until(lambda: len(told.events) == 2)
    assert {name for name, _ in came} == {"feeder-17", "feeder-18"}
    assert min(at for _, at in came[1:]) - came[0][1] >= 0.99


def test_a_newer_change_overtakes_what_is_not_sent_but_waits_for_what_is_under_way() -> None:
    told, gate = Told(), Gate(script({"feeder-17": [503, 204]}))
    with fake_partner(gate) as platform, writing(platform.url, told) as writer:
        writer.submit(change(1))
        until(lambda: gate.came)
        for minute in range(2, 60):
            writer.submit(change(minute))
        writer.submit(change(30))  # an old one, said again
        gate.open()
        until(lambda: told.events)
        assert [key_of(request) for request in platform.requests] == ["feeder-17 1", "feeder-17 59"]
        assert gate.most == 1
    assert [event.cause_id for event in told.events] == ["feeder-17 59"]


def test_circuits_do_not_wait_for_each_other_and_eight_travel_at_once() -> None:
    told, gate = Told(), Gate()
    names = [f"feeder-{number}" for number in range(20)]
    with fake_partner(gate) as platform, writing(platform.url, told, wanted=lambda: frozenset(names)) as writer:
        for name in names:
            writer.submit(change(5, circuit_id=name))
        until(lambda: gate.came == 8)
        gate.open()
        until(lambda: len(told.events) == 20)
        assert gate.most == 8
        assert {circuit_of(request) for request in platform.requests} == set(names)


def test_one_circuit_the_platform_chokes_on_holds_up_no_other() -> None:
    told = Told()
    with fake_partner(script({"feeder-17": [500]})) as platform, writing(platform.url, told, chance=NoWaiting(0.001)) as writer:
        writer.submit(change(0))
        until(lambda: len(platform.ids()) >= 5, "the breaker is open")
        for minute in range(1, 4):
            writer.submit(change(minute, circuit_id="feeder-18"))
            until(lambda minute=minute: len(told.events) == minute, "a first attempt waits for no breaker")
    assert {event.subject_id for event in told.events} == {"feeder-18"}


def test_a_platform_that_is_back_gets_all_at_once() -> None:
    """With the real back-offs: a probe gets through, and nobody waits for the end of his own pause."""
    told, names = Told(), [f"feeder-{number}" for number in range(30)]
    away = threading.Event()

    def answer(request: Request) -> int:
        return 204 if away.is_set() or circuit_of(request) == "feeder-x" else 503

    wanted = frozenset([*names, "feeder-x"])
    with fake_partner(answer) as platform, writing(platform.url, told, wanted=lambda: wanted, chance=NoWaiting(1.0)) as writer:
        for name in names:
            writer.submit(change(5, circuit_id=name))
        until(lambda: len(platform.statuses) == 30, "each was tried once")
        away.set()
        writer.submit(change(5, circuit_id="feeder-x"))
        until(lambda: len(told.events) == 31, "all were written", 5)


def test_an_answer_that_never_comes_and_a_port_that_is_closed_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    with fake_partner() as platform:
        url = platform.url
    with writing(url, told) as writer:
        writer.submit(change(5))
        until(lambda: writer._queue.lanes and writer._queue.lanes["feeder-17"].failures >= 2, "it was tried")
        assert "cannot connect" in writer._queue.lanes["feeder-17"].why
    assert told.events == []


def test_a_2xx_whose_body_does_not_end_is_done() -> None:
    told = Told()
    endless = (200, b"", {"Transfer-Encoding": "chunked"})
    with fake_partner(script({"feeder-17": [endless, 204]})) as platform, writing(platform.url, told) as writer:
        writer.submit(change(5))
        until(lambda: told.events, "written", 5)
        assert len(platform.requests) == 1
    assert (told.kinds(), json.loads(told.events[0].data)["status"]) == (["circuit.written"], 200)


def test_a_retry_after_of_hours_holds_up_another_circuit_no_longer_than_the_longest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.circuit_queue.PAUSE_MAX_S", 0.2)
    told = Told()
    with (
        fake_partner(script({"feeder-17": [(429, b"", {"Retry-After": "7200"})]})) as platform,
        writing(platform.url, told, chance=NoWaiting(1.0)) as writer,
    ):
        writer.submit(change(1))
        until(lambda: writer._queue.paused_until)
        writer.submit(change(1, circuit_id="feeder-18"))
        until(lambda: told.events)
        writer._queue.owing.after_s = 0.0
        writer._nudge()
        until(lambda: len(told.events) == 2)
        assert [circuit_of(request) for request in platform.requests] == ["feeder-17", "feeder-18"]
    assert [(event.kind, event.subject_id) for event in told.events] == [
        ("circuit.written", "feeder-18"), ("circuit.unreachable", "feeder-17"),
    ]  # fmt: skip


def test_a_circuit_whose_turn_does_not_come_is_told_of_too() -> None:
    told, gate = Told(), Gate()
    names = [f"feeder-{number}" for number in range(9)]
    with fake_partner(gate) as platform, writing(platform.url, told, wanted=lambda: frozenset(names)) as writer:
        writer._queue.owing.after_s = 0.2
        for name in names:
            writer.submit(change(5, circuit_id=name))
        until(lambda: len(told.events) == 9)
        assert len(platform.requests) == 0
        gate.open()
    last = next(event for event in told.events if event.subject_id == "feeder-8")
    assert (last.kind, last.words.rpartition(": ")[2]) == ("circuit.unreachable", "its turn has not come yet")


def test_a_circuit_out_of_reach_is_told_of_once_and_a_write_ends_it() -> None:
    told, there = Told(), threading.Event()
    with (
        fake_partner(lambda request: 204 if there.is_set() else (503, b"down for repair", {})) as platform,
        writing(platform.url, told, chance=NoWaiting(0.002)) as writer,
    ):
        writer._queue.owing.after_s = 0.05
        writer.submit(change(1))
        until(lambda: told.events, "it is told of")
        writer.submit(change(2))
        writer.submit(change(3))
        until(lambda: platform.requests[-1].json["effective_from"] == "2026-10-20T10:03:00.000Z")
        there.set()
        until(lambda: len(told.events) == 2)
    warning, written = told.events
    assert (warning.kind, warning.severity, written.kind) == ("circuit.unreachable", Severity.WARNING, "circuit.written")
    assert "down for repair" in warning.words
    assert written.cause_id == "feeder-17 3"


def test_what_held_before_is_asserted_under_a_new_key_at_each_start() -> None:
    told = Told()

    def keys_of_a_start() -> list[str]:
        before = len(told.events)
        with fake_partner() as platform, writing(platform.url, told, found=Found([[change(1), change(1, suffix="b")]], None)):
            until(lambda: len(told.events) == before + 1)
            return [key_of(request) for request in platform.requests]

    keys = [*keys_of_a_start(), *keys_of_a_start()]
    assert len({*keys, "feeder-17 1", "feeder-17 1b"}) == 4
    assert [event.cause_id for event in told.events] == ["feeder-17 1b"] * 2
    assert len({event.event_id for event in told.events}) == 2


def test_nothing_is_sent_before_the_newest_is_known() -> None:
    """The flow reads old changes again, and whoever makes them says them again: neither goes before what was there."""
    told = Told()
    with fake_partner() as platform, writing(platform.url, told, found=None) as writer:
        for minute in range(5):
            writer.submit(change(minute))
        reached = datetime.now(UTC) - timedelta(minutes=15)
        writer.learn(Found([], reached))  # a window in which nothing was
        writer.learn(Found([[change(9), change(9, suffix="b")]], None))
        writer.submit(change(7))
        writer.submit(change(9, suffix="b"))  # read again: written under its own key, which a platform that has it knows
        writer.submit(change(9))
        until(lambda: len(told.events) == 2)
        assert {request.json["effective_from"] for request in platform.requests} == {"2026-10-20T10:09:00.000Z"}
        assert {event.cause_id for event in told.events} == {"feeder-17 9b"}
        assert "feeder-17 9b" in [key_of(request) for request in platform.requests]


def test_a_change_of_now_need_not_wait_until_a_year_is_read() -> None:
    told = Told()
    with fake_partner() as platform, writing(platform.url, told, found=Found([], datetime.now(UTC) - timedelta(minutes=15))) as writer:
        writer.submit(now_change(5.0))
        until(lambda: told.events)
        writer.learn(Found([[change(9)]], None))  # found much later: older than what was written
        writer.submit(now_change(5.0, "feeder-18", "b"))
        until(lambda: len(told.events) == 2)
        assert [key_of(request) for request in platform.requests] == ["now", "b"]


def test_while_the_lease_is_in_doubt_nothing_is_sent_and_what_is_under_way_is_cut_off() -> None:
    told, gate, lease = Told(), Gate(), Given()
    with fake_partner(gate) as platform, writing(platform.url, told, lease=lease) as writer:
        writer.submit(change(1))
        until(lambda: gate.came == 1)
        lease.left = 0.0
        writer.submit(change(1, circuit_id="feeder-18"))
        # What is cut off is put back; a wait longer than the lease's last look is not needed, since it ends by itself.
        gate.open()
        until(lambda: writer._queue.busy == 0, within_s=70)
        came = gate.came
        assert came == 1
        lease.left = 60.0
        until(lambda: len(told.events) == 2)
        assert [key_of(request) for request in platform.requests].count("feeder-17 1") in (1, 2)


def test_a_request_is_cut_off_when_the_lease_may_end() -> None:
    class Silent:
        cut_off = False

        async def write(self, sent: Any) -> Any:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cut_off = True
                raise

        async def aclose(self) -> None: ...

    async def scene() -> None:
        platform, lease = Silent(), Given(0.05)
        asyncio.get_running_loop().call_later(0.02, setattr, lease, "left", 0.0)
        judgement = await FencedPlatform(platform, lease).write(cast(Any, None))
        assert (judgement.outcome, platform.cut_off) == (Outcome.CUT_OFF, True)
        assert (await FencedPlatform(platform, lease).write(cast(Any, None))).outcome is Outcome.CUT_OFF

    asyncio.run(scene())


def test_a_fault_of_our_own_ends_the_flow() -> None:
    failed: list[BaseException] = []

    class Broken:
        async def write(self, sent: Any) -> Any:
            raise KeyError("a defect")

        async def aclose(self) -> None: ...

    with writing("http://unused", Told(), platform=Broken, on_failure=failed.append) as writer:
        writer.submit(change(1))
        until(lambda: failed)
        with pytest.raises(RuntimeError):
            writer.submit(change(2))


def test_results_wait_for_a_broker_that_is_away_and_hold_up_only_their_circuit() -> None:
    told = Told(away=True)
    with fake_partner() as platform, writing(platform.url, told) as writer:
        writer.submit(change(1))
        until(lambda: platform.statuses)
        writer.submit(change(1, circuit_id="feeder-18"))
        until(lambda: len(platform.statuses) == 2)
        told.away = False
        until(lambda: len(told.events) == 2)


def test_an_unreachable_platform_costs_no_more_memory_with_time() -> None:
    names = [f"feeder-{number}" for number in range(10_000)]
    with fake_partner() as platform:
        closed = platform.url
    with writing(closed, Told(), wanted=lambda: frozenset(names), chance=NoWaiting(1.0)) as writer:
        for minute in range(4):
            for name in names:
                writer.submit(change(minute, circuit_id=name))
        until(lambda: not writer._inbox and len(writer._queue.lanes) == 10_000, within_s=60)
        queue = writer._queue
        assert len(queue._fresh) + len(queue._failed) <= 10_000 + 64 + 2 * 10_000
        assert len(writer._tasks) <= 8
        assert all(lane.write is not None and lane.write.effective_from.minute == 3 for lane in queue.lanes.values())


def test_nothing_is_asked_twice_where_nothing_was_before() -> None:
    told = Told()
    with fake_partner() as platform, writing(platform.url, told, found=NOTHING_BEFORE) as writer:
        for _ in range(3):
            writer.submit(change(1))
        until(lambda: told.events)
        writer.submit(change(1))
        writer.submit(change(2))
        until(lambda: len(told.events) == 2)
        assert [key_of(request) for request in platform.requests] == ["feeder-17 1", "feeder-17 2"]
