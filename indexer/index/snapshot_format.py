"""What an index snapshot is made of: its sections, its manifest, and the arrays that are lent of it."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.errors import CorruptSnapshot
from indexer.index.base import FeedMark, Ids
from indexer.types import EncoderId
from indexer.vectors import Fingerprint

FORMAT_VERSION = 2

BLOCK_ROWS = 65_536
"""Rows of one digest: 48 MiB of 192 float32."""

RowType = Literal["float32", "float16"]
Origin = Literal["save", "rebuild"]
Crcs = NDArray[np.uint32]
Codes = NDArray[np.uint8]
Rows = NDArray[np.float32] | NDArray[np.float16]

ROW_DTYPES: dict[RowType, str] = {"float32": "<f4", "float16": "<f2"}


class Block(NamedTuple):
    """Some rows of an index, on their way into a snapshot."""

    ids: Ids
    """(n,) rising, above those of the block before."""
    crcs: Crcs
    """(n,) CRC-32 of each float32 row as it was added."""
    rows: Rows
    """(n, D) in the row type of the source."""
    codes: Codes | None
    """(n, C) compressed codes; None in every block where the index has none."""


class SnapshotSource(Protocol):
    """What a snapshot is made of: what an index held at one moment."""

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside."""
        ...

    @property
    def dim(self) -> int:
        """D of every vector."""
        ...

    @property
    def count(self) -> int:
        """Vectors that the blocks hold."""
        ...

    @property
    def row_dtype(self) -> RowType:
        """Precision of the rows."""
        ...

    @property
    def codebook(self) -> NDArray[np.float32] | None:
        """Whatever numbers the codes were made with, of any shape; None where there are no codes."""
        ...

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What was measured when the codes were trained, as JSON."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Yield all rows, a block at a time."""
        ...


@dataclass(frozen=True)
class Section:
    """One file of a snapshot, and what it must be."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    digests: tuple[str, ...]
    """SHA-256 of every `BLOCK_ROWS` rows."""

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def verify(self, numbers: NDArray[Any], folder: Path, stop: threading.Event | None = None) -> bool:
        """Compare what the file holds with the digests; return whether it was not stopped.

        Raises
        ------
        CorruptSnapshot
            If a block is not as it was written.
        """
        for start, digest in zip(range(0, self.shape[0], BLOCK_ROWS), self.digests, strict=True):
            if stop is not None and stop.is_set():
                return False
            if hashlib.sha256(numbers[start : start + BLOCK_ROWS].data).hexdigest() != digest:
                raise CorruptSnapshot(
                    f"{folder / self.file} does not have the SHA-256 it was written with: run `voxdex index rebuild`"
                )
        return True


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds, and what its files must be."""

    format_version: int
    generation: int
    encoder_id: EncoderId
    dim: int
    count: int
    row_dtype: RowType
    mark: FeedMark
    """The change of the record up to which it is complete."""
    origin: Origin
    """Whether it was written by an index in use, or made from the record alone."""
    fingerprint: Fingerprint
    calibration: dict[str, Any] | None
    sections: dict[str, Section]
    """By name: ids, crcs, rows, and codes and codebook where there are any."""


@dataclass(frozen=True, eq=False)
class MappedSnapshot:
    """A snapshot on disk, lent as arrays that cannot be written; the files may be pruned meanwhile."""

    path: Path
    """Its manifest."""
    manifest: Manifest
    ids: Ids
    """(n,) rising."""
    crcs: Crcs
    """(n,)."""
    rows: Rows
    """(n, D)."""
    codes: Codes | None
    """(n, C)."""
    codebook: NDArray[np.float32] | None
    damage: str | None = None
    """What is wrong with a newer one, where this is the one before it."""
    _verified: threading.Event = field(default_factory=threading.Event, repr=False)

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What was measured when the codes were trained."""
        return self.manifest.calibration

    @property
    def verified(self) -> bool:
        """Whether the rows are known to be as written; everything else is, always."""
        return self._verified.is_set()

    def verify_rest(self) -> None:
        """Compare everything but the rows with its digests.

        Raises
        ------
        CorruptSnapshot
            If something is not as it was written.
        """
        for name, section in self.manifest.sections.items():
            if name != "rows":
                section.verify(getattr(self, name), self.path.parent)

    def verify(self, stop: threading.Event | None = None) -> None:
        """Compare all rows with their digests, which takes a second for some GB; stops early when told to.

        Raises
        ------
        CorruptSnapshot
            If a row is not as it was written.
        """
        if self.manifest.sections["rows"].verify(self.rows, self.path.parent, stop):
            self._verified.set()
