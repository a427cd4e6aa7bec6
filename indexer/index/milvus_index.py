"""An index whose vectors a Milvus server holds, for galleries that one machine cannot search."""

import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from indexer.errors import AlreadyExists, InvalidRequest, NotFound, Unavailable
from indexer.index.base import FeedMark, Hit, Ids, IdSet, IndexInfo, Save, SearchParameters
from indexer.index.milvus_collections import GLANCE_S, Collection, GalleryCollections
from indexer.index.milvus_rows import MOST_ROWS, VECTORS_AT_ONCE, MilvusRows, among, parts
from indexer.index.milvus_server import CHECKSUM, ID, VECTOR
from indexer.types import EmbeddingId, EncoderId, Vectors
from indexer.vectors import checksums_of, require_unit_rows

ROUNDING = 1e-5
"""More than Milvus's float32 inner product of 192 terms can differ from the exact one."""

SPARE_CANDIDATES = 8
"""Candidates fetched beyond k, so that those which rounding or ties displaced are seldom fetched in a second pass."""

FILTER_AT_ONCE = 16_384
"""Ids in one filter expression: some 200 kB; a larger filter takes several searches."""

WRITTEN_AT_ONCE = 4096
"""Rows in one request: 3 MiB, where a server takes 64."""

_LOWEST = -2.0
"""Below every cosine."""


class _Candidates(NamedTuple):
    """What Milvus returned for one probe."""

    ids: Ids
    vectors: Vectors
    worst: float
    """Lowest score among them, as Milvus computed it."""
    every: bool
    """Whether there is nothing else."""


class MilvusIndex:
    """One collection; every process that searches the gallery reads and writes the same one.

    Milvus chooses the candidates in float32 and returns their vectors; the scores, and their order, are computed from
    these in float64, as in every other engine. Adding a vector again, or taking one out that is gone, changes nothing:
    processes which apply the same change at the same time end with the same rows.

    Parameters
    ----------
    collections : GalleryCollections
        Where the collection is.
    collection : Collection
        Which one.
    kept : bool
        Whether it is searched by everybody. One that is not, and never comes to be, is dropped when the index closes.
    """

    kind = "milvus"

    def __init__(self, collections: GalleryCollections, collection: Collection, *, kept: bool) -> None:
        self._collections = collections
        self._collection = collection
        self._kept = kept
        self._server = collections.server
        self._rows = MilvusRows(collections, collection)
        self._settings = collections.settings
        # Of two threads of this process that add one id with different vectors, one must be refused.
        self._adding = threading.Lock()
        self._writes = 0
        self._counted: tuple[int, float, int | None] = (0, 0.0, None)
        self._expressions: WeakKeyDictionary[IdSet, list[str]] = WeakKeyDictionary()

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside."""
        return self._collections.encoder_id

    @property
    def dim(self) -> int:
        """D of every vector and probe."""
        return self._collections.dim

    @property
    def count(self) -> int:
        """Vectors inside; as they were last counted where Milvus is out of reach, or was asked a moment ago."""
        writes, counted_at, count = self._counted
        if count is None or writes != self._writes or time.monotonic() - counted_at >= GLANCE_S:
            writes = self._writes  # what is written meanwhile may or may not be counted, and calls for counting again
            with nullcontext() if count is None else suppress(Unavailable):
                count = int(self._rows.read("query", output_fields=["count(*)"])[0]["count(*)"])
            self._counted = (writes, time.monotonic(), count)
        return count

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors with their ids; see `VectorIndex.add`.

        An id that is inside with the same vector is passed over: another process was faster. Where the server fails
        half-way some are added; the feed, which adds what is not there, adds the rest.
        """
        numbers = np.asarray(ids, dtype=np.int64)
        rows = require_unit_rows(vectors, self.dim)
        if numbers.shape != (len(rows),):
            raise InvalidRequest(f"{numbers.shape} ids for {len(rows)} vectors: give one id a vector")
        rising, times = np.unique(numbers, return_counts=True)
        if (times > 1).any():
            raise AlreadyExists(f"embedding id {rising[np.argmax(times > 1)]} is given twice")
        checksums = checksums_of(rows)
        with self._adding:
            absent = self._absent(numbers, checksums)
            try:
                self._write(numbers[absent], checksums[absent], rows[absent])
            finally:
                self._writes += 1

    def _write(self, ids: Ids, checksums: Ids, vectors: Vectors) -> None:
        for start in range(0, len(ids), WRITTEN_AT_ONCE):
            part = slice(start, start + WRITTEN_AT_ONCE)
            rows = zip(ids[part].tolist(), checksums[part].tolist(), vectors[part], strict=True)
            # Not an insert: Milvus would keep two rows of one id where two processes add it at once.
            self._server.call(
                "upsert",
                self._collection.name,
                [{ID: number, CHECKSUM: checksum, VECTOR: vector} for number, checksum, vector in rows],
            )

    def _absent(self, ids: Ids, checksums: Ids) -> NDArray[np.bool_]:
        """Tell which ids are not inside; refuse those that are, with another vector."""
        there = {row[ID]: row[CHECKSUM] for row in self._rows.rows_of(ids, CHECKSUM, MOST_ROWS)}
        taken = [
            number
            for number, own in zip(ids.tolist(), checksums.tolist(), strict=True)
            if there.get(number, own) != own
        ]
        if taken:
            raise AlreadyExists(
                f"embedding id {taken[0]} is in the index already ({len(taken)} of {len(ids)} are, with another vector)"
            )
        return np.array([number not in there for number in ids.tolist()], dtype=bool)

    def remove(self, ids: Ids) -> int:
        """Take out the vectors of these ids; return how many went."""
        numbers = np.unique(np.asarray(ids, dtype=np.int64))
        numbers = numbers[self.holds(numbers)]
        for some in parts(numbers, MOST_ROWS):
            self._server.call("delete", self._collection.name, filter=among(some))
        self._writes += 1
        return len(numbers)

    def search(
        self, probes: Vectors, k: int, *, allowed: IdSet | Ids | None = None, parameters: SearchParameters | None = None
    ) -> list[list[Hit]]:
        """Find the k nearest vectors of each probe; see `VectorIndex.search`."""
        if k < 1:
            raise InvalidRequest(f"k = {k} where at least 1 is needed")
        wanted = parameters or SearchParameters()
        fetch = max(k + SPARE_CANDIDATES, wanted.candidates or 0)
        # FLAT compares every vector anyway.
        exhaustive = wanted.exhaustive and self._settings.index != "FLAT"
        return self._find(probes, k, _LOWEST, allowed, fetch=MOST_ROWS + 1 if exhaustive else fetch)

    def search_above(
        self, probes: Vectors, threshold: float, *, allowed: IdSet | Ids | None = None, limit: int | None = None
    ) -> list[list[Hit]]:
        """Find every vector whose score reaches the threshold; see `VectorIndex.search_above`."""
        if not np.isfinite(threshold):
            raise InvalidRequest(f"threshold = {threshold} where a finite score is needed")
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit = {limit} where at least 1 is needed")
        fetch = 64 if limit is None else min(64, limit + SPARE_CANDIDATES)
        return self._find(probes, limit, float(threshold), allowed, fetch=fetch)

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which of these ids are inside."""
        numbers = np.asarray(ids, dtype=np.int64)
        found = [row[ID] for row in self._rows.rows_of(np.unique(numbers), ID, MOST_ROWS)]
        return np.isin(numbers, np.array(found, dtype=np.int64))

    def ids(self, *, after: int | None = None, upto: int | None = None) -> Ids:
        """Every id inside, rising; see `VectorIndex.ids`."""
        bounds = [f"{ID} {sign} {number}" for sign, number in ((">", after), ("<=", upto)) if number is not None]
        pages = self._rows.pages(CHECKSUM, " and ".join(bounds))
        return np.concatenate([np.empty(0, dtype=np.int64), *(ids for ids, _ in pages)])

    def reconstruct(self, ids: Ids) -> Vectors:
        """Return the vectors of these ids as (n, D), or raise NotFound."""
        numbers = np.asarray(ids, dtype=np.int64)
        unique, places = np.unique(numbers, return_inverse=True)
        found, vectors = self._rows.vectors_of(unique)
        if len(found) < len(unique):
            missing = np.setdiff1d(unique, found, assume_unique=True)
            raise NotFound(f"embedding id {missing[0]} is not in the index ({len(missing)} of {len(unique)} are not)")
        return vectors[places]

    def contents(self, *, deep: bool = False) -> Iterator[tuple[Ids, Ids]]:
        """Yield blocks of (rising ids, checksums); see `VectorIndex.contents`."""
        for ids, values in self._rows.pages(VECTOR if deep else CHECKSUM):
            yield ids, checksums_of(values) if deep else values.astype(np.int64)

    def info(self) -> IndexInfo:
        """Say what the index is and where; what it costs, Milvus knows."""
        return IndexInfo(
            self.kind,
            self.encoder_id,
            self.dim,
            self.count,
            memory_bytes=0,
            details={
                "address": self._server.address,
                "collection": self._collection.name,
                "generation": self._collection.generation,
                "index": self._settings.index,
            },
        )

    def begin_save(self, mark: FeedMark) -> Save:
        """Take note of how far the index has got; everything that it holds is kept already."""
        return _Save(self, mark)

    def publish(self, mark: FeedMark, *, keep_previous: bool) -> int:
        """Say up to which change the index is complete, let it be searched if it is new, and return its generation.

        Raises
        ------
        IndexReplaced
            If a newer one is searched already.
        Unavailable
            If the server is out of reach.
        """
        self._collections.publish(self._collection, mark, keep_previous=keep_previous)
        self._kept = True
        return self._collection.generation

    def close(self) -> None:
        """Drop a collection that nobody will ever search; the connection is the process's and stays."""
        if not self._kept:
            with suppress(Unavailable):
                self._server.call("drop_collection", self._collection.name)

    def _scopes(self, allowed: IdSet | Ids | None) -> list[str]:
        """Return the filter expressions whose answers together are those of the filter."""
        if allowed is None:
            return [""]
        scope = allowed if isinstance(allowed, IdSet) else IdSet(allowed)
        if len(scope) > self._settings.filter_ids:
            raise InvalidRequest(
                f"the filter leaves {len(scope)} vectors where a search in Milvus takes at most "
                f"{self._settings.filter_ids}: narrow it, or raise VOXDEX_INDEX__MILVUS__FILTER_IDS"
            )
        expressions = self._expressions.get(scope)
        if expressions is None:
            expressions = [among(some) for some in parts(scope.ids, FILTER_AT_ONCE)]
            self._expressions[scope] = expressions
        return expressions

    def _find(
        self, probes: Vectors, k: int | None, threshold: float, allowed: IdSet | Ids | None, *, fetch: int
    ) -> list[list[Hit]]:
        """Find the best k of the vectors whose score reaches the threshold, fetching so many candidates at first."""
        rows = require_unit_rows(probes, self.dim)
        scopes = self._scopes(allowed)
        if len(rows) == 0:
            return []
        if fetch > MOST_ROWS:
            return [self._compared(probe, k, threshold, allowed) for probe in rows]
        found: list[list[Hit]] = [[] for _ in rows]
        for scope in scopes:
            together = max(1, MOST_ROWS // fetch)
            for start in range(0, len(rows), together):
                part = rows[start : start + together]
                for place, candidates in enumerate(self._candidates(part, fetch, scope), start):
                    found[place] += self._settled(rows[place], candidates, k, threshold, fetch, scope, allowed)
        return [_in_order(hits)[:k] for hits in found] if len(scopes) > 1 else found

    def _settled(
        self,
        probe: NDArray[np.float32],
        candidates: _Candidates,
        k: int | None,
        threshold: float,
        fetch: int,
        scope: str,
        allowed: IdSet | Ids | None,
    ) -> list[Hit]:
        """Score candidates exactly, fetching more while one not fetched might belong among the hits."""
        while True:
            hits = _scored(probe, candidates.ids, candidates.vectors, k, threshold)
            bar = hits[-1].score if k is not None and len(hits) == k else threshold
            if candidates.every or candidates.worst < bar - ROUNDING:
                return hits
            if fetch == MOST_ROWS:
                return self._compared(probe, k, threshold, allowed, scope)
            fetch = min(8 * fetch, MOST_ROWS)
            (candidates,) = self._candidates(probe[None, :], fetch, scope)

    def _candidates(self, probes: Vectors, fetch: int, scope: str) -> list[_Candidates]:
        answers = self._rows.read(
            "search",
            data=list(probes),
            filter=scope,
            limit=fetch,
            output_fields=[VECTOR],
            search_params={"metric_type": "IP"},
        )
        found = []
        for answer in answers:
            rows = [{ID: hit["id"], VECTOR: hit["entity"][VECTOR]} for hit in answer]
            worst = min((hit["distance"] for hit in answer), default=_LOWEST)
            found.append(_Candidates(*self._rows.arrays(rows), worst=worst, every=len(rows) < fetch))
        return found

    def _compared(
        self,
        probe: NDArray[np.float32],
        k: int | None,
        threshold: float,
        allowed: IdSet | Ids | None,
        scope: str | None = None,
    ) -> list[Hit]:
        """Compare a probe with every vector here: for more hits than Milvus returns, and to measure what it misses."""
        best: list[Hit] = []
        for ids, vectors in self._eligible(allowed, scope):
            best = _in_order(best + _scored(probe, ids, vectors, k, threshold))[:k]
        return best

    def _eligible(self, allowed: IdSet | Ids | None, scope: str | None) -> Iterator[tuple[Ids, Vectors]]:
        if allowed is None:
            yield from self._rows.pages(VECTOR)
            return
        ids = allowed.ids if isinstance(allowed, IdSet) else np.unique(np.asarray(allowed, dtype=np.int64))
        if scope is not None:
            ids = parts(ids, FILTER_AT_ONCE)[self._scopes(allowed).index(scope)]
        for some in parts(ids, VECTORS_AT_ONCE):
            yield self._rows.vectors_of(some)


@dataclass(frozen=True)
class _Save:
    index: MilvusIndex
    mark: FeedMark

    def write(self, *, keep_previous: bool = True) -> int:
        return self.index.publish(self.mark, keep_previous=keep_previous)


def _scored(probe: NDArray[np.float32], ids: Ids, vectors: Vectors, k: int | None, threshold: float) -> list[Hit]:
    """Score rows in float64 and return the best k that reach the threshold, in order."""
    # Summed row by row rather than by a matrix product, whose rounding depends on the row's place in it.
    scores = (vectors.astype(np.float64) * probe.astype(np.float64)).sum(axis=1)
    np.clip(scores, -1.0, 1.0, out=scores)
    order = np.lexsort((ids, -scores))
    order = order[scores[order] >= threshold][:k]
    return [
        Hit(EmbeddingId(number), score)
        for number, score in zip(ids[order].tolist(), scores[order].tolist(), strict=True)
    ]


def _in_order(hits: list[Hit]) -> list[Hit]:
    return sorted(hits, key=lambda hit: (-hit.score, hit.embedding_id))
