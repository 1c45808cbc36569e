"""How many readings each group of variants gets: enough for 5 to 20 s of the fast ones, a bounded time for the slow ones.

Every size closes at least one quarter hour; a first quarter that is cut short costs a row like a whole one, so the largest
fleets get the real share of rows (one in about 190 readings) only where a variant is fast enough to read a whole quarter.
"""

from tests.benchmarks.readings import EVERY_MS, TAIL_MS, Fleet

SIZES: dict[str, dict[int, int]] = {
    "ours-singles": {1_000: 6_000_000, 10_000: 6_000_000, 100_000: 10_400_000},
    "ours-batches": {1_000: 12_000_000, 10_000: 12_000_000, 100_000: 19_600_000},
    "flink": {1_000: 2_000_000, 10_000: 2_000_000, 100_000: 2_000_000},
    "flink-batches": {1_000: 2_000_000, 10_000: 2_000_000, 100_000: 2_000_000},
    "streams": {1_000: 800_000, 10_000: 800_000, 100_000: 1_700_000},
    "quix": {1_000: 210_000, 10_000: 210_000, 100_000: 1_700_000},
    "bytewax": {1_000: 400_000, 10_000: 210_000, 100_000: 1_700_000},
}
LIMIT_S = {
    "ours-singles": 120.0,
    "ours-batches": 120.0,
    "flink": 60.0,
    "flink-batches": 60.0,
    "streams": 60.0,
    "quix": 25.0,
    "bytewax": 25.0,
}
QUICK = 0.25
ONLY_AT = {"flink-batches": {10_000}}
"""Nothing asked for depends on it: measured at one number of assets, unless it is named by --only."""


def least(assets: int) -> int:
    """The fewest readings with which a quarter closes: three ticks inside it, then the tail."""
    return assets * (TAIL_MS // EVERY_MS + 3)


def readings(group: str, assets: int, *, factor: float = 1.0, asked: int | None = None) -> int:
    """The size for a group of variants at a number of assets; `asked` is that of our single readings, and scales the others."""
    sizes = SIZES[group]
    usual = sizes[min(sizes, key=lambda size: abs(size - assets))]
    if asked is not None:
        ours = SIZES["ours-singles"]
        factor = asked / ours[min(ours, key=lambda size: abs(size - assets))]
    return max(round(usual * factor), least(assets))


def fleet(group: str, assets: int, *, factor: float = 1.0, asked: int | None = None) -> Fleet:
    """The readings themselves."""
    return Fleet(assets, readings(group, assets, factor=factor, asked=asked))
