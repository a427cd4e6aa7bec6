"""Errors as HTTP answers: one table from families to statuses, one shape (RFC 9457) for all of them.

An answer of the 4xx kind repeats the error's message, which was written for the caller. One of the 5xx kind does not,
because its message may name files, hosts and databases; the log has the error's frames under the same request id.
"""

import logging
import math
import re
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.schemas.problem import InvalidField, Problem
from indexer.errors import (
    AccessDenied,
    AudioGone,
    AudioTooLarge,
    BodyTooSlow,
    Conflict,
    CorruptArtifact,
    InvalidAudio,
    InvalidRequest,
    NotFound,
    Overloaded,
    RateLimited,
    RequestInFlight,
    TooLittleSpeech,
    Unauthenticated,
    Unavailable,
    UnsupportedFormat,
    VoxdexError,
    one_line,
)
from indexer.observability import current_request_id

logger = logging.getLogger(__name__)

PROBLEM_JSON = "application/problem+json"
TYPE_PREFIX = "urn:voxdex:problem:"

STATUSES: tuple[tuple[type[VoxdexError], int], ...] = (
    # A special case stands before its family.
    (UnsupportedFormat, 415),
    (AudioTooLarge, 413),
    (InvalidAudio, 422),
    (BodyTooSlow, 408),
    (InvalidRequest, 422),
    (Unauthenticated, 401),
    (AccessDenied, 403),
    (AudioGone, 410),
    (NotFound, 404),
    (Conflict, 409),
    (RateLimited, 429),
    (Unavailable, 503),
    # Not 503: trying again changes nothing before the operator has acted.
    (CorruptArtifact, 500),
)

RETRY_AFTER_S = 5
"""Said with a 503 whose cause (database, broker, network) gives no better guess."""

_UNAVAILABLE = "something this service depends on does not answer; try again in a few seconds"
_BROKEN = "an internal error; it is in the log of the service under this request id"


_HTTP_WORDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"`voxdex galleries list`"), "GET /v1/galleries"),
    (re.compile(r"`voxdex speakers list(?: --gallery [^`]*)?`"), "GET /v1/galleries/{gallery}/speakers"),
    (re.compile(r"`voxdex recordings list`"), "GET /v1/galleries/{gallery}/recordings"),
    (re.compile(r"`voxdex speakers merge [^`]*`"), "POST /v1/galleries/{gallery}/speakers/{speaker}/merge"),
    (re.compile(r"`voxdex recordings delete (\d+)[^`]*`"), r"DELETE /v1/galleries/{gallery}/recordings/\1"),
    (re.compile(r"`voxdex enroll [^`]*`"), "POST /v1/galleries/{gallery}/speakers/{speaker}/enrollments"),
    (re.compile(r"`voxdex encoder list`"), "GET /v1/encoders"),
    (re.compile(r"`voxdex key list`"), "GET /v1/keys"),
    (re.compile(r"--speaker-from "), "speaker_from = "),
    (re.compile(r", regex:PATTERN or csv:FILE"), " or regex:PATTERN"),
)
"""What messages call a remedy on the command line, where domain errors are also shown, and what it is over HTTP."""

_SHOWN = 80
"""Most characters of a value that is repeated to whoever sent it."""


def status_of(error: VoxdexError) -> int:
    """HTTP status of an error's family."""
    return next((status for family, status in STATUSES if isinstance(error, family)), 500)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: list[InvalidField] | None = None,
    headers: dict[str, str] | None = None,
    too_little: TooLittleSpeech | None = None,
) -> Response:
    """Build an answer that states a problem."""
    body = Problem(
        type=TYPE_PREFIX + code,
        title=code.replace("-", " ").capitalize(),
        status=status,
        detail=_as_text(detail),
        code=code,
        request_id=current_request_id(),
        errors=errors,
        speech_s=round(too_little.speech_s, 3) if too_little else None,
        needed_s=too_little.needed_s if too_little else None,
    )
    return Response(body.model_dump_json(exclude_none=True).encode(), status, headers=headers, media_type=PROBLEM_JSON)


def problem_of(error: VoxdexError) -> Response:
    """Build the answer to an error that was raised on purpose."""
    status = status_of(error)
    headers: dict[str, str] = {}
    if isinstance(error, RateLimited | Overloaded | RequestInFlight):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    elif isinstance(error, Unavailable):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="voxdex"'
    if status == 408:
        headers["Connection"] = "close"  # The rest of the body is not waited for either.
    detail = one_line(error)
    if status >= 500 and not isinstance(error, Overloaded):
        logger.warning("request failed: %s", error.code, exc_info=error)
        detail = _UNAVAILABLE if status == 503 else _BROKEN
    for command, route in _HTTP_WORDS:
        detail = command.sub(route, detail)
    too_little = error if isinstance(error, TooLittleSpeech) and error.needed_s is not None else None
    return problem(status, error.code, detail, headers=headers, too_little=too_little)


def unexpected() -> Response:
    """Build the answer to an error that nobody foresaw."""
    return problem(500, "internal", _BROKEN)


def install(app: FastAPI) -> None:
    """Answer every error of an application with a problem."""
    app.add_exception_handler(VoxdexError, _on_known)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)


async def _on_known(request: Request, error: Exception) -> Response:
    assert isinstance(error, VoxdexError)
    return problem_of(error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = [
        InvalidField(
            location=_as_text(".".join(str(part) for part in one["loc"])),
            message=_as_text(_what_is_wrong(one, request)),
        )
        for one in error.errors()
    ]
    detail = "; ".join(f"{field.location}: {field.message}" for field in wrong[:3])
    return problem(422, InvalidRequest.code, detail, errors=wrong)


def _what_is_wrong(one: Any, request: Request) -> str:
    """Say what is wrong with one field: what it must be, and what it is."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if one["loc"] == ("body",) and "json" not in kind:
        return f"a body of type {kind[:_SHOWN] or '(none)'}; send it with content-type: application/json"
    if one["type"] == "extra_forbidden":
        return "there is no such field"
    if one["loc"][:1] == ("query",) and isinstance(one.get("input"), str) and not one["input"].strip():
        return "is empty: give a value, or leave it out"
    message: str = one["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    given = one.get("input")
    if isinstance(given, str):
        message = message.replace("Value should", "String should").replace(" items after validation", " characters")
    if one["type"] == "unknown_parameter" or not isinstance(given, str | int | float):
        return message
    length = f" of {len(given)} characters" if isinstance(given, str) and len(given) > _SHOWN else ""
    shown = given[:_SHOWN] if isinstance(given, str) else given
    return f"{message} (given: {shown!r}{length})"


async def _on_http(request: Request, error: Exception) -> Response:
    """Answer what the framework refuses by itself: no such route, no such method, a body that cannot be parsed."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(404, NotFound.code, "there is nothing at this path; /v1/openapi.json lists what there is")
    if error.status_code == 405:
        allowed = ", ".join(sorted(_methods(request, request.scope["path"])))
        detail = f"{request.method} is not possible here; possible is {allowed}"
        return problem(405, "method-not-allowed", detail, headers={"Allow": allowed})
    if error.status_code == 413:
        return problem_of(AudioTooLarge(error.detail))
    if error.status_code == 400:
        return problem(422, InvalidRequest.code, "the body cannot be parsed; send JSON in UTF-8")
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "-")
    return problem(error.status_code, code, phrase, headers=dict(error.headers or {}))


def _methods(request: Request, path: str) -> set[str]:
    """Every method that some route of this path answers to; the framework tells those of the first route only."""
    allowed: set[str] = set()
    for route in iter_route_contexts(request.app.routes):
        if route.path and route.methods and compile_path(route.path)[0].match(path):
            allowed |= route.methods
    return allowed


def _as_text(message: str) -> str:
    """Write what cannot be encoded (half a surrogate pair) as an escape."""
    return message.encode("utf-8", "backslashreplace").decode("utf-8")


class UnexpectedErrors:
    """Answers an error that nobody foresaw with a bare problem, and logs its frames; stands inside the request's id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; answer it if that fails."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if started:  # The answer is under way: only breaking it off tells the client that it is not whole.
                raise
            logger.exception("unforeseen failure of a request")
            await unexpected()(scope, receive, send)
