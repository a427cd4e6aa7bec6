"""Opens a path, bytes or a stream as one seekable file, and never blocks or overruns its size while doing so."""

import errno
import io
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from indexer.errors import AudioTooLarge, CorruptAudio, InvalidAudio, NotFound, Unavailable, UnsupportedFormat

AudioSource = Path | bytes | BinaryIO
"""What can be decoded: a file, its bytes, or an open binary stream (read from where it stands to its end)."""

SeekableFile = io.FileIO | io.BytesIO
"""Without a buffer of its own: libsndfile reads the same descriptor, and moves its position, behind Python's back."""

_COPY_BYTES = 1 << 20
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
_TRANSIENT = {errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN}


class _Memory(io.BytesIO):
    """Bytes that a damaged header cannot seek out of: libsndfile's callbacks have nowhere to raise to."""

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


@dataclass
class OpenedSource:
    """A seekable binary file at hand, with the name that messages use.

    The file has no `name` attribute that a decoder could take for its format: content decides, not the extension.
    """

    file: SeekableFile
    size: int
    name: str

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; a spooled copy disappears with it."""
        self.file.close()

    def head(self, count: int) -> bytes:
        """Read the first bytes and leave the file at its start."""
        self.file.seek(0)
        found = self.file.read(count)
        self.file.seek(0)
        return found


def open_source(source: AudioSource, *, max_bytes: int, name: str | None = None) -> OpenedSource:
    """Open a source of audio for reading.

    Streams are copied to an unnamed temporary file, because decoders seek and swallow what a stream raises.

    Raises
    ------
    NotFound
        If the path does not exist.
    InvalidAudio
        If it is a directory, a pipe or a device, may not be read, or is a loop of links; `CorruptAudio` if it is empty;
        `AudioTooLarge` if it holds more than `max_bytes`.
    Unavailable
        If reading failed for a reason that may pass.
    """
    if isinstance(source, Path):
        opened = _open_path(source, printable(name if name is not None else os.fspath(source)))
    elif isinstance(source, bytes | bytearray | memoryview):
        opened = OpenedSource(_Memory(source), len(source), printable(name or "<bytes>"))
    else:
        opened = _spool(source, max_bytes, printable(name or "<stream>"))
    if opened.size > max_bytes:
        opened.close()
        raise AudioTooLarge(
            f"{opened.name}: {opened.size} bytes is over the limit of {max_bytes}; raise VOXDEX_AUDIO__MAX_BYTES"
        )
    if opened.size == 0:
        opened.close()
        raise CorruptAudio(f"{opened.name}: the file is empty (0 bytes); record or copy it again")
    return opened


def printable(name: str) -> str:
    """Escape what would break a one-line message or a UTF-8 terminal (line feeds, undecodable bytes)."""
    clean = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in clean)


def _open_path(path: Path, name: str) -> OpenedSource:
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to returns at once instead of waiting for ever.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        raise _explain(error, name) from error
    except ValueError as error:
        raise NotFound(f"{name}: no file can have this name ({error})") from error
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise UnsupportedFormat(f"{name}: is a directory, not a recording; name the files in it")
        if not stat.S_ISREG(found.st_mode):
            raise UnsupportedFormat(f"{name}: is a pipe or a device, not a file; save the recording to a file first")
        return OpenedSource(io.FileIO(handle, "rb"), found.st_size, name)
    except BaseException:
        os.close(handle)
        raise


def _explain(error: OSError, name: str) -> NotFound | InvalidAudio | Unavailable:
    if error.errno in _MISSING:
        return NotFound(f"{name}: no such file")
    if error.errno == errno.ELOOP:
        return InvalidAudio(f"{name}: the symbolic links lead in a circle; name the file itself")
    if error.errno in (errno.EACCES, errno.EPERM):
        return InvalidAudio(f"{name}: permission denied; make the file readable for this user")
    if error.errno in _TRANSIENT:
        return Unavailable(f"{name}: cannot be read now ({error.strerror}); try again")
    return InvalidAudio(f"{name}: cannot be opened ({error.strerror}); check the path")


def _spool(stream: BinaryIO, max_bytes: int, name: str) -> OpenedSource:
    # Outlives this function: the caller closes it.
    copy = tempfile.TemporaryFile(buffering=0, prefix="voxdex-")  # noqa: SIM115
    size = 0
    try:
        while True:
            block = stream.read(_COPY_BYTES)
            if not block:
                break
            if not isinstance(block, bytes | bytearray | memoryview):
                raise InvalidAudio(f"{name}: the stream gives text; open it in binary mode")
            size += len(block)
            if size > max_bytes:
                raise AudioTooLarge(f"{name}: over the limit of {max_bytes} bytes; raise VOXDEX_AUDIO__MAX_BYTES")
            rest = memoryview(block)
            while rest:  # a raw file may take less than it is given
                rest = rest[copy.write(rest) :]
    except OSError as error:
        copy.close()
        raise Unavailable(f"{name}: reading the stream failed after {size} bytes ({error}); try again") from error
    except ValueError as error:
        copy.close()
        raise InvalidAudio(f"{name}: the stream cannot be read ({error}); give an open one") from error
    except BaseException:
        copy.close()
        raise
    copy.seek(0)
    return OpenedSource(copy, size, name)
