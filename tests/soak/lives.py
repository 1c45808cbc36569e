"""`python -m tests.soak.lives`: every point of a connection's life, in every stage and both directions, with a kill at it.

Gateway, lifecycle and dispatch are killed with SIGKILL at the points of `tests/integration/kill_points.py`, one life of one partner
each, over a real Kafka with leases (or `--embedded`). In the order of a seed, until all are walked or the budget is used up; says
which were not. 0 when each of those walked ended as if nothing had been.
"""

import argparse
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.integration.broker_gate import gated_embedded, gated_kafka
from tests.integration.kill_points import Step, named, steps
from tests.integration.kill_walk import Walk, walking
from tests.integration.plain_peer import peer_side
from tests.kafka.broker import missing_tools

EACH_INSTALLATION = 40
"""So many lives share an installation: partners that are done with stay, and what is read from the beginning grows."""


def walk_through(left: list[Step], seconds: float, *, embedded: bool = False) -> list[Step]:
    """Walk steps, from the last one on, and print what became of each; those that failed. `left` keeps those not walked."""
    until, failed = time.monotonic() + seconds, list[Step]()
    while left and time.monotonic() < until:
        names = [f"peer-{number}" for number in range(min(EACH_INSTALLATION, len(left)))]
        with tempfile.TemporaryDirectory(prefix="derms-lives-") as place, peer_side() as side:
            directory = Path(place)
            gated = gated_embedded if embedded else gated_kafka
            with gated(directory) as (gate, settings), walking(settings, directory / "site", side, names, gate) as walk:
                for name in names:
                    if time.monotonic() > until:
                        break
                    step = left.pop()
                    if not _walked(walk, name, step):
                        failed.append(step)
                        break  # what it left behind must not fail others
    return failed


def _walked(walk: Walk, name: str, step: Step) -> bool:
    begun, words = time.monotonic(), "online"
    try:
        walk.life(name, *step)
    except Exception:  # noqa: BLE001 - whatever it is, the others are still to be walked; it is printed
        words = f"FAILED\n{traceback.format_exc()}"
    print(f"{time.monotonic() - begun:6.1f} s  {named(step):82} {words}", flush=True)
    return words == "online"


def main() -> int:
    """Walk; see the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.lives", description=__doc__)
    parser.add_argument("--embedded", action="store_true", help="over the embedded broker: less than 5 s a life, else about 15 s")
    parser.add_argument("--seconds", type=float, default=1200.0, help="the budget: no life begins after it")
    parser.add_argument("--seed", type=int, default=None, help="else one by the clock; it is printed")
    parser.add_argument("--only", default="", help="part of the name of the steps that are walked")
    chosen = parser.parse_args()
    if not chosen.embedded and (reason := missing_tools()) is not None:
        print(reason, file=sys.stderr)
        return 1
    seed = chosen.seed if chosen.seed is not None else int(time.time())
    left = [step for step in steps() if chosen.only in named(step)]
    random.Random(seed).shuffle(left)
    count = len(left)
    print(f"seed {seed}: {count} points, {chosen.seconds:g} s", flush=True)
    failed = walk_through(left, chosen.seconds, embedded=chosen.embedded)
    for step in left:
        print(f"not walked: {named(step)}")
    for step in failed:
        print(f"failed: {named(step)}")
    print(f"{count - len(left)} points walked, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
