"""What every vector index answers, whichever engine holds the vectors."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from indexer.types import EmbeddingId, EncoderId, Vectors

Ids = NDArray[np.int64]
"""(n,) embedding ids."""


class Hit(NamedTuple):
    """One vector found: its embedding id and the cosine of the angle to the probe, in [-1, 1]."""

    embedding_id: EmbeddingId
    score: float


@dataclass(frozen=True)
class IndexInfo:
    """What an index is and what it costs."""

    kind: str
    encoder_id: EncoderId
    dim: int
    count: int
    memory_bytes: int


@runtime_checkable
class VectorIndex(Protocol):
    """Vectors of one gallery under one encoder, searched by exact cosine; safe to use from many threads."""

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside; probes must be of the same."""
        ...

    @property
    def dim(self) -> int:
        """D of every vector and probe."""
        ...

    @property
    def count(self) -> int:
        """Vectors inside."""
        ...

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add (n,) ids with their (n, D) unit vectors, all or none.

        Raises
        ------
        AlreadyExists
            If an id is inside already or given twice.
        EncoderMismatch, NonFiniteEmbedding, InvalidRequest
            If the rows have another dimension, are not finite, or not of unit norm.
        """
        ...

    def remove(self, ids: Ids) -> int:
        """Take out the vectors of these ids; unknown ids are passed over. Return how many went."""
        ...

    def search(self, probes: Vectors, k: int, *, allowed: Ids | None = None) -> list[list[Hit]]:
        """Find the k nearest vectors of each (Q, D) probe.

        Parameters
        ----------
        probes : (Q, D) float32 array
            Unit vectors of the index's encoder.
        k : int
            Most hits for a probe; fewer come only where fewer vectors are eligible.
        allowed : (m,) int64 array, optional
            The only ids that may be found; applied inside the scan, so k of them are found if k are there.

        Returns
        -------
        list of lists of Hit
            One list a probe, by falling score and then rising id. A score does not depend on the other probes.

        Raises
        ------
        InvalidRequest
            If k is below 1 or a probe is not of unit norm.
        EncoderMismatch, NonFiniteEmbedding
            If the probes have another dimension or are not finite.
        """
        ...

    def search_above(
        self, probes: Vectors, threshold: float, *, allowed: Ids | None = None, limit: int | None = None
    ) -> list[list[Hit]]:
        """Find every vector whose score reaches the threshold; order and errors as in `search`.

        Parameters
        ----------
        limit : int, optional
            Most hits for a probe, the best of them; None: all, which may be as many as there are vectors.
        """
        ...

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which of (n,) ids are inside."""
        ...

    def ids(self) -> Ids:
        """Every id inside, rising."""
        ...

    def reconstruct(self, ids: Ids) -> Vectors:
        """Return the vectors of (n,) ids as (n, D), bit for bit as they were added, or raise NotFound."""
        ...

    def frozen(self) -> AbstractContextManager[tuple[Ids, Vectors]]:
        """Lend (n,) ids and their (n, D) vectors as one consistent, read-only view; writers wait meanwhile."""
        ...

    def info(self) -> IndexInfo:
        """Say what the index is and what it costs."""
        ...
