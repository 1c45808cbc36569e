"""The OSCP listener's OpenAPI document: what each path takes and answers. It is made for tests and readers, not served."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.oscp_segments import COUNT, INDEX
from schemas.oscp.v20 import ARRAYS, MODELS, MOST_SEGMENTS, VERSION, Action


class OscpFieldError(BaseModel):
    """As `gateway.problems.FieldError`."""

    path: str
    message: str


class OscpError(BaseModel):
    """OSCP's Error: `message` always; for an invalid body `errors` name each field and the rule it breaks."""

    message: str
    errors: list[OscpFieldError] = []


_WORDS: dict[int | str, str] = {
    400: "The body or a header is not valid",
    401: "Authorization is missing or malformed",
    403: "The token is not valid",
    404: "Unknown group",
    405: "The method does not fit the path",
    408: "The body did not come in time",
    409: "An acknowledgement nobody waits for",
    413: "The body is too large",
    415: "The body is not plain JSON",
    429: "Too many requests",
    501: "A protocol version that is not spoken here",
    503: "The message could not be stored now",
}
ANSWERS: dict[int | str, dict[str, Any]] = {status: {"model": OscpError, "description": words} for status, words in _WORDS.items()}
"""Every answer but 204."""


def request_body(action: Action, method: str) -> dict[str, Any]:
    """The part of an operation that FastAPI cannot see, since bodies are read by hand: schema, headers, security."""
    headers = [
        {"name": name, "in": "header", "required": False, "schema": {"type": "string", "minLength": 1, "maxLength": 256}}
        for name in ("X-Request-ID", "X-Correlation-ID")
    ]
    if action in ARRAYS:
        headers += [_segment_header(INDEX, "Which segment this is, from 1"), _segment_header(COUNT, "Of how many; both or neither")]
    found: dict[str, Any] = {"parameters": headers, "security": [{"token": []}]}
    if method != "DELETE":
        reference = {"$ref": f"#/components/schemas/{MODELS[action].__name__}"}
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    return found


def _segment_header(name: str, words: str) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": 1, "maximum": MOST_SEGMENTS}
    return {"name": name, "in": "header", "required": False, "description": words, "schema": schema}


def described(app: FastAPI, public_url: str) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=VERSION, routes=app.routes, servers=[{"url": public_url}])
        _, messages = models_json_schema([(model, "validation") for model in MODELS.values()], ref_template="#/components/schemas/{model}")
        components = document.setdefault("components", {})
        components.setdefault("schemas", {}).update(messages["$defs"])
        components["securitySchemes"] = {
            "token": {"type": "apiKey", "in": "header", "name": "Authorization", "description": "Token <token>"}
        }
        app.openapi_schema = document
    return app.openapi_schema
