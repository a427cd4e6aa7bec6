"""Paths whose segments are names: a gallery may be called `calls/2024`, and `%2F` in a path must stay inside it."""

import re
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASH = "\ufdd0"
"""Stands for a slash inside a segment while routes are matched: no character, so that no name holds it."""

_NO_TEXT = "\ufdd1"
"""Stands for bytes that are no UTF-8; no name holds it either. A lone surrogate would do, if servers could log it."""

_UNDECODED = re.compile("[\udc80-\udcff]")


class WholeSegments:
    """Decodes the path segment by segment, so that an encoded slash does not cut a name in two.

    Servers hand over the path decoded as a whole, in which `a%2Fb` and `a/b` are the same; the raw path tells them
    apart.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on with its path decoded."""
        if scope["type"] == "http" and scope.get("raw_path"):
            scope["path"] = decoded(scope["raw_path"].partition(b"?")[0])
        await self._app(scope, receive, send)


def decoded(raw_path: bytes) -> str:
    """Decode a raw path; what would change its meaning is written as characters that no name has."""
    segments = (unquote_to_bytes(segment).decode("utf-8", "surrogateescape") for segment in raw_path.split(b"/"))
    return "/".join(_UNDECODED.sub(_NO_TEXT, segment).replace("/", _SLASH) for segment in segments)


def slashes_restored(segment: Any) -> Any:
    """Write the slashes of a path segment as slashes again."""
    return segment.replace(_SLASH, "/") if isinstance(segment, str) else segment
