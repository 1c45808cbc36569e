"""Rows of assets as messages: whose scope they name (semantics 1, 2)."""

from datetime import datetime

import numpy as np

from pipelines.quarter_rows import AssetRows
from pipelines.rules.quarter_hours import ROW
from pipelines.rules.quarter_keys import Keys
from pipelines.rules.quarter_roster import Roster
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.intervals import QUARTER, QUARTER_MS
from schemas.telemetry import QuarterHour
from schemas.topics import QUARTER_HOURS
from schemas.units import to_ms
from sinks.codec import decode
from tests.builders import T0, Applied, configuration

QUARTERS = 6


def roster(*wanted: dict[str, str]) -> Roster:
    """After the first, the n-th of these (asset to scope) was applied in the n-th quarter."""
    applied, config = Applied(), Configuration()
    for number, scopes in enumerate(wanted):
        assets = [{"id": asset, "scope_id": scope, "category": "STORAGE"} for asset, scope in scopes.items()]
        plain = configuration(circuits=[], scopes=[{"id": scope} for scope in "abc"], assets=assets, groups=[])
        config = applied.apply(plain, T0 + (number - 0.5) * QUARTER)
    return Roster.of(config, FrozenClock(T0))


def scopes_told(rows: AssetRows, keys: Keys, of: Roster) -> dict[str, str]:
    """For each asset the scopes its rows of all quarters name, in their order; `-` for none."""
    table = np.zeros(len(keys) * QUARTERS, ROW)
    table["key"], table["start"] = (
        np.repeat(np.arange(len(keys)), QUARTERS),
        np.tile(np.arange(QUARTERS) * QUARTER_MS + to_ms(T0), len(keys)),
    )
    outs = rows.outs(keys, table, np.ones(len(table), np.int32), of, to_ms(T0))
    found: dict[str, str] = {}
    starts: list[datetime] = []
    for raw in outs.values:
        value = decode(raw, QUARTER_HOURS)
        assert isinstance(value, QuarterHour)
        starts.append(value.start)
        found[value.id] = found.get(value.id, "") + (value.scope_id or "-")
    assert starts == [T0 + number * QUARTER for number in range(QUARTERS)] * len(keys)
    return found


def keys_of(*assets: str) -> Keys:
    keys = Keys()
    add(keys, *assets)
    return keys


def add(keys: Keys, *assets: str) -> None:
    for asset in assets:
        index = np.array([keys.add_asset(asset, 0)])
        keys.of(index, np.zeros(1, np.int8), np.full(1, np.nan), np.zeros(1, np.int32))


def test_a_row_names_the_scope_of_its_quarter() -> None:
    before = {"still": "a", "moves": "a", "twice": "a", "goes": "a", "back": "a"}
    steps = (
        before,
        before | {"moves": "b", "twice": "b"},
        {"still": "a", "moves": "b", "twice": "c", "goes": "a"},
        {"still": "a", "moves": "b", "twice": "c", "back": "b"},
    )
    keys, rows = keys_of("goes", "still", "twice"), AssetRows()
    expected = {"still": "aaaaaa", "moves": "abbbbb", "twice": "abcccc", "goes": "aaa---", "back": "aa-bbb"}
    assert scopes_told(rows, keys, roster(*steps)) == {name: expected[name] for name in ("goes", "still", "twice")}
    add(keys, "moves", "back")
    assert scopes_told(rows, keys, roster(*steps)) == expected


def test_without_changes_nothing_is_looked_up() -> None:
    keys, rows = keys_of("one", "two"), AssetRows()
    assert scopes_told(rows, keys, roster({"one": "a", "two": "b"})) == {"one": "aaaaaa", "two": "bbbbbb"}
    assert not len(rows._formerly)
