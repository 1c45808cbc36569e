"""Whether this process lives and whether it can do its work; open to everyone, and so without any detail that could hurt."""

import asyncio
import logging
from collections.abc import Mapping

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from gateway.desk import Check, Desk
from gateway.process_report import process_checks
from sinks.errors import OutsideError

log = logging.getLogger(__name__)

router = APIRouter(prefix="/health", tags=["health"])

CHECK_WITHIN_S = 3.0


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
        return "ok"

    answers = await asyncio.gather(*(run(name, check) for name, check in checks.items()))
    return dict(zip(checks, answers, strict=True))


async def answers_of(desk: Desk, *, aloud: bool) -> dict[str, str]:
    """`ok`, or what is wrong, for everything the system needs: the desk's checks and, where they are known, its processes.

    `aloud` adds a dead process's last words: they come from its log, and so are only for people who may read.
    """
    processes = {} if desk.processes is None else desk.processes()
    return await run_checks(desk.checks) | process_checks(processes, aloud=aloud)


@router.get("/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """200 when everything this process needs answers and its fellow processes run, else 503 with what does not."""
    desk: Desk = request.app.state.desk
    answers = await answers_of(desk, aloud=False)
    well = all(answer == "ok" for answer in answers.values())
    return JSONResponse({"status": "ok" if well else "unavailable", "checks": answers}, status_code=200 if well else 503)
