"""Forecasts of a day of quarter hours, and what must come of them, worked out plainly and by no code of the flow."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.connection import InboundMessage
from schemas.facts import digest
from schemas.units import rfc3339

BLOCKS = 96
STEP = timedelta(minutes=15)
HELD = timedelta(hours=1)
RATED_KW = 200
PARTNERS = 8
"""Their topic is divided by partner."""


@dataclass(frozen=True)
class Told:
    """A day's plan for one group, its first block beginning at `start`; `turn` tells one plan of a group from the next."""

    group: int
    turn: int
    start: datetime

    @property
    def request_id(self) -> str:
        return f"00000000-0000-4000-{self.turn:04d}-{self.group:012d}"

    def limit_kw(self, block: int) -> int:
        """Every block's is another than its neighbours', also where the rating is lower than the limit; so is another turn's."""
        low = 60 + (37 * self.group + 11 * self.turn + 7 * block) % 80
        return low + 90 if block % 2 else low

    def value_w(self, block: int) -> float:
        """What the circuit has in a block."""
        return min(self.limit_kw(block), RATED_KW) * 1000.0

    def pieces(self, received_at: datetime) -> list[tuple[datetime, datetime, float, str]]:
        """The envelope that follows, if nothing was said before: (start, end, W, kind)."""
        found = []
        for block in range(BLOCKS):
            start, end = self.start + block * STEP, self.start + (block + 1) * STEP
            if end > received_at:
                found.append((max(start, received_at), end, self.limit_kw(block) * 1000.0, "FORECAST"))
        end = self.start + BLOCKS * STEP
        return [*found, (end, end + HELD, found[-1][2], "HELD")]

    def message(self, received_at: datetime) -> InboundMessage:
        """As the gateway appends it."""
        blocks = [
            {
                "capacity": float(self.limit_kw(block)),
                "phase": "ALL",
                "unit": "KW",
                "start_time": rfc3339(self.start + block * STEP),
                "end_time": rfc3339(self.start + (block + 1) * STEP),
            }
            for block in range(BLOCKS)
        ]
        body = json.dumps({"group_id": f"G-{self.group}", "type": "CONSUMPTION", "forecasted_blocks": blocks})
        return InboundMessage(
            event_id=f"inbound {self.request_id}",
            at=received_at,
            partner_id=f"cp-{self.group % PARTNERS}",
            action="UpdateGroupCapacityForecast",
            method="POST",
            request_id=self.request_id,
            received_at=received_at,
            group_id=f"G-{self.group}",
            body=body,
            body_digest=digest(body),
            credential_digest="bench",
        )
