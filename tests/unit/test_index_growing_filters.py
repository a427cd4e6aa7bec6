"""A filter that grows with an ingest: what an index prepared for it serves on, and the answers stay the right ones."""

import random
from collections.abc import Iterator

import numpy as np
import pytest

from indexer.index.base import IdSet
from indexer.index.faiss_index import FaissIndex
from indexer.index.scopes import FEW, Scope, Scopes
from indexer.settings import IndexSettings
from indexer.types import EncoderId, Vectors
from tests.vectors import voices

COUNT = 30_000


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return voices(COUNT // 10, 10, seed=3)


@pytest.fixture(params=["flat", "compressed"])
def index(request: pytest.FixtureRequest, vectors: Vectors) -> Iterator[FaissIndex]:
    """An index of two thirds of the vectors, of which id n is row n."""
    above = 1000 if request.param == "compressed" else COUNT
    opened = FaissIndex(EncoderId("e"), settings=IndexSettings(compress_above=above))
    opened.add(np.arange(20_000), vectors[:20_000])
    opened.wait_until_settled(180)
    yield opened
    opened.close()


def answers(index: FaissIndex, probes: Vectors, allowed: IdSet) -> list[list[int]]:
    return [[hit.embedding_id for hit in hits] for hits in index.search(probes, 10, allowed=allowed)]


def test_answers_under_a_grown_filter_are_those_under_a_new_one(index: FaissIndex, vectors: Vectors) -> None:
    dice = random.Random(1)
    probes = vectors[::3001]
    kept = IdSet(np.array(sorted(dice.sample(range(18_000), 9000))))
    answers(index, probes, kept)
    there = 20_000
    for step in range(8):
        # Now the index hears first of what is new, now the filter; now the filter takes what the index had long.
        coming = np.arange(there, there + 500)
        added = np.array(sorted(dice.sample(range(there, there + 500), 250)))
        if step == 3:
            added = np.concatenate([np.arange(there - 40, there), added])
            added = added[added > kept.ids[-1]]
        if step % 2:
            index.add(coming, vectors[there : there + 500])
        grown = IdSet(np.concatenate([kept.ids, added]), grown_from=kept)
        if step != 5:  # Nobody asks for this one: the next begins from what no index knows.
            assert answers(index, probes, grown) == answers(index, probes, IdSet(grown.ids))
        if not step % 2:
            index.add(coming, vectors[there : there + 500])
            assert answers(index, probes, grown) == answers(index, probes, IdSet(grown.ids))
        kept, there = grown, there + 500


class CountedScopes(Scopes):
    """Notes which filters were prepared from nothing."""

    def __init__(self, index: FaissIndex) -> None:
        super().__init__(index.table, index.scan)
        self.made: list[int] = []

    def _made(self, allowed: IdSet) -> Scope:
        self.made.append(len(allowed))
        return super()._made(allowed)


def test_rows_are_prepared_once_however_often_a_filter_grows(index: FaissIndex, vectors: Vectors) -> None:
    scopes = index._scopes = CountedScopes(index)
    kept = IdSet(np.arange(2 * FEW))
    index.search(vectors[:1], 10, allowed=kept)
    for there in range(20_000, 21_000, 100):
        index.add(np.arange(there, there + 100), vectors[there : there + 100])
        kept = IdSet(np.concatenate([kept.ids, np.arange(there, there + 50)]), grown_from=kept)
        [hits] = index.search(vectors[there : there + 1], 1, allowed=kept)
        assert hits[0].embedding_id == there
    assert scopes.made == [2 * FEW]


def test_a_set_keeps_its_predecessor_and_none_before_it() -> None:
    one = IdSet([1])
    two = IdSet([1, 2], grown_from=one)
    three = IdSet([1, 2, 3], grown_from=two)
    assert (three.grown_from, two.grown_from, one.grown_from) == (two, None, None)
