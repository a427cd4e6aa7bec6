"""An exhaustive FAISS index in the process; the only module that imports faiss."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.errors import AlreadyExists, InvalidRequest, NotFound
from indexer.index.base import Hit, Ids, IdSet, IndexInfo
from indexer.index.locks import ReadWriteLock
from indexer.types import EMBEDDING_DIM, EmbeddingId, EncoderId, Vectors
from indexer.vectors import require_unit_rows

if sys.platform == "darwin":
    # torch and faiss each bring an OpenMP runtime. On Linux both are GNU's and live side by side; two copies of LLVM's
    # crash in a parallel region, so faiss keeps to one thread there.
    faiss.omp_set_num_threads(1)

# The types that faiss ships describe its C++ constructors, not the ones its Python layer puts in their place.
_faiss: Any = faiss

ROUNDING = 1e-5
"""More than FAISS's float32 inner product of 192 terms can differ from the exact one (about 1e-6 for unit vectors)."""

SPARE_CANDIDATES = 8
"""Candidates fetched beyond k, so that those which rounding or ties displaced are seldom fetched in a second pass."""

SPARSE_SHARE = 0.05
"""Below this share of allowed rows FAISS visits them one by one; above it scans all rows against a bitmap."""

_BLOCK_ROWS = 4096
"""Rows scored in float64 at a time: 6 MiB for vectors of 192 numbers, however many there are."""


def describe_faiss() -> str:
    """Say which FAISS runs here and what it was built for."""
    return f"faiss {faiss.__version__} ({str(_faiss.get_compile_options()).strip()}; {_faiss.get_num_gpus()} GPUs)"


class FaissFlatIndex:
    """Every vector compared with every probe; the right index for galleries up to some 100,000 vectors.

    FAISS chooses the candidates in float32; the scores returned, and their order, are computed again in float64 from
    the full vectors, so that neither depends on how many probes were searched together.
    """

    kind = "faiss-flat"

    def __init__(self, encoder_id: EncoderId, dim: int = EMBEDDING_DIM) -> None:
        self._encoder_id = encoder_id
        self._dim = dim
        self._flat: Any = faiss.IndexFlatIP(dim)
        # Position in FAISS -> embedding id. FAISS keeps the order of the rest when it removes, and so does this.
        self._ids: Ids = np.empty(0, dtype=np.int64)
        # Positions by rising id; None while positions already rise with the ids, as they do when rows arrive in order.
        self._by_id: NDArray[np.intp] | None = None
        self._lock = ReadWriteLock()

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside."""
        return self._encoder_id

    @property
    def dim(self) -> int:
        """D of every vector and probe."""
        return self._dim

    @property
    def count(self) -> int:
        """Vectors inside."""
        return len(self._ids)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors with their ids, all or none; see `VectorIndex.add`."""
        numbers = np.asarray(ids, dtype=np.int64)
        rows = require_unit_rows(vectors, self._dim)
        if numbers.shape != (len(rows),):
            raise InvalidRequest(f"{numbers.shape} ids for {len(rows)} vectors: give one id a vector")
        rising, times = np.unique(numbers, return_counts=True)
        if (times > 1).any():
            raise AlreadyExists(f"embedding id {rising[np.argmax(times > 1)]} is given twice")
        with self._lock.writing():
            inside = self._positions(rising)
            if (inside >= 0).any():
                taken = rising[inside >= 0]
                raise AlreadyExists(
                    f"embedding id {taken[0]} is in the index already ({len(taken)} of {len(rising)} are)"
                )
            if len(rows):
                self._flat.add(rows)
            self._renumber(np.concatenate([self._ids, numbers]))

    def remove(self, ids: Ids) -> int:
        """Take out the vectors of these ids; return how many went."""
        numbers = np.unique(np.asarray(ids, dtype=np.int64))
        with self._lock.writing():
            positions = self._positions(numbers)
            positions = positions[positions >= 0]
            if len(positions):
                self._flat.remove_ids(_bitmap(positions, len(self._ids)))
                self._renumber(np.delete(self._ids, positions))
        return len(positions)

    def search(self, probes: Vectors, k: int, *, allowed: IdSet | Ids | None = None) -> list[list[Hit]]:
        """Find the k nearest vectors of each probe; see `VectorIndex.search`."""
        rows = require_unit_rows(probes, self._dim)
        if k < 1:
            raise InvalidRequest(f"k = {k} where at least 1 is needed")
        with self._lock.reading():
            eligible, selector = self._scope(allowed)
            if eligible == 0 or len(rows) == 0:
                return [[] for _ in rows]
            fetch = min(k + SPARE_CANDIDATES, eligible)
            found = self._candidates(rows, fetch, selector)
            return [
                self._nearest(probe, scores, candidates, k, eligible, selector)
                for probe, scores, candidates in zip(rows, *found, strict=True)
            ]

    def search_above(
        self, probes: Vectors, threshold: float, *, allowed: IdSet | Ids | None = None, limit: int | None = None
    ) -> list[list[Hit]]:
        """Find every vector whose score reaches the threshold; see `VectorIndex.search_above`."""
        rows = require_unit_rows(probes, self._dim)
        if not np.isfinite(threshold):
            raise InvalidRequest(f"threshold = {threshold} where a finite score is needed")
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit = {limit} where at least 1 is needed")
        with self._lock.reading():
            eligible, selector = self._scope(allowed)
            if eligible == 0 or len(rows) == 0:
                return [[] for _ in rows]
            ends, scores, candidates = self._flat.range_search(
                rows, float(threshold) - ROUNDING, params=_parameters(selector)
            )
            hits: list[list[Hit]] = []
            for row, probe in enumerate(rows):
                part = slice(ends[row], ends[row + 1])
                hits.append(self._exact(probe, _best(candidates[part], scores[part], limit), limit))
        return [[hit for hit in some if hit.score >= threshold] for some in hits]

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which of these ids are inside."""
        with self._lock.reading():
            return self._positions(np.asarray(ids, dtype=np.int64)) >= 0

    def ids(self) -> Ids:
        """Every id inside, rising."""
        with self._lock.reading():
            return np.sort(self._ids)

    def reconstruct(self, ids: Ids) -> Vectors:
        """Return the vectors of these ids as (n, D), or raise NotFound."""
        numbers = np.asarray(ids, dtype=np.int64)
        with self._lock.reading():
            positions = self._positions(numbers)
            if (positions < 0).any():
                missing = numbers[positions < 0]
                raise NotFound(
                    f"embedding id {missing[0]} is not in the index ({len(missing)} of {len(numbers)} are not)"
                )
            return self._rows()[positions]

    @contextmanager
    def frozen(self) -> Iterator[tuple[Ids, Vectors]]:
        """Lend ids and vectors without copying them; writers wait until the block ends."""
        with self._lock.reading():
            ids, rows = self._ids.view(), self._rows()
            ids.flags.writeable = rows.flags.writeable = False
            yield ids, rows

    def info(self) -> IndexInfo:
        """Say what the index is and what it costs."""
        with self._lock.reading():
            count = len(self._ids)
        return IndexInfo(self.kind, self._encoder_id, self._dim, count, count * (4 * self._dim + 8))

    def close(self) -> None:
        """Nothing is open."""

    def _rows(self) -> Vectors:
        """(n, D) view of FAISS's own memory; valid while the lock is held."""
        count = len(self._ids)
        if count == 0:
            return np.empty((0, self._dim), dtype=np.float32)
        flat: NDArray[np.float32] = faiss.rev_swig_ptr(self._flat.get_xb(), count * self._dim)
        return flat.reshape(count, self._dim)

    def _renumber(self, ids: Ids) -> None:
        self._ids = ids
        self._by_id = None if bool((np.diff(ids) > 0).all()) else np.argsort(ids)

    def _positions(self, numbers: Ids) -> NDArray[np.intp]:
        """Where these ids are in FAISS; -1 where they are not."""
        if len(self._ids) == 0:
            return np.full(len(numbers), -1, dtype=np.intp)
        places = np.searchsorted(self._ids, numbers, sorter=self._by_id)
        places = np.minimum(places, len(self._ids) - 1)
        if self._by_id is not None:
            places = self._by_id[places]
        return np.where(self._ids[places] == numbers, places, -1)

    def _scope(self, allowed: IdSet | Ids | None) -> tuple[int, Any]:
        """Count the vectors that may be found, and build the filter that keeps a scan to them; None for all."""
        if allowed is None:
            return len(self._ids), None
        numbers = allowed.ids if isinstance(allowed, IdSet) else np.asarray(allowed, dtype=np.int64)
        if not (np.diff(numbers) > 0).all():  # a set in order, as the record gives it, is taken as it is
            numbers = np.unique(numbers)
        positions = self._positions(numbers)
        positions = positions[positions >= 0]
        if self._by_id is not None:
            positions = np.sort(positions)
        return len(positions), _selector(positions, len(self._ids)) if len(positions) else None

    def _candidates(self, rows: Vectors, fetch: int, selector: Any) -> tuple[Vectors, NDArray[np.int64]]:
        scores, positions = self._flat.search(rows, fetch, params=_parameters(selector))
        return scores, positions

    def _nearest(
        self,
        probe: NDArray[np.float32],
        scores: NDArray[np.float32],
        candidates: NDArray[np.int64],
        k: int,
        eligible: int,
        selector: Any,
    ) -> list[Hit]:
        """Order the candidates exactly, fetching more while one not fetched might belong among the first k."""
        fetch = len(candidates)
        while True:
            hits = self._exact(probe, candidates)
            if fetch >= eligible or float(scores[-1]) < hits[k - 1].score - ROUNDING:
                return hits[:k]
            fetch = min(4 * fetch, eligible)
            (scores,), (candidates,) = self._candidates(probe[None, :], fetch, selector)

    def _exact(self, probe: NDArray[np.float32], positions: NDArray[np.int64], limit: int | None = None) -> list[Hit]:
        """Score rows in float64, by falling score and then rising id; keep the first `limit`."""
        ids, rows, exact = self._ids[positions], self._rows(), probe.astype(np.float64)
        scores = np.empty(len(positions), dtype=np.float64)
        for start in range(0, len(positions), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            # Summed row by row rather than by a matrix product, whose rounding depends on the row's place in it.
            scores[block] = (rows[positions[block]].astype(np.float64) * exact).sum(axis=1)
        np.clip(scores, -1.0, 1.0, out=scores)
        order = np.lexsort((ids, -scores))[:limit]
        return [
            Hit(EmbeddingId(number), score)
            for number, score in zip(ids[order].tolist(), scores[order].tolist(), strict=True)
        ]


def _best(positions: NDArray[np.int64], scores: NDArray[np.float32], limit: int | None) -> NDArray[np.int64]:
    """Drop candidates that cannot be among the first `limit`, however their scores and the last one's are rounded."""
    if limit is None or len(positions) <= limit:
        return positions
    last = float(np.partition(scores, len(scores) - limit)[len(scores) - limit])
    return positions[scores >= last - 2 * ROUNDING]


def _parameters(selector: Any) -> Any:
    # Built for each call: a filter set on the index itself would leak into the searches of other threads.
    return None if selector is None else _faiss.SearchParameters(sel=selector)


def _bitmap(positions: NDArray[np.intp], count: int) -> Any:
    chosen = np.zeros(count, dtype=bool)
    chosen[positions] = True
    return _faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))


def _selector(positions: NDArray[np.intp], count: int) -> Any:
    if len(positions) < SPARSE_SHARE * count:
        return _faiss.IDSelectorArray(positions.astype(np.int64))
    return _bitmap(positions, count)
