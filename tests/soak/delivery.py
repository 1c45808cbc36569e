"""`make soak-delivery`: what we owe partners arrives, whatever is killed (semantics 7, 8): dispatch, reporting and the broker with
SIGKILL, in turn at seeded moments, while quarters close and several partners answer, one of them badly now and then.

At the end the law of `tests/integration/owed.py` must hold with every partner. `--dead-partner` measures instead what one dead
partner of ten costs the others. Takes about ten minutes; prints what it does and a table.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from gateway.simulator_switches import Kind, Misanswer, Switches
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage
from sinks.settings import KafkaSettings
from tests.integration.delivering import Member, Scene
from tests.integration.owed import unrecorded
from tests.kafka.broker import ApacheKafka, missing_tools
from tests.soak.running import until

DISPATCH, REPORTING, BROKER = "dispatch", "reporting", "broker"
WHICH = (DISPATCH, REPORTING, BROKER)
SPEED = 300.0
BACK_WITHIN_S = 90.0
MEASURE = Action.UPDATE_ASSET_MEASUREMENTS


class Fickle(Switches):
    """A partner that answers one message of measurements in seven badly, each time in another way."""

    def misanswer(self, action: Action) -> Misanswer | None:
        """How to misbehave at the next message of `action`; None to behave."""
        if action is not MEASURE or _FICKLE.random() > 0.15:
            return None
        kind = _FICKLE.choice([Kind.STATUS, Kind.STATUS, Kind.DROP, Kind.CUT, Kind.SLOW])
        return Misanswer(kind=kind, seconds=0.3, status=_FICKLE.choice([500, 503, 408]) if kind is Kind.STATUS else 0)


_FICKLE = random.Random(0)


def members(groups: int, place: Path) -> list[Member]:
    """One that answers at once, one that takes its time, one that answers badly now and then, one whose tokens last two seconds."""
    slow = {"switches": {"answers": [{"kind": "SLOW", "actions": [MEASURE], "count": None, "seconds": 0.15}]}}
    found = [Member("quick", groups), Member("slow", groups, sim=slow), Member("fickle", groups), Member("tokens", groups)]
    oauth, secret = {"client_id": "derms", "client_secret": "s3cret", "expires_in_s": 32}, place / "client-secret"
    secret.write_text(str(oauth["client_secret"]))
    url = f"http://127.0.0.1:{found[3].port}/oauth/token"
    found[3].partner = {"oauth": {"token_url": url, "client_id": oauth["client_id"], "client_secret_file": str(secret)}}
    found[3].sim = {"oauth": oauth}
    return found


@dataclass
class Killing:
    """Kills of one of three, and how long each took until things went on."""

    scene: Scene
    broker: ApacheKafka
    dice: random.Random
    back_s: dict[str, list[float]] = field(default_factory=lambda: {which: [] for which in WHICH})

    def kill(self, which: str) -> float:
        """SIGKILL after a seeded number of further requests and a little, then wait until messages are made and delivered again."""
        more, pause_s = self._requests() + self.dice.randrange(12), self.dice.uniform(0.0, 0.25)
        until(lambda: self._requests() >= more, self.scene.states, BACK_WITHIN_S)
        time.sleep(pause_s)
        begun, at = time.monotonic(), self.scene.clock.now()
        if which == BROKER:
            self.broker.kill()
            self.broker.start()
        else:
            self.scene.site.processes[which].kill()
        until(lambda: self._newer(Delivery, at) and self._newer(OutboundMessage, at), self.scene.states, BACK_WITHIN_S)
        self.back_s[which].append(time.monotonic() - begun)
        return self.back_s[which][-1]

    def _requests(self) -> int:
        return sum(len(each.requests) for each in self.scene.witnesses.values())

    def _newer(self, kind: type[Any], at: datetime) -> bool:
        """Whether something of a kind was made after an instant and is on its topic."""
        return any(isinstance(value, kind) and value.at > at and value.action == MEASURE for value in self.scene.seen.values[-500:])


def stream(scene: Scene, *, spread: float = 0.9) -> None:
    """Let quarters close from now on, and one partner be fickle."""
    if "fickle" in scene.peers:
        scene.do(lambda: setattr(scene.peers["fickle"].reception, "switches", Fickle()))
    scene.rows.stream([group_id for member in scene.members.values() for group_id in member.group_ids], spread=spread)


def law(scene: Scene) -> list[str]:
    """What does not hold, with every partner."""
    return [f"{name}: {words}" for name in scene.members for words in scene.wrong(name)]


def table(scene: Scene, killing: Killing) -> str:
    """What there was, as lines."""
    lines = [f"{'killed':10} {'times':>5}  back after (s): median, worst"]
    for which, back in killing.back_s.items():
        lines.append(f"{which:10} {len(back):5}  {median(back):20.1f} {max(back):6.1f}" if back else f"{which:10}     0")
    lines.append(f"{'partner':10} {'owed':>6} {'made twice':>10} {'requests':>8} {'accepted':>8} {'unrecorded':>10}")
    for name in scene.members:
        books, requests = scene.books(name), scene.witnesses[name].owed_ones()
        again = sum(count - 1 for count in books.copies.values())
        accepted = sum(each.taken for each in requests)
        lines.append(f"{name:10} {len(books.messages):6} {again:10} {len(requests):8} {accepted:8} {unrecorded(books, requests):10}")
    return "\n".join(lines)


def soak(kills: int, seed: int, groups: int) -> int:
    """The series; 0 when the law holds."""
    dice = random.Random(seed)
    _FICKLE.seed(seed)
    order = [which for _ in range(-(-kills // len(WHICH))) for which in dice.sample(WHICH, len(WHICH))][:kills]
    return _with_kafka(lambda settings, broker, place: _soak(settings, broker, place, order, dice, groups))


def _soak(settings: KafkaSettings, broker: ApacheKafka, place: Path, order: Sequence[str], dice: random.Random, groups: int) -> int:
    scene = Scene(settings, place / "site", members(groups, place), speed=SPEED)
    killing = Killing(scene, broker, dice)
    begun = time.monotonic()
    try:
        scene.start()
        stream(scene)
        for number, which in enumerate(order, 1):
            back_s = killing.kill(which)
            print(f"{time.monotonic() - begun:6.1f} s  {number:3} {which:10} back after {back_s:5.1f} s", flush=True)
        scene.rows.stop()
        scene.settled(180)
        wrong = law(scene)
        print(table(scene, killing))
        quarters = f"{scene.rows.quarters} quarters of {sum(member.groups for member in scene.members.values())} groups"
        print(f"{len(order)} kills in {time.monotonic() - begun:.0f} s, {quarters}")
        for words in wrong[:40]:
            print(words)
        print("what was owed is what was accepted" if not wrong else f"the law is broken {len(wrong)} times")
        return 1 if wrong else 0
    finally:
        scene.stop()


ALIVE, REFUSING, HANGING = "alive", "refuses connections", "hangs"


def dead_partner(seconds: float, groups: int, rounds: int) -> int:
    """What nine partners notice of a tenth: delays from a message being made to its being accepted."""
    return _with_kafka(lambda settings, broker, place: _dead_partner(settings, place, seconds, groups, rounds))


def _dead_partner(settings: KafkaSettings, place: Path, seconds: float, groups: int, rounds: int) -> int:
    names = [f"p{number}" for number in range(10)]
    delays: dict[str, list[list[float]]] = {ALIVE: [], REFUSING: [], HANGING: []}
    scene = Scene(settings, place / "site", [Member(name, groups, fronted=name == "p9") for name in names], speed=SPEED)
    try:
        scene.start()
        stream(scene)
        until(lambda: scene.rows.quarters >= 2, scene.states, 30)
        for state in (ALIVE, REFUSING, ALIVE, HANGING) * rounds:
            _be(scene, state)
            time.sleep(2.0)
            since = scene.clock.now()
            time.sleep(seconds)
            ended = scene.clock.now()
            _be(scene, ALIVE)
            time.sleep(2.0)
            accepted = {name: [each for each in scene.witnesses[name].owed_ones() if each.taken] for name in names[:9]}
            scene.seen.catch_up()
            delays[state].append([])
            for name, taken in accepted.items():
                at = {each.message_id: each.at for each in scene.books(name).messages.values()}
                delays[state][-1] += [
                    (e.clock - at[e.message_id]).total_seconds() / SPEED for e in taken if since <= at[e.message_id] < ended
                ]
            print(f"{state:20} {len(delays[state][-1])} messages, p99 {_p(delays[state][-1], 0.99) * 1000:.0f} ms", flush=True)
            if state != ALIVE:
                scene.settled(90, ["p9"])  # its backlog is no part of what follows
        scene.rows.stop()
        scene.settled(120)
        return _told(scene, delays)
    finally:
        scene.stop()


def _told(scene: Scene, delays: dict[str, list[list[float]]]) -> int:
    """The medians over the rounds: a machine that is busy for a moment says nothing about partners."""

    def ms(state: str, share: float) -> float:
        return median(_p(found, share) for found in delays[state]) * 1000

    print(f"{'the tenth partner':20} {'messages':>8} {'p50 ms':>7} {'p95 ms':>7} {'p99 ms':>7}  p99 to alive")
    for state, found in delays.items():
        p50, p95, p99 = (ms(state, share) for share in (0.5, 0.95, 0.99))
        print(f"{state:20} {sum(map(len, found)):8} {p50:7.0f} {p95:7.0f} {p99:7.0f}  {p99 / ms(ALIVE, 0.99):6.2f}")
    wrong = law(scene)
    print(json.dumps(wrong[:20]) if wrong else "what was owed is what was accepted")
    return 1 if wrong else 0


def _be(scene: Scene, state: str) -> None:
    """What the tenth partner is from now on. A connection refused is a port nobody listens at."""
    peer, front = scene.peers["p9"], scene.fronts["p9"]
    scene.call(front.hang(state == HANGING) if state != REFUSING else front.refuse())
    scene.do(peer.ledger.excuse)


def _p(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _with_kafka(work: Callable[[KafkaSettings, ApacheKafka, Path], int]) -> int:
    with tempfile.TemporaryDirectory(prefix="derms-delivery-") as place:
        broker = ApacheKafka(Path(place) / "kafka")
        settings = KafkaSettings(bootstrap=broker.start(), replication=1, min_insync=1)
        try:
            return work(settings, broker, Path(place))
        finally:
            broker.stop()


def main() -> int:
    """Run it; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.delivery", description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--groups", type=int, default=8, help="groups of each partner")
    parser.add_argument("--seed", type=int, default=None, help="else one by the clock; it is printed")
    parser.add_argument("--dead-partner", action="store_true", help="measure what a dead partner costs nine others")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each measurement with a dead partner")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args()
    if (reason := missing_tools()) is not None:
        print(reason, file=sys.stderr)
        return 1
    seed = chosen.seed if chosen.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    if chosen.dead_partner:
        return dead_partner(chosen.seconds, chosen.groups, chosen.rounds)
    return soak(chosen.kills, seed, chosen.groups)


if __name__ == "__main__":
    sys.exit(main())
