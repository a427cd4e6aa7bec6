"""A file that is read more than once must be the same file each time: its hash is the identity of what was heard."""

from pathlib import Path

from indexer.errors import InvalidAudio


class SteadyFile:
    """Remembers what a file was before it was read; one that a recorder or a copy still writes is found out.

    A file is known by place, size and modification time. One that is gone by the end was read to its end all the same.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._name = name
        self._before = self._state()

    def require_unchanged(self) -> None:
        """Refuse the file, with InvalidAudio, where it is not what it was: something else may have been heard."""
        now = self._state()
        if now is not None and now != self._before:
            raise InvalidAudio(
                f"{self._name}: changed while it was read; ingest it again once nobody writes to it any more"
            )

    def _state(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None  # Reading it says what is wrong.
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
