"""What is kept for the requests of operators beside the requests themselves: it must not be pushed out by what comes by the thousand.

Data and folding, in bounded memory; nothing inside is changed in place but the dictionaries, which `copy` copies.
"""

from dataclasses import dataclass, field
from typing import TypeVar

from pipelines.rules.reporting_compliance import by_hand
from schemas.connection import Command, CommandKind, Event
from schemas.oscp.v20 import Action
from schemas.outbound import Delivery, OutboundMessage

T = TypeVar("T")
KEEP_REFUSALS = 500
KEEP_AWAITED = 500
KEEP_EARLY = 500
"""Deliveries of compliance errors whose request was not read yet, if there is one: they come by another topic."""
REFUSED_KIND = "command.refused"


@dataclass(slots=True)
class AskedFacts:
    """`refusals` by command, `deliveries` by message: the last attempt of each compliance error an operator asked for. `awaited` are
    the messages of those, `early` what came before."""

    refusals: dict[str, Event] = field(default_factory=dict)
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    awaited: dict[str, None] = field(default_factory=dict)
    early: dict[str, Delivery] = field(default_factory=dict)

    def copy(self) -> "AskedFacts":
        """The same, which what comes later does not change."""
        return AskedFacts(dict(self.refusals), dict(self.deliveries), dict(self.awaited), dict(self.early))

    def asked(self, command: Command) -> None:
        """An operator asks for something."""
        if command.kind is not CommandKind.COMPLIANCE_ERROR:
            return
        for message in by_hand(command, command.at):
            if isinstance(message, OutboundMessage):
                _keep(self.awaited, message.message_id, None, KEEP_AWAITED)
                early = self.early.pop(message.message_id, None)
                if early is not None:
                    _keep(self.deliveries, message.message_id, early, KEEP_AWAITED)

    def told(self, event: Event) -> None:
        """A request was not carried out, and why."""
        if event.kind == REFUSED_KIND and event.cause_id is not None:
            _keep(self.refusals, event.cause_id, event, KEEP_REFUSALS)

    def attempted(self, delivery: Delivery) -> None:
        """A message was tried."""
        if delivery.action != Action.GROUP_CAPACITY_COMPLIANCE_ERROR:
            return
        if delivery.message_id in self.awaited:
            _keep(self.deliveries, delivery.message_id, delivery, KEEP_AWAITED)
        else:
            _keep(self.early, delivery.message_id, delivery, KEEP_EARLY)


def _keep(kept: dict[str, T], name: str, value: T, most: int) -> None:
    kept.pop(name, None)
    kept[name] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
