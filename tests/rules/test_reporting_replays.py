"""Whatever order partitions are read in by a run and by a replay of it, the partner ends with the newest values (semantics 7.2, 7.5)."""

import json
from collections.abc import Iterable
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.outbound import OutboundMessage
from schemas.telemetry import Method, QuarterHour
from tests.builders import T0, configuration
from tests.rules.test_reporting import WRITTEN, Owed, Reporting, group_row, row

ASSETS = ("mg-1-a", "mg-1-b")
CONFIG = configuration(assets=[{"id": name, "scope_id": "mg-1", "category": "CONSUMPTION"} for name in ASSETS])


class Partner:
    """Takes each message once, as dispatch has it, and remembers the value told last."""

    def __init__(self) -> None:
        self.known: set[str] = set()
        self.last: dict[str, float] = {}
        self.heard = 0

    def hear(self, owed: Iterable[Owed]) -> None:
        for message in owed:
            assert isinstance(message, OutboundMessage)
            if message.message_id not in self.known:
                self.known.add(message.message_id)
                self.heard += 1
                for entry in json.loads(message.body)["measurements"]:
                    self.last[entry["asset_id"]] = entry["energy_measurement"]["value"]


def rows_of(asset: str, offsets_ms: list[int]) -> list[QuarterHour]:
    """The revisions of one asset's quarter, as they stand in its partition."""
    return [
        row(asset, at=T0 + WRITTEN + timedelta(milliseconds=ms), revision=number, import_wh=1000.0 * number, method=Method.POWER)
        for number, ms in enumerate(sorted(offsets_ms), 1)
    ]


def told(partner: Partner, order: Iterable[QuarterHour | None]) -> None:
    """One run from the beginning; None is half a second in which nothing comes."""
    reporting = Reporting(CONFIG)
    for each in order:
        partner.hear(reporting.later(timedelta(seconds=0.5)) if each is None else reporting.feed(each))
    while reporting.rule.due(reporting.state) is not None:
        partner.hear(reporting.later(timedelta(minutes=10)))


def test_a_correction_that_was_told_first_is_told_again_after_what_a_replay_tells_before_it() -> None:
    first, second = rows_of("mg-1-a", [0, 300])
    group = group_row(method=Method.SUM, missing_members=1)
    partner = Partner()
    told(partner, [first, second, group])
    told(partner, [first, group, None, second])
    assert partner.last == {"mg-1-a": 2.0}


@st.composite
def orders(draw: st.DrawFn, partitions: list[list[QuarterHour]]) -> list[QuarterHour | None]:
    """The rows of all partitions, each in its order, with pauses between."""
    left = [list(partition) for partition in partitions]
    found: list[QuarterHour | None] = []
    while any(left):
        chosen = draw(st.sampled_from([part for part in left if part]))
        found.append(chosen.pop(0))
        found += [None] * draw(st.sampled_from([0, 0, 0, 1, 3]))
    return found


@given(st.data())
def test_a_partner_ends_with_the_newest_values_whatever_a_replay_makes_of_them(data: st.DataObject) -> None:
    instants = st.lists(st.integers(0, 1500), min_size=1, max_size=3, unique=True)
    partitions = [rows_of(name, data.draw(instants)) for name in ASSETS]
    partitions.append([group_row(method=Method.SUM, at=T0 + WRITTEN + timedelta(milliseconds=data.draw(st.integers(0, 800))))])
    partner = Partner()
    for _ in range(3):
        told(partner, data.draw(orders(partitions)))
        assert partner.last == {part[-1].id: float(part[-1].revision) for part in partitions[:-1]}
    heard = partner.heard
    told(partner, [each for part in partitions for each in part])
    told(partner, [each for part in partitions for each in part])
    assert partner.heard - heard <= sum(map(len, partitions))  # the same order says nothing new
