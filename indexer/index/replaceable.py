"""One index in front of another, which can be changed for a newer one while it is searched."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.errors import Unavailable
from indexer.index.base import FeedMark, Hit, Ids, IdSet, IndexInfo, Save, SearchParameters, VectorIndex
from indexer.types import EncoderId, Vectors


@dataclass(eq=False)
class _Behind:
    """An index, and how many calls are inside it."""

    index: VectorIndex
    users: int = 0
    replaced: bool = False


class _Place:
    """Where the index is that answers now."""

    def __init__(self, index: VectorIndex) -> None:
        self.behind = _Behind(index)
        self.closed = False
        self.guard = threading.Lock()

    def put(self, behind: _Behind) -> None:
        with self.guard:
            if not self.closed:
                before, self.behind = self.behind, behind
            else:  # meanwhile: nobody will be answered from the new one
                before = behind
            before.replaced = True
            idle = before.users == 0
        if idle:
            before.index.close()

    def close(self) -> None:
        with self.guard:
            if self.closed:
                return
            self.closed = self.behind.replaced = True
            idle = self.behind.users == 0
        if idle:
            self.behind.index.close()


class ReplaceableIndex:
    """Answers as the index behind it does; see `VectorIndex`.

    When that is replaced, calls under way finish with the one they began with, and nobody waits. It is closed with the
    last one that refers to this, for a request may still hold it when its gallery is left.
    """

    def __init__(self, index: VectorIndex) -> None:
        self._place = _Place(index)
        weakref.finalize(self, self._place.close)

    def replace(self, index: VectorIndex) -> None:
        """Answer from another index of the same encoder from now on; the one before is closed when it is left."""
        self._place.put(_Behind(index))

    @contextmanager
    def lent(self) -> Iterator[VectorIndex]:
        """Lend the index behind, which stays open until the block ends.

        Raises
        ------
        Unavailable
            If this was closed.
        """
        place = self._place
        with place.guard:
            if place.closed:
                raise Unavailable("the gallery was closed meanwhile: try again")
            behind = place.behind
            behind.users += 1
        try:
            yield behind.index
        finally:
            with place.guard:
                behind.users -= 1
                last = behind.replaced and behind.users == 0
            if last:
                behind.index.close()

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside."""
        with self.lent() as index:
            return index.encoder_id

    @property
    def dim(self) -> int:
        """D of every vector and probe."""
        with self.lent() as index:
            return index.dim

    @property
    def count(self) -> int:
        """Vectors inside."""
        with self.lent() as index:
            return index.count

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors with their ids, all or none."""
        with self.lent() as index:
            index.add(ids, vectors)

    def remove(self, ids: Ids) -> int:
        """Take out the vectors of these ids; return how many went."""
        with self.lent() as index:
            return index.remove(ids)

    def search(
        self, probes: Vectors, k: int, *, allowed: IdSet | Ids | None = None, parameters: SearchParameters | None = None
    ) -> list[list[Hit]]:
        """Find the k nearest vectors of each probe."""
        with self.lent() as index:
            return index.search(probes, k, allowed=allowed, parameters=parameters)

    def search_above(
        self, probes: Vectors, threshold: float, *, allowed: IdSet | Ids | None = None, limit: int | None = None
    ) -> list[list[Hit]]:
        """Find every vector whose score reaches the threshold."""
        with self.lent() as index:
            return index.search_above(probes, threshold, allowed=allowed, limit=limit)

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which of these ids are inside."""
        with self.lent() as index:
            return index.holds(ids)

    def ids(self, *, after: int | None = None, upto: int | None = None) -> Ids:
        """Every id inside, rising; see `VectorIndex.ids`."""
        with self.lent() as index:
            return index.ids(after=after, upto=upto)

    def reconstruct(self, ids: Ids) -> Vectors:
        """Return the vectors of these ids, or raise NotFound."""
        with self.lent() as index:
            return index.reconstruct(ids)

    def contents(self, *, deep: bool = False) -> Iterator[tuple[Ids, Ids]]:
        """Yield blocks of (rising ids, checksums)."""
        with self.lent() as index:
            yield from index.contents(deep=deep)

    def info(self) -> IndexInfo:
        """Say what the index is, what it costs and how well it finds."""
        with self.lent() as index:
            return index.info()

    def begin_save(self, mark: FeedMark) -> Save:
        """Take note of what is inside, to write it while the index goes on changing."""
        with self.lent() as index:
            return index.begin_save(mark)

    def close(self) -> None:
        """Close the index behind, once calls under way are finished."""
        self._place.close()
