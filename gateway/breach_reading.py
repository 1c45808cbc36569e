"""Breaches that fit conditions, from the live picture and, where there is one, the history (semantics 5)."""

from dataclasses import dataclass

from gateway.desk import Desk
from gateway.past import MOST_BREACHES, BreachWish
from gateway.picture import OPEN_STATES
from gateway.scope_day import newest_of
from schemas.compliance import Breach, BreachState
from schemas.intervals import QUARTER
from sinks.errors import Unavailable

STATES: dict[str, tuple[str, ...]] = {
    "open": OPEN_STATES,
    "closed": (BreachState.CLOSED.value,),
    "voided": (BreachState.VOIDED.value,),
}
"""Which states of a breach each word of the filter stands for."""


@dataclass(frozen=True, slots=True)
class FoundBreaches:
    """Breaches, the newest first; `note` says in words what may be lacking."""

    breaches: list[Breach]
    note: str


def fits(breach: Breach, wish: BreachWish) -> bool:
    """Whether a breach meets all conditions."""
    return (
        wish.partner_id in ("", breach.partner_id)
        and wish.group_id in ("", breach.group_id)
        and wish.scope_id in ("", breach.scope_id)
        and wish.direction in ("", breach.direction.value)
        and (not wish.states or breach.state.value in wish.states)
        and (wish.until is None or breach.first_quarter < wish.until)
        and (wish.since is None or breach.last_quarter + QUARTER > wish.since)
    )


async def read_breaches(desk: Desk, wish: BreachWish) -> FoundBreaches:
    """The breaches that fit as they stand. What the picture says of one is newer than what the history says of it."""
    known, note = list(desk.pictures.current().breaches.values()), ""
    if desk.past is not None:
        try:
            older = await desk.past.breaches(wish)
            known = [*older, *known]
            note = f"Only the newest {MOST_BREACHES} are listed; narrow the days to see others." if len(older) >= MOST_BREACHES else ""
        except Unavailable as error:
            note = error.words
    found = [breach for breach in newest_of(known) if fits(breach, wish)]
    return FoundBreaches(sorted(found, key=lambda breach: (breach.first_quarter, breach.breach_id), reverse=True), note)
