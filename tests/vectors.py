"""Unit vectors for tests, and the plainest index that can be right."""

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import AlreadyExists, InvalidRequest, NotFound, Unavailable
from indexer.index.base import FeedMark, Hit, Ids, IdSet, IndexInfo, Kept, SearchParameters
from indexer.types import EMBEDDING_DIM, EmbeddingId, EncoderId, Vectors
from indexer.vectors import require_unit_rows


def unit_vectors(count: int, *, seed: int = 0, dim: int = EMBEDDING_DIM) -> Vectors:
    """(count, dim) random unit rows."""
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def voices(speakers: int, each: int, *, cosine: float = 0.69, seed: int = 0, dim: int = EMBEDDING_DIM) -> Vectors:
    """(speakers * each, dim) unit rows, those of one speaker side by side and about `cosine` from each other.

    What real embeddings are like: near their own speaker's, almost at right angles to everybody else's.
    """
    random = np.random.default_rng(seed)
    centers = random.standard_normal((speakers, 1, dim))
    own = np.sqrt(cosine) * centers + np.sqrt(1 - cosine) * random.standard_normal((speakers, each, dim))
    rows = own.reshape(speakers * each, dim)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def crcs(vectors: Vectors) -> Ids:
    """CRC-32 of each row as little-endian float32, by the plainest way there is."""
    return np.array([zlib.crc32(row.astype("<f4").tobytes()) for row in vectors], dtype=np.int64)


class ReferenceIndex:
    """A dict of vectors, every score computed; what other indexes are compared with."""

    def __init__(self, encoder_id: EncoderId, dim: int = EMBEDDING_DIM, store: "ReferenceStore | None" = None) -> None:
        self.encoder_id = encoder_id
        self.dim = dim
        self._rows: dict[int, np.ndarray] = {}
        self._store = store
        self._lock = threading.RLock()

    @property
    def count(self) -> int:
        return len(self._rows)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        rows = require_unit_rows(vectors, self.dim)
        numbers = np.asarray(ids, dtype=np.int64).tolist()
        if len(numbers) != len(rows):
            raise InvalidRequest(f"{len(numbers)} ids for {len(rows)} vectors")
        with self._lock:
            for position, number in enumerate(numbers):
                if number in self._rows or number in numbers[:position]:
                    raise AlreadyExists(f"embedding id {number} is in the index already")
            self._rows.update(zip(numbers, rows.copy(), strict=True))

    def remove(self, ids: Ids) -> int:
        with self._lock:
            return sum(self._rows.pop(number, None) is not None for number in set(np.asarray(ids).tolist()))

    def search(
        self, probes: Vectors, k: int, *, allowed: IdSet | Ids | None = None, parameters: SearchParameters | None = None
    ) -> list[list[Hit]]:
        if k < 1:
            raise InvalidRequest(f"k = {k} where at least 1 is needed")
        return [hits[:k] for hits in self._scores(probes, allowed)]

    def search_above(
        self, probes: Vectors, threshold: float, *, allowed: IdSet | Ids | None = None, limit: int | None = None
    ) -> list[list[Hit]]:
        if not np.isfinite(threshold) or (limit is not None and limit < 1):
            raise InvalidRequest(f"threshold = {threshold}, limit = {limit}")
        return [[hit for hit in hits[:limit] if hit.score >= threshold] for hits in self._scores(probes, allowed)]

    def _scores(self, probes: Vectors, allowed: IdSet | Ids | None) -> list[list[Hit]]:
        rows = require_unit_rows(probes, self.dim)
        numbers = allowed.ids if isinstance(allowed, IdSet) else allowed
        eligible = None if numbers is None else set(np.asarray(numbers).tolist())
        with self._lock:
            found = [
                [
                    Hit(EmbeddingId(number), float(np.clip(np.dot(row.astype(np.float64), probe), -1, 1)))
                    for number, row in self._rows.items()
                    if eligible is None or number in eligible
                ]
                for probe in rows.astype(np.float64)
            ]
        return [sorted(hits, key=lambda hit: (-hit.score, hit.embedding_id)) for hits in found]

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        with self._lock:
            return np.array([number in self._rows for number in np.asarray(ids).tolist()], dtype=bool)

    def ids(self, *, after: int | None = None, upto: int | None = None) -> Ids:
        with self._lock:
            ids = np.array(sorted(self._rows), dtype=np.int64)
        low = ids > after if after is not None else np.ones(len(ids), dtype=bool)
        return ids[low & (ids <= upto)] if upto is not None else ids[low]

    def reconstruct(self, ids: Ids) -> Vectors:
        try:
            with self._lock:
                rows = [self._rows[number] for number in np.asarray(ids).tolist()]
        except KeyError as error:
            raise NotFound(f"embedding id {error} is not in the index") from None
        return np.stack(rows) if rows else np.empty((0, self.dim), dtype=np.float32)

    def contents(self, *, deep: bool = False) -> Iterator[tuple[Ids, Ids]]:
        with self._lock:
            ids = self.ids()
            checksums = crcs(self.reconstruct(ids))
        for start in range(0, len(ids), 100):
            yield ids[start : start + 100], checksums[start : start + 100]

    def begin_save(self, mark: FeedMark) -> "ReferenceSave":
        if self._store is None:
            raise Unavailable("a reference index without a store cannot be saved: make it by ReferenceStore.create()")
        with self._lock:
            return ReferenceSave(self._store, dict(self._rows), mark)

    def close(self) -> None:
        """Nothing is open."""

    @contextmanager
    def frozen(self) -> Iterator[tuple[Ids, Vectors]]:
        with self._lock:
            ids = self.ids()
            yield ids, self.reconstruct(ids)

    def info(self) -> IndexInfo:
        return IndexInfo("reference", self.encoder_id, self.dim, self.count, self.count * 4 * self.dim)


@dataclass(frozen=True)
class ReferenceSave:
    store: "ReferenceStore"
    rows: dict[int, np.ndarray]
    mark: FeedMark

    def write(self, *, keep_previous: bool = True) -> int:
        self.store.saved = (self.rows, self.mark)
        self.store.saves += 1
        return self.store.saves


class ReferenceStore:
    """Keeps a reference index in memory, as long as the store itself is kept."""

    def __init__(self, encoder_id: EncoderId, dim: int = EMBEDDING_DIM) -> None:
        self.encoder_id = encoder_id
        self.dim = dim
        self.saved: tuple[dict[int, np.ndarray], FeedMark] | None = None
        self.saves = 0

    def load(self) -> Kept | None:
        if self.saved is None:
            return None
        rows, mark = self.saved
        index = self.create()
        if rows:
            index.add(np.array(list(rows), dtype=np.int64), np.stack(list(rows.values())))
        return Kept(index, mark)

    def create(self) -> ReferenceIndex:
        return ReferenceIndex(self.encoder_id, self.dim, self)

    def generation(self) -> int:
        return 0 if self.saved is None else self.saves

    def marks(self) -> list[FeedMark]:
        return [] if self.saved is None else [self.saved[1]]

    def prune_to_newest(self) -> None:
        """Never more than one is kept."""

    def clear(self) -> None:
        self.saved = None
