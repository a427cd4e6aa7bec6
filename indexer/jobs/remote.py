"""Files that are elsewhere, brought to this machine for as long as they are worked on."""

import re
import shutil
import ssl
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urljoin

import httpx

from indexer.errors import AccessDenied, AudioTooLarge, InvalidRequest, NotFound, Unavailable, one_line
from indexer.http_download import MIN_BYTES_PER_S
from indexer.jobs.filesystems import filesystem, translated_errors
from indexer.jobs.source import require_allowed
from indexer.jobs.uris import local_path, scheme_of
from indexer.settings import Settings

TIMEOUT_S = 30.0
"""Longest wait for a connection, for an answer, and for each further piece of it."""

MAX_REDIRECTS = 5

FETCH_PAUSES_S = (0.5, 2.0, 8.0)
"""Waits between tries to reach a file elsewhere."""

_BLOCK_BYTES = 1 << 20
_READ_AHEAD_BYTES = 4 << 20
_PREFIX = "voxdex-fetched-"
_LEFTOVER_S = 24 * 3600.0


def _nothing() -> None:
    pass


@contextmanager
def fetched(uri: str, settings: Settings, *, progressed: Callable[[], None] = _nothing) -> Iterator[Path]:
    """Give the local file that a URI names; what is elsewhere is fetched, and gone when the block ends.

    A local path is given as it is, whether anything is there or not: whoever opens it says so best. `progressed` is
    called after each piece that arrived.

    Raises
    ------
    AccessDenied
        If jobs may not read it, nor any place that a server redirects to, or if a service refuses.
    InvalidRequest
        If it is no path or URL, or voxdex runs offline.
    NotFound
        If it is elsewhere and not there.
    AudioTooLarge
        If it has more bytes than `AudioSettings.max_bytes`; no more than that is ever fetched.
    Unavailable
        If network, service or disk fail; the same may work later.
    """
    # Only trusted jobs get this far where no sources are listed: planning asked before.
    normal = require_allowed(uri, settings.jobs, trusted=True)
    path = local_path(normal)
    if path is not None:
        yield path
        return
    if settings.offline:
        raise InvalidRequest(f"{uri}: voxdex runs offline; unset VOXDEX_OFFLINE, or ingest a local copy")
    folder = _temporary_folder(uri)
    try:
        target = folder / _file_name(normal)
        blocks = _web_blocks(normal, settings) if scheme_of(normal) in ("https", "http") else _object_blocks(normal)
        with closing(blocks):
            _save(blocks, target, uri, settings.audio.max_bytes, progressed)
        yield target
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def opened_patiently(
    open_file: Callable[[], AbstractContextManager[Path]],
    waits: Callable[[float], bool],
    pauses_s: Sequence[float] = FETCH_PAUSES_S,
) -> Iterator[Path]:
    """Bring a file here; where it is elsewhere and out of reach for a moment, try again a few times.

    Parameters
    ----------
    waits
        Waits for so many seconds; returns True where nobody wants the file any more.
    """
    with ExitStack() as stack:
        for pause_s in (*pauses_s, None):
            try:
                path = stack.enter_context(open_file())
                break
            except Unavailable:
                if pause_s is None or waits(pause_s):
                    raise
        yield path


def _save(
    blocks: Iterator[bytes | int], target: Path, uri: str, max_bytes: int, progressed: Callable[[], None]
) -> None:
    """Write what arrives, and stop where it is too much; a number among the blocks is the size that was announced."""
    done = 0
    try:
        with target.open("wb") as file:
            for block in blocks:
                size = block if isinstance(block, int) else done + len(block)
                if size > max_bytes:
                    raise AudioTooLarge(
                        f"{uri}: {size} bytes or more, the limit is {max_bytes}; split it, or raise "
                        "VOXDEX_AUDIO__MAX_BYTES"
                    )
                if isinstance(block, bytes):
                    file.write(block)
                    done += len(block)
                progressed()
    except OSError as error:  # Of the disk, and maybe only when the file is closed: what the network does has a type.
        raise _not_kept(uri, error) from error


def _temporary_folder(uri: str) -> Path:
    try:
        _clear_leftovers()
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise _not_kept(uri, error) from error


def _not_kept(uri: str, error: OSError) -> Unavailable:
    return Unavailable(f"{uri}: no room to keep it ({error.strerror or error}); look after TMPDIR, then try again")


def _object_blocks(uri: str) -> Generator[bytes | int, None, None]:
    scheme, _, name = uri.partition("://")
    with (
        translated_errors(uri),
        filesystem(scheme).open(name, "rb", block_size=_READ_AHEAD_BYTES, cache_type="readahead") as stream,
    ):
        yield int(stream.size)
        while block := stream.read(_BLOCK_BYTES):
            yield block


def _web_blocks(uri: str, settings: Settings) -> Generator[bytes | int, None, None]:
    """Read a web address; the library follows no redirect, because each one has to be allowed first."""
    with httpx.Client(verify=_tls(), timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as client:
        address = uri
        for _ in range(MAX_REDIRECTS + 1):
            with _answer(client, address, uri) as answer:
                if answer.has_redirect_location:
                    address = _redirected(address, str(answer.headers["Location"]), settings)
                    continue
                _require_success(answer, uri)
                yield from _body(answer, uri)
                return
        raise Unavailable(f"{uri}: more than {MAX_REDIRECTS} redirects")


@contextmanager
def _answer(client: httpx.Client, address: str, uri: str) -> Iterator[httpx.Response]:
    try:
        with client.stream("GET", address) as answer:
            yield answer
    except httpx.InvalidURL as error:
        raise InvalidRequest(f"{uri}: no URL ({one_line(error)})") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"{uri}: out of reach ({type(error).__name__}: {one_line(error)}); try again") from error


def _redirected(address: str, location: str, settings: Settings) -> str:
    try:
        joined = urljoin(address, location)
    except ValueError as error:
        raise InvalidRequest(f"{address}: redirects to what is no URL ({one_line(error)})") from error
    target = require_allowed(joined, settings.jobs, trusted=False)
    if scheme_of(target) != "https" and scheme_of(address) != scheme_of(target):
        raise AccessDenied(f"{address}: redirects to {target}, which is not encrypted")
    return target


def _require_success(answer: httpx.Response, uri: str) -> None:
    status = answer.status_code
    if answer.is_success:
        return
    if status in (404, 410):
        raise NotFound(f"{uri}: the server answered {status}; it may have been moved since it was listed")
    if status in (401, 403):
        raise AccessDenied(f"{uri}: the server answered {status}; use a URL that needs no sign-in")
    if status in (408, 425, 429) or status >= 500:
        raise Unavailable(f"{uri}: the server answered {status}; try again")
    raise InvalidRequest(f"{uri}: the server answered {status}")


def _body(answer: httpx.Response, uri: str) -> Iterator[bytes | int]:
    announced = answer.headers.get("Content-Length", "")
    if announced.isdecimal():
        yield int(announced)
    began, done = time.monotonic(), 0
    for block in answer.iter_raw(_BLOCK_BYTES):
        done += len(block)
        elapsed_s = time.monotonic() - began
        if elapsed_s > TIMEOUT_S and done < MIN_BYTES_PER_S * elapsed_s:
            raise Unavailable(f"{uri}: the server sends less than {MIN_BYTES_PER_S} bytes/s; try again")
        yield block


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _file_name(uri: str) -> str:
    """Name the local copy like the original, as far as that is safe: messages show it."""
    name = PurePosixPath(unquote(uri.partition("?")[0])).name
    return re.sub(r"[^\w.-]", "_", name)[-100:].lstrip(".") or "file"


@cache
def _clear_leftovers() -> None:
    """Remove, once in each process, what killed workers fetched long ago."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > _LEFTOVER_S:
                shutil.rmtree(folder)
