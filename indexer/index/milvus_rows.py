"""Reading the rows of a collection of a Milvus."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.errors import IndexReplaced
from indexer.index.base import Ids
from indexer.index.milvus_collections import Collection, GalleryCollections
from indexer.index.milvus_server import ID, VECTOR
from indexer.types import Vectors

MOST_ROWS = 16_384
"""Most rows that a Milvus returns to one question unless it is configured otherwise (`quotaAndLimits.limits.topK`)."""

VECTORS_AT_ONCE = 4096
"""Vectors in one answer: 3 MiB."""


class MilvusRows:
    """The rows of one collection, as arrays."""

    def __init__(self, collections: GalleryCollections, collection: Collection) -> None:
        self._collections = collections
        self._collection = collection
        self._server = collections.server
        self._dim = collections.dim

    def read(self, method: str, **named: Any) -> Any:
        """Ask this collection; where another process has put a new one in its place and dropped it, ask that one."""
        try:
            return self._server.call(method, self._collection.name, **named)
        except IndexReplaced:
            current = self._collections.current()
            if current is None or current.name == self._collection.name:
                raise
            return self._server.call(method, current.name, **named)

    def pages(self, field: str, scope: str = "") -> Iterator[tuple[Ids, NDArray[Any]]]:
        """Yield blocks of rising ids and one field of theirs, of the rows that an expression leaves."""
        rows = VECTORS_AT_ONCE if field == VECTOR else MOST_ROWS
        for page in self._server.pages(self._collection.name, [ID, field], rows, scope):
            ids = np.array([row[ID] for row in page], dtype=np.int64)
            order = np.argsort(ids)
            kind = np.float32 if field == VECTOR else np.int64
            yield ids[order], np.array([row[field] for row in page], dtype=kind)[order]

    def vectors_of(self, rising: Ids) -> tuple[Ids, Vectors]:
        """Return those of these ids that are there, rising, with their vectors."""
        ids, vectors = self.arrays(self.rows_of(rising, VECTOR, VECTORS_AT_ONCE))
        order = np.argsort(ids)
        return ids[order], vectors[order]

    def rows_of(self, ids: Ids, field: str, at_once: int) -> list[dict[str, Any]]:
        """Return those of these ids that are there, in any order, each with one field of its own."""
        return [
            row
            for some in parts(ids, at_once)
            for row in self.read("query", filter=among(some), output_fields=[ID, field])
        ]

    def arrays(self, rows: list[dict[str, Any]]) -> tuple[Ids, Vectors]:
        """Turn rows with their vectors into (n,) ids and (n, D) vectors."""
        ids = np.array([row[ID] for row in rows], dtype=np.int64)
        return ids, np.array([row[VECTOR] for row in rows], dtype=np.float32).reshape(len(rows), self._dim)


def parts(ids: Ids, most: int) -> list[Ids]:
    """Cut ids into parts of so many."""
    return [ids[start : start + most] for start in range(0, len(ids), most)]


def among(ids: Ids) -> str:
    """Write the expression that keeps to these ids."""
    return f"{ID} in {ids.tolist()}"
