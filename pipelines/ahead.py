"""Payloads decoded ahead: in a thread of its own, while the engine's is busy with what came before.

What bytes say depends on nothing but them, so it does not matter when they are read; everything that depends on time,
configuration or order is left to the flow.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipelines.records import Decoded
from sinks.columns import decode_readings
from sinks.known_ids import KnownIds


class Ahead:
    """One thread for all lanes of a worker. For the engine's thread only."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "decode")
        nobody = KnownIds([])
        self._known: Callable[[], KnownIds] = lambda: nobody

    def knowing(self, known: Callable[[], KnownIds]) -> None:
        """From now on ask which ids are known."""
        self._known = known

    def begin(self, payloads: Sequence[bytes]) -> Decoded:
        """Have payloads decoded; they must not be changed. Does not block."""
        known = self._known()
        return Decoded(known, len(payloads), self._pool.submit(decode_readings, payloads, known))
