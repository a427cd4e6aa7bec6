"""What every vector index answers, whichever engine holds the vectors, and how it is kept."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.types import EmbeddingId, EncoderId, Vectors

Ids = NDArray[np.int64]
"""(n,) embedding ids."""


class Hit(NamedTuple):
    """One vector found: its embedding id and the cosine of the angle to the probe, in [-1, 1]."""

    embedding_id: EmbeddingId
    score: float


class IdSet:
    """Embedding ids that searches are kept to; an index remembers what it made of one, so make it once and keep it."""

    __slots__ = ("__weakref__", "grown_from", "ids")

    def __init__(self, ids: ArrayLike, *, grown_from: "IdSet | None" = None) -> None:
        numbers = np.asarray(ids, dtype=np.int64)
        if not (np.diff(numbers) > 0).all():  # a set in order, as the record gives it, is taken as it is
            numbers = np.unique(numbers)
        self.ids: Ids = numbers
        """(m,) rising, each once."""
        self.grown_from = grown_from
        """An earlier set that holds the first of these ids and no other: an index goes on with what it made of that
        one, and forgets it here."""
        if grown_from is not None:
            grown_from.grown_from = None  # Or every set there ever was would be kept.

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class SearchParameters:
    """How hard one search tries."""

    candidates: int | None = None
    """Vectors that a compressed scan proposes for exact scoring; None: as many as its calibration says."""
    exhaustive: bool = False
    """Compare the probe with every full vector, as the measure of all other searches."""


@dataclass(frozen=True)
class FeedMark:
    """How far into the changes of its gallery an index has got, and which change that was.

    The number alone would not tell a record that was put back to an earlier day and went on from there.
    """

    seq: int = 0
    digest: str = ""
    """SHA-256 of the change numbered `seq`, hex; empty at 0."""


@dataclass(frozen=True)
class IndexInfo:
    """What an index is, what it costs, and how well it was measured to find."""

    kind: str
    encoder_id: EncoderId
    dim: int
    count: int
    memory_bytes: int
    """Resident, without vectors that are mapped from files."""
    mapped_bytes: int = 0
    details: dict[str, str | int | float] = field(default_factory=dict)
    """Of the engine: measured recall, candidates, generation, address."""


class Save(Protocol):
    """What an index held at one moment, to be written while it goes on changing."""

    def write(self, *, keep_previous: bool = True) -> int:
        """Make it durable, all or nothing, and return its generation.

        Parameters
        ----------
        keep_previous : bool
            False after an erasure: then nothing else is left of what was saved before.

        Raises
        ------
        Unavailable
            If it cannot be written.
        """
        ...


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

    def search(
        self, probes: Vectors, k: int, *, allowed: IdSet | Ids | None = None, parameters: SearchParameters | None = None
    ) -> list[list[Hit]]:
        """Find the k nearest vectors of each (Q, D) probe.

        Parameters
        ----------
        probes : (Q, D) float32 array
            Unit vectors of the index's encoder.
        k : int
            Most hits for a probe; fewer come only where fewer vectors are eligible.
        allowed : IdSet or (m,) int64 array, optional
            The only ids that may be found; applied inside the scan, so k of them are found if k are there. An `IdSet`
            is prepared once and then costs nothing.
        parameters : SearchParameters, optional
            How hard to try; None: as the index was calibrated.

        Returns
        -------
        list of lists of Hit
            One list a probe, by falling score and then rising id. A score does not depend on the other probes.

        Raises
        ------
        InvalidRequest
            If k is below 1, a probe is not of unit norm, or the engine cannot apply the filter.
        EncoderMismatch, NonFiniteEmbedding
            If the probes have another dimension or are not finite.
        Unavailable
            If a vector that is needed is damaged, or the engine is out of reach.
        """
        ...

    def search_above(
        self, probes: Vectors, threshold: float, *, allowed: IdSet | Ids | None = None, limit: int | None = None
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

    def ids(self, *, after: int | None = None, upto: int | None = None) -> Ids:
        """Every id inside, rising; only those above `after`, and not above `upto`."""
        ...

    def reconstruct(self, ids: Ids) -> Vectors:
        """Return the vectors of (n,) ids as (n, D), bit for bit as they were added, or raise NotFound."""
        ...

    def contents(self, *, deep: bool = False) -> Iterator[tuple[Ids, Ids]]:
        """Yield blocks of (rising ids, CRC-32 of each one's vector as it was added), ids rising over all blocks.

        Parameters
        ----------
        deep : bool
            Compute the checksums anew from the bytes that searches are answered from.
        """
        ...

    def info(self) -> IndexInfo:
        """Say what the index is, what it costs and how well it finds."""
        ...

    def begin_save(self, mark: FeedMark) -> Save:
        """Take note at once of what is inside, as of `mark`, to write it while the index goes on changing."""
        ...

    def close(self) -> None:
        """Give back files, maps and connections; searches under way finish first."""
        ...


@runtime_checkable
class Tended(Protocol):
    """An index that works on itself in the background: trains, measures, verifies its files."""

    @property
    def damaged(self) -> str | None:
        """What is wrong with the files that it is searched from; None while nothing is known to be."""
        ...

    @property
    def lacks_codes(self) -> bool:
        """Whether it is large enough to be compressed and its files have no codes: then every start trains."""
        ...

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Wait until it has nothing left to do; return whether that is so."""
        ...


@dataclass(frozen=True)
class Kept:
    """An index as it was found where it is kept."""

    index: VectorIndex
    mark: FeedMark
    """What it was in step with when it was written."""
    damage: str | None = None
    """What is wrong with a newer one, where this is the one before it."""


class IndexStore(Protocol):
    """Where the index of one gallery under one encoder is kept, whichever engine that is."""

    def load(self) -> Kept | None:
        """Open the newest whole index; None where none was ever saved.

        Raises
        ------
        CorruptSnapshot
            If there are some and none is whole; the record can rebuild them.
        Unavailable
            If the engine is out of reach.
        """
        ...

    def create(self) -> VectorIndex:
        """Make an empty index beside the kept one, which `begin_save(...).write()` of the new one replaces."""
        ...

    def generation(self) -> int:
        """Return the number of the newest that is kept, without opening it; 0 where nothing is.

        Every write gives a higher one, but to an index that all processes share, where only a replacement does: an
        open index whose store has another generation than it wrote or loaded has been replaced.
        """
        ...

    def marks(self) -> list[FeedMark]:
        """Say up to which change everything that is kept is complete, newest first, without opening it."""
        ...

    def prune_to_newest(self) -> None:
        """Delete all that is kept but the newest, so that only what `marks` says of that one is left.

        Raises
        ------
        Unavailable
            If it cannot be deleted.
        """
        ...

    def clear(self) -> None:
        """Delete everything that is kept."""
        ...
