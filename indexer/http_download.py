"""One file over HTTP into a `.part` file: decided quickly, resumed where it stopped, never half believed."""

import http.client
import ipaddress
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from indexer.file_integrity import write_json_atomically
from indexer.sources import NotWritableError, Progress, SourceError

MAX_ATTEMPTS = 5
"""Connections to one server for one file; each after the first goes on where the last one stopped."""

MIN_BYTES_PER_S = 10_000
"""A server that sends less, measured over one time-out, counts as stalled."""

_BLOCK_BYTES = 1 << 18


@dataclass(frozen=True)
class _PartState:
    """What a `.part` file is a part of, so that it is never continued with bytes of another file."""

    url: str
    etag: str | None
    last_modified: str | None

    @property
    def validator(self) -> str | None:
        """What an If-Range header can carry: a strong ETag, else the date."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


def state_path(part: Path) -> Path:
    """Where it is noted what `part` is a part of."""
    return part.with_name(part.name + ".json")


def discard_part(part: Path) -> None:
    """Forget what was downloaded so far."""
    part.unlink(missing_ok=True)
    state_path(part).unlink(missing_ok=True)


def refusal_of(url: str, *, redirected_from: str | None = None) -> str | None:
    """Why an address may not be used, or None: HTTPS may, and plain HTTP on the loopback unless HTTPS came first."""
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return None
    if parts.scheme != "http" or not parts.hostname:
        return f"{parts.scheme or 'no'} is not a scheme that files are taken from, only https"
    if redirected_from is not None and urlsplit(redirected_from).scheme == "https":
        return f"the server redirects from https to unencrypted http://{parts.hostname}"
    if not is_loopback(parts.hostname):
        return f"http://{parts.hostname} is unencrypted; only https is used"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself, by its spelling."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects (the range headers travel along), and only to addresses that are allowed."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Refuse a redirect that would leave HTTPS."""
        if reason := refusal_of(newurl, redirected_from=req.full_url):
            fp.close()
            raise SourceError(reason)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download_to_part(
    url: str,
    part: Path,
    *,
    timeout_s: float,
    hash_is_known: bool,
    size_bytes: int | None = None,
    progress: Progress | None = None,
    label: str = "",
) -> bool:
    """Bring the whole of `url` into `part`, going on with what an earlier attempt or process left there.

    Parameters
    ----------
    url : str
        HTTPS address. Proxies of the environment (`https_proxy`, `no_proxy`) are used.
    part : Path
        File in an existing folder; stays there when the transfer fails, for the next attempt.
    timeout_s : float
        Longest wait for the first byte, name look-up and redirects included, and for each further one.
    hash_is_known : bool
        Whether the caller checks the result. If not, bytes are only appended when the server names a validator
        (ETag or date) that says that the file is still the same.
    size_bytes : int, optional
        Expected size; a server that offers another one is refused before its bytes are taken.

    Returns
    -------
    bool
        Whether bytes of an earlier attempt were used.

    Raises
    ------
    SourceError
        With the reason, in words a user can act on.
    NotWritableError
        If the disk is full or the folder is read-only.
    """
    if reason := refusal_of(url):
        raise SourceError(reason)
    transfer = _Transfer(url, part, timeout_s, hash_is_known, size_bytes, progress, label)
    resumed = False
    for attempt in range(1, MAX_ATTEMPTS + 1):
        before = _size(part)
        try:
            return transfer.run_once() or resumed
        except _StartAnewError as change:
            discard_part(part)
            reason, go_on = str(change), True
        except _CutOffError as cut:
            gained = _size(part) > before
            resumed = resumed or before > 0
            reason, go_on = f"{cut} after {_size(part)} bytes (kept; the next try goes on there)", gained
        except _OverlongError:
            discard_part(part)
            raise
        if not go_on or attempt == MAX_ATTEMPTS:
            raise SourceError(reason)
    raise AssertionError("the loop returns or raises")


class _CutOffError(Exception):
    """The connection ended early; what arrived is in the part file."""


class _StartAnewError(Exception):
    """The server cannot continue what is here."""


class _OverlongError(SourceError):
    """The server sends more than the file has."""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _load_state(part: Path) -> _PartState | None:
    try:
        return _PartState(**json.loads(state_path(part).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


@dataclass(frozen=True)
class _Transfer:
    """The arguments of `download_to_part`, and one request with them."""

    url: str
    part: Path
    timeout_s: float
    hash_is_known: bool
    size_bytes: int | None
    progress: Progress | None
    label: str

    def run_once(self) -> bool:
        """Ask once and take the body to its end; returns whether old bytes were used."""
        state, offset = _load_state(self.part), _size(self.part)
        if state is None or state.url != self.url or (state.validator is None and not self.hash_is_known):
            offset = 0
        headers = {"User-Agent": "voxdex", "Accept-Encoding": "identity"}
        if offset and state is not None:
            headers["Range"] = f"bytes={offset}-"
            if state.validator:
                headers["If-Range"] = state.validator
        try:
            response, first = _open_within(urllib.request.Request(self.url, headers=headers), self.timeout_s)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 416:
                    raise SourceError(f"the server answered {error.code} {error.reason}".rstrip()) from error
                if _total_size(error.headers, 206, 0) == offset:
                    return True  # everything was here already; the earlier process died before it could say so
                raise _StartAnewError("the file on the server is shorter than what was downloaded") from error
        with response:
            return self._take(response, first, offset)

    def _take(self, response: Any, first: bytes, offset: int) -> bool:
        total = _total_size(response.headers, response.status, offset)
        if response.status != 206:
            offset = 0
        elif _range_start(response.headers) != offset:
            raise _StartAnewError(f"the server sent another range than asked for ({response.headers['Content-Range']})")
        if self.size_bytes is not None and total is not None and total != self.size_bytes:
            raise SourceError(f"the server offers {total} bytes where {self.size_bytes} are expected")
        state = _PartState(self.url, response.headers["ETag"], response.headers["Last-Modified"])
        try:
            write_json_atomically(state_path(self.part), asdict(state))
            with self.part.open("r+b" if offset else "wb") as file:
                file.seek(offset)
                file.truncate()
                self._copy_body(response, first, file, offset, total if total is not None else self.size_bytes)
        except OSError as error:
            raise NotWritableError(f"cannot write {self.part}: {error.strerror or error}") from error
        return offset > 0

    def _copy_body(self, response: Any, first: bytes, file: IO[bytes], done: int, total: int | None) -> None:
        """Append the body to `file` until it ends; `done` bytes are there already."""
        window_start, window_bytes = time.monotonic(), 0
        block = first
        while block:
            file.write(block)
            done += len(block)
            if total is not None and done > total:
                raise _OverlongError(f"the server sends more than the {total} bytes expected")
            if self.progress is not None:
                self.progress(done, total, self.label)
            window_bytes += len(block)
            elapsed = time.monotonic() - window_start
            if elapsed > self.timeout_s:
                if window_bytes < MIN_BYTES_PER_S * elapsed:
                    raise _CutOffError(f"the server sends less than {MIN_BYTES_PER_S} bytes/s and was given up")
                window_start, window_bytes = time.monotonic(), 0
            block = _read_block(response, self.timeout_s)
        if total is not None and done < total:
            raise _CutOffError("the connection was closed early")


def _open_within(request: urllib.request.Request, timeout_s: float) -> tuple[Any, bytes]:
    """Open an address and read its first bytes, or give up after `timeout_s` in all.

    A thread, since no time-out of a socket covers the name look-up, nor a server that answers byte by byte.
    """
    results: queue.SimpleQueue[tuple[Any, bytes] | Exception] = queue.SimpleQueue()
    abandoned = threading.Event()

    def work() -> None:
        try:
            response = urllib.request.build_opener(_CarefulRedirects()).open(request, timeout=timeout_s)
            try:
                results.put((response, response.read1(_BLOCK_BYTES)))
            except Exception:
                response.close()
                raise
        except Exception as error:  # whatever it is, it belongs to the thread that waits
            results.put(error)
        if abandoned.is_set():
            _close(results)

    threading.Thread(target=work, name="voxdex-download", daemon=True).start()
    try:
        result = results.get(timeout=timeout_s)
    except queue.Empty:
        abandoned.set()
        _close(results)  # it may have come in between
        raise SourceError(f"no answer within {timeout_s:g} s") from None
    if isinstance(result, tuple):
        return result
    if isinstance(result, SourceError | urllib.error.HTTPError):
        raise result
    reason = getattr(result, "reason", None) or result
    if isinstance(reason, TimeoutError):
        raise SourceError(f"no answer within {timeout_s:g} s") from result
    if isinstance(result, OSError | http.client.HTTPException | ValueError):
        raise SourceError(f"not reachable: {reason or type(result).__name__}") from result
    raise result


def _close(results: "queue.SimpleQueue[tuple[Any, bytes] | Exception]") -> None:
    """Close the connection whose answer nobody waits for any more."""
    with suppress(queue.Empty):
        late = results.get_nowait()
        if isinstance(late, tuple):
            late[0].close()
        elif isinstance(late, urllib.error.HTTPError):
            late.close()


def _read_block(response: Any, timeout_s: float) -> bytes:
    try:
        block: bytes = response.read1(_BLOCK_BYTES)
    except TimeoutError as error:
        raise _CutOffError(f"the server fell silent for {timeout_s:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutOffError(f"the connection broke ({type(error).__name__})") from error
    return block


def _range_start(headers: Message) -> int | None:
    unit, _, rest = (headers["Content-Range"] or "").partition(" ")
    start = rest.partition("-")[0]
    return int(start) if unit == "bytes" and start.isdecimal() else None


def _total_size(headers: Message, status: int, offset: int) -> int | None:
    """Size of the whole file in bytes, or None where the server does not tell."""
    if status == 206:
        total = (headers["Content-Range"] or "").rpartition("/")[2]
        if total.isdecimal():
            return int(total)
    length = headers["Content-Length"] or ""
    if not length.isdecimal():
        return None
    return int(length) + (offset if status == 206 else 0)
