"""Whether this process lives and whether it can do its work; open to everyone, and so without any detail that could hurt."""

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from gateway.desk import Desk
from gateway.process_report import process_checks

router = APIRouter(prefix="/health", tags=["health"])


async def answers_of(desk: Desk, *, aloud: bool) -> dict[str, str]:
    """`ok`, or what is wrong, for everything the system needs: the desk's checks and, where they are known, its processes.

    `aloud` adds a dead process's last words: they come from its log, and so are only for people who may read.
    """
    processes = {} if desk.processes is None else desk.processes()
    return await desk.readiness.answers(desk.checks) | process_checks(processes, aloud=aloud)


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
