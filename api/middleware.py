"""What every request leaves behind: an id that it is found by, one line of the access log, and its metrics."""

import logging
import re
import secrets
import time
from functools import cached_property

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from indexer.observability import HTTP_REQUESTS, HTTP_SECONDS, log_context

logger = logging.getLogger("api.access")

REQUEST_ID_HEADER = "x-request-id"

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{8,128}")
"""What is taken over from a client: enough for a UUID or a trace id, and nothing that could forge a log line."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_BROKEN_OFF = 499
"""Status in log and metrics of a request that ended without an answer, as nginx counts it."""


class RequestRecords:
    """Outermost of all: gives each request its id, and notes in the end what became of it.

    Lines and metrics know a request by its route's template, `/v1/galleries/{gallery}/identify`: paths and queries
    hold names.
    """

    def __init__(self, app: ASGIApp, *, api: FastAPI) -> None:
        self._app = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or secrets.token_hex(8)
        status = _BROKEN_OFF

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append((REQUEST_ID_HEADER.encode(), request_id.encode()))
            await send(message)

        started = time.perf_counter()
        with log_context(request_id=request_id):
            try:
                await self._app(scope, receive, noting)
            finally:
                self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, duration_s: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = self._templates.get(scope.get("endpoint"), "unmatched")
        HTTP_REQUESTS.labels(method, route, str(status)).inc()
        HTTP_SECONDS.labels(method, route).observe(duration_s)
        logger.info(
            "request",
            extra={"method": method, "route": route, "status": status, "duration_s": round(duration_s, 4)},
        )

    @cached_property
    def _templates(self) -> dict[object, str]:
        """Path template of every endpoint; read once, when the application is whole."""
        return {context.endpoint: context.path for context in iter_route_contexts(self._api.routes) if context.path}


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == REQUEST_ID_HEADER.encode() and _SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return None
