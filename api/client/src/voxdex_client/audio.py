"""Recordings on their way to the service: read in blocks while they are sent, never held in memory as a whole."""

import os
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

Audio = str | os.PathLike[str] | bytes | BinaryIO
"""A recording: a path, the bytes of a file, or an open binary file, which is sent from where it stands."""

BLOCK_BYTES = 256 * 1024

_UNSAFE = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
"""What would end a name inside a form's header, written as browsers write it (HTML, multipart/form-data encoding)."""


class Recording:
    """A recording that can be read once, or as often as a request is tried where it can be rewound.

    Attributes
    ----------
    name
        File name without its folders; None where there is none.
    size_bytes
        None where that cannot be told, as of a pipe.
    replayable
        Whether it can be read a second time.
    """

    def __init__(self, audio: Audio) -> None:
        self.replayable = True
        self.name: str | None
        self.size_bytes: int | None
        self._content: bytes | Path | BinaryIO
        if isinstance(audio, bytes):
            self._content, self.name, self.size_bytes = audio, None, len(audio)
        elif isinstance(audio, str | os.PathLike):
            path = Path(audio)
            self._content, self.name, self.size_bytes = path, _as_text(path.name), path.stat().st_size
        else:
            self._content = audio
            name = getattr(audio, "name", None)
            self.name = _as_text(Path(name).name) if isinstance(name, str) else None
            self.replayable = audio.seekable()
            self.size_bytes = None
            if self.replayable:
                self._start = audio.tell()
                self.size_bytes = audio.seek(0, os.SEEK_END) - self._start
                audio.seek(self._start)

    def blocks(self) -> Iterator[bytes]:
        """Read it from its beginning.

        Raises
        ------
        OSError
            If it became shorter since its size was taken: the service would wait for the rest.
        """
        if isinstance(self._content, bytes):
            yield self._content
            return
        if isinstance(self._content, Path):
            with self._content.open("rb") as file:
                yield from self._blocks_of(file)
            return
        if self.replayable:
            self._content.seek(self._start)
        yield from self._blocks_of(self._content)

    def _blocks_of(self, file: BinaryIO) -> Iterator[bytes]:
        left = self.size_bytes
        while left is None or left > 0:
            block = file.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left))
            if not block:
                if left:
                    raise OSError(f"{self.name or 'the recording'} became {left} bytes shorter while it was sent")
                return
            left = None if left is None else left - len(block)
            yield block


class Body:
    """The body of a request that carries recordings."""

    def __init__(self, content_type: str, pieces: Sequence[bytes | Recording]) -> None:
        self.content_type = content_type
        self._pieces = pieces

    @classmethod
    def raw(cls, recording: Recording) -> "Body":
        """Send one recording as it is."""
        return cls("application/octet-stream", [recording])

    @classmethod
    def form(cls, parts: dict[str, Recording]) -> "Body":
        """Send several recordings as the fields of a form."""
        boundary = uuid.uuid4().hex
        pieces: list[bytes | Recording] = []
        for field, recording in parts.items():
            name = (recording.name or field).translate(_UNSAFE)
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
            pieces += [f"{head}Content-Type: application/octet-stream\r\n\r\n".encode(), recording, b"\r\n"]
        pieces.append(f"--{boundary}--\r\n".encode())
        return cls(f"multipart/form-data; boundary={boundary}", pieces)

    @property
    def replayable(self) -> bool:
        """Whether it can be sent a second time."""
        return all(isinstance(piece, bytes) or piece.replayable for piece in self._pieces)

    @property
    def size_bytes(self) -> int | None:
        """Its length; None where that cannot be told."""
        total = 0
        for piece in self._pieces:
            size = len(piece) if isinstance(piece, bytes) else piece.size_bytes
            if size is None:
                return None
            total += size
        return total

    def blocks(self) -> Iterator[bytes]:
        """Read it from its beginning."""
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
            else:
                yield from piece.blocks()


def _as_text(name: str) -> str:
    """Write a file name that is no text (bytes of another encoding) with question marks."""
    return name.encode("utf-8", "replace").decode("utf-8")
