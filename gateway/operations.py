"""The operations listener: JSON API, pages, health and metrics in one application, behind one guard (contract 5)."""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway import api_asked, api_config, api_measured, api_messages, api_partners, api_scopes, api_status, health, metrics, pages
from gateway.api_body import Problem, field_errors, taken_schemas
from gateway.auth import Operators
from gateway.desk import Appender, Configurations, Connections, Desk, Pictures, Reader, Secrets
from gateway.guard import SECURITY_HEADERS, Denied, Guard
from gateway.past import Past
from gateway.problems import problem
from gateway.readiness import Check
from gateway.sessions import Sessions, SignInLinks
from schemas.clock import Clock, SystemClock
from schemas.config import ConfigChange
from sinks.errors import Refused, Unavailable

log = logging.getLogger(__name__)

API = "/api/v1"
FOR_PROGRAMS = ("/api/", "/health/", "/metrics")
BROKER_WITHIN_S = 2.0
TITLES = {404: "Not found", 405: "Method not allowed"}


def operations_app(
    *,
    projection: Pictures,
    config: Configurations,
    config_changes: Callable[[], Mapping[str, ConfigChange]],
    connections: Connections,
    appender: Appender,
    secrets: Secrets,
    clock: Clock,
    operators: Operators,
    checks: Mapping[str, Check] | None = None,
    processes: Callable[[], Mapping[str, Any]] | None = None,
    attribution: str | None = None,
    past: Past | None = None,
    writes_circuits: bool = False,
    hosts: Collection[str] = (),
    wall: Clock | None = None,
) -> FastAPI:
    """The application of the operations listener.

    `projection` is the live picture; `config` and `config_changes` the configuration and the items it was made of;
    `connections` and `secrets` serve tokens; `appender` takes commands, configuration and telemetry to Kafka.
    `checks` are asked for `/health/ready` by name, beside `broker`, which reads `connections` to its end; `processes`
    says what runs, for the status. `attribution` is shown where the numbers of its data are. `past` is asked for
    days the picture no longer holds, where there is a history. `writes_circuits` says that there is a legacy platform to write to.
    `hosts` are names the listener answers to besides loopback. `wall` times sessions (default: the system's clock; never the scaled one).
    """
    ticking = wall or SystemClock()
    app = FastAPI(title="Vector DERMS operations", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.desk = Desk(
        pictures=projection,
        config=config,
        config_changes=config_changes,
        connections=connections,
        appender=appender,
        secrets=secrets,
        clock=clock,
        wall=ticking,
        operators=operators,
        sessions=Sessions(secrets, operators, ticking),
        links=SignInLinks(operators, ticking),
        checks={"broker": lambda: connections.catch_up(BROKER_WITHIN_S), **(checks or {})},
        processes=processes,
        attribution=attribution,
        past=past,
        writes_circuits=writes_circuits,
    )
    api = APIRouter(prefix=API)
    for part in (api_partners, api_scopes, api_measured, api_messages, api_asked, api_config, api_status):
        api.include_router(part.router)
    api.add_api_route("/openapi.json", _openapi_of(app), methods=["GET"], include_in_schema=False)
    for router in (api, health.router, metrics.router, pages.router):
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    app.add_middleware(Guard, hosts=hosts, operators=operators)
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(Denied, _on_denied)
    app.add_exception_handler(Unavailable, _on_unavailable)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_failure)


def _refuse(request: Request, status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem for programs, a page for people."""
    if request.url.path.startswith(FOR_PROGRAMS):
        return problem(status, title, detail, headers=headers)
    return pages.error_page(status, title, detail)


async def _on_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)  # noqa: S101 - what the handler is registered for
    return problem(error.status, error.title, str(error), error.errors, error.headers)


async def _on_denied(request: Request, error: Exception) -> Response:
    assert isinstance(error, Denied)  # noqa: S101
    return _refuse(request, error.status, error.title, error.detail, error.headers)


async def _on_unavailable(request: Request, error: Exception) -> Response:
    assert isinstance(error, Unavailable)  # noqa: S101
    log.warning("%s %s: %s", request.method, request.url.path, error)
    return _refuse(request, 503, "Unavailable", error.words, {"Retry-After": str(int(error.retry_after_s or 5))})


async def _on_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)  # noqa: S101
    return _refuse(request, error.status, "Refused", error.words)


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    errors = field_errors([{**one, "loc": tuple(one["loc"])[1:]} for one in error.errors()])  # type: ignore[typeddict-item]
    return problem(400, "Invalid request", f"{errors[0]['path']}: {errors[0]['message']}", errors)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    words = f"there is nothing at {request.url.path}" if error.status_code == 404 else str(error.detail)
    return _refuse(request, error.status_code, TITLES.get(error.status_code, "Refused"), words, error.headers)


async def _on_disconnect(request: Request, _: Exception) -> Response:
    """The connection ended within the body: nobody reads this, and no fault is logged."""
    return _refuse(request, 400, "Invalid request", "the connection ended before the body did")


async def _on_failure(request: Request, _: Exception) -> Response:
    """A fault of ours: the log has it (the server writes it), the answer only that it happened."""
    answer = _refuse(request, 500, "Internal error", "something went wrong here; the log has the details")
    answer.headers.update(SECURITY_HEADERS)
    return answer


def _openapi_of(app: FastAPI) -> Callable[..., Awaitable[JSONResponse]]:
    async def openapi(_: Reader) -> JSONResponse:
        """The API's own description."""
        return JSONResponse(openapi_document(app))

    return openapi


def openapi_document(app: FastAPI) -> dict[str, Any]:
    """OpenAPI of everything under `/api/v1`: bodies as they are really read, and problems as the only refusals."""
    found = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = found.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas |= {name: schema for name, schema in taken_schemas().items() if name not in schemas}
    schemas["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    found["security"] = [{"token": []}]
    refusal = {"description": "Refused", "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    for path, operations in found["paths"].items():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            if path.startswith(API):
                operation["responses"]["default"] = refusal
    return found


PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457; `errors` name the fields concerned",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["path", "message"],
                "properties": {"path": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
