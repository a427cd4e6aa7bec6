from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.errors import AlreadyExists, EncoderMismatch, InvalidRequest, NonFiniteEmbedding, NotFound
from indexer.index.base import Hit, VectorIndex
from indexer.index.faiss_index import FaissFlatIndex
from indexer.types import EncoderId
from tests.vectors import ReferenceIndex, unit_vectors

ENCODER = EncoderId("encoder-a")
Make = Callable[[], VectorIndex]
_everywhere = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=[FaissFlatIndex, ReferenceIndex], ids=["faiss-flat", "reference"])
def make(request: pytest.FixtureRequest) -> Make:
    return lambda: request.param(ENCODER)


def _filled(make: Make, count: int, *, first_id: int = 1, seed: int = 0) -> tuple[VectorIndex, np.ndarray, np.ndarray]:
    index, ids, vectors = make(), np.arange(first_id, first_id + count), unit_vectors(count, seed=seed)
    index.add(ids, vectors)
    return index, ids, vectors


def _assert_same(found: list[list[Hit]], expected: list[list[Hit]]) -> None:
    assert [len(hits) for hits in found] == [len(hits) for hits in expected]
    for some, others in zip(found, expected, strict=True):
        np.testing.assert_allclose([h.score for h in some], [h.score for h in others], rtol=0, atol=1e-12)
        assert [h.embedding_id for h in some] == [h.embedding_id for h in others]


def test_it_is_a_vector_index(make: Make) -> None:
    index = make()
    assert isinstance(index, VectorIndex)
    assert (index.encoder_id, index.dim, index.count) == (ENCODER, 192, 0)


def test_a_vector_finds_itself_with_score_one(make: Make) -> None:
    index, ids, vectors = _filled(make, 50)
    for number, row in zip(ids, index.search(vectors, 1), strict=True):
        assert row[0].embedding_id == number
        assert row[0].score == pytest.approx(1.0, abs=1e-6)
        assert row[0].score <= 1.0


def test_scores_are_cosines_worked_out_by_hand(make: Make) -> None:
    index = make()
    vectors = np.zeros((3, 192), dtype=np.float32)
    vectors[0, 0] = 1
    vectors[1, :2] = 0.6, 0.8
    vectors[2, 0] = -1
    index.add(np.array([7, 8, 9]), vectors)
    assert [(h.embedding_id, round(h.score, 6)) for h in index.search(vectors[:1], 3)[0]] == [(7, 1), (8, 0.6), (9, -1)]


def test_fewer_vectors_than_k_give_fewer_hits_and_no_placeholder(make: Make) -> None:
    index, _, vectors = _filled(make, 3)
    assert sorted(hit.embedding_id for hit in index.search(vectors[:1], 100)[0]) == [1, 2, 3]


def test_an_empty_index_finds_nothing(make: Make) -> None:
    probes = unit_vectors(2)
    assert make().search(probes, 5) == [[], []]
    assert make().search_above(probes, -1.0) == [[], []]
    assert make().reconstruct(np.array([], dtype=np.int64)).shape == (0, 192)


def test_no_probes_give_no_answers(make: Make) -> None:
    index, _, _ = _filled(make, 3)
    assert index.search(np.empty((0, 192), dtype=np.float32), 5) == []


def test_equal_scores_are_ordered_by_id_also_across_the_kth_place(make: Make) -> None:
    index = make()
    same = np.repeat(unit_vectors(1), 40, axis=0)
    index.add(np.random.default_rng(1).permutation(np.arange(100, 140)), same)
    assert [hit.embedding_id for hit in index.search(same[:1], 5)[0]] == [100, 101, 102, 103, 104]


def test_a_score_does_not_depend_on_the_probes_beside_it(make: Make) -> None:
    index, _, _ = _filled(make, 200)
    probes = unit_vectors(64, seed=9)
    together = index.search(probes, 10)
    assert together == [index.search(probe[None, :], 10)[0] for probe in probes]


def test_a_filter_acts_inside_the_scan_so_that_k_are_found(make: Make) -> None:
    index, ids, vectors = _filled(make, 500)
    far = np.array([hit.embedding_id for hit in index.search(vectors[:1], 500)[0][-20:]])
    found = index.search(vectors[:1], 10, allowed=far)[0]
    assert [hit.embedding_id for hit in found] == far[:10].tolist()
    assert index.search(vectors[:1], 3, allowed=ids[::2])[0][0].embedding_id == 1


def test_a_filter_of_nothing_or_of_strangers_finds_nothing(make: Make) -> None:
    index, _, vectors = _filled(make, 10)
    for allowed in (np.array([], dtype=np.int64), np.array([999, -1])):
        assert index.search(vectors[:1], 5, allowed=allowed) == [[]]
        assert index.search_above(vectors[:1], -1.0, allowed=allowed) == [[]]


def test_everything_above_a_threshold_is_found_including_the_threshold_itself(make: Make) -> None:
    index, _, vectors = _filled(make, 300)
    ranked = index.search(vectors[:2], 300)
    threshold = ranked[0][40].score
    found = index.search_above(vectors[:2], threshold)
    assert found[0] == ranked[0][:41]
    assert found[1] == [hit for hit in ranked[1] if hit.score >= threshold]
    assert index.search_above(vectors[:1], 1.5) == [[]]


def test_a_limit_keeps_the_best_of_those_above_a_threshold(make: Make) -> None:
    index, ids, vectors = _filled(make, 300)
    every = index.search_above(vectors[:2], -1.0)
    assert index.search_above(vectors[:2], -1.0, limit=7) == [hits[:7] for hits in every]
    assert index.search_above(vectors[:2], every[0][2].score, limit=7)[0] == every[0][:3]
    assert index.search_above(vectors[:2], -1.0, limit=300) == every
    some = index.search_above(vectors[:1], -1.0, allowed=ids[::3])[0]
    assert index.search_above(vectors[:1], -1.0, allowed=ids[::3], limit=9)[0] == some[:9]
    with pytest.raises(InvalidRequest, match="limit"):
        index.search_above(vectors[:1], -1.0, limit=0)


def test_a_limit_among_equal_scores_keeps_the_lowest_ids(make: Make) -> None:
    index = make()
    same = np.repeat(unit_vectors(1), 40, axis=0)
    index.add(np.random.default_rng(1).permutation(np.arange(100, 140)), same)
    found = index.search_above(same[:1], 0.5, limit=5)[0]
    assert [hit.embedding_id for hit in found] == [100, 101, 102, 103, 104]


def test_a_removed_vector_is_never_found_again(make: Make) -> None:
    index, ids, vectors = _filled(make, 100)
    assert index.remove(np.array([3, 50, 50, 12345])) == 2
    assert index.count == 98
    assert 3 not in [hit.embedding_id for hit in index.search(vectors[2:3], 98)[0]]
    kept = np.setdiff1d(ids, [3, 50])
    np.testing.assert_array_equal(index.ids(), kept)
    np.testing.assert_array_equal(index.reconstruct(kept), vectors[kept - 1])
    assert index.remove(np.array([3])) == 0


def test_an_id_may_be_added_again_after_its_removal_with_another_vector(make: Make) -> None:
    index, _, _ = _filled(make, 10)
    other = unit_vectors(1, seed=77)
    index.remove(np.array([4]))
    index.add(np.array([4]), other)
    np.testing.assert_array_equal(index.reconstruct(np.array([4])), other)
    assert index.search(other, 1)[0][0].embedding_id == 4


def test_a_second_vector_of_one_id_is_refused_and_nothing_is_added(make: Make) -> None:
    index, _, _ = _filled(make, 5)
    with pytest.raises(AlreadyExists, match="embedding id 5 "):
        index.add(np.array([6, 5]), unit_vectors(2, seed=3))
    with pytest.raises(AlreadyExists, match="embedding id 9 "):
        index.add(np.array([9, 9]), unit_vectors(2, seed=3))
    np.testing.assert_array_equal(index.ids(), [1, 2, 3, 4, 5])


def test_another_dimension_is_refused_with_both_numbers(make: Make) -> None:
    index, _, _ = _filled(make, 2)
    with pytest.raises(EncoderMismatch, match=r"\b256\b.*\b192\b"):
        index.add(np.array([3]), unit_vectors(1, dim=256))
    with pytest.raises(EncoderMismatch, match=r"\b80\b.*\b192\b"):
        index.search(unit_vectors(1, dim=80), 1)
    with pytest.raises(EncoderMismatch, match=r"\(192,\)"):
        index.search(unit_vectors(1)[0], 1)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused(make: Make, poison: float) -> None:
    index, vectors = make(), unit_vectors(3)
    vectors[1, 17] = poison
    with pytest.raises(NonFiniteEmbedding, match="vector 1 of 3"):
        index.add(np.arange(3), vectors)
    with pytest.raises(NonFiniteEmbedding):
        index.search(vectors, 1)
    assert index.count == 0


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.001])
def test_a_vector_that_is_not_of_unit_norm_is_refused_with_its_norm(make: Make, factor: float) -> None:
    index = make()
    with pytest.raises(InvalidRequest, match=f"norm {factor:g} where 1 "):
        index.add(np.array([1]), unit_vectors(1) * np.float32(factor))


def test_meaningless_requests_are_refused(make: Make) -> None:
    index, _, vectors = _filled(make, 2)
    with pytest.raises(InvalidRequest, match="k = 0"):
        index.search(vectors, 0)
    with pytest.raises(InvalidRequest, match="threshold = nan"):
        index.search_above(vectors, float("nan"))
    with pytest.raises(InvalidRequest):
        index.add(np.array([5]), unit_vectors(2))
    with pytest.raises(NotFound, match="99"):
        index.reconstruct(np.array([1, 99]))


def test_what_is_lent_is_the_whole_and_bit_for_bit(make: Make) -> None:
    index, ids, vectors = _filled(make, 20)
    with index.frozen() as (lent_ids, lent):
        order = np.argsort(lent_ids)
        np.testing.assert_array_equal(lent_ids[order], ids)
        np.testing.assert_array_equal(lent[order], vectors)
    with make().frozen() as (lent_ids, lent):
        assert lent_ids.shape == (0,)
        assert lent.shape == (0, 192)


def test_info_counts_and_names_the_encoder(make: Make) -> None:
    index, _, _ = _filled(make, 20)
    info = index.info()
    assert (info.encoder_id, info.dim, info.count) == (ENCODER, 192, 20)
    assert info.memory_bytes >= 20 * 192 * 4


@_everywhere
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 120),
    copies=st.integers(0, 30),
    gone=st.integers(0, 60),
    probes=st.integers(1, 30),
    k=st.integers(1, 140),
    share=st.one_of(st.none(), st.floats(0, 1)),
)
def test_it_answers_as_comparing_with_every_vector_does(
    make: Make, seed: int, count: int, copies: int, gone: int, probes: int, k: int, share: float | None
) -> None:
    random = np.random.default_rng(seed)
    vectors = unit_vectors(count, seed=seed)
    if count and copies:  # the same audio in two files: exact ties
        vectors[random.integers(0, count, copies)] = vectors[random.integers(0, count)]
    ids = random.permutation(10 * count)[:count].astype(np.int64)
    index, reference = make(), ReferenceIndex(ENCODER)
    for some in (slice(0, count // 3), slice(count // 3, count)):
        index.add(ids[some], vectors[some])
        reference.add(ids[some], vectors[some])
    removed = ids[random.permutation(count)[:gone]]
    assert index.remove(removed) == reference.remove(removed)
    allowed = None if share is None else ids[random.random(count) < share]
    asked = np.concatenate([vectors, unit_vectors(30, seed=seed + 1)])[random.permutation(count + 30)[:probes]]

    np.testing.assert_array_equal(index.ids(), reference.ids())
    _assert_same(index.search(asked, k, allowed=allowed), reference.search(asked, k, allowed=allowed))
    _assert_same(index.search_above(asked, 0.1, allowed=allowed), reference.search_above(asked, 0.1, allowed=allowed))
    _assert_same(
        index.search_above(asked, -0.2, allowed=allowed, limit=k),
        reference.search_above(asked, -0.2, allowed=allowed, limit=k),
    )


def test_it_tells_which_ids_are_inside_whatever_order_they_came_in(make: Make) -> None:
    index = make()
    assert index.holds(np.array([1, 2])).tolist() == [False, False]
    index.add(np.array([30, 10, 20]), unit_vectors(3))
    index.remove(np.array([10]))
    assert index.holds(np.array([10, 20, 5, 30, 99])).tolist() == [False, True, False, True, False]
    assert index.holds(np.empty(0, dtype=np.int64)).tolist() == []


def test_a_filter_may_come_in_any_order_and_name_ids_twice(make: Make) -> None:
    index, _ids, vectors = _filled(make, 40)
    hits = index.search(vectors[:1], 5, allowed=np.array([9, 3, 9, 1]))[0]
    assert {hit.embedding_id for hit in hits} == {1, 3, 9}
