"""Laws of the circuits' queue: whatever happens, in whatever order, a circuit's writes never go back and end with the newest."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas.units import to_ms
from sinks.circuit_queue import CircuitQueue, Outcome, Sent
from sinks.oscp.breaker import BreakerState
from sinks.oscp.pace import Pace
from tests.sinks.circuit_world import change

CIRCUITS = ("a", "b", "c")
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.sampled_from(CIRCUITS), st.integers(0, 9)),
        st.tuples(st.just("again"), st.sampled_from(CIRCUITS), st.integers(0, 9)),
        st.tuples(st.just("send"), st.just(""), st.just(0)),
        st.tuples(st.just("answer"), st.sampled_from([*Outcome]), st.integers(0, 3)),
        st.tuples(st.just("time"), st.just(""), st.integers(1, 400)),
    ),
    max_size=120,
)


class World:
    """A queue, what travels, and the platform."""

    def __init__(self, before: list[int], most: int = 3) -> None:
        self.now, self.submitted = 0.0, dict.fromkeys(CIRCUITS, -1)
        self.looked_back = False
        self.queue = CircuitQueue(Pace(under_way=most), lambda bound: bound, "life", self.newest)
        self.before = {name: minute for name, minute in zip(CIRCUITS, before, strict=False) if minute >= 0}
        self.travelling: list[Sent] = []
        self.sent: dict[str, list[datetime]] = {name: [] for name in CIRCUITS}
        self.settled: dict[str, datetime] = {}

    def newest(self, since: datetime) -> bool:
        return self.looked_back

    def look_back(self) -> None:
        self.queue.learn([[change(minute, circuit_id=name)] for name, minute in self.before.items()], self.now)
        self.looked_back = True
        self.queue.release(self.now)

    def submit(self, name: str, minute: int) -> None:
        self.submitted[name] = max(self.submitted[name], minute)
        self.queue.submit(change(minute, circuit_id=name), self.now)

    def send(self) -> bool:
        sent = self.queue.next(self.now)
        if sent is None:
            return False
        name = sent.lane.circuit_id
        assert all(other.lane is not sent.lane for other in self.travelling), "two of one circuit travel"
        assert not self.sent[name] or self.sent[name][-1] <= sent.write.effective_from, "a write went back"
        assert not self.before or self.looked_back
        self.sent[name].append(sent.write.effective_from)
        self.travelling.append(sent)
        return True

    def answer(self, outcome: Outcome, which: int) -> None:
        if not self.travelling:
            return
        sent = self.travelling.pop(which % len(self.travelling))
        self.queue.judge(sent, outcome, self.now)
        if outcome in (Outcome.WRITTEN, Outcome.REFUSED):
            self.settled[sent.lane.circuit_id] = sent.write.effective_from
        self.queue.free(sent)


@given(ACTS, st.lists(st.integers(-1, 9), min_size=3, max_size=3), st.integers(0, 60))
def test_writes_never_go_back_and_end_with_the_newest(acts: list[tuple[str, object, int]], before: list[int], looks_back_at: int) -> None:
    world = World(before)
    for number, (act, what, much) in enumerate(acts):
        if number == looks_back_at:
            world.look_back()
        match act:
            case "submit" | "again":
                world.submit(str(what), much)
            case "send":
                world.send()
            case "answer":
                world.answer(Outcome(str(what)), much)
            case _:
                world.now += much
    if not world.looked_back:
        world.look_back()
    for _ in range(100):  # the platform is there again, and time passes
        while world.send():
            pass
        while world.travelling:
            world.answer(Outcome.WRITTEN, 0)
        world.now += 400.0
    for name in CIRCUITS:
        newest = max(world.submitted[name], world.before.get(name, -1))
        last = world.settled.get(name)
        assert (last is None) == (newest < 0)
        if last is not None:
            assert to_ms(last) == to_ms(change(newest).effective_from)
    assert world.queue.busy == 0
    assert not any(lane.owes() or lane.write for lane in world.queue.lanes.values())


def test_retries_wait_for_one_probe_and_first_attempts_for_nothing() -> None:
    world = World([], most=8)
    world.look_back()
    for name in CIRCUITS:
        world.submit(name, 1)
    for _ in range(5):
        while world.send():
            pass
        while world.travelling:
            world.answer(Outcome.RETRY, 0)
        world.now += 10.0
    assert world.queue.breaker.state is BreakerState.OPEN
    assert not world.send()
    world.now += 30.0
    assert world.send()
    assert world.queue.breaker.state is BreakerState.HALF_OPEN
    assert not world.send()
    world.answer(Outcome.WRITTEN, 0)
    assert world.queue.breaker.state is BreakerState.CLOSED
    assert world.send()
    assert world.send()
