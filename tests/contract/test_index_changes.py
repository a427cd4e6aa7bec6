"""What adding to and removing from an index of any engine does."""

from collections.abc import Iterator

import numpy as np
import pytest

from indexer.errors import AlreadyExists, EncoderMismatch, InvalidRequest, NonFiniteEmbedding, NotFound
from indexer.index.base import Ids, VectorIndex
from tests.contract.engines import ENCODER, Lab
from tests.vectors import crcs, unit_vectors

NONE = np.array([], dtype=np.int64)


def whole(blocks: Iterator[tuple[Ids, Ids]]) -> tuple[list[int], list[int]]:
    """Ids and checksums of all blocks."""
    ids: list[int] = []
    checksums: list[int] = []
    for some, theirs in blocks:
        assert len(some) == len(theirs)
        ids += some.tolist()
        checksums += theirs.tolist()
    return ids, checksums


def assert_rows(index: VectorIndex, ids: Ids, vectors: np.ndarray, *, error: float) -> None:
    """Hold the vectors of these ids to what was added."""
    found = index.reconstruct(ids)
    assert found.dtype == np.float32
    assert found.shape == vectors.shape
    if error < 1e-9:
        np.testing.assert_array_equal(found, vectors)
    else:
        np.testing.assert_allclose(found, vectors, rtol=2**-11, atol=1e-6)


def test_vectors_come_back_as_they_were_added(lab: Lab) -> None:
    index, ids, vectors = lab.filled(150)
    order = np.random.default_rng(3).permutation(150)
    assert_rows(index, ids[order], vectors[order], error=lab.engine.score_error)
    assert_rows(index, np.array([5, 5, 5]), vectors[[4, 4, 4]], error=lab.engine.score_error)
    assert index.reconstruct(NONE).shape == (0, 192)
    with pytest.raises(NotFound, match="99"):
        index.reconstruct(np.array([1, 9999]))


def test_what_an_index_holds_is_its_own(lab: Lab) -> None:
    """Arrays that were given to it or taken from it may be changed without changing it."""
    index, ids, vectors = lab.filled(30)
    kept = vectors.copy()
    vectors[:] = -1
    ids[:] = 0
    lent = index.reconstruct(np.arange(1, 31))
    if lent.flags.writeable:
        lent[:] = 7
    own = index.ids()
    if own.flags.writeable:
        own[:] = 0
    assert_rows(index, np.arange(1, 31), kept, error=lab.engine.score_error)
    assert index.search(kept[3:4], 1)[0][0].embedding_id == 4


def test_it_tells_which_ids_are_inside_whatever_order_they_came_in(lab: Lab) -> None:
    index = lab.index()
    assert index.holds(np.array([1, 2])).tolist() == [False, False]
    index.add(np.array([30, 10, 20]), unit_vectors(3))
    index.remove(np.array([10]))
    assert index.holds(np.array([10, 20, 5, 30, 99])).tolist() == [False, True, False, True, False]
    assert index.holds(NONE).tolist() == []
    assert index.ids().tolist() == [20, 30]


def test_ids_may_be_as_large_as_a_database_makes_them(lab: Lab) -> None:
    index, vectors = lab.index(), unit_vectors(3)
    ids = np.array([2**62, 1, 2**33])
    index.add(ids, vectors)
    assert index.ids().tolist() == [1, 2**33, 2**62]
    assert [hits[0].embedding_id for hits in index.search(vectors, 1)] == ids.tolist()


def test_a_removed_vector_is_never_found_again(lab: Lab) -> None:
    index, ids, vectors = lab.filled(100)
    assert index.remove(np.array([3, 50, 50, 12345])) == 2
    assert index.count == 98
    assert 3 not in [hit.embedding_id for hit in index.search(vectors[2:3], 98)[0]]
    assert index.search_above(vectors[2:3], 0.99) == [[]]
    kept = np.setdiff1d(ids, [3, 50])
    np.testing.assert_array_equal(index.ids(), kept)
    assert_rows(index, kept, vectors[kept - 1], error=lab.engine.score_error)
    assert index.remove(np.array([3])) == 0
    assert index.remove(NONE) == 0


def test_an_index_whose_every_vector_went_is_empty_and_takes_new_ones(lab: Lab) -> None:
    index, ids, vectors = lab.filled(300)
    assert index.remove(ids) == 300
    assert (index.count, index.ids().tolist(), whole(index.contents())) == (0, [], ([], []))
    assert index.search(vectors[:2], 5) == [[], []]
    index.add(ids[::-1], vectors)
    assert index.search(vectors[:1], 1)[0][0].embedding_id == 300


def test_an_id_may_be_added_again_after_its_removal_with_another_vector(lab: Lab) -> None:
    index, _, vectors = lab.filled(10)
    other = unit_vectors(1, seed=77)
    index.remove(np.array([4]))
    index.add(np.array([4]), other)
    assert_rows(index, np.array([4]), other, error=lab.engine.score_error)
    assert index.search(other, 1)[0][0].embedding_id == 4
    assert index.search_above(vectors[3:4], 0.99) == [[]]
    assert index.count == 10


def test_a_second_vector_of_one_id_is_refused_and_nothing_is_added(lab: Lab) -> None:
    index, _, _ = lab.filled(5)
    with pytest.raises(AlreadyExists, match="embedding id 5 "):
        index.add(np.array([6, 5]), unit_vectors(2, seed=3))
    with pytest.raises(AlreadyExists, match="embedding id 9 "):
        index.add(np.array([9, 9]), unit_vectors(2, seed=3))
    np.testing.assert_array_equal(index.ids(), [1, 2, 3, 4, 5])


def test_another_dimension_or_count_is_refused(lab: Lab) -> None:
    index = lab.index()
    with pytest.raises(EncoderMismatch, match=r"\b256\b.*\b192\b"):
        index.add(np.array([3]), unit_vectors(1, dim=256))
    with pytest.raises(InvalidRequest):
        index.add(np.array([5]), unit_vectors(2))
    assert index.count == 0


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(lab: Lab, poison: float) -> None:
    index, vectors = lab.index(), unit_vectors(3)
    vectors[1, 17] = poison
    with pytest.raises(NonFiniteEmbedding, match="vector 1 of 3"):
        index.add(np.arange(3), vectors)
    assert index.count == 0


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.001])
def test_a_vector_that_is_not_of_unit_norm_is_refused_with_its_norm(lab: Lab, factor: float) -> None:
    index = lab.index()
    with pytest.raises(InvalidRequest, match=f"norm {factor:g} where 1 "):
        index.add(np.array([1]), unit_vectors(1) * np.float32(factor))
    assert index.count == 0


def test_adding_nothing_changes_nothing(lab: Lab) -> None:
    index, _, _ = lab.filled(3)
    index.add(NONE, np.empty((0, 192), dtype=np.float32))
    assert index.count == 3


@pytest.mark.parametrize("deep", [False, True])
def test_contents_are_the_checksums_of_the_vectors_as_they_were_added(lab: Lab, deep: bool) -> None:
    index, vectors = lab.index(), unit_vectors(700)
    ids = np.random.default_rng(0).permutation(7000)[:700].astype(np.int64)
    for some in np.array_split(np.arange(700), 3):
        index.add(ids[some], vectors[some])
    index.remove(ids[100:250])
    kept = np.r_[0:100, 250:700]
    kept = kept[np.argsort(ids[kept])]
    assert whole(index.contents(deep=deep)) == (ids[kept].tolist(), crcs(vectors[kept]).tolist())
    assert whole(lab.index().contents(deep=deep)) == ([], [])


def test_an_index_may_be_changed_while_its_contents_are_read(lab: Lab) -> None:
    index, _, vectors = lab.filled(500)
    seen: list[int] = []
    for number, (ids, checksums) in enumerate(index.contents()):
        stayed = ids <= 500
        assert checksums[stayed].tolist() == crcs(vectors[ids[stayed] - 1]).tolist()
        seen += ids[stayed].tolist()
        index.add(np.array([1000 + number]), unit_vectors(1, seed=number))
        index.remove(np.array([1000 + number]))
    assert seen == list(range(1, 501))


def test_info_counts_and_names_the_encoder(lab: Lab) -> None:
    index, _, _ = lab.filled(20)
    info = index.info()
    assert (info.encoder_id, info.dim, info.count) == (ENCODER, 192, 20)
    assert info.kind
    assert info.memory_bytes >= 0
    assert info.mapped_bytes >= 0


def test_ids_between_two_bounds_are_those_inside_them(lab: Lab) -> None:
    index, ids = lab.index(), np.array([30, -4, 7, 12, 500, 8])
    assert index.ids(after=3, upto=9).tolist() == []
    index.add(ids, unit_vectors(6))
    index.remove(np.array([8]))
    assert index.ids(after=7).tolist() == [12, 30, 500]
    assert index.ids(after=-5, upto=12).tolist() == [-4, 7, 12]
    assert index.ids(upto=7).tolist() == [-4, 7]
    assert index.ids(after=12, upto=12).tolist() == index.ids(after=600).tolist() == []
