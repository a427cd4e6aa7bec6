"""A scan that compares every vector with every probe, by FAISS on the CPU."""

from itertools import accumulate
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.index.rows import RowTable
from indexer.index.scans import ROUNDING, Positions, Proposals, Subset
from indexer.index.snapshot_format import BLOCK_ROWS
from indexer.types import Vectors

# The types that faiss ships describe its C++ constructors, not the ones its Python layer puts in their place.
_faiss: Any = faiss


class FlatScan:
    """Every vector compared with every probe, where it lies: nothing is copied."""

    kind = "flat"
    margin = ROUNDING
    candidates = 0
    probes_a_core = 0
    memory_bytes = 0

    def __init__(self, table: RowTable) -> None:
        self._table = table

    @property
    def details(self) -> dict[str, str | int | float]:
        """Nothing: it misses nothing."""
        return {}

    @property
    def count(self) -> int:
        """As many rows as the table has positions."""
        return self._table.total

    def prepare(self, vectors: Vectors) -> NDArray[Any]:
        """Keep nothing."""
        return vectors

    def append(self, prepared: NDArray[Any]) -> None:
        """Do nothing: the rows are read from the table."""

    def remove(self, positions: Positions) -> None:
        """Do nothing: the index passes over rows that went."""

    def subset(self, positions: Positions) -> "MaskSubset":
        """Prepare a filter; see `Scan.subset`."""
        return MaskSubset(positions)

    def search(self, probes: Vectors, fetch: int, subset: Subset | None = None) -> Proposals:
        """Propose the best rows, exact but for rounding; see `Scan.search`."""
        assert subset is None or isinstance(subset, MaskSubset)
        mask = None if subset is None else subset.mask
        scores: list[NDArray[np.float32]] = []
        positions: list[Positions] = []
        sizes: list[int] = []
        for first, rows in self._table.parts():
            step = len(rows) if rows.dtype == np.float32 else BLOCK_ROWS  # half precision is widened block by block
            for start in range(0, len(rows), max(step, 1)):
                some = rows[start : start + step]
                kept = None if mask is None else mask[first + start : first + start + len(some)]
                found, places = _knn(probes, some.astype(np.float32, copy=False), fetch, kept)
                scores.append(found)
                positions.append(np.where(places < 0, places, places + (first + start)))
                sizes.append(len(some) if kept is None else int(np.count_nonzero(kept)))
        return _merged(scores, positions, sizes, fetch)

    def close(self) -> None:
        """Do nothing: it holds nothing."""


class MaskSubset:
    """Which rows a scan of all may propose."""

    def __init__(self, positions: Positions) -> None:
        self.mask: NDArray[np.bool_] = np.empty(0, dtype=bool)
        """(m,) whether the row at each position may be found; none behind the last may."""
        self.append(positions)

    @property
    def memory_bytes(self) -> int:
        """What keeping it costs."""
        return int(self.mask.nbytes)

    def holds(self, positions: Positions) -> NDArray[np.bool_]:
        """Tell which positions may be found; -1 may not."""
        inside: NDArray[np.bool_] = (positions >= 0) & (positions < len(self.mask))
        inside[inside] = self.mask[positions[inside]]
        return inside

    def append(self, positions: Positions) -> None:
        """Let more rows be found; see `Subset.append`."""
        if len(positions):
            mask = np.zeros(int(positions[-1]) + 1, dtype=bool)
            mask[: len(self.mask)] = self.mask
            mask[positions] = True
            self.mask = mask


def _knn(
    probes: Vectors, rows: Vectors, fetch: int, kept: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], Positions]:
    """Exact nearest (Q, F) of (n, D) rows, by falling score; -1 where fewer are kept."""
    fetch = min(fetch, len(rows))
    scores = np.full((len(probes), fetch), -np.inf, dtype=np.float32)
    places = np.full((len(probes), fetch), -1, dtype=np.int64)
    selector = None
    if kept is not None:
        bits = np.packbits(kept, bitorder="little")
        selector = _faiss.IDSelectorBitmap(bits)
    if fetch:
        _faiss.knn_inner_product(
            *(_faiss.swig_ptr(array) for array in (np.ascontiguousarray(probes), rows)),
            rows.shape[1],
            len(probes),
            len(rows),
            fetch,
            _faiss.swig_ptr(scores),
            _faiss.swig_ptr(places),
            selector,
        )
    return scores, places


def _merged(scores: list[NDArray[np.float32]], positions: list[Positions], sizes: list[int], fetch: int) -> Proposals:
    """Put the finds of several parts together, of which each had so many rows to propose."""
    floors = np.full(len(scores[0]), -np.inf, dtype=np.float32)
    for found, size in zip(scores, sizes, strict=True):
        if size > fetch:
            np.maximum(floors, found[:, -1], out=floors)
    ends = accumulate(found.shape[1] for found in scores)
    runs = (0, *ends)[: len(scores)]
    return Proposals(np.concatenate(scores, axis=1), np.concatenate(positions, axis=1), floors, runs)
