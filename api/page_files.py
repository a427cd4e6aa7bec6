"""The files of the page: read once, held compressed, sent by one look into a table of names.

`make page` builds them into `api/page/dist`. All that can be sent is what lies there when it is read: no path of a
request ever reaches the file system.
"""

import gzip
import hashlib
import mimetypes
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response

from api.browser_headers import page_policy

DIST = Path(__file__).parent / "page" / "dist"
"""Where the build puts the page."""

INDEX = "index.html"

_HASHED = "assets/"
"""Files below it have a hash of their content in their name."""

_FOREVER = "public, max-age=31536000, immutable"
_ASK = "no-cache"

_NONCE = b"CSP_NONCE"
"""What stands in the page where the nonce of its style elements belongs."""

_LEAST_COMPRESSED = 256
"""Bytes below which compressing costs more than it saves."""

_GAINS = 0.95
"""Share of its size that a file must be compressed to; pictures and fonts are compressed already."""

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
"""Of those whose type must not depend on what a machine's registry says."""

_MISSING = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>voxdex</title>
<h1>voxdex</h1>
<p>The API answers; the page is not built. Run <code>make page</code> in the folder of the source, and load this
again.</p>
<p><a href="/v1/openapi.json">What the API answers</a></p>
</html>
"""


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file as it is sent."""

    content: bytes
    media_type: str
    etag: str
    cache: str
    encoded: Mapping[str, bytes]
    """Compressed forms by content coding, the one to prefer first."""

    def answer(self, headers: Headers) -> Response:
        """Build the answer to whoever sent these headers."""
        if _NONCE in self.content:
            return self._with_nonce()
        accepted = {part.partition(";")[0].strip() for part in headers.get("accept-encoding", "").split(",")}
        coding = next((coding for coding in self.encoded if coding in accepted), None)
        etag = f'"{self.etag}{"-" + coding if coding else ""}"'
        said = {"Cache-Control": self.cache, "ETag": etag, "Vary": "Accept-Encoding"}
        if etag in {one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")}:
            return Response(status_code=304, headers=said)
        if coding is not None:
            said["Content-Encoding"] = coding
        content = self.encoded[coding] if coding is not None else self.content
        return Response(content, headers=said, media_type=self.media_type)

    def _with_nonce(self) -> Response:
        # Another one in every answer, or it would keep nobody out: so that it is neither compressed before nor known
        # to the browser from the last time.
        nonce = secrets.token_urlsafe(16)
        said = {"Cache-Control": "no-store", "Content-Security-Policy": page_policy(nonce)}
        return Response(self.content.replace(_NONCE, nonce.encode()), headers=said, media_type=self.media_type)


class PageFiles:
    """What the page consists of, as it is in the folder now.

    Parameters
    ----------
    folder
        Where the build is; read when it is first asked for, and again when there is another build.
    """

    def __init__(self, folder: Path = DIST) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._built_at: int | None = None
        self._files: dict[str, PageFile] = {}

    @property
    def is_built(self) -> bool:
        """Whether there is a page."""
        return (self._folder / INDEX).is_file()

    def find(self, name: str) -> PageFile | None:
        """Return a file by its path below the folder; None where there is none."""
        return self._current().get(name)

    def index(self) -> PageFile | None:
        """Return the page itself, which is the same under every address of its own; None where it is not built."""
        return self.find(INDEX)

    def _current(self) -> dict[str, PageFile]:
        try:
            built_at = (self._folder / INDEX).stat().st_mtime_ns
        except OSError:
            built_at = None
        with self._lock:
            if built_at != self._built_at:
                self._files = {} if built_at is None else dict(_read(self._folder))
                self._built_at = built_at
            return self._files


def missing() -> Response:
    """Build the answer where the page was asked for and is not built."""
    return Response(_MISSING, headers={"Cache-Control": "no-store"}, media_type="text/html")


def _read(folder: Path) -> dict[str, PageFile]:
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: _file(name, path, there)
        for name, path in there.items()
        if not (path.suffix in (".br", ".gz") and name.removesuffix(path.suffix) in there)
    }


def _file(name: str, path: Path, there: Mapping[str, Path]) -> PageFile:
    content = path.read_bytes()
    encoded: dict[str, bytes] = {}
    for coding, suffix in (("br", ".br"), ("gzip", ".gz")):
        if name + suffix in there:
            encoded[coding] = there[name + suffix].read_bytes()
    if "gzip" not in encoded and len(content) >= _LEAST_COMPRESSED:
        packed = gzip.compress(content, 9, mtime=0)
        if len(packed) < _GAINS * len(content):
            encoded["gzip"] = packed
    media_type = _TYPES.get(path.suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    cache = _FOREVER if name.startswith(_HASHED) else _ASK
    return PageFile(content, media_type, hashlib.sha256(content).hexdigest()[:32], cache, encoded)
