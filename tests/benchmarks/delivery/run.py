"""The delivery's part of `make bench`: a quarter's end for one partner and for many, single rows, and the same messages sent bare."""

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import uvloop

from schemas.outbound import OutboundMessage
from schemas.topics import OUTBOUND
from sinks.codec import encode
from sinks.settings import KafkaSettings
from tests.benchmarks.delivery.partners import Accepted, Partners, Told
from tests.benchmarks.delivery.rows import Fleet, Writer, payloads_of
from tests.benchmarks.front_door.installation import Installation, installed
from tests.benchmarks.front_door.scenes import quantile
from tests.benchmarks.processes import busy_s
from tests.benchmarks.report import Asked, table

FLOWS = ("lifecycle", "reporting", "dispatch")
WITHIN_S = 120.0
LOOK_S = 0.05
OWED = timedelta(hours=1)
MIB = 2**20


@dataclass(frozen=True)
class Plan:
    """How many. `paced` single rows come `rate` a second; partners ask for a heartbeat every `interval_s`."""

    one: Fleet = field(default_factory=lambda: Fleet(groups=1_000, assets=100, partners=1))
    many: Fleet = field(default_factory=lambda: Fleet(groups=1_000, assets=100, partners=200))
    paced: int = 300
    rate: float = 10.0
    few_interval_s: float = 1.0
    many_interval_s: float = 5.0


@dataclass
class Scene:
    """One quarter's end; seconds. `rows_s` from the first row's append to the last message answered, `sent_s` the same for messages
    that were appended to be sent, `bare_s` for httpx alone with the same messages."""

    partners: int = 0
    messages: int = 0
    rows_s: float = 0.0
    sent_s: float = 0.0
    bare_s: float = 0.0
    late: list[float] = field(default_factory=list)
    connections: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    rss: dict[str, int] = field(default_factory=dict)


@dataclass
class Delivery:
    """What was seen; seconds."""

    one: Scene = field(default_factory=Scene)
    many: Scene = field(default_factory=Scene)
    paced: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For JSON: quantiles in ms."""

        def scene(one: Scene) -> dict[str, Any]:
            return {
                "partners": one.partners, "messages": one.messages, "rows_s": round(one.rows_s, 2), "sent_s": round(one.sent_s, 2),
                "bare_s": round(one.bare_s, 2), "late_p99_ms": round(quantile(one.late, 0.99) * 1000, 1), "beats": len(one.late),
                "connections": one.connections, "cpu": one.cpu, "rss_mb": {name: size // MIB for name, size in one.rss.items()},
            }  # fmt: skip

        paced = {name: round(quantile(self.paced, share) * 1000, 1) for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))}
        return {"one": scene(self.one), "many": scene(self.many), "row_to_wire_ms": paced, "problems": self.problems}

    def table(self) -> str:
        """What was seen, for people."""
        head = [
            "delivery", "messages", "rows to delivered, s", "messages alone, s", "bare httpx, s", "heartbeats late p99, ms", "connections",
            *(f"{name}, {unit}" for name in ("reporting", "dispatch") for unit in ("CPU s", "MiB")),
        ]  # fmt: skip
        rows = [
            [
                f"{one.partners} partner{'s' if one.partners > 1 else ''}", f"{one.messages:,}", f"{one.rows_s:.1f}", f"{one.sent_s:.1f}",
                f"{one.bare_s:.1f}", f"{quantile(one.late, 0.99) * 1000:.0f} of {len(one.late)}", str(one.connections),
                *(text for name in ("reporting", "dispatch") for text in (f"{one.cpu[name]:.1f}", str(one.rss[name] // MIB))),
            ]
            for one in (self.one, self.many)
        ]  # fmt: skip
        ways = ", ".join(f"{quantile(self.paced, share) * 1000:.0f}" for share in (0.5, 0.99, 1.0))
        return f"{table(head, rows)}\na closed row to its request on the wire, {len(self.paced)} rows: p50, p99, longest {ways} ms"

    def asked(self) -> list[Asked]:
        """Beside what was asked. What is wrong is not reached, however fast."""
        right = float(not self.problems)

        def most(what: str, value: float, limit: float, words: str, asked: str) -> Asked:
            return Asked(what, asked, words, right * limit / value if value > 0 else 0.0)

        def less(what: str, seconds: float, limit_s: float) -> Asked:
            return most(what, seconds, limit_s, f"{seconds:.2f} s", f"<= {limit_s:g} s")

        one, many = self.one, self.many
        late = quantile(one.late + many.late, 0.99)
        return [
            less(f"a quarter's end, {one.messages:,} messages to one partner that takes 50 ms", one.rows_s, 30.0),
            most("its connections", one.connections, 8, str(one.connections), "<= 8"),
            *(
                most(f"resident: {name}", one.rss[name], 400 * MIB, f"{one.rss[name] // MIB} MiB", "<= 400 MiB")
                for name in ("dispatch", "reporting")
            ),
            less(f"the same to {many.partners} partners", many.rows_s, 15.0),
            less("p99 from a closed row to its request on the wire, idle", quantile(self.paced, 0.99), 1.0),
            less("p99 lateness of heartbeats meanwhile", late, 1.0),
            *(
                most(f"messages alone beside bare httpx, {each.partners} partners", each.sent_s / each.bare_s, 2.0,
                     f"{each.sent_s / each.bare_s:.2f} x", "<= 2 x")
                for each in (one, many)
            ),
            Asked("values that were not told, or not once, or wrong", "0", str(len(self.problems)), right),
        ]  # fmt: skip


def measured(kafka: KafkaSettings, directory: Path, plan: Plan) -> Delivery:
    """Run all scenes. Blocks for some minutes. RuntimeError where nothing comes."""
    found = Delivery()
    for name, fleet, interval_s in (("one", plan.one, plan.few_interval_s), ("many", plan.many, plan.many_interval_s)):
        with installed(kafka, directory / name, fleet.configuration(interval_s), FLOWS) as installation:
            uvloop.run(_Course(installation, fleet, interval_s, found, directory).run(name, plan))
    return found


class _Course:
    """The scenes of one installation."""

    def __init__(self, installation: Installation, fleet: Fleet, interval_s: float, found: Delivery, directory: Path) -> None:
        self._installation, self._fleet, self._found, self._directory = installation, fleet, found, directory
        self._interval_s = interval_s
        self._writer = Writer(installation.settings)

    async def run(self, name: str, plan: Plan) -> None:
        """All of them; the numbers go to `found`."""
        scene = Scene(self._fleet.partners)
        setattr(self._found, name, scene)
        tokens = await asyncio.to_thread(self._installation.tokens, [f"cp-{n}" for n in range(self._fleet.partners)])
        self._partners = Partners(tokens, self._installation.port, self._interval_s)
        await self._partners.serve()
        await self._partners.connect()
        await asyncio.sleep(2 * self._interval_s)
        told = await self._quarters_end(scene)
        if name == "one":
            await self._single_rows(plan)
        await self._messages_alone(scene, told)
        await self._bare(scene, told)
        await self._partners.stop()

    async def _quarters_end(self, scene: Scene) -> Told:
        payloads = await asyncio.to_thread(payloads_of, self._fleet, 0)
        told = self._partners.begin()
        self._partners.watching = True
        began = time.time()
        with self._watched(scene):
            await asyncio.to_thread(self._writer.write, payloads)
            await self._until(self._fleet.groups)
        self._partners.watching = False
        await asyncio.sleep(1.0)  # what is told twice, or in parts, comes later
        scene.rows_s, scene.messages = max(one.answered for one in told.accepted) - began, len(told.accepted)
        scene.late, scene.connections = self._partners.seen.late, max(told.connections.values())
        self._found.problems += [f"heartbeats: {self._partners.seen.missed} came after their deadline"] * bool(self._partners.seen.missed)
        self._judge(told, 0, range(self._fleet.groups))
        return told

    async def _single_rows(self, plan: Plan) -> None:
        told = self._partners.begin()
        # Each for another group, and for a quarter that nobody was told of.
        turns = [(number % self._fleet.groups, 1 + number // self._fleet.groups) for number in range(plan.paced)]
        for number, (group, turn) in enumerate(turns):
            rows = [(row.id, encode(row)) for row in self._fleet.rows(group, turn)]
            self._writer.appended.pop(f"G-{group}", None)
            await asyncio.to_thread(self._writer.write, rows)
            await self._until(number + 1)
            self._found.paced.append(told.accepted[-1].came - self._writer.appended[f"G-{group}"])
            await asyncio.sleep(1 / plan.rate)
        self._judge(told, 1, range(plan.paced))

    async def _messages_alone(self, scene: Scene, told: Told) -> None:
        """What was told, as new messages that only have to be sent."""
        messages = [_message(one, datetime.now(UTC)) for one in told.accepted]
        payloads = [(message.partner_id, encode(message)) for message in messages]
        writer = await asyncio.to_thread(Writer, self._installation.settings, OUTBOUND)
        again = self._partners.begin()
        began = time.time()
        await asyncio.to_thread(writer.write, payloads)
        await self._until(len(messages))
        scene.sent_s = max(one.answered for one in again.accepted) - began
        await asyncio.sleep(1.0)  # what is sent twice comes later
        if sorted(one.request.headers["x-request-id"] for one in again.accepted) != sorted(message.message_id for message in messages):
            self._found.problems.append("not every message was sent, each once")

    async def _bare(self, scene: Scene, told: Told) -> None:
        by_peer: dict[int, list[dict[str, Any]]] = {}
        for one in told.accepted:
            headers = {"Authorization": "Token T", "Content-Type": "application/json", "X-Request-ID": one.request.headers["x-request-id"]}
            sent = {"url": self._partners.url + one.request.path, "headers": headers, "body": one.request.body.decode()}
            by_peer.setdefault(one.peer, []).append(sent)
        file = self._directory / "bare.json"
        file.write_text(json.dumps(list(by_peer.values())))
        await asyncio.sleep(1.0)
        again = self._partners.begin()
        command = (sys.executable, "-m", "tests.benchmarks.delivery.bare", str(file))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        if process.returncode or len(again.accepted) != len(told.accepted):
            raise RuntimeError(f"the bare loop got {len(again.accepted)} of {len(told.accepted)} messages through")
        scene.bare_s = float(out)

    async def _until(self, messages: int) -> None:
        deadline = time.monotonic() + WITHIN_S
        while len(self._partners.told.accepted) < messages:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(self._partners.told.accepted)} of {messages} messages in {WITHIN_S:g} s")
            await asyncio.sleep(LOOK_S if messages > 1 else LOOK_S / 10)

    def _judge(self, told: Told, turn: int, groups: range) -> None:
        values, assets = told.values(), range(self._fleet.assets)
        wanted = {f"a-{group}-{asset}": self._fleet.wh(group, asset, turn) for group in groups for asset in assets}
        for asset, wh in wanted.items():
            said = values.pop(asset, [])
            if len(said) != 1 or abs(said[0] - wh) > 0.0006:  # as it is rounded
                self._found.problems.append(f"{asset} was told as {said}, not once as {wh}")
        self._found.problems += [f"{asset} was told, though it has no row" for asset in values]

    @contextmanager
    def _watched(self, scene: Scene) -> Iterator[None]:
        """What the processes use meanwhile: CPU seconds, and at most resident."""
        began, busy = time.time(), busy_s()
        yield
        ended = time.time()
        scene.cpu = {"machine": round(busy_s() - busy, 1)}
        for name, tree in self._installation.processes.items():
            used = tree.between(began, ended)
            scene.cpu[name], scene.rss[name] = round(used.cpu_s, 1), used.rss


def _message(one: Accepted, now: datetime) -> OutboundMessage:
    body = one.request.body.decode()
    message_id = str(uuid.uuid4())
    return OutboundMessage(
        event_id=message_id,
        at=now,
        message_id=message_id,
        partner_id=f"cp-{one.peer}",
        action="UpdateAssetMeasurements",
        group_id=json.loads(body)["group_id"],
        body=body,
        not_before=now,
        expires_at=now + OWED,
    )
