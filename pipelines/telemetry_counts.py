"""What the telemetry flow counts, in the words of its reports: readings by what became of them, and what came of them."""

from pipelines.meters import Meters
from pipelines.rules.quarter_rejects import REASONS
from pipelines.telemetry_intake import Count

WORDS: dict[str, tuple[str, str]] = {
    "readings": ("readings", "taken"),
    **{reason: ("readings", reason) for reason in REASONS[1:]},
    "unreadable": ("messages", "unreadable"),
}
"""How the flow's rules say it, and (what, outcome). Words that are not here stand for themselves."""


def counting(meters: Meters) -> Count:
    """What the flow's parts tell their counts to."""

    def count(what: str, number: int) -> None:
        kind, outcome = WORDS.get(what, (what, ""))
        meters.count(kind, number, outcome)

    return count
