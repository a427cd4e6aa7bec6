"""Arrays that grow at their end, in memory or in a file that nobody else can see and that no crash leaves behind."""

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
        """Add (m, D) rows at the end, rounded to the precision that is kept.

        Raises
        ------
        Unavailable
            If the disk is full.
        """
        kept = np.ascontiguousarray(rows, dtype=self._dtype)
        end = self.count + len(kept)
        if self._file is None and end * self._dim * self._dtype.itemsize > IN_MEMORY_BYTES:
            self._move_to_file()
        if self._file is not None:
            self._write(kept, end)
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

    def _move_to_file(self) -> None:
        before, self.count = self.filled, 0
        try:
            self._file = tempfile.TemporaryFile(prefix="voxdex-", dir=self._folder)  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise Unavailable(f"cannot keep vectors in {where}: {error.strerror}; free some space") from error
        finally:
            self.count = len(before)
        self._rows = np.empty((0, self._dim), dtype=self._dtype)
        self.count = 0
        self._write(before, len(before))
        self.count = len(before)

    def _write(self, rows: Rows, end: int) -> None:
        """Write rows through the file: where the disk is full that is an error, and through the map it is a signal."""
        assert self._file is not None
        row_bytes = self._dim * self._dtype.itemsize
        try:
            if end > len(self._rows):
                room = max(2 * len(self._rows), end)
                self._file.truncate(room * row_bytes)  # sparse: it takes space as it is filled
                self._rows = np.memmap(self._file, dtype=self._dtype, mode="r", shape=(room, self._dim)).view(
                    np.ndarray
                )
            self._file.seek(self.count * row_bytes)
            self._file.write(rows.data)
            self._file.flush()
        except OSError as error:
            where = self._folder or tempfile.gettempdir()
            raise Unavailable(f"cannot keep {end} vectors in {where}: {error.strerror}; free some space") from error
