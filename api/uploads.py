"""Recordings in the bodies of requests: written to disk as they arrive, or in memory where short; none over a limit."""

import hashlib
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from anyio import fail_after, to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from api.body_limit import lift_body_limit
from indexer.archive import as_text
from indexer.audio.sources import AudioSource, printable
from indexer.errors import (
    AudioTooLarge,
    BodyTooSlow,
    CorruptAudio,
    InvalidRequest,
    Overloaded,
    Unavailable,
    UnsupportedFormat,
)
from indexer.media import MediaStore

_WRITE_BYTES = 1 << 20
"""Collected before it is hashed and written in a thread, so that the event loop waits for no disk; the most of a
recording that may stay in memory."""

_AROUND_PARTS = 64 * 1024
"""Allowed for boundaries and headers of a multipart body."""

_NAME_LIMIT = 200

IDLE_S = 30.0
"""Longest wait for the next piece of a body."""

SLOWEST_BYTES_PER_S = 1024
"""Below this on the whole, `IDLE_S` aside, a body is given up: it would hold a place that others wait for."""

_NO_ROOM_RETRY_S = 60.0

_RAW_TYPES = re.compile(r"audio/.+|video/.+|application/(octet-stream|ogg)", re.IGNORECASE)


_NOWHERE = Path()

_EXAMPLE = "RIFF....WAVEfmt ... (the bytes of the file, as they are)"


@dataclass
class Upload:
    """A recording that was received.

    Attributes
    ----------
    path
        Where it lies until the request ends, unless it stays in memory: nowhere then.
    name
        What the client called it, fit to be shown; None where it did not say.
    sha256
        Of its content, as hex; empty where it stays in memory, for nobody keeps it then.
    content
        All of it, where it stays in memory.
    """

    path: Path
    name: str | None = None
    size_bytes: int = 0
    sha256: str = ""
    content: bytes | None = field(default=None, repr=False)

    @property
    def source(self) -> AudioSource:
        """What a decoder reads."""
        return self.path if self.content is None else self.content

    @property
    def identity(self) -> str:
        """What makes two uploads the same request: content and name."""
        return f"{self.sha256} {self.name}"


def audio_body(*parts: str) -> dict[str, Any]:
    """Describe a body of audio in the API's document: multipart with these parts, or the bytes as they are."""
    fields = {part: {"type": "string", "format": "binary", "description": "A recording."} for part in parts}
    form = {"type": "object", "properties": fields, "required": list(parts), "additionalProperties": False}
    content: dict[str, Any] = {
        "multipart/form-data": {"schema": form, "example": dict.fromkeys(parts, _EXAMPLE)},
    }
    if len(parts) == 1:
        binary = {"schema": {"type": "string", "format": "binary"}, "example": _EXAMPLE}
        content |= {"application/octet-stream": binary, "audio/*": binary}
    return {"requestBody": {"required": True, "content": content}}


@asynccontextmanager
async def received(
    request: Request,
    media: MediaStore,
    *,
    max_bytes: int,
    min_free_bytes: int = 0,
    parts: Sequence[str] = ("file",),
    in_memory: bool = False,
) -> AsyncIterator[dict[str, Upload]]:
    """Receive the recordings of a request; their files are gone when the block ends, unless they were moved.

    Parameters
    ----------
    max_bytes
        Largest recording; `Content-Length` is believed first, then every byte is counted.
    min_free_bytes
        What stays free on the disk: other uploads, and often the record, are on it too.
    parts
        Names of the multipart fields, each needed once. A body that is no multipart is the recording itself, where
        there is one.
    in_memory
        Whether a recording of up to a megabyte stays in memory, for a request that keeps no file of it.

    Raises
    ------
    UnsupportedFormat
        If the body's type is no audio type.
    InvalidRequest
        If the multipart body is malformed, lacks a part or has others.
    CorruptAudio
        If a recording is empty.
    AudioTooLarge
        If a recording is larger than allowed.
    BodyTooSlow
        If nothing arrives for `IDLE_S`, or on the whole less than `SLOWEST_BYTES_PER_S`.
    Overloaded
        If less than `min_free_bytes` would stay free.
    Unavailable
        If the disk does not take it.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    content_type = kind.decode("latin-1")
    multipart = content_type == "multipart/form-data"
    if not multipart and (len(parts) > 1 or not _RAW_TYPES.fullmatch(content_type)):
        raise UnsupportedFormat(
            f"a body of type {printable(content_type[:80]) or '(none)'}: send multipart/form-data with "
            f"{' and '.join(parts)}" + (", or the recording itself as audio/*" if len(parts) == 1 else "")
        )
    most = max_bytes * len(parts) + (_AROUND_PARTS if multipart else 0)
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isascii() and length.isdigit() else 0
    if declared > most:
        raise _too_large(f"{declared} bytes are declared", max_bytes)
    lift_body_limit(request)
    room = _Room(media.root, min_free_bytes, declared)
    async with AsyncExitStack() as stack:
        if multipart:
            receiver = _Form(
                partial(_File, max_bytes, room, media, in_memory=in_memory), parts, options.get(b"boundary", b"")
            )
            stack.push_async_callback(receiver.discard)
            uploads = await receiver.receive(_counted(request, most, max_bytes))
        else:
            name = _shown(request.query_params.get("filename"))
            file = _File(max_bytes, room, media, name=name, in_memory=in_memory)
            stack.push_async_callback(file.discard)
            async for chunk in _counted(request, most, max_bytes):
                await file.add(chunk)
            uploads = {parts[0]: await file.finish()}
        yield uploads


async def _counted(request: Request, most: int, max_bytes: int) -> AsyncIterator[bytes]:
    total, waited_s = 0, 0.0
    stream = request.stream()
    while True:
        asked_at = time.monotonic()
        try:
            with fail_after(min(IDLE_S, IDLE_S + total / SLOWEST_BYTES_PER_S - waited_s)):
                chunk = await anext(stream, None)
        except TimeoutError as error:
            raise BodyTooSlow(
                f"{total} bytes of the body arrived in {waited_s + time.monotonic() - asked_at:.0f} s; send at least "
                f"{SLOWEST_BYTES_PER_S} bytes/s and pause for at most {IDLE_S:g} s"
            ) from error
        except ClientDisconnect as error:
            raise InvalidRequest(f"the body ended after {total} bytes; send it again") from error
        if chunk is None:
            return
        waited_s += time.monotonic() - asked_at
        total += len(chunk)
        if total > most:
            raise _too_large(f"{total} bytes have arrived", max_bytes)
        yield chunk


def _too_large(size: str, max_bytes: int) -> AudioTooLarge:
    return AudioTooLarge(
        f"{size}, and the recording of this request is over the limit of {max_bytes} bytes: split or compress it, or "
        "raise VOXDEX_API__MAX_UPLOAD_BYTES (kept recordings) or VOXDEX_API__MAX_PROBE_BYTES (questions)"
    )


def _shown(name: str | None) -> str | None:
    """Keep of a client's file name what can be shown and stored, and nothing of its folders."""
    if not name:
        return None
    last = re.split(r"[/\\]", printable(as_text(name)))[-1]
    return last[-_NAME_LIMIT:] or None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


@dataclass
class _Room:
    """What of the disk a request may fill."""

    folder: Path
    min_free_bytes: int
    announced: int
    """Bytes still to come, as far as they were announced."""

    def take(self, size: int) -> None:
        """Make sure that there is room for so many bytes and all that was announced, or raise Overloaded."""
        free = shutil.disk_usage(self.folder).free
        if free - max(size, self.announced) < self.min_free_bytes:
            raise Overloaded(
                f"the disk of uploads has {free} bytes free, and {self.min_free_bytes} stay free: try again later, or "
                "let the operator make room",
                retry_after_s=_NO_ROOM_RETRY_S,
            )
        self.announced = max(0, self.announced - size)


class _File:
    """One recording on its way to the disk, or into memory where it is short and nobody keeps it."""

    def __init__(self, max_bytes: int, room: _Room, media: MediaStore, *, name: str | None, in_memory: bool) -> None:
        # Most stay in memory: their folder is not even looked at.
        self._upload = Upload(_NOWHERE if in_memory else media.new_incoming(), name)
        self._max_bytes = max_bytes
        self._room = room
        self._media = media
        self._in_memory = in_memory
        self._digest = hashlib.sha256()
        self._held = bytearray()
        self._file: BinaryIO | None = None

    async def add(self, chunk: bytes) -> None:
        """Take some more of it."""
        self._upload.size_bytes += len(chunk)
        if self._upload.size_bytes > self._max_bytes:
            raise _too_large(f"{self._upload.size_bytes} bytes have arrived", self._max_bytes)
        self._held += chunk
        if len(self._held) >= _WRITE_BYTES:
            await self._flush()

    async def finish(self) -> Upload:
        """Write the rest."""
        if self._upload.size_bytes == 0:
            raise CorruptAudio(f"{self._upload.name or 'the recording'}: the file is empty (0 bytes)")
        if self._in_memory and self._file is None:
            self._upload.content = bytes(self._held)
            return self._upload
        await self._flush()
        if self._file is not None:
            self._file.close()
        self._upload.sha256 = self._digest.hexdigest()
        return self._upload

    async def discard(self) -> None:
        """Remove it, unless somebody moved it to where it is kept."""
        if self._file is not None:
            await to_thread.run_sync(self._discard)

    async def _flush(self) -> None:
        held, self._held = bytes(self._held), bytearray()
        await to_thread.run_sync(partial(self._write, held))

    def _write(self, block: bytes) -> None:
        try:
            self._room.take(len(block))
            if self._file is None:
                if self._upload.path == _NOWHERE:
                    self._upload.path = self._media.new_incoming()
                # Exclusive and private: nobody else on this machine may listen.
                self._file = open(self._upload.path, "xb", buffering=0, opener=_private)  # noqa: SIM115
            rest = memoryview(block)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise Unavailable(f"an upload cannot be written: {error.strerror}") from error
        self._digest.update(block)

    def _discard(self) -> None:
        if self._file is not None:
            self._file.close()
            self._upload.path.unlink(missing_ok=True)


@dataclass
class _Part:
    """Headers of a part of a multipart body, and the file that its content goes to."""

    headers: dict[str, bytes] = field(default_factory=dict)
    header_name: bytes = b""
    header_value: bytes = b""
    file: _File | None = None


class _Form:
    """Takes a multipart body apart while it arrives."""

    def __init__(self, new_file: Callable[..., _File], parts: Sequence[str], boundary: bytes) -> None:
        self._new_file = new_file
        self._parts = parts
        self._boundary = boundary
        self._files: dict[str, _File] = {}
        self._part = _Part()
        self._arrived: list[tuple[_File, bytes]] = []
        self._complete = False

    async def receive(self, chunks: AsyncIterator[bytes]) -> dict[str, Upload]:
        """Receive every part."""
        if not self._boundary:
            raise InvalidRequest("multipart/form-data without a boundary; let the HTTP library write Content-Type")
        try:
            parser = MultipartParser(
                self._boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_name,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._headers_finished,
                    "on_part_data": self._data,
                    "on_end": self._end,
                },
            )
            async for chunk in chunks:
                parser.write(chunk)
                arrived, self._arrived = self._arrived, []
                for file, data in arrived:
                    await file.add(data)
        except FormParserError as error:
            raise InvalidRequest(f"the multipart body is malformed: {printable(str(error))}") from error
        if not self._complete:
            raise InvalidRequest("the multipart body ends before its last boundary; send it again")
        missing = [part for part in self._parts if part not in self._files]
        if missing:
            raise InvalidRequest(f"the multipart body lacks the part {', '.join(missing)}")
        return {name: await file.finish() for name, file in self._files.items()}

    async def discard(self) -> None:
        """Remove what was received."""
        for file in self._files.values():
            await file.discard()

    def _begin(self) -> None:
        self._part = _Part()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]

    def _header_end(self) -> None:
        self._part.headers[self._part.header_name.decode("latin-1").lower()] = self._part.header_value
        self._part.header_name = self._part.header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._part.headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in self._parts:
            raise InvalidRequest(
                f"the multipart body has a part {printable(name[:80])!r}; send {' and '.join(self._parts)} only"
            )
        if name in self._files:
            raise InvalidRequest(f"the multipart body has the part {name} twice; send one recording")
        given = options[b"filename"].decode("utf-8", "replace") if b"filename" in options else None
        self._files[name] = self._part.file = self._new_file(name=_shown(given))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.file is not None:
            self._arrived.append((self._part.file, data[start:end]))

    def _end(self) -> None:
        self._complete = True
