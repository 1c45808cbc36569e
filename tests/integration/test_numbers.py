"""The proof of the numbers: over a recorded day the partners were told what is true, by what they received alone (semantics 1, 2, 7).

Readings go through the telemetry flow, its rows through reporting, its messages through dispatch to two simulated partners over real
sockets. Two hours of two assets come too late for the running flow; then they are in the history, and a repair puts them right.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.history import serving_history
from gateway.recompute import System, recompute
from gateway.simulator import SimulatedProvider
from gateway.simulator_config import SimulatorConfig
from pipelines.repairing import Repairer
from pipelines.rules.quarter_roster import Rosters
from schemas.clock import FrozenClock
from schemas.config import Configuration
from schemas.connection import Connection, ConnectionState
from schemas.outbound import OutboundMessage, Outcome
from schemas.telemetry import Origin, QuarterHour
from schemas.topics import QUARTER_HOURS, Topic
from schemas.units import to_ms
from sinks.clickhouse.client import client_of
from sinks.clickhouse.measured import MeasuredHistory
from sinks.http import fetch
from sinks.oscp.client import OscpClient
from sinks.oscp.dispatcher import Dispatcher
from sinks.secrets import Secrets
from tests.embedded_history import emptied_store, settings_of
from tests.integration.recorded_day import (
    AFTERWARDS,
    DAY,
    DIRECTIONS,
    END,
    LATEST,
    QUARTERS_OF_WITHHELD,
    SITE,
    WITHHELD,
    Arrival,
    Key,
    Metered,
    arrivals,
    metered,
    net_of,
    of_assets,
    owed,
    untrue,
)
from tests.rules.reference_quarter_hours import Reading
from tests.sinks.test_clickhouse_measured import archive
from tests.sinks.test_dispatcher import Kafka, eventually

pytestmark = [pytest.mark.slow]
SECRETS = Secrets(bytes(range(32)))
REPAIRED_AT = LATEST + timedelta(hours=1)
NOW = REPAIRED_AT + timedelta(hours=1)
SCOPES = {"vector": ("house", "roof", "store", "alone"), "wel": ("house", "store")}
GROUPS = {name: [f"{name}-{scope}" for scope in scopes] for name, scopes in SCOPES.items()}
INITIAL = {name: f"initial-token-of-{name}" for name in SCOPES}
FALTERING = [
    {"kind": "STATUS", "status": 503, "count": 3},
    {"kind": "CUT", "count": 2, "actions": ["UpdateAssetMeasurements"]},
    {"kind": "DROP", "count": 2},
]
"""Answers that are lost or none, so that messages come again."""
TRUE: dict[str, dict[Key, float]] = {
    "vector": of_assets(DIRECTIONS),
    "wel": of_assets(["house-kitchen", "house-laundry", "house-waterheat-ac", "battery"])
    | net_of("house-main", "wel-house")
    | net_of("battery", "wel-store"),
}


def configured(secrets: Path) -> Configuration:
    """The preset with OAuth and a static header for the one, watt-hours and groups' messages too for the other."""
    (secrets / "client").write_text("client s3same")
    (secrets / "key").write_text("subscription")
    common = {"allow_private_addresses": True, "max_rate": 1000}
    oauth = {"token_url": "http://127.0.0.1:1/token", "client_id": "us", "client_secret_file": str(secrets / "client")}
    partners = [
        {"id": "vector", "profile": "vector", "oauth": oauth, "headers": {"Key": {"file": str(secrets / "key")}}, **common},
        {"id": "wel", "measurements": {"unit": "WH", "messages": ["ASSET", "GROUP"]}, **common},
    ]
    bound = [
        {"partner_id": name, "group_id": group, "scope_id": scope}
        for name, scopes in SCOPES.items()
        for group, scope in zip(GROUPS[name], scopes, strict=True)
    ]
    return Configuration.model_validate({**SITE, "partners": partners, "groups": bound})


class Partners:
    """Simulated Capacity Providers in a loop of their own; what they heard is asked of them over HTTP."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="partners", daemon=True)
        self._thread.start()
        self.peers = {name: SimulatedProvider(self._config(name), FrozenClock(NOW)) for name in SCOPES}
        for peer in self.peers.values():
            self._run(peer.start())

    def _config(self, name: str) -> SimulatorConfig:
        plain: dict[str, Any] = {
            "fp_base_url": "http://127.0.0.1:1/oscp/fp/2.0", "starts": "FP", "initial_token": INITIAL[name], "group_id": GROUPS[name][0],
            "more_groups": GROUPS[name][1:], "heartbeat_interval_s": None, "switches": {"answers": FALTERING},
        }  # fmt: skip
        if name == "vector":
            plain |= {"oauth": {"client_id": "us", "client_secret": "client s3same"}, "required_headers": {"Key": "subscription"}}
        return SimulatorConfig.model_validate(plain)

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def url(self, name: str, which: str) -> str:
        return self.peers[name].endpoints()[which]

    def report(self, name: str) -> dict[str, Any]:
        """The partner's own report."""
        return cast("dict[str, Any]", json.loads(fetch("GET", self.url(name, "report_url")).body))

    def energies(self, name: str) -> dict[Key, float]:
        """What it added up: the last value of each asset or group, direction and quarter, in Wh."""
        found = self.report(name)["energies"]
        return {(each["id"], each["direction"], datetime.fromisoformat(each["start"])): each["wh"] for each in found}

    def stop(self) -> None:
        for peer in self.peers.values():
            self._run(peer.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def dispatching(config: Configuration, partners: Partners) -> Iterator[Callable[[list[OutboundMessage]], None]]:
    """A dispatcher; what it is given is delivered when the call returns."""
    vector = config.partners[0]
    assert vector.oauth is not None
    oauth = vector.oauth.model_copy(update={"token_url": partners.url("vector", "token_url")})
    config = config.model_copy(update={"partners": (vector.model_copy(update={"oauth": oauth}), *config.partners[1:])})
    connections = {name: connection(name, partners.url(name, "base_url")) for name in SCOPES}
    kafka, failures = Kafka(), list[BaseException]()
    dispatcher = Dispatcher(
        sender=OscpClient(lambda: config, lambda: connections, SECRETS), append=kafka.append, fetch=kafka.fetch, positions=kafka,
        start=kafka.start(), configuration=lambda: config, connections=lambda: connections,
        clock=FrozenClock(NOW, speed=1000.0, floor=timedelta(0)), on_failure=failures.append,
    )  # fmt: skip

    def deliver(messages: list[OutboundMessage]) -> None:
        for message in messages:
            kafka.outbound.append(message)
            dispatcher.take(message, 0, len(kafka.outbound) - 1)
        wanted = {message.message_id for message in messages}
        delivered = lambda: {each.message_id for each in kafka.deliveries if each.outcome is Outcome.DELIVERED}  # noqa: E731
        eventually(lambda: wanted <= delivered(), 60)

    dispatcher.start()
    try:
        yield deliver
    finally:
        dispatcher.stop()
    assert failures == []


def connection(name: str, url: str) -> Connection:
    return Connection(
        event_id="c", at=DAY, partner_id=name, state=ConnectionState.ONLINE, since=DAY, first_acknowledged_at=DAY, peer_base_url=url,
        peer_token=SECRETS.encrypt(INITIAL[name], name),
    )  # fmt: skip


class Written:
    """Stands for the topics of a repair: keeps the rows, and says that the archive has everything."""

    def __init__(self) -> None:
        self.rows: list[QuarterHour] = []

    def send(self, topic: Topic, key: str, value: QuarterHour) -> None:
        assert (topic, key) == (QUARTER_HOURS, value.id)
        self.rows.append(value)

    def flush(self) -> None:
        """All of it is there."""

    def ends(self, topics: object) -> dict[tuple[str, int], int]:
        return {}

    kept = ends


def repaired(config: Configuration, coming: list[Arrival], found: Metered) -> list[QuarterHour]:
    """The rows that `derms telemetry repair` writes for the day, from all readings in the history."""
    store, clock, told = emptied_store(), FrozenClock(REPAIRED_AT), Written()
    readings = [
        Reading(r.asset_id, to_ms(r.measured_at), r.power_w, r.import_wh, r.export_wh, r.stored_wh) for r in (one.reading for one in coming)
    ]
    archive(store, readings, found.rows)
    with serving_history(settings_of(store)) as url:
        history = MeasuredHistory(lambda: client_of(url))
        repairer = Repairer(history, Rosters(lambda: config, clock), clock, lambda: config.timing.asset_expiry)
        system = System(config, clock, history, repairer, cast("Any", told), cast("Any", told))
        spans = {asset.id: [(to_ms(DAY), to_ms(END))] for asset in config.assets}
        summary = recompute(system, spans, Origin.REPAIR)
        history.close()
    emptied_store()
    assert summary.tally["written"] >= sum(map(len, QUARTERS_OF_WITHHELD.values()))
    return told.rows


def test_partners_were_told_what_is_true(tmp_path: Path) -> None:
    config, coming = configured(tmp_path), arrivals()
    found = metered(config, coming)
    assert {one.measurement.asset_id for one in found.late} == set(WITHHELD)
    assert all(one.at >= AFTERWARDS for one in found.late)
    before = owed(config, found.rows, SCOPES)
    fixed = repaired(config, coming, found)
    ids = {message.message_id for message in before}
    after = [message for message in owed(config, [*found.rows, *fixed], SCOPES) if message.message_id not in ids]
    partners = Partners()
    try:
        began = time.monotonic()
        with dispatching(config, partners) as deliver:
            deliver(before)
            wrong = {name: untrue(partners.energies(name), TRUE[name]) for name in SCOPES}
            deliver(after)
        sent = time.monotonic() - began
        told = {name: partners.energies(name) for name in SCOPES}
        reports = {name: partners.report(name) for name in SCOPES}
    finally:
        partners.stop()

    # Before the repair it shows that two hours are missing, and nothing else: so it would show anything else as well.
    missing = {name: {words.split(",")[0].strip("('") for words in some if "never told" in words} for name, some in wrong.items()}
    assert missing == {"vector": {"battery", "house-waterheat-ac"}, "wel": {"battery", "house-waterheat-ac", "wel-store"}}
    assert [words.split(":")[0] for words in wrong["vector"][:3]][:2] == ["battery IMPORT", "house-waterheat-ac IMPORT"]
    assert {name: untrue(told[name], TRUE[name]) for name in SCOPES} == {"vector": [], "wel": []}

    for name, report in reports.items():
        assert report["problems"] == []
        assert report["owed"] == {}
        assert report["duplicates"] > 0  # answers were lost, and what was taken counts once
        assert {each[0] for each in told[name]} == {each[0] for each in TRUE[name]}, "the house's connection meter is told to nobody"
    assert reports["vector"]["tokens_issued"] >= 1
    assert reports["wel"]["heard"]["UpdateGroupMeasurements"] > 96 + 50
    corrections = len(before) - len({(message.group_id, message.action, quarters(message)) for message in before})
    assert corrections > 20
    assert {message.group_id for message in after} == {"vector-house", "vector-store", "wel-house", "wel-store"}
    assert sent < 30


def quarters(message: OutboundMessage) -> frozenset[str]:
    """The ends of the quarters a message speaks of."""
    entries = json.loads(message.body)["measurements"]
    return frozenset(entry.get("energy_measurement", entry)["measure_time"] for entry in entries)


@pytest.mark.parametrize("loss", [0.11, -0.11])
def test_the_proof_sees_a_tenth_of_a_watt_hour_a_day(loss: float) -> None:
    """Shared out over the day it is a thousandth of a watt-hour a quarter: less than what the quarters themselves may be off by."""
    true = TRUE["vector"]
    share = loss / sum(key[0] == "house-laundry" for key in true)
    told: Mapping[Key, float] = {key: wh + (share if key[0] == "house-laundry" else 0.0) for key, wh in true.items()}
    (words,) = untrue(told, true, quarter_wh=0.01)
    assert words.startswith("house-laundry IMPORT: ")
    assert untrue(true, true) == []
