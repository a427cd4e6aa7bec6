"""A limit for every body that is parsed in memory; uploads, which go to the disk, lift it and count for themselves."""

from dataclasses import dataclass

from fastapi import Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import problem
from indexer.errors import UnsupportedFormat

MOST_BYTES = 1 << 20

BODY_LIMIT = "voxdex.body_limit"
"""Where a request's scope holds its limit."""


@dataclass
class BodyLimitState:
    """What is left of the limit for one request; None where a route counts for itself."""

    most: int | None


class BodyLimit:
    """Refuses a body above a megabyte while it arrives; an announced one is refused at once."""

    def __init__(self, app: ASGIApp, most_bytes: int = MOST_BYTES) -> None:
        self._app = app
        self._most = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        encoding = Headers(scope=scope).get("content-encoding", "").strip().lower()
        if encoding not in ("", "identity"):
            detail = f"a body with Content-Encoding: {encoding[:80]} is not read here; send it as it is"
            await problem(415, UnsupportedFormat.code, detail)(scope, receive, send)
            return
        limit = scope[BODY_LIMIT] = BodyLimitState(self._most)
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        announced = int(declared) if declared.isdigit() else 0
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            _require_below(limit, max(announced, arrived))
            message = await receive()
            arrived += len(message.get("body", b""))
            _require_below(limit, arrived)
            return message

        await self._app(scope, counted, send)


def lift_body_limit(request: Request) -> None:
    """Let this request's body be of any size: whoever reads it counts it."""
    request.scope[BODY_LIMIT].most = None


def _require_below(limit: BodyLimitState, total: int) -> None:
    if limit.most is not None and total > limit.most:
        # The framework lets this kind of exception through while it reads a body, and hides every other.
        raise HTTPException(413, f"the body is over the limit of {limit.most} bytes for this kind of request")
