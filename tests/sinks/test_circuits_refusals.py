"""A platform that refuses two requests of five, and goes on doing so: every circuit's newest change gets through, in virtual time."""

import heapq
import math
import random
from dataclasses import replace
from datetime import timedelta

import pytest

from schemas.capacity import CircuitCapacity, PieceKind
from schemas.clock import FrozenClock
from sinks.circuit_queue import CircuitQueue, Outcome, Sent
from sinks.circuit_requests import IN_FLIGHT
from sinks.oscp.pace import pace_of
from tests.builders import T0

CHANGES_FOR_S, ANSWERS_AFTER_S, AT_MOST_S = 3.0, 0.005, 86_400.0


def change(circuit_id: str, number: int) -> CircuitCapacity:
    at = T0 + timedelta(milliseconds=10 * number)
    return CircuitCapacity(
        event_id=f"{circuit_id}-{number}", at=at, circuit_id=circuit_id, scope_id="s", available_import_w=float(number),
        available_export_w=1.0, effective_from=at, kind=PieceKind.FORECAST,
    )  # fmt: skip


def settled_after_s(seed: int, refused: float) -> tuple[float, dict[str, str], dict[str, str]]:
    """How long after the last change nothing was owed any more (infinite: never), what was written last and what is the newest."""
    chance, written, newest = random.Random(seed), dict[str, str](), dict[str, str]()
    pace = replace(pace_of(FrozenClock(T0), None), under_way=IN_FLIGHT)
    queue = CircuitQueue(pace, lambda most: chance.uniform(0, most), "life", lambda _: True)
    ends: list[tuple[float, int, Sent]] = []
    now = changes_at = 0.0
    number = 0
    while now < AT_MOST_S:
        while (sent := queue.next(now)) is not None:
            number += 1
            heapq.heappush(ends, (now + ANSWERS_AFTER_S, number, sent))
        if changes_at >= CHANGES_FOR_S and not any(lane.owes() for lane in queue.lanes.values()):
            return now - CHANGES_FOR_S, written, newest
        wakes = [*(end for end, _, _ in ends[:1]), *([changes_at] if changes_at < CHANGES_FOR_S else [])]
        if (look := queue.look_again(now)) is not None:
            wakes.append(look)
        if not wakes:
            break  # something is owed, and nothing will ever wake the queue: a fault
        now = max(now, min(wakes))
        if changes_at <= now and changes_at < CHANGES_FOR_S:
            number += 1
            made = change(f"feeder-{chance.randrange(4)}", number)
            newest[made.circuit_id] = made.event_id
            queue.submit(made, now)
            changes_at = now + chance.uniform(0, 0.05)
        while ends and ends[0][0] <= now:
            sent = heapq.heappop(ends)[2]
            taken = chance.random() >= refused
            if taken:
                written[sent.lane.circuit_id] = sent.write.change_id
            queue.judge(sent, Outcome.WRITTEN if taken else Outcome.RETRY, now)
            queue.free(sent)
    return math.inf, written, newest


@pytest.mark.parametrize("refused", [0.0, 0.4, 0.8])
def test_the_newest_of_every_circuit_gets_through_however_long_refusals_go_on(refused: float):
    waits = []
    for seed in range(60):
        after_s, written, newest = settled_after_s(seed, refused)
        assert after_s < math.inf, f"seed {seed}: never"
        assert written == newest
        waits.append(after_s)
    if refused == 0.0:
        assert max(waits) < 0.1
    if refused == 0.4:
        assert sorted(waits)[30] < 10  # half of the times within seconds: the rest waits for back-off and the breaker's probes
