"""Arrays that grow at their end, in memory or in a file that nobody else can see and that no crash leaves behind."""

import os
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from indexer.errors import Unavailable
from indexer.index.snapshot_format import ROW_DTYPES, Rows, RowType

IN_MEMORY_BYTES = 8 << 20
"""Rows that are kept in memory; more of them are mapped from a file, so that the system may page them out."""

_FIRST = 256
"""Rows that an array has room for at first."""


class GrowingArray:
    """Numbers that are appended to; what was lent of it before stays as it was."""

    def __init__(self, dtype: Any) -> None:
        self._numbers: NDArray[Any] = np.empty(0, dtype=dtype)
        self.count = 0

    @property
    def filled(self) -> NDArray[Any]:
        """(n,) view of what is there."""
        return self._numbers[: self.count]

    @property
    def memory_bytes(self) -> int:
        """Bytes that are filled; the room beyond them costs no memory before it is used."""
        return int(self.filled.nbytes)

    def append(self, numbers: NDArray[Any]) -> None:
        """Add (m,) numbers at the end."""
        end = self.count + len(numbers)
        if end > len(self._numbers):
            larger = np.empty(max(_FIRST, 2 * len(self._numbers), end), dtype=self._numbers.dtype)
            larger[: self.count] = self.filled
            self._numbers = larger
        self._numbers[self.count : end] = numbers
        self.count = end


class GrowingRows:
    """(n, D) rows that are appended to without moving those before them, once they are many.

    Parameters
    ----------
    folder : Path, optional
        Where the file of many rows lies, without a name; None: the system's folder for such files.
    """

    def __init__(self, dim: int, row_dtype: RowType, folder: Path | None) -> None:
        self._dim = dim
        self._dtype = np.dtype(ROW_DTYPES[row_dtype])
        self._folder = folder
        self._file: IO[bytes] | None = None
        self._rows: Rows = np.empty((0, dim), dtype=self._dtype)
        self.count = 0

    @property
    def filled(self) -> Rows:
        """(n, D) view of what is there."""
        return self._rows[: self.count]

    @property
    def memory_bytes(self) -> int:
        """Bytes in memory that are no map of a file."""
        return 0 if self._file is not None else int(self.filled.nbytes)

    @property
    def mapped_bytes(self) -> int:
        """Bytes that are mapped from the file."""
        return 0 if self._file is None else int(self.filled.nbytes)

    def append(self, rows: Rows) -> None:
        """Add (m, D) rows at the end, rounded to the precision that is kept; where that fails nothing has changed.

        Raises
        ------
        Unavailable
            If the disk is full.
        """
        kept = np.ascontiguousarray(rows, dtype=self._dtype)
        end = self.count + len(kept)
        if self._file is not None:
            self._rows = self._write(self._file, self._rows, self.count, kept)
        elif end * self._dim * self._dtype.itemsize > IN_MEMORY_BYTES:
            self._move_to_file(kept)
        else:
            if end > len(self._rows):
                larger = np.empty((max(_FIRST, 2 * len(self._rows), end), self._dim), dtype=self._dtype)
                larger[: self.count] = self.filled
                self._rows = larger
            self._rows[self.count : end] = kept
        self.count = end

    def close(self) -> None:
        """Give the file back once nothing that was lent of it is used any more."""
        if self._file is not None:
            self._file.close()

    def _move_to_file(self, more: Rows) -> None:
        """Keep the rows, and more of them, in a file from now on."""
        try:
            # Unbuffered: what did not reach the disk is nowhere, rather than written by the next call or by closing.
            file = tempfile.TemporaryFile(prefix="voxdex-", dir=self._folder, buffering=0)  # noqa: SIM115
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise Unavailable(f"cannot keep vectors in {where}: {error.strerror}; free some space") from error
        try:
            moved = self._write(file, self._rows[:0], 0, self.filled, room=self.count + len(more))
            moved = self._write(file, moved, self.count, more)
        except BaseException:
            file.close()
            raise
        self._file, self._rows = file, moved

    def _write(self, file: IO[bytes], mapped: Rows, start: int, rows: Rows, *, room: int = 0) -> Rows:
        """Write rows at a position of the file and return its map, which has room for them.

        They are written through the file: where the disk is full that is an error, and through the map it is a signal.
        """
        row_bytes = self._dim * self._dtype.itemsize
        end = start + len(rows)
        try:
            if max(end, room) > len(mapped):
                room = max(2 * len(mapped), end, room)
                file.truncate(room * row_bytes)  # sparse: it takes space as it is filled
                mapped = np.memmap(file, dtype=self._dtype, mode="r", shape=(room, self._dim)).view(np.ndarray)
            left = rows.reshape(-1).view(np.uint8).data
            while len(left):
                left = left[os.pwrite(file.fileno(), left, end * row_bytes - len(left)) :]
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise Unavailable(f"cannot keep {end} vectors in {where}: {error.strerror}; free some space") from error
        return mapped
