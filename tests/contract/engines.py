"""The engines that the contract suite runs on, and what it asks of an answer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from indexer.index.base import Hit, Ids, IndexStore, VectorIndex
from indexer.index.local_store import LocalStore
from indexer.settings import IndexSettings
from indexer.types import EncoderId, Vectors
from tests.milvus_kit import milvus_store
from tests.vectors import ReferenceStore, unit_vectors

ENCODER = EncoderId("encoder-a")
EXACT = 1e-12
"""What float64 sums of 192 terms may differ by when they are added in another order."""


@dataclass(frozen=True)
class Engine:
    """One engine: how its indexes are opened, and what may be expected of it."""

    name: str
    open_store: Callable[[Path], IndexStore]
    """Store of one gallery under `ENCODER` in this folder; opened again it finds what was saved."""
    score_error: float = EXACT
    """Most that a score may differ from the cosine of the vectors as they were added."""
    compressed: bool = False
    """Candidates come from compressed codes: nearly always, not always, the nearest."""
    shared: bool = False
    """What is kept is the live index itself: a save only says how far it has got."""
    examples: int = 30
    """Examples of a law to try: fewer where one costs much."""

    @property
    def keeps_every_bit(self) -> bool:
        return self.score_error <= EXACT


@cache
def _reference_store(_folder: Path) -> ReferenceStore:
    return ReferenceStore(ENCODER)


def _local(**settings: object) -> Callable[[Path], IndexStore]:
    # Not validated: an index that compresses from some hundred vectors on is of no use outside tests.
    chosen = IndexSettings.model_construct(**{**IndexSettings().model_dump(), **settings})
    return lambda folder: LocalStore(folder, ENCODER, settings=chosen)


ENGINES = [
    Engine("reference", _reference_store),
    Engine("faiss-flat", _local()),
    Engine("faiss-compressed", _local(compress_above=150), compressed=True),
    Engine("faiss-float16", _local(rows="float16"), score_error=5e-4),
    Engine("faiss-gpu", _local(engine="faiss-gpu", device="cpu")),
    Engine("milvus-lite", lambda folder: milvus_store(folder, ENCODER), shared=True, examples=5),
]


class Lab:
    """Opens stores and indexes of one engine for one test, and closes the indexes after it."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder
        self._open: list[VectorIndex] = []

    def folder(self, name: str) -> Path:
        """Where the store of this name keeps what it keeps."""
        return self._folder / name

    def store(self, name: str = "gallery") -> IndexStore:
        """The store of one gallery; asked for again, it is opened again as another process would."""
        return self.engine.open_store(self.folder(name))

    def index(self) -> VectorIndex:
        """An empty index of a gallery of its own."""
        return self.lend(self.store(f"gallery-{len(self._open)}").create())

    def lend(self, index: VectorIndex) -> VectorIndex:
        """Close this index when the test is over."""
        self._open.append(index)
        return index

    def filled(self, count: int, *, seed: int = 0) -> tuple[VectorIndex, Ids, Vectors]:
        """An index of `count` random vectors with the ids from 1 on."""
        index, ids, vectors = self.index(), np.arange(1, count + 1), unit_vectors(count, seed=seed)
        index.add(ids, vectors)
        settle(index)
        return index, ids, vectors

    @contextmanager
    def loaded(self, store: IndexStore) -> Iterator[VectorIndex]:
        """What the store kept, opened for a block."""
        kept = store.load()
        assert kept is not None
        try:
            yield kept.index
        finally:
            kept.index.close()

    def close(self) -> None:
        """Close what is open."""
        for index in self._open:
            index.close()


@runtime_checkable
class Settling(Protocol):
    """An index that goes on working on itself after a change."""

    def wait_until_settled(self, timeout_s: float) -> bool: ...


def settle(index: VectorIndex) -> None:
    """Wait until an index has done what it does in the background."""
    if isinstance(index, Settling):
        assert index.wait_until_settled(180)


def assert_first(hits: list[Hit], truth: list[Hit], most: int, *, error: float) -> None:
    """Hold `hits` to the first `most` of `truth`, scores to within `error` and order to what that leaves open."""
    true_scores: dict[int, float] = {hit.embedding_id: hit.score for hit in truth}
    assert len(hits) == min(most, len(truth))
    assert_in_order(hits)
    for hit in hits:
        assert abs(hit.score - true_scores.pop(hit.embedding_id)) <= error, f"{hit}: not eligible, or another's score"
    if hits and true_scores:
        assert max(true_scores.values()) <= hits[-1].score + 2 * error, "a nearer vector was missed"
    if error <= EXACT:
        assert [hit.embedding_id for hit in hits] == [hit.embedding_id for hit in truth[:most]]


def assert_in_order(hits: list[Hit]) -> None:
    """Hold hits to falling scores, then rising ids, and each id to coming once."""
    assert hits == sorted(hits, key=lambda hit: (-hit.score, hit.embedding_id))
    assert len({hit.embedding_id for hit in hits}) == len(hits)
