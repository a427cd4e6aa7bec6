"""The page itself: its files, and the one document that is under every address which is not the API's."""

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Match
from starlette.types import Receive, Scope, Send

from api.page_files import PageFile, PageFiles, missing

_API = frozenset({"v1", "healthz", "readyz", "metrics"})
"""First segments that are never the page's: what is not there is a problem document, and not a page."""


class PageRoute(BaseRoute):
    """Answers GET and HEAD of whatever no other route answers; stands last.

    A file is sent under its own name. Any other address is one of the page's own where a browser goes there
    (`/speakers/Ann`), so that it is sent the page; a script or a picture that is missing stays missing.
    """

    path = "/{page}"
    methods = None

    def __init__(self, files: PageFiles) -> None:
        self._files = files

    @property
    def endpoint(self) -> object:
        """What metrics and the access log know such requests by."""
        return self

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Take a request if it can be the page's."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            return Match.NONE, {}
        name = scope["path"].removeprefix("/")
        if name.partition("/")[0] in _API:
            return Match.NONE, {}
        file = self._files.find(name)
        if file is None and name and "text/html" not in Headers(scope=scope).get("accept", ""):
            return Match.NONE, {}
        return Match.FULL, {"endpoint": self, "page_file": file or self._files.index()}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what was found."""
        file: PageFile | None = scope["page_file"]
        answer = missing() if file is None else file.answer(Headers(scope=scope))
        await answer(scope, receive, send)
