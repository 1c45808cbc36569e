"""What processes say of themselves: what a dataflow's workers have done, how far they are, where time goes; the secret in use."""

from schemas.facts import Fact, Value
from schemas.units import Instant


class Tally(Value):
    """So many of `what` since the worker started; `outcome` tells kinds of them apart (readings: `taken`, `unknown asset`, …)."""

    what: str
    outcome: str = ""
    count: int


class StageTime(Value):
    """Wall time a worker spent in one stage of its work since it started, in so many runs.

    `longest_s` is the longest run of the last minute or two, `size_bytes` what passed in all runs, where that is known.
    """

    stage: str
    runs: int
    seconds: float
    longest_s: float = 0.0
    size_bytes: int = 0


class PartitionStanding(Value):
    """How far a worker is in one partition of what it reads.

    `position` is the offset of the next record, `lag` how many the broker has beyond it; both None where another worker
    reads the partition, or nothing was fetched yet. `watermark` is the event time that has passed; None before any.
    """

    topic: str
    partition: int
    position: int | None = None
    lag: int | None = None
    watermark: Instant | None = None


class QueueStanding(Value):
    """What one partner is owed and why it waits (semantics 8.2 to 8.6), as its queue stood when the report was made.

    `waiting` counts all that is owed, heartbeats, parked messages and those `under_way` included. `oldest_at` is when the oldest of
    them that is no heartbeat was made; None where nothing waits. `breaker` is CLOSED, OPEN or HALF_OPEN, `held` the words of what only
    a person can mend, `paused_until` the end of a Retry-After or of an open breaker, `draining` whether `max_rate` holds it back.
    `token_at` and `token_until`: since when the OAuth token in use is held and until when it is used; None without one. All of
    these three instants are wall time.
    """

    partner_id: str
    waiting: int = 0
    parked: int = 0
    under_way: int = 0
    oldest_at: Instant | None = None
    breaker: str = "CLOSED"
    held: str = ""
    paused_until: Instant | None = None
    draining: bool = False
    token_at: Instant | None = None
    token_until: Instant | None = None


class FlowReport(Fact):
    """One worker of a flow, every few seconds; the last value of the key `flow/worker` holds.

    Counts run from `started_at` (wall time), which so tells a restart. `ended`: the worker stopped in order, and this is its last word.
    `queues` are the partners' queues of a worker that sends to them.
    """

    flow: str
    worker: str
    started_at: Instant
    ended: bool = False
    tallies: list[Tally] = []
    stages: list[StageTime] = []
    partitions: list[PartitionStanding] = []
    queues: list[QueueStanding] = []

    @property
    def key(self) -> str:
        """Whose report it is: the key on its topic."""
        return f"{self.flow}/{self.worker}"


class SecretInUse(Fact):
    """Which installation secret a process works with, said about twice a minute; the last value of its key holds.

    `process` names it the same after a restart; `ended`: it stopped in order, and this is its last word.
    """

    process: str
    key_id: str
    ended: bool = False

    @property
    def key(self) -> str:
        """The key on its topic."""
        return f"secret/{self.process}"
