"""The checks behind `/health/ready`: side by side, within their time, once at a time."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from sinks.errors import OutsideError

log = logging.getLogger(__name__)

CHECK_WITHIN_S = 3.0
Check = Callable[[], Awaitable[None]]
"""Returns if what it checks is well, raises OutsideError with words if not."""


async def run_checks(checks: Mapping[str, Check]) -> dict[str, str]:
    """`ok`, or what is wrong, for each check; they run side by side and a slow one is a failed one."""

    async def run(name: str, check: Check) -> str:
        try:
            await asyncio.wait_for(check(), CHECK_WITHIN_S)
        except TimeoutError:
            return f"no answer within {CHECK_WITHIN_S:g} s"
        except OutsideError as error:
            log.warning("not ready: %s: %s", name, error)
            return "unavailable"
        except Exception:
            log.exception("not ready: %s", name)
            return "failed"
        return "ok"

    answers = await asyncio.gather(*(run(name, check) for name, check in checks.items()))
    return dict(zip(checks, answers, strict=True))


class Readiness:
    """The checks, run once at a time however many ask: who asks is not known, and each run asks the broker."""

    def __init__(self) -> None:
        self._running: asyncio.Task[dict[str, str]] | None = None

    async def answers(self, checks: Mapping[str, Check]) -> dict[str, str]:
        """As `run_checks`; those who ask while it runs share what it finds."""
        if self._running is None or self._running.done() or self._running.get_loop() is not asyncio.get_running_loop():
            self._running = asyncio.create_task(run_checks(checks))
        return await asyncio.shield(self._running)
