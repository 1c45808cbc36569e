"""The legacy platform's circuit cards, as its stand-in shows them: what it was told, and what our operations API says beside it."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gateway.circuit_platform_ledger import PlatformLedger
from gateway.commands.target import Target
from gateway.rendering import render
from sinks.errors import OutsideError

ASK_EVERY_S = 2.0
REFRESH_S = 3


@dataclass(frozen=True, slots=True)
class Level:
    """One direction: what is available, of what rating, and how much of it that is (0 to 100)."""

    name: str
    value: str
    rated: str
    share: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """What is on one card; "" where it is not known."""

    id: str
    href: str
    name: str
    levels: tuple[Level, ...]
    since: str
    source: str
    next: str
    told: str
    changes: int


class Cards:
    """Makes the pages. With `data`, names, ratings and next changes come from the instance that runs there, asked at most every
    `ASK_EVERY_S`; where none answers the cards show what the platform was told. For any one thread at a time."""

    def __init__(self, ledger: PlatformLedger, data: Path | None) -> None:
        self._ledger, self._data = ledger, data
        self._known: dict[str, dict[str, Any]] = {}
        self._asked = 0.0

    def page(self, circuit_id: str | None) -> str | None:
        """The card of one circuit, or those of all; None for one that was never told anything. Blocks while the instance is asked."""
        names = sorted(self._ledger.circuits) if circuit_id is None else [circuit_id]
        if any(name not in self._ledger.circuits for name in names):
            return None
        known = self._instance()
        cards = [card_of(self._ledger.view(name), known.get(name)) for name in names]
        return render("circuit_platform.html", cards=cards, one=circuit_id is not None, refresh=REFRESH_S)

    def _instance(self) -> dict[str, dict[str, Any]]:
        if self._data is not None and time.monotonic() - self._asked > ASK_EVERY_S:
            self._asked = time.monotonic()
            try:
                found = Target(self._data).operations("GET", "/circuits")
            except OutsideError:
                return self._known
            self._known = {item["circuit"]["id"]: item for item in found["items"]}
        return self._known


def card_of(view: dict[str, Any], known: dict[str, Any] | None) -> Card:
    """A card from what the platform was told, and the circuit as our operations API has it."""
    circuit = known["circuit"] if known else {}
    levels = tuple(
        _level(name, view[f"available_{name.lower()}_kw"], circuit.get(f"rated_{name.lower()}_kw")) for name in ("Import", "Export")
    )
    return Card(
        id=view["id"],
        href=f"/cards/{quote(view['id'], safe='')}",
        name=circuit.get("name") or view["id"],
        levels=levels,
        since=_when(view["effective_from"]),
        source=view["source"],
        next=_next(known["next"]) if known else "",
        told=_when(view["told_at"]),
        changes=view["changes"],
    )


def _level(name: str, value: float | None, rated: float | None) -> Level:
    share = None if value is None or not rated else max(0.0, min(100.0, 100.0 * value / rated))
    return Level(name, _kw(value), "" if rated is None else _kw(rated), share)


def _kw(value: float | None) -> str:
    return "not said" if value is None else f"{value:,.6g} kW"


def _when(instant: str) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(UTC):%-d %b %Y %H:%M:%S} UTC"


def _next(coming: dict[str, Any] | None) -> str:
    if coming is None:
        return "none in sight"
    imports, exports = (_watts(coming[f"available_{name}_w"]) for name in ("import", "export"))
    return f"{imports} import, {exports} export from {_when(coming['at'])}"


def _watts(watts: float | None) -> str:
    return "unknown" if watts is None else _kw(watts / 1000)
