"""What is running and how far it is; and one-time links for signing in."""

from fastapi import APIRouter
from pydantic import BaseModel

from gateway.api_partners import PartnerView, partner_ids, partner_view
from gateway.desk import AtDesk, Desk, Reader
from gateway.flow_status import FlowView, flow_views
from gateway.health import answers_of
from gateway.process_report import ProcessView
from schemas.intervals import QUARTER
from schemas.units import Instant

router = APIRouter()


class ClockView(BaseModel):
    """The system's clock."""

    now: Instant
    speed: float


class StatusView(BaseModel):
    """The whole at a glance. `event_time_lag_s`: how far the newest closed quarter's end lies behind the clock.
    `processes`: by name, where one supervisor runs them all and has said so. `flows`: those whose workers report."""

    clock: ClockView
    ready: bool
    checks: dict[str, str]
    processes: dict[str, ProcessView] | None
    flows: list[FlowView]
    partners: list[PartnerView]
    open_breaches: int
    newest_quarter: Instant | None
    event_time_lag_s: float | None
    dead_letters: int
    records: dict[str, int]


class SignInLink(BaseModel):
    """A path that signs its caller in, once, within the hour."""

    path: str


def flows_of(desk: Desk) -> list[FlowView]:
    """How the flows stand that report."""
    return flow_views(desk.pictures.current(), desk.clock, desk.wall.now(), desk.config.current().timing.lateness)


@router.get("/status", tags=["status"])
async def status(_: Reader, desk: AtDesk) -> StatusView:
    """What is running, partners, breaches, and how far event time has come."""
    picture, now = desk.pictures.current(), desk.clock.now()
    checks, newest = await answers_of(desk, aloud=True), picture.newest_quarter()
    processes = {} if desk.processes is None else desk.processes()
    return StatusView(
        clock=ClockView(now=now, speed=desk.clock.speed),
        ready=all(answer == "ok" for answer in checks.values()),
        checks=checks,
        processes={name: ProcessView.model_validate(plain) for name, plain in processes.items()} or None,
        flows=flows_of(desk),
        partners=[partner_view(desk, partner_id) for partner_id in partner_ids(desk)],
        open_breaches=len(picture.open_breaches()),
        newest_quarter=newest,
        event_time_lag_s=None if newest is None else max(0.0, (now - newest - QUARTER).total_seconds()),
        dead_letters=sum(picture.dead_letter_counts.values()),
        records=dict(picture.records),
    )


@router.post("/sign-in-links", status_code=201, tags=["status"])
async def sign_in_link(caller: Reader, desk: AtDesk) -> SignInLink:
    """A one-time link for the caller's own use in a browser."""
    return SignInLink(path=f"/sign-in?once={desk.links.issue(caller.operator)}")
