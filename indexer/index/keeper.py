"""Which process writes the files of an index, where several search it."""

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from indexer.errors import Unavailable
from indexer.file_integrity import make_private_dir

KEEPER = ".keeper"
"""Locked by the process that writes the other files of its folder."""


class Keeper:
    """A candidate for writing the files of one folder; the one who asks first is elected, until it ends or resigns.

    The system drops the lock with its holder: when a keeper is killed, the next one who asks takes its place.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / KEEPER
        self._guard = threading.Lock()
        self._descriptor: int | None = None

    def elected(self) -> bool:
        """Tell whether this one writes the files, and keep the office if it is free.

        Raises
        ------
        Unavailable
            If the folder cannot be made or written, or its file system cannot lock.
        """
        with self._guard:
            if self._descriptor is not None:
                if self._is_at_its_place(self._descriptor):
                    return True
                self._let_go()  # The folder was deleted, and may have been made anew by another.
            try:
                make_private_dir(self._path.parent)
                descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise Unavailable(
                    f"cannot write the index in {self._path.parent}: {error.strerror}; free some space"
                ) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            except OSError as error:
                # Not another keeper: then nobody would be one, and no file would ever be written.
                os.close(descriptor)
                raise Unavailable(
                    f"cannot lock {self._path}: {error.strerror}; keep the home folder on a disk that can lock files"
                ) from error
            if not self._is_at_its_place(descriptor):
                os.close(descriptor)
                return False
            self._descriptor = descriptor
            return True

    def resign(self) -> None:
        """Leave the office to whoever asks next."""
        with self._guard:
            self._let_go()

    def __del__(self) -> None:
        self._let_go()  # One that was never used, because what it was made for failed, holds up nobody.

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_at_its_place(self, descriptor: int) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        return False
