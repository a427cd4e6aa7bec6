"""What every answer tells browsers: what a page may load and do, and that nothing of this is for other sites."""

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def page_policy(nonce: str | None = None) -> str:
    """Say what the page may load: its own files, and no style element but those that carry the nonce.

    No script but the bundle's files; no font, picture or request leaves for another machine. Players and charts place
    what they draw through the style objects of elements, which no policy restricts.
    """
    styles = "style-src 'self'" if nonce is None else f"style-src 'self' 'nonce-{nonce}'"
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            styles,
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "font-src 'self'",
            "connect-src 'self' blob:",
            "worker-src 'self' blob:",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


_PAGE = {
    "content-security-policy": page_policy(),
    "permissions-policy": ", ".join(
        (
            "microphone=(self)",
            "camera=()",
            "geolocation=()",
            "display-capture=()",
            "payment=()",
            "usb=()",
            "serial=()",
        )
    ),
    "x-frame-options": "DENY",
}

_API = {
    # A document of the API that somebody opens in a browser loads nothing and is shown in no frame.
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    # Answers are about persons: no copy stays in a browser or in a proxy unless a route says so.
    "cache-control": "no-store",
}

_Raw = tuple[tuple[bytes, bytes], ...]


def _raw(headers: dict[str, str]) -> _Raw:
    return tuple((name.encode(), value.encode()) for name, value in (_EVERYWHERE | headers).items())


class BrowserHeaders:
    """Adds them to every answer; a header that a route sets itself stays."""

    _OF_PAGE = _raw(_PAGE)
    _OF_API = _raw(_API)

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = self._OF_API if _is_of_api(scope["path"]) else self._OF_PAGE

        async def adding(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message.setdefault("headers", [])
                there = {name.lower() for name, _ in headers}
                message["headers"] = [*headers, *_missing(wanted, there)]
            await send(message)

        await self._app(scope, receive, adding)


def _missing(wanted: _Raw, there: set[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return ((name, value) for name, value in wanted if name not in there)


def _is_of_api(path: str) -> bool:
    return path.startswith("/v1/") or path in ("/healthz", "/readyz", "/metrics")
