"""What keeps a dispatch whose lease may have ended from sending and from recording (semantics 8.1).

Nobody can take back what is on its way. So an attempt begins only while the lease is known to be good and is cut off
before that is over; what became of it is then not known, and it is made again under the same X-Request-ID: by us if the lease
turns out to be still ours, else by who has it. An outcome is recorded under the same condition: the next one has read what was
recorded before it began.
"""

import asyncio

from schemas.clock import Clock
from schemas.facts import Value
from schemas.outbound import OutboundMessage, Outcome
from schemas.topics import Topic
from sinks.errors import Unavailable
from sinks.lease import Lease
from sinks.oscp.answers import Judgement, UnderWay
from sinks.oscp.office import Append, Sender

LOOK_EVERY_S = 0.05


class FencedSender:
    """A `Sender` that sends only while `lease` is held. Use within one event loop."""

    def __init__(self, sender: Sender, lease: Lease, clock: Clock) -> None:
        self._sender, self._lease, self._clock = sender, lease, clock

    async def attempt(self, message: OutboundMessage, under_way: UnderWay | None = None) -> Judgement:
        """As `Sender.attempt`. While the lease is not known to be good it waits, and sends nothing that has expired meanwhile."""
        while not self._lease.held():
            await asyncio.sleep(LOOK_EVERY_S)
            if message.expires_at <= self._clock.now():
                return Judgement(Outcome.RETRY, None, "not sent: it was not certain that this dispatch is the only one")
        under_way = under_way or UnderWay()
        task = asyncio.ensure_future(self._sender.attempt(message, under_way))
        try:
            while (left := self._lease.good_for()) > 0.0:
                done, _ = await asyncio.wait({task}, timeout=min(left, 60.0))
                if done:
                    return task.result()
        finally:
            if not task.done():
                task.cancel()
        await asyncio.wait({task})
        words = "cut off: it was not certain any more that this dispatch is the only one"
        return under_way.cut_off(words) if task.cancelled() else task.result()

    async def aclose(self) -> None:
        """As `Sender.aclose`."""
        await self._sender.aclose()


def fenced(append: Append, lease: Lease) -> Append:
    """`append`, but Unavailable while `lease` is not known to be good."""

    async def appended(topic: Topic, key: str, value: Value) -> None:
        if not lease.held():
            raise Unavailable("it is not certain that this dispatch is the only one")
        await append(topic, key, value)

    return appended
