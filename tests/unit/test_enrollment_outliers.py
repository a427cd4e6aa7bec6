"""Which enrollments of a speaker sound like somebody else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.embedding import aggregation
from indexer.embedding.aggregation import Likeness
from indexer.types import Vectors


def voice(seed: int) -> NDArray[np.float64]:
    drawn = np.random.default_rng(seed).standard_normal(64)
    return drawn / np.linalg.norm(drawn)


def near(center: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    drawn = center + 0.8 * voice(seed)
    return drawn / np.linalg.norm(drawn)


def rows(*vectors: NDArray[np.float64]) -> Vectors:
    return np.stack(vectors).astype(np.float32)


def outliers(vectors: Vectors, seconds: list[float], threshold: float, least_judged_s: float = 0.0) -> list[Likeness]:
    return aggregation.outliers(
        vectors, seconds, threshold=threshold, pair_threshold=threshold, least_judged_s=least_judged_s
    )


def flags(found: list[Likeness]) -> list[bool]:
    return [one.is_outlier for one in found]


ANN, BO = voice(1), voice(2)


def test_a_single_enrollment_is_like_no_other_and_no_outlier() -> None:
    assert outliers(rows(ANN), [5.0], 0.3) == [Likeness(None, False)]
    assert outliers(np.empty((0, 64), dtype=np.float32), [], 0.3) == []


def test_two_enrollments_worked_by_hand() -> None:
    found = outliers(rows(np.array([1.0, 0.0]), np.array([0.6, 0.8])), [1.0, 9.0], 0.5)
    assert [one.cosine for one in found] == pytest.approx([0.6, 0.6])
    assert flags(found) == [False, False]


def test_of_two_that_are_unlike_both_are_outliers() -> None:
    assert flags(outliers(rows(ANN, BO), [5.0, 5.0], 0.3)) == [True, True]


def test_one_strange_recording_does_not_make_the_others_strange_however_long_it_is() -> None:
    found = outliers(rows(near(ANN, 11), near(ANN, 12), near(BO, 13)), [3.0, 5.0, 600.0], 0.35)
    assert flags(found) == [False, False, True]
    alone = outliers(rows(near(ANN, 11), near(ANN, 12)), [3.0, 5.0], 0.35)
    assert [one.cosine for one in found[:2]] == pytest.approx([one.cosine for one in alone])


def test_two_strange_recordings_among_five_are_found() -> None:
    vectors = rows(near(ANN, 11), near(BO, 12), near(ANN, 13), near(voice(3), 14), near(ANN, 15))
    assert flags(outliers(vectors, [4.0] * 5, 0.35)) == [False, True, False, True, False]


def test_too_little_speech_is_neither_an_outlier_nor_makes_others_outliers() -> None:
    vectors = rows(near(ANN, 11), near(BO, 12))
    assert flags(outliers(vectors, [9.0, 1.0], 0.35, least_judged_s=2.0)) == [False, False]
    assert flags(outliers(vectors, [9.0, 2.0], 0.35, least_judged_s=2.0)) == [True, True]
    three = rows(near(ANN, 11), near(BO, 12), near(ANN, 13))
    assert flags(outliers(three, [9.0, 1.0, 9.0], 0.35, least_judged_s=2.0)) == [False, False, False]
    assert flags(outliers(three, [9.0, 3.0, 9.0], 0.35, least_judged_s=2.0)) == [False, True, False]


def test_two_that_are_alone_may_be_less_alike_than_three() -> None:
    vectors = rows(np.array([1.0, 0.0]), np.array([0.6, 0.8]))
    kinds = {"threshold": 0.9, "pair_threshold": 0.5, "least_judged_s": 0.0}
    assert flags(aggregation.outliers(vectors, [5.0] * 2, **kinds)) == [False, False]
    three = np.concatenate((vectors, vectors[:1]))
    assert flags(aggregation.outliers(three, [5.0] * 3, **kinds)) == [False, True, False]


def test_vectors_that_cancel_out_give_no_cosine_above_zero() -> None:
    found = outliers(rows(ANN, BO, -BO), [1.0, 1.0, 1.0], 0.3)
    assert found[0].cosine == 0.0


@given(
    count=st.integers(1, 8),
    seed=st.integers(0, 1000),
    threshold=st.floats(-1, 1),
    higher=st.floats(0, 0.5),
)
def test_a_higher_threshold_never_flags_fewer_and_order_does_not_matter(
    count: int, seed: int, threshold: float, higher: float
) -> None:
    draw = np.random.default_rng(seed)
    vectors = rows(*(near(ANN if draw.random() < 0.7 else voice(seed), seed + number) for number in range(count)))
    seconds = draw.uniform(0.5, 30, count).tolist()
    found = outliers(vectors, seconds, threshold)
    assert sum(flags(outliers(vectors, seconds, threshold + higher))) >= sum(flags(found))
    shuffled = draw.permutation(count)
    again = outliers(vectors[shuffled], [seconds[place] for place in shuffled], threshold)
    assert flags(again) == [found[place].is_outlier for place in shuffled]
