"""`make bench`: every variant against the same readings on one real Kafka broker, in turns. See README.md here."""

import argparse
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sinks.settings import KafkaSettings
from tests.benchmarks import report, sizes, tools
from tests.benchmarks.broker import Broker, Round, rounds_of
from tests.benchmarks.capacity.run import Capacity
from tests.benchmarks.capacity.run import Plan as Limits
from tests.benchmarks.capacity.run import measured as capacity_measured
from tests.benchmarks.delivery.rows import Fleet as Groups
from tests.benchmarks.delivery.run import Delivery
from tests.benchmarks.delivery.run import Plan as Quarters
from tests.benchmarks.delivery.run import measured as delivery_measured
from tests.benchmarks.front_door.run import FrontDoor, measured
from tests.benchmarks.front_door.run import Plan as Door
from tests.benchmarks.live import Live, Plan, Scene
from tests.benchmarks.readings import Fleet
from tests.benchmarks.rounds import Result, RoundFailed, Runner, warm_up
from tests.benchmarks.variants import NAMES, VARIANTS, Variant
from tests.kafka.broker import ApacheKafka, missing_tools

LIVE, FRONT_DOOR, CAPACITY, DELIVERY = "live", "front-door", "capacity", "delivery"
SCENES = (LIVE, FRONT_DOOR, CAPACITY, DELIVERY)
LIVE_MINUTES = 10.0
NOISY = 0.15
"""Cores that others may have without being mentioned."""
QUICK_DOOR = Door(partners=100, forecasts_s=5, beats_s=20, flood_s=5)
QUICK_LIMITS = Limits(groups=1_000, arriving_s=6, paced_s=6)
QUICK_QUARTERS = Quarters(Groups(100, 100, 1), Groups(100, 100, 20), paced=30)
QUICK_LIVE = Plan(assets=10_000, history_s=1_200, before_s=45, steady_s=12, lateness_s=20)


def main() -> int:
    options = _options()
    if (reason := missing_tools()) is not None:
        print(f"{reason}. Install a JDK 17 or later and Maven.", file=sys.stderr)
        return 1
    names = options.only or [*NAMES, *SCENES]
    directory = tools.CACHE / "run"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    began, failures = time.monotonic(), list[str]()
    _prepare(names)
    kafka = ApacheKafka(directory / "kafka", jvm=("-Xmx1g", "-XX:+UseParallelGC"))
    kafka.start()
    try:
        broker = Broker(KafkaSettings(bootstrap=kafka.bootstrap, replication=1, min_insync=1), kafka.pid)
        results = list(_compared(broker, directory, [name for name in names if name not in SCENES], options, failures))
        live = _live(broker, directory / LIVE, QUICK_LIVE if options.quick else Plan(), failures) if LIVE in names else None
        door = (
            _front_door(broker.settings, directory / FRONT_DOOR, QUICK_DOOR if options.quick else Door(), failures)
            if FRONT_DOOR in names
            else None
        )
        limits = (
            _capacity(broker.settings, directory / CAPACITY, QUICK_LIMITS if options.quick else Limits(), failures)
            if CAPACITY in names
            else None
        )
        delivery = (
            _delivery(broker.settings, directory / DELIVERY, QUICK_QUARTERS if options.quick else Quarters(), failures)
            if DELIVERY in names
            else None
        )
    finally:
        kafka.stop()
    found = report.medians(results)
    numbers = report.asked(found, live) + (door.asked() if door else []) + (limits.asked() if limits else [])
    numbers += delivery.asked() if delivery else []
    minutes = (time.monotonic() - began) / 60
    print(f"\n{report.measured_table(found)}\n")
    if live is not None:
        print(f"{report.live_table(live)}\n")
    if door is not None:
        print(f"{door.table()}\n")
    if limits is not None:
        print(f"{limits.table()}\n")
    if delivery is not None:
        print(f"{delivery.table()}\n")
    print(f"{report.asked_table(numbers)}\n")
    for failure in failures:
        print(f"FAILED  {failure}")
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine(), "minutes": minutes}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(
        json.dumps(
            {
                "machine": machine,
                "failures": failures,
                **report.plain(results, found, numbers, live),
                "front_door": door.plain() if door else None,
                "capacity": limits.plain() if limits else None,
                "delivery": delivery.plain() if delivery else None,
            },
            indent=1,
        )
    )
    print(f"{minutes:.1f} minutes; all of it is in {options.out}")
    if not failures:
        shutil.rmtree(directory, ignore_errors=True)
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__)
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser.add_argument("--rounds", type=int, default=None, help="rounds of each variant (5; with --quick 1)")
    parser.add_argument("--assets", type=numbers, default=None, help="fleets, such as 1000,10000,100000 (those; with --quick 1000)")
    parser.add_argument("--readings", type=int, default=None, help="readings of our single-message rounds; the others scale with it")
    parser.add_argument("--only", type=lambda text: text.split(","), default=None, help=f"some of: {', '.join([*NAMES, *SCENES])}")
    parser.add_argument("--minutes", type=float, default=35.0, help="begin no round that would not be over then (35)")
    parser.add_argument("--quick", action="store_true", help="one small round: does everything work? (5 minutes)")
    parser.add_argument("--out", type=Path, default=Path(".cache/bench.json"), help="where the numbers go as JSON")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.assets = options.assets or ([1_000] if options.quick else [1_000, 10_000, 100_000])
    if unknown := set(options.only or ()) - {*NAMES, *SCENES}:
        parser.error(f"no such variant: {', '.join(sorted(unknown))}")
    return options


def _prepare(names: list[str]) -> None:
    """Fetch and build what the peers need before anything is measured."""
    if "quix" in names:
        tools.quix_python()
    for peer in ("flink", "streams"):
        if any(name.startswith(peer) for name in names):
            tools.java_classpath(peer)


def _compared(broker: Broker, directory: Path, names: list[str], options: argparse.Namespace, failures: list[str]) -> Iterator[Result]:
    """Round after round over all fleets, the variants in turns, every other round in reverse; as many rounds as time allows."""
    runner, began = Runner(broker, directory), time.monotonic()
    data = {assets: _Data(assets, options) for assets in options.assets}
    variants = {variant.name: variant for variant in VARIANTS}
    given_up, longest = set[tuple[str, int]](), 0.0
    for number in range(options.rounds if names else 0):
        begun = time.monotonic()
        if begun - began + longest > (options.minutes - LIVE_MINUTES) * 60:
            print(f"time is up after {number} rounds: --minutes {options.minutes:g}", flush=True)
            return
        for assets in options.assets:
            for name in names if number % 2 == 0 else names[::-1]:
                if (name, assets) in given_up or (not options.only and assets not in sizes.ONLY_AT.get(name, {assets})):
                    continue
                started = time.monotonic()
                try:
                    result = _round(runner, variants.get(name), data[assets])
                except RoundFailed as failure:
                    failures.append(f"{name}, {assets:,} assets, round {number + 1}: {failure}")
                    print(f"FAILED  {failures[-1]}", flush=True)
                    given_up.add((name, assets))
                    continue
                if not result.finished:
                    given_up.add((name, assets))
                print(f"{_line(number + 1, result)}  ({time.monotonic() - started:.0f} s in all)", flush=True)
                yield result
        longest = max(longest, time.monotonic() - begun) if number else 0.0


def _round(runner: Runner, variant: Variant | None, data: "_Data") -> Result:
    """One round of a variant, or of the floor (None)."""
    if variant is None:
        fleet = data.fleet("ours-singles")
        return runner.floor(fleet, data.rounds(fleet, "singles"))
    fleet = data.fleet(variant.group)
    warm, rounds = data.rounds(warm_up(fleet), variant.form), data.rounds(fleet, variant.form)
    return runner.run(variant, fleet, warm, rounds, sizes.LIMIT_S[variant.group])


class _Data:
    """The record batches of one number of assets, made when first wanted."""

    def __init__(self, assets: int, options: argparse.Namespace) -> None:
        self._assets, self._options = assets, options
        self._made: dict[tuple[Fleet, str], list[Round]] = {}

    def fleet(self, group: str) -> Fleet:
        factor = sizes.QUICK if self._options.quick else 1.0
        return sizes.fleet(group, self._assets, factor=factor, asked=self._options.readings)

    def rounds(self, fleet: Fleet, form: str) -> list[Round]:
        key = (fleet, form)
        if key not in self._made:
            self._made[key] = list(rounds_of(fleet, form))
        return self._made[key]


def _front_door(settings: KafkaSettings, directory: Path, plan: Door, failures: list[str]) -> FrontDoor | None:
    try:
        return measured(settings, directory, plan)
    except (RuntimeError, ConnectionError) as failure:
        failures.append(f"{FRONT_DOOR}: {failure}")
        return None


def _capacity(settings: KafkaSettings, directory: Path, plan: Limits, failures: list[str]) -> Capacity | None:
    try:
        found = capacity_measured(settings, directory, plan)
    except (RuntimeError, ConnectionError) as failure:
        failures.append(f"{CAPACITY}: {failure}")
        return None
    failures += [f"{CAPACITY}: {problem}" for problem in found.problems[:5]]
    return found


def _delivery(settings: KafkaSettings, directory: Path, plan: Quarters, failures: list[str]) -> Delivery | None:
    try:
        found = delivery_measured(settings, directory, plan)
    except (RuntimeError, ConnectionError) as failure:
        failures.append(f"{DELIVERY}: {failure}")
        return None
    failures += [f"{DELIVERY}: {problem}" for problem in found.problems[:5]]
    return found


def _line(number: int, result: Result) -> str:
    state = "" if result.finished else f"  did not finish in {result.seconds:.0f} s"
    if result.others > NOISY:
        state += f"  others had {result.others:.1f} cores"
    return (
        f"round {number}  {result.variant:<16} {result.assets:>7,} assets  {result.readings / 1e6:6.2f} M in {result.seconds:6.2f} s"
        f"  {result.rate / 1e6:6.3f} M/s  {result.cpu_per_million:6.2f} CPU-s/M  {result.rss / report.MIB:5.0f} MiB{state}"
    )


def _live(broker: Broker, directory: Path, plan: Plan, failures: list[str]) -> Live | None:
    try:
        live = Scene(broker, directory, plan, lambda words: print(words, flush=True)).run()
    except (TimeoutError, RuntimeError) as failure:
        failures.append(f"live: {failure}")
        return None
    failures += [f"live: {problem}" for problem in live.problems]
    return live


if __name__ == "__main__":
    sys.exit(main())
