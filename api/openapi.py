"""What every route's entry in the API's document has in common: its problems, and the shape of one."""

import threading
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse, Response

from api.errors import PROBLEM_JSON, TYPE_PREFIX
from api.schemas.problem import Problem

PATH = "/v1/openapi.json"
"""Where the document is."""

_EXAMPLES: dict[int, tuple[str, str, str]] = {
    401: ("unauthenticated", "No key, or none that is known", "this service needs a key"),
    403: ("forbidden", "The key lacks a scope", "this needs the scope write; this key has read"),
    404: ("not-found", "There is none of that name", "no gallery 'calls'"),
    405: ("method-not-allowed", "No such method here", "PUT is not possible here; possible is GET"),
    408: ("body-too-slow", "The recording arrives too slowly", "900 bytes of the body arrived in 31 s"),
    409: ("conflict", "It contradicts what is stored", "gallery 'calls' is there already"),
    410: (
        "audio-gone",
        "The recording is known and its audio is gone",
        "recording 42: its audio is not there any more",
    ),
    413: ("payload-too-large", "Over a limit in bytes, seconds or channels", "the recording is over the limit"),
    415: ("unsupported-format", "Not audio that is read here", "not audio that can be read, it looks like a PDF"),
    416: ("range-not-satisfiable", "The part asked for begins after the end", "the range begins at byte 9000000"),
    422: ("invalid-request", "The request or its audio cannot be used", "body.name: Field required"),
    429: ("rate-limited", "The requests of this minute are used up", "1200 requests of this minute are used up"),
    500: ("internal", "An internal error", "an internal error; it is in the log under this request id"),
    503: ("unavailable", "Something does not answer, or too much waits", "try again in a few seconds"),
}

_EVERYWHERE = (401, 403, 422, 429, 500, 503)

_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}}
_CHALLENGE = {"WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the problems that a route answers with: those given, and those that any route can have."""
    return {status: _described(status) for status in sorted({*statuses, *_EVERYWHERE})}


def _described(status: int) -> dict[str, Any]:
    code, description, detail = _EXAMPLES[status]
    example = {
        "type": TYPE_PREFIX + code,
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": "5f0c2a9e4d7b4c55",
    }
    response: dict[str, Any] = {
        "description": description,
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}},
    }
    if status in (429, 503):
        response["headers"] = _RETRY_AFTER
    if status == 401:
        response["headers"] = _CHALLENGE
    return response


def install(app: FastAPI) -> None:
    """Complete an application's document with what the framework does not know."""
    building = threading.Lock()

    def document() -> dict[str, Any]:
        with building:
            if app.openapi_schema is None:
                app.openapi_schema = _document(app)
            return app.openapi_schema

    def answer(request: Request) -> Response:
        # In a thread, as every function that is not `async`: building the document takes half a second.
        return JSONResponse(document())

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way of extending it
    app.add_route(PATH, answer, include_in_schema=False)


def _document(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
        license_info=app.license_info,
    )
    parts = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas |= parts.pop("$defs", {}) | {"Problem": parts}
    return schema
