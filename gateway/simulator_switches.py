"""What a simulated Capacity Provider does wrong, and how: answers that misbehave, and the manners of its own speech.

Each switch is a thing that real peers do; which ones is in `docs/partners.md`.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.oscp.v20 import Action

FINAL = frozenset(range(400, 500)) - {401, 403, 408, 425, 429} | {501}
"""Statuses after which a Flexibility Provider does not send a message again (semantics 8.3)."""


class Kind(StrEnum):
    """How an answer misbehaves. Those behind HTML are about messages that were taken in all the same."""

    STATUS = "STATUS"
    SILENT = "SILENT"
    DROP = "DROP"
    SLOW = "SLOW"
    CUT = "CUT"
    GARBAGE = "GARBAGE"
    HTML = "HTML"
    HUGE = "HUGE"
    TRICKLE = "TRICKLE"


TAKES = frozenset({Kind.SLOW, Kind.CUT, Kind.GARBAGE, Kind.HTML, Kind.HUGE, Kind.TRICKLE})


class Misanswer(BaseModel):
    """The next `count` messages (None: all) of `actions` (empty: any) are answered so.

    STATUS answers with `status` (500) and takes nothing in; SILENT never answers; DROP closes the connection before a byte.
    SLOW answers well after `seconds`; CUT closes the connection in the midst of the answer; GARBAGE has a body that is no
    JSON, HTML one that is a page, HUGE one of more than 1 MiB, each with `status` (200); TRICKLE takes `seconds` for its body.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind = Kind.STATUS
    actions: list[Action] = []
    count: int | None = Field(default=1, ge=0)
    status: int = Field(default=0, ge=0, le=599)
    retry_after_s: int | None = Field(default=None, ge=0)
    seconds: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _usual_status(self) -> Self:
        if not self.status:
            self.status = 500 if self.kind is Kind.STATUS else 200
        if self.status < 200:
            raise ValueError("status: must be from 200 to 599")
        return self

    @property
    def takes(self) -> bool:
        """Whether the message is taken in before it is misanswered."""
        return self.kind in TAKES or (self.kind is Kind.STATUS and self.status < 300)

    @property
    def comes_again(self) -> bool:
        """Whether the message has to be sent again after this."""
        return self.kind in (Kind.SILENT, Kind.DROP, Kind.CUT) or (self.kind is Kind.STATUS and not self.takes and self.status not in FINAL)


class Behaviour(StrEnum):
    """How what it wants is written in a handshake or an acknowledgement of one.

    BARE is SolarNetwork's acknowledgement (`{"required_behaviour": {}}`), INTERVAL pyoscp's (no measurement_configuration).
    """

    NESTED = "NESTED"
    FLAT = "FLAT"
    EMPTY = "EMPTY"
    BARE = "BARE"
    INTERVAL = "INTERVAL"


class Agreement(StrEnum):
    """Whether it sends the forecast it is asked for by an AdjustGroupCapacityForecast, and whether that names the wish."""

    NEVER = "NEVER"
    NAMED = "NAMED"
    UNNAMED = "UNNAMED"


class Switches(BaseModel):
    """Everything that can be set while it runs; what is not named is as a good peer does it.

    `answers`: the first that concerns a message decides. Of its own messages: `scheme` before the token ("" sends and wants
    the bare token), `request_ids` and `correlation_ids` whether it sends these headers, `repeat` how often each message comes
    again under its id, `other_body` whether it then comes with another body, `unknown_properties` whether it has some,
    `handshake` and `acknowledgement` their form, `acknowledge_path` where the latter goes, `put_renewals` how it renews.
    Heartbeats: `heartbeats` whether they are sent, each `heartbeat_every` of the interval asked for (not below 0.1), promising
    `heartbeat_horizon` intervals (negative: a deadline in the past), `naive_times` whether both ways are in local time without a zone.
    `callback_first`: it sends its own Register before it answers ours. `takes_handshakes`: it serves /handshake and acknowledges.
    `tokens`: as `answers`, of the token endpoint. `agrees`: whether it gives what a wish for another capacity asks for.
    `max_body`: a message or segment of more bytes is wrong, and answered 413.
    """

    model_config = ConfigDict(extra="forbid")

    answers: list[Misanswer] = []
    tokens: list[Misanswer] = []
    scheme: str = "Token"
    request_ids: bool = True
    correlation_ids: bool = True
    repeat: int = Field(default=0, ge=0, le=100)
    other_body: bool = False
    unknown_properties: bool = False
    handshake: Behaviour = Behaviour.NESTED
    acknowledgement: Behaviour = Behaviour.NESTED
    acknowledge_path: str | None = None
    put_renewals: bool = False
    heartbeats: bool = True
    heartbeat_every: float = Field(default=1.0, ge=0.1, le=1000)
    heartbeat_horizon: float = 3.0
    naive_times: bool = False
    callback_first: bool = False
    takes_handshakes: bool = False
    agrees: Agreement = Agreement.NEVER
    max_body: int | None = Field(default=None, ge=1)

    def misanswer(self, action: Action) -> Misanswer | None:
        """How to misbehave at the next message of `action`, which is counted; None to behave."""
        return _first(each for each in self.answers if not each.actions or action in each.actions)

    def token_misanswer(self) -> Misanswer | None:
        """How to misbehave at the next token request, which is counted; None to behave."""
        return _first(self.tokens)


def _first(concerning: Iterable[Misanswer]) -> Misanswer | None:
    for each in concerning:
        if each.count == 0:
            continue
        if each.count is not None:
            each.count -= 1
        return each
    return None
