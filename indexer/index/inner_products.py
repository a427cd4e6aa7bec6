"""Scores of single rows, computed by FAISS where they lie."""

from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.index.cores import core_count, in_parallel
from indexer.index.scans import Positions
from indexer.index.snapshot_format import Rows
from indexer.types import Vectors

# The types that faiss ships describe its C++ constructors, not the ones its Python layer puts in their place.
_faiss: Any = faiss

_PAIRS_A_TASK = 1 << 15
"""Rows scored by one task: some milliseconds."""


def inner_products(probes: Vectors, parts: list[tuple[int, Rows]], positions: Positions) -> NDArray[np.float32]:
    """Score rows where they lie, without copying them, on all cores.

    Parameters
    ----------
    probes : (Q, D) float32 array
    parts : list of (first position, (m, D) float32 rows)
        As `RowTable.parts` lists them.
    positions : (Q, F) int64 array
        Rows for each probe; -1 where there is none.

    Returns
    -------
    scores : (Q, F) float32 array
        Inner products; -inf where there is no row.
    """
    count, width = positions.shape
    scores = np.full(positions.shape, -np.inf, dtype=np.float32)
    filled = [(first, rows) for first, rows in parts if len(rows)]
    high = max(1, min(_PAIRS_A_TASK // width, -(-count // core_count())))
    wide = max(1, -(-width // core_count())) if count == 1 else width

    def work(task: tuple[slice, slice]) -> None:
        some, x = np.ascontiguousarray(positions[task]), np.ascontiguousarray(probes[task[0]])
        for first, rows in filled:
            inside = (some >= first) & (some < first + len(rows))
            ids = np.where(inside, some - first, -1) if len(filled) > 1 else some
            found = np.empty(ids.shape, dtype=np.float32)
            _faiss.fvec_inner_products_by_idx(
                *(_faiss.swig_ptr(array) for array in (found, x, rows, ids)), rows.shape[1], *ids.shape
            )
            np.copyto(scores[task], found, where=inside)

    tasks = [
        (slice(row, row + high), slice(column, column + wide))
        for row in range(0, count, high)
        for column in range(0, width, wide)
    ]
    in_parallel(work, tasks, here=count == 1)
    return scores
