"""What groups of very many assets cost: one quarter that closes partition by partition, told to eight group shards.

Run as `python -m tests.rules.group_scale [ASSETS [SCOPES [PARTITIONS]]]`; the numbers are CPU time of this thread.
"""

import sys
import time
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from pipelines.quarter_rows import group_outs
from pipelines.rules.group_bindings import marks_of, scope_hash
from pipelines.rules.group_news import GroupNews, Members
from pipelines.rules.group_shard import GroupShard
from pipelines.rules.group_snapshot import dump, load
from pipelines.rules.quarter_hours import CONTENT, ROW
from pipelines.rules.quarter_roster import Rosters, shard_of
from schemas.clock import FrozenClock
from schemas.config import Configuration, Timing
from schemas.topology import Asset, Category, Group, Scope
from tests.builders import T0
from tests.rules.grouping import END, START

SHARDS = 8


@dataclass
class Found:
    """Seconds, megabytes, and how many group rows came of it."""

    assets: int
    news: int
    rows: int
    follow_s: float
    step_s: float
    bytes_s: float
    dump_s: float
    load_s: float
    state_mb: float

    def __str__(self) -> str:
        each = 1e6 / self.assets
        return (
            f"{self.assets} assets, {self.news} news, {self.rows} group rows: configuration {self.follow_s:.2f} s, "
            f"news {self.step_s * each:.2f} us an asset ({self.step_s / self.news * 1e6:.0f} us each), "
            f"rows to bytes {self.bytes_s * each:.2f} us, "
            f"snapshot {self.dump_s:.2f} s, {self.state_mb:.0f} MB, read again {self.load_s:.2f} s"
        )


def configuration(assets: int, scopes: int) -> Configuration:
    """So many assets in so many scopes with a group each, unchecked: checking a hundred thousand takes seconds."""
    return Configuration.model_construct(
        circuits=(), partners=(), timing=Timing(),
        scopes=tuple(Scope(id=f"s{number:05d}") for number in range(scopes)),
        assets=tuple(Asset(id=f"asset-{n:06d}", scope_id=f"s{n % scopes:05d}", category=Category.STORAGE) for n in range(assets)),
        groups=tuple(Group(partner_id="p", group_id=f"g{number:05d}", scope_id=f"s{number:05d}") for number in range(scopes)),
    )  # fmt: skip


def quarter(config: Configuration, partitions: int) -> list[tuple[int, GroupNews]]:
    """What the telemetry shards say of a quarter, by group shard."""
    chance = np.random.default_rng(1)
    place = [
        (n % partitions, shard_of(asset.id, SHARDS), scope_hash(asset.scope_id) % SHARDS, asset.id) for n, asset in enumerate(config.assets)
    ]
    news = []
    for (_, shard, number), some in groupby(sorted(place), key=lambda one: one[:3]):
        marks = marks_of(one[3] for one in some)
        rows = np.zeros(len(marks), ROW)
        for name in CONTENT:
            rows[name] = chance.random(len(marks))
        rows["start"] = START
        members = Members(rows, marks, np.zeros(len(marks), np.int8))
        news.append((number, GroupNews(shard, SHARDS, members, settled=marks, until=np.full(len(marks), END))))
    return news


def measured(assets: int, scopes: int, partitions: int = 16) -> Found:
    """Tell the news and count."""
    config = configuration(assets, scopes)
    roster = Rosters(lambda: config, FrozenClock(T0)).current()
    news = quarter(config, partitions)
    groups = [GroupShard(number) for number in range(SHARDS)]
    began = time.thread_time()
    for group in groups:
        group.step([GroupNews(0, SHARDS)], roster)
    followed = time.thread_time()
    out = [some for number, one in news for some in groups[number].step([one], roster)]
    stepped = time.thread_time()
    for some in out:
        group_outs(some, T0)
    written = time.thread_time()
    states = [dump(group) for group in groups]
    dumped = time.thread_time()
    for state in states:
        load(state)
    return Found(
        assets, len(news), sum(len(some.groups) for some in out), followed - began, stepped - followed, written - stepped,
        dumped - written, time.thread_time() - dumped, sum(map(len, states)) / 1e6,
    )  # fmt: skip


if __name__ == "__main__":
    measured(100, 10)  # compiles
    print(measured(*(int(argument) for argument in sys.argv[1:] or (100_000, 1_000))))
