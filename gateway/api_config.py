"""The configuration: what holds, and bringing it to what is wanted, all or nothing (contract 3)."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gateway.api_body import Problem, field_errors, json_body, takes
from gateway.desk import AtDesk, Configurer, Desk, Reader
from pipelines.records import Out
from pipelines.rules.configuration import changes_between, configuration_of, key_of, merged
from schemas.config import ConfigChange, Configuration
from schemas.topics import CONFIG

router = APIRouter(prefix="/config", tags=["config"])

FOLLOWED_WITHIN_S = 5.0
_LOOK_EVERY_S = 0.02


class ConfigView(BaseModel):
    """The configuration in force. `revision` grows with every change; `items` has each item's own, and who made it."""

    revision: int
    configuration: dict[str, Any]
    items: list["ItemView"]


class ItemView(BaseModel):
    """One item's last change."""

    kind: str
    id: str
    revision: int
    by: str
    at: str


class ApplyRequest(BaseModel):
    """What is wanted. `revision`: the one it was made from; a stale one is refused (409), none is not compared.

    Without `prune` nothing is removed; with `dry_run` nothing is changed, only answered.
    """

    model_config = ConfigDict(extra="forbid")

    configuration: dict[str, Any]
    revision: int | None = Field(default=None, ge=0)
    prune: bool = False
    dry_run: bool = False


class ChangeView(BaseModel):
    """One item that was (or would be) added, changed or removed."""

    kind: str
    id: str
    change: str
    revision: int


class AppliedView(BaseModel):
    """What applying did, or would do; `revision` is the configuration's afterwards."""

    applied: bool
    revision: int
    changes: list[ChangeView]


def revision_of(changes: Mapping[str, ConfigChange]) -> int:
    """The configuration's revision: the sum of its items', so every change of any item makes it grow."""
    return sum(change.revision for change in changes.values())


@router.get("")
async def show_config(_: Reader, desk: AtDesk) -> ConfigView:
    """The configuration in force, as `PUT` takes it."""
    changes = desk.config_changes()
    items = [
        ItemView.model_validate({**change.model_dump(include={"kind", "id", "revision", "by"}), "at": change.at.isoformat()})
        for _, change in sorted(changes.items())
        if change.body is not None
    ]
    plain = desk.config.current().model_dump(mode="json")
    return ConfigView(revision=revision_of(changes), configuration=plain, items=items)


@router.put("", openapi_extra=takes(ApplyRequest))
@router.post("", openapi_extra=takes(ApplyRequest), include_in_schema=False)
async def apply_config(caller: Configurer, desk: AtDesk, body: Annotated[ApplyRequest, Depends(json_body(ApplyRequest))]) -> AppliedView:
    """Bring the configuration to the one given: everything that is wrong refuses all of it, naming path and reason."""
    wanted = _configuration(body.configuration)
    async with desk.applying:
        current = desk.config_changes()
        before = revision_of(current)
        if body.revision is not None and body.revision != before:
            words = f"it was made from revision {body.revision}, the configuration is at {before} now; read it again and repeat the change"
            raise Problem(409, "Stale revision", words)
        changes = changes_between(current, wanted, prune=body.prune, by=caller.operator.name, at=desk.clock.now())
        after = merged(current, changes)
        _consistent(after)
        if not body.dry_run and changes:
            await desk.appender.append_many([Out(CONFIG, key_of(change), change) for change in changes])
            await _followed(desk, after)
    views = [ChangeView(kind=one.kind, id=one.id, change=_word(current, one), revision=one.revision) for one in changes]
    return AppliedView(applied=not body.dry_run, revision=revision_of(after if not body.dry_run else current), changes=views)


async def _followed(desk: Desk, after: Mapping[str, ConfigChange]) -> None:
    """Wait until this process sees what it has written, so that who comes next is compared with it."""
    for _ in range(int(FOLLOWED_WITHIN_S / _LOOK_EVERY_S)):
        if revision_of(desk.config_changes()) >= revision_of(after):
            return
        await asyncio.sleep(_LOOK_EVERY_S)


def _word(current: Mapping[str, ConfigChange], change: ConfigChange) -> str:
    known = current.get(key_of(change))
    if change.body is None:
        return "removed"
    return "added" if known is None or known.body is None else "changed"


def _configuration(plain: dict[str, Any]) -> Configuration:
    try:
        return Configuration.model_validate(plain)
    except ValidationError as error:
        raise _refused(error) from None


def _consistent(after: Mapping[str, ConfigChange]) -> None:
    """Items that stay because nothing is pruned must go together with the new ones."""
    try:
        configuration_of(after)
    except ValidationError as error:
        raise _refused(error) from None


def _refused(error: ValidationError) -> Problem:
    errors = field_errors(error.errors(include_url=False, include_input=False, include_context=False))
    first = errors[0]
    where = f"{first['path']}: " if first["path"] else ""
    return Problem(400, "Invalid configuration", f"{where}{first['message']}; nothing was changed", errors)
