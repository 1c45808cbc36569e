"""What the stand-in for the legacy circuit platform keeps: what each circuit was told, every request, and what was wrong with it.

It is strict, so that it finds our mistakes: four fields and no other, a key on every request, nothing that goes back in time. Pure but
for the wall clock.
"""

import json
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from gateway.simulator_reply import Reply
from gateway.simulator_switches import Misanswer
from schemas.facts import digest
from schemas.oscp.checking import violations
from schemas.units import rfc3339

KEEP_KEYS, KEEP_LOG, KEEP_PROBLEMS, KEEP_WORDS = 100_000, 100_000, 1000, 300


class Told(BaseModel):
    """The body of a PATCH, and what a circuit has. null: not said, so what was there stays."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)

    available_import_kw: float | None = Field(ge=0, allow_inf_nan=False)
    available_export_kw: float | None = Field(ge=0, allow_inf_nan=False)
    effective_from: AwareDatetime
    source: str = Field(min_length=1, max_length=100)


class Misbehaviour(Misanswer):
    """How the next `count` PATCHes (None: all) of `circuits` (empty: any) are answered; the kinds are the simulator's."""

    circuits: list[str] = []


class Switches(BaseModel):
    """Everything that can be set while it runs: the first of `answers` that concerns a circuit decides."""

    model_config = ConfigDict(extra="forbid")

    answers: list[Misbehaviour] = []

    def misanswer(self, circuit_id: str) -> Misbehaviour | None:
        """How to misbehave at the next PATCH of a circuit, which is counted; None to behave."""
        for each in self.answers:
            if each.count != 0 and (not each.circuits or circuit_id in each.circuits):
                if each.count is not None:
                    each.count -= 1
                return each
        return None


@dataclass(frozen=True, slots=True)
class Standing:
    """What a circuit has, when it was told (wall), under which key, and how often it was told anything new."""

    told: Told
    at: datetime
    key: str
    changes: int


@dataclass(slots=True)
class PlatformLedger:
    """Everything the platform knows. With a `token` only its bearer may write. For one thread."""

    token: str | None = None
    switches: Switches = field(default_factory=Switches)
    circuits: dict[str, Standing] = field(default_factory=dict)
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=KEEP_LOG))
    problems: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=lambda: {"requests": 0, "applied": 0, "repeated": 0})
    _answers: "OrderedDict[str, tuple[str, Reply]]" = field(default_factory=OrderedDict)

    def patch(self, circuit_id: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Take in a PATCH, or misbehave; the answer."""
        self.counts["requests"] += 1
        manner = self.switches.misanswer(circuit_id)
        key = headers.get("idempotency-key", "")
        applied = False
        if manner is not None and not manner.takes:
            retry = {} if manner.retry_after_s is None else {"Retry-After": str(manner.retry_after_s)}
            reply = Reply(manner.status, {"message": "as the switches say"}, retry, manner)
        else:
            reply, applied = self._taken(circuit_id, key, headers, body)
            if manner is not None:
                reply = Reply(reply.status, reply.body, reply.headers, manner)
        self.log.append({
            "at": rfc3339(datetime.now(UTC)), "circuit_id": circuit_id, "key": key, "status": reply.status, "applied": applied,
            "manner": manner.kind.value if manner else None, "body": _json(body),
        })  # fmt: skip
        return reply

    def _taken(self, circuit_id: str, key: str, headers: Mapping[str, str], body: bytes) -> tuple[Reply, bool]:
        if self.token is not None and headers.get("authorization", "") != f"Bearer {self.token}":
            return self._wrong(401, f"{circuit_id}: a request without the right token"), False
        if not key:
            return self._wrong(400, f"{circuit_id}: a request without Idempotency-Key"), False
        known = self._answers.get(key)
        if known is not None:
            if known[0] != digest(body):
                return self._wrong(422, f"{circuit_id}: the key {key} came again with another body"), False
            self.counts["repeated"] += 1
            return known[1], False
        try:
            told = Told.model_validate_json(body)
        except ValidationError as error:
            return self._wrong(422, f"{circuit_id}: {'; '.join(map(str, violations(error)))}"), False
        reply = Reply(200, self._applied(circuit_id, key, told))
        self._answers[key] = (digest(body), reply)
        if len(self._answers) > KEEP_KEYS:
            self._answers.popitem(last=False)
        return reply, True

    def _applied(self, circuit_id: str, key: str, told: Told) -> dict[str, Any]:
        self.counts["applied"] += 1
        before = self.circuits.get(circuit_id)
        if before is not None and told.effective_from < before.told.effective_from:
            self._problem(f"{circuit_id}: went back from {rfc3339(before.told.effective_from)} to {rfc3339(told.effective_from)}")
        if before is not None:
            kept = {name: getattr(before.told, name) for name in _VALUES if getattr(told, name) is None}
            told = told.model_copy(update=kept)
        changes = 1 if before is None else before.changes + (told != before.told)
        self.circuits[circuit_id] = Standing(told, datetime.now(UTC), key, changes)
        return self.view(circuit_id)

    def _wrong(self, status: int, words: str) -> Reply:
        self._problem(words)
        return Reply(status, {"message": words[:KEEP_WORDS]})

    def _problem(self, words: str) -> None:
        if len(self.problems) < KEEP_PROBLEMS:
            self.problems.append(words[:KEEP_WORDS])

    def view(self, circuit_id: str) -> dict[str, Any]:
        """A circuit as JSON; KeyError for one that was never told anything."""
        standing = self.circuits[circuit_id]
        told = standing.told
        return {
            "id": circuit_id,
            "available_import_kw": told.available_import_kw,
            "available_export_kw": told.available_export_kw,
            "effective_from": rfc3339(told.effective_from),
            "source": told.source,
            "told_at": rfc3339(standing.at),
            "changes": standing.changes,
        }

    def report(self) -> dict[str, Any]:
        """Everything it knows, as plain JSON data; `problems` is empty when all was well."""
        return {**self.counts, "circuits": [self.view(name) for name in sorted(self.circuits)], "problems": list(self.problems)}


_VALUES = ("available_import_kw", "available_export_kw")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
