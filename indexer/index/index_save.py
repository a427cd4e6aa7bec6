"""Write what an index held at one moment, and let it search what was written instead of its own copy."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from indexer.index.base import FeedMark
from indexer.index.compressed_scan import CompressedScan
from indexer.index.rows import RowView
from indexer.index.scans import Scan
from indexer.index.snapshot_format import Block, Origin, RowType
from indexer.index.snapshots import SnapshotStore
from indexer.types import EncoderId

if TYPE_CHECKING:
    from indexer.index.faiss_index import FaissIndex


class IndexSave:
    """What an index held at one moment; see `Save` and `SnapshotSource`."""

    def __init__(
        self, index: "FaissIndex", store: SnapshotStore, view: RowView, scan: Scan, mark: FeedMark, origin: Origin
    ) -> None:
        self._index = index
        self._store = store
        self._view = view
        self._compressed = scan if isinstance(scan, CompressedScan) else None
        self._mark = mark
        self._origin: Origin = origin

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside."""
        return self._index.encoder_id

    @property
    def dim(self) -> int:
        """D of every vector."""
        return self._index.dim

    @property
    def count(self) -> int:
        """Vectors that are written."""
        return len(self._view.order)

    @property
    def row_dtype(self) -> RowType:
        """Precision of the rows."""
        return self._view.row_dtype

    @property
    def codebook(self) -> NDArray[np.float32] | None:
        """Centroids of the codes."""
        return None if self._compressed is None else self._compressed.quantizer.centroids

    @property
    def calibration(self) -> dict[str, Any] | None:
        """What was measured when the codes were trained."""
        return None if self._compressed is None else self._compressed.calibration.body()

    def blocks(self) -> Iterator[Block]:
        """Yield all rows by rising id, none under a digest that hides what became of it since it was added."""
        for positions, ids, crcs, rows in self._view.sound_blocks():
            codes = None if self._compressed is None else self._compressed.codes_at(positions)
            yield Block(ids, crcs, rows, codes)

    def write(self, *, keep_previous: bool = True) -> int:
        """Write it, and let the index search the new files; see `Save.write`."""
        mapped = self._store.save(self, self._mark, keep_previous=keep_previous, origin=self._origin)
        self._index.rebase(self._view, mapped, self._compressed)
        return mapped.manifest.generation
