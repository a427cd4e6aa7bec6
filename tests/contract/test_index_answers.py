"""What every engine answers to a search."""

import numpy as np
import pytest

from indexer.errors import EncoderMismatch, InvalidRequest, NonFiniteEmbedding
from indexer.index.base import IdSet, SearchParameters, VectorIndex
from tests.contract.engines import ENCODER, EXACT, Lab, assert_first, assert_in_order
from tests.vectors import ReferenceIndex, unit_vectors, voices

EVERYTHING = SearchParameters(exhaustive=True)


def test_it_is_a_vector_index(lab: Lab) -> None:
    index = lab.index()
    assert isinstance(index, VectorIndex)
    assert (index.encoder_id, index.dim, index.count) == (ENCODER, 192, 0)


def test_a_vector_finds_itself_with_score_one(lab: Lab) -> None:
    index, ids, vectors = lab.filled(50)
    for number, (hit,) in zip(ids, index.search(vectors, 1), strict=True):
        assert hit.embedding_id == number
        assert hit.score == pytest.approx(1.0, abs=max(1e-6, lab.engine.score_error))
        assert hit.score <= 1.0


def test_the_same_audio_once_more_is_found_however_few_are_asked_for(lab: Lab) -> None:
    """Codes may estimate a vector's cosine to itself too low by far more than that to its neighbors."""
    index, ids, _ = lab.filled(182)
    later = unit_vectors(150, seed=1)
    index.add(len(ids) + 1 + np.arange(len(later)), later)  # of which the codes know nothing
    for hits in (index.search(later, 1), index.search_above(later, 0.99)):
        assert [[hit.embedding_id - len(ids) for hit in own] for own in hits] == [[n + 1] for n in range(len(later))]


def test_scores_are_cosines_worked_out_by_hand(lab: Lab) -> None:
    index = lab.index()
    vectors = np.zeros((3, 192), dtype=np.float32)
    vectors[0, 0] = 1
    vectors[1, :2] = 0.6, 0.8
    vectors[2, 0] = -1
    index.add(np.array([7, 8, 9]), vectors)
    hits = index.search(vectors[:1], 3)[0]
    assert [hit.embedding_id for hit in hits] == [7, 8, 9]
    assert [hit.score for hit in hits] == pytest.approx([1, 0.6, -1], abs=max(1e-6, lab.engine.score_error))


def test_fewer_vectors_than_k_give_fewer_hits_and_no_placeholder(lab: Lab) -> None:
    index, _, vectors = lab.filled(3)
    assert sorted(hit.embedding_id for hit in index.search(vectors[:1], 100)[0]) == [1, 2, 3]


def test_an_empty_index_finds_nothing(lab: Lab) -> None:
    index, probes = lab.index(), unit_vectors(2)
    assert index.search(probes, 5) == [[], []]
    assert index.search(probes, 5, parameters=EVERYTHING) == [[], []]
    assert index.search_above(probes, -1.0) == [[], []]


def test_no_probes_give_no_answers(lab: Lab) -> None:
    index, _, _ = lab.filled(3)
    none = np.empty((0, 192), dtype=np.float32)
    assert index.search(none, 5) == []
    assert index.search_above(none, 0.5) == []


def test_equal_scores_are_ordered_by_id_also_across_the_kth_place(lab: Lab) -> None:
    index = lab.index()
    same = np.repeat(unit_vectors(1), 40, axis=0)
    index.add(np.random.default_rng(1).permutation(np.arange(100, 140)), same)
    assert [hit.embedding_id for hit in index.search(same[:1], 5)[0]] == [100, 101, 102, 103, 104]
    found = index.search_above(same[:1], 0.5, limit=5)[0]
    assert [hit.embedding_id for hit in found] == [100, 101, 102, 103, 104]


def test_more_equal_vectors_than_any_scan_proposes_are_still_ordered_by_id(lab: Lab) -> None:
    """One file of hold music a thousand times over."""
    index = lab.index()
    same = np.repeat(unit_vectors(1), 1500, axis=0)
    index.add(np.random.default_rng(1).permutation(np.arange(1500)), same)
    for hits in index.search(np.repeat(same[:1], 2, axis=0), 7):
        assert [hit.embedding_id for hit in hits] == [0, 1, 2, 3, 4, 5, 6]


def test_a_score_does_not_depend_on_the_probes_beside_it(lab: Lab) -> None:
    index, _, _ = lab.filled(300)
    probes = unit_vectors(64, seed=9)
    one_by_one = [index.search(probe[None, :], 10)[0] for probe in probes]
    assert index.search(probes, 10) == one_by_one
    assert index.search(probes[::-1], 10)[::-1] == one_by_one


@pytest.mark.parametrize("share", [0.005, 0.05, 0.3, 1.0])
def test_a_filter_acts_inside_the_scan_so_that_k_are_found(lab: Lab, share: float) -> None:
    """Those allowed are the farthest from the probe, which a filter applied to the nearest would never see."""
    index, _, vectors = lab.filled(1000)
    farthest = index.search(vectors[:1], 1000, parameters=EVERYTHING)[0][-round(share * 1000) :]
    allowed = np.array([hit.embedding_id for hit in farthest])
    for scope in (allowed, IdSet(allowed)):
        found = index.search(vectors[:1], 10, allowed=scope, parameters=EVERYTHING)[0]
        assert found == farthest[:10]
        found = index.search(vectors[:1], 10, allowed=scope)[0]
        assert len(found) == min(10, len(allowed))
        assert {hit.embedding_id for hit in found} <= set(allowed.tolist())


def test_a_filter_of_nothing_or_of_strangers_finds_nothing(lab: Lab) -> None:
    index, _, vectors = lab.filled(10)
    for numbers in (np.array([], dtype=np.int64), np.array([999, -1])):
        for allowed in (numbers, IdSet(numbers)):
            assert index.search(vectors[:1], 5, allowed=allowed) == [[]]
            assert index.search_above(vectors[:1], -1.0, allowed=allowed) == [[]]


def test_a_filter_may_come_in_any_order_and_name_ids_twice(lab: Lab) -> None:
    index, _, vectors = lab.filled(40)
    for allowed in (np.array([9, 3, 9, 1]), IdSet([9, 3, 9, 1])):
        assert {hit.embedding_id for hit in index.search(vectors[:1], 5, allowed=allowed)[0]} == {1, 3, 9}


def test_a_filter_that_is_kept_follows_what_comes_and_goes(lab: Lab) -> None:
    index, vectors = lab.index(), unit_vectors(600)
    index.add(np.arange(0, 300), vectors[:300])
    even = IdSet(np.arange(0, 600, 2))

    def found() -> list[int]:
        hits = index.search(vectors[:1], 600, allowed=even)[0]
        return sorted(hit.embedding_id for hit in hits)

    assert found() == list(range(0, 300, 2))
    index.add(np.arange(300, 600), vectors[300:])
    assert found() == list(range(0, 600, 2))
    index.remove(np.arange(100, 500))
    assert found() == [*range(0, 100, 2), *range(500, 600, 2)]
    index.add(np.arange(100, 200), vectors[100:200])
    assert found() == [*range(0, 200, 2), *range(500, 600, 2)]
    assert index.search(vectors[150:151], 1, allowed=even)[0][0].embedding_id == 150
    other = lab.index()  # what one index made of a filter is nothing to another
    other.add(np.array([4, 5]), vectors[:2])
    assert [hit.embedding_id for hit in other.search(vectors[:1], 9, allowed=even)[0]] == [4]


def test_everything_above_a_threshold_is_found_including_the_threshold_itself(lab: Lab) -> None:
    index, _, vectors = lab.filled(300)
    ranked = index.search(vectors[:2], 300, parameters=EVERYTHING)
    threshold = ranked[0][40].score
    found = index.search_above(vectors[:2], threshold)
    if not lab.engine.compressed:
        assert found[0] == ranked[0][:41]
        assert found[1] == [hit for hit in ranked[1] if hit.score >= threshold]
    assert found[0][-1].score >= threshold
    assert index.search_above(vectors[:1], 1.5) == [[]]
    assert index.search_above(vectors[:1], -1.0)[0] == ranked[0]
    assert index.search_above(vectors[:1], -7.0)[0] == ranked[0]


def test_a_limit_keeps_the_best_of_those_above_a_threshold(lab: Lab) -> None:
    index, ids, vectors = lab.filled(300)
    every = index.search_above(vectors[:2], -1.0)
    assert [len(hits) for hits in every] == [300, 300]
    assert index.search_above(vectors[:2], -1.0, limit=300) == every
    assert index.search_above(vectors[:2], every[0][2].score, limit=7)[0] == every[0][:3]
    if not lab.engine.compressed:
        assert index.search_above(vectors[:2], -1.0, limit=7) == [hits[:7] for hits in every]
        some = index.search_above(vectors[:1], -1.0, allowed=ids[::3])[0]
        assert index.search_above(vectors[:1], -1.0, allowed=ids[::3], limit=9)[0] == some[:9]


def test_meaningless_requests_are_refused(lab: Lab) -> None:
    index, _, vectors = lab.filled(2)
    with pytest.raises(InvalidRequest, match="k = 0"):
        index.search(vectors, 0)
    with pytest.raises(InvalidRequest, match="threshold = nan"):
        index.search_above(vectors, float("nan"))
    with pytest.raises(InvalidRequest, match="limit"):
        index.search_above(vectors, -1.0, limit=0)


def test_probes_that_cannot_be_compared_are_refused(lab: Lab) -> None:
    index, _, vectors = lab.filled(2)
    with pytest.raises(EncoderMismatch, match=r"\b80\b.*\b192\b"):
        index.search(unit_vectors(1, dim=80), 1)
    with pytest.raises(EncoderMismatch, match=r"\(192,\)"):
        index.search_above(unit_vectors(1)[0], 0.5)
    with pytest.raises(InvalidRequest, match=r"norm 0\.5 where 1 "):
        index.search(vectors * np.float32(0.5), 1)
    vectors[1, 5] = np.nan
    with pytest.raises(NonFiniteEmbedding, match="vector 1 of 2"):
        index.search(vectors, 1)


@pytest.mark.parametrize("candidates", [50, 200, 5000])
def test_few_candidates_still_give_k_hits_with_true_scores(lab: Lab, candidates: int) -> None:
    """Also where those that a scan would propose first have gone."""
    index, ids, vectors = lab.filled(1000)
    truth = ReferenceIndex(ENCODER)
    truth.add(ids, vectors)
    nearest = np.array([hit.embedding_id for hit in index.search(vectors[:1], 300, parameters=EVERYTHING)[0]])
    for one in (index, truth):
        one.remove(nearest[1:])
    (hits,) = index.search(vectors[:1], 50, parameters=SearchParameters(candidates=candidates))
    assert len(hits) == 50
    assert_in_order(hits)
    true_scores = dict(truth.search(vectors[:1], 1000)[0])
    assert all(abs(hit.score - true_scores[hit.embedding_id]) <= lab.engine.score_error for hit in hits)


def test_a_filter_of_thousands_among_ten_thousand_keeps_to_them(lab: Lab) -> None:
    """So many that a filter is worth preparing rather than trying each of them."""
    vectors, ids = voices(1000, 10), np.arange(10_000)
    index = lab.index()
    index.add(ids[:9000], vectors[:9000])
    kept, probes = IdSet(ids[ids % 10 < 6]), vectors[9::1000]  # of each voice six; the probes are of the other four
    first = ids[9::1000] - 9

    def voices_found() -> list[set[int]]:
        return [{hit.embedding_id for hit in hits} for hits in index.search(probes, 6, allowed=kept)]

    assert voices_found()[:9] == [set(range(number, number + 6)) for number in first[:9]]
    index.add(ids[9000:], vectors[9000:])
    assert voices_found() == [set(range(number, number + 6)) for number in first]
    index.remove(np.arange(2000, 2003))
    assert {2003, 2004, 2005} <= voices_found()[2]
    assert all(number % 10 < 6 for found in voices_found() for number in found)


def test_an_exhaustive_search_misses_nothing(lab: Lab) -> None:
    """Random vectors all lie about as far from a probe: the hardest there are for compressed codes."""
    index, ids, vectors = lab.filled(1200)
    truth = ReferenceIndex(ENCODER)
    truth.add(ids, vectors)
    gone = ids[5::7]
    for one in (index, truth):
        one.remove(gone)
    probes = unit_vectors(3, seed=5)
    for allowed in (None, IdSet(ids[::3])):
        expected = truth.search(probes, 900, allowed=allowed)
        found = index.search(probes, 40, allowed=allowed, parameters=EVERYTHING)
        for hits, true in zip(found, expected, strict=True):
            assert_first(hits, true, 40, error=lab.engine.score_error)


def test_the_utterances_of_a_known_voice_are_found_among_thousands(lab: Lab) -> None:
    vectors = voices(400, 10)
    index, ids = lab.index(), np.arange(4000)
    probes = vectors[::400]
    index.add(ids, vectors)
    best = index.search(probes, 10, parameters=EVERYTHING)
    found = index.search(probes, 10)
    missed = sum(len(set(true) - set(hits)) for true, hits in zip(best, found, strict=True))
    assert missed == 0 or (lab.engine.compressed and missed <= 1)
    kept = IdSet(np.delete(ids, np.arange(0, 4000, 10)))
    others = index.search(probes, 9, allowed=kept)
    for number, hits in zip(range(0, 4000, 400), others, strict=True):
        assert {hit.embedding_id for hit in hits if hit.score > 0.4} <= set(range(number + 1, number + 10))
    if lab.engine.score_error <= EXACT:
        assert [hits[0].score for hits in found] == pytest.approx([1.0] * 10, abs=1e-6)
