"""AS-norm: by hand, by law, and refused where it does harm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from indexer.errors import InvalidRequest
from indexer.types import Vectors
from search.normalization import (
    MIN_COHORT,
    Cohort,
    Resemblance,
    as_norm,
    cohort_of,
    drawn,
    require_cohort,
)

NOBODY = np.array([[-1]])


def described(scores: NDArray[np.float64], top_n: int = 100) -> Resemblance:
    """Return rows of cohort scores as a cohort gives them: falling, of speakers 0, 1, 2, ..."""
    order = np.argsort(-scores, axis=1)
    return Resemblance(np.take_along_axis(scores, order, axis=1), order, top_n)


def unit(count: int, seed: int) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, 192)).astype(np.float32)
    made: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return made


def test_a_score_is_counted_in_spreads_above_both_cohorts() -> None:
    # The probe's two best cohort scores: 0.3 and 0.1, mean 0.2, deviation 0.1; the voice's: 0.2 and 0.4.
    probe = np.full((1, 50), -0.5)
    probe[0, :2] = 0.3, 0.1
    enrolled = np.full((1, 50), -0.5)
    enrolled[0, 5:7] = 0.2, 0.4
    # 0.5 * ((0.6 - 0.2) / 0.1 + (0.6 - 0.3) / 0.1)
    assert as_norm([0.6], described(enrolled, 2), described(probe, 2), NOBODY) == pytest.approx([3.5])


def test_who_is_compared_is_not_one_of_the_cohort() -> None:
    probe = np.full((1, 50), -0.5)
    probe[0, :3] = 0.3, 0.1, 0.9
    mean, spread = described(probe, 2).statistics(np.array([[2]]))
    assert (mean[0], spread[0]) == (pytest.approx(0.2), pytest.approx(0.1))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-0.3, 0.3), scale=st.floats(0.2, 1.5))
def test_a_channel_that_shifts_and_stretches_all_scores_changes_nothing(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    scores, probe, enrolled = rng.normal(0, 0.1, 5), rng.normal(0, 0.1, (1, 300)), rng.normal(0, 0.1, (5, 300))
    plain = as_norm(scores, described(enrolled), described(probe), NOBODY)
    moved = as_norm(
        scores * scale + shift, described(enrolled * scale + shift), described(probe * scale + shift), NOBODY
    )
    np.testing.assert_allclose(moved, plain, atol=1e-6)


def test_a_cohort_finds_for_each_voice_those_most_like_it() -> None:
    vectors, voices = unit(400, 1), unit(3, 2)
    found = Cohort(np.arange(400) + 1000, vectors).resemblance(voices, top_n=10)
    expected = np.sort(voices @ vectors.T, axis=1)[:, ::-1]
    np.testing.assert_allclose(found.scores, expected[:, :12], atol=1e-6)
    np.testing.assert_array_equal(found.speakers, np.argsort(-(voices @ vectors.T), axis=1)[:, :12] + 1000)


def test_a_small_cohort_is_refused_with_the_least_there_must_be() -> None:
    with pytest.raises(InvalidRequest, match=f"cohort of 40 speakers: fewer than {MIN_COHORT}"):
        Cohort(np.arange(40), unit(40, 0))
    with pytest.raises(InvalidRequest, match="of 300 speakers by a calibration that was fitted with 400"):
        require_cohort(300, 400)


def test_a_cohort_that_is_all_the_same_gives_finite_scores() -> None:
    same = np.zeros((1, 300))
    assert np.isfinite(as_norm([0.5], described(same), described(same), NOBODY)).all()


def test_who_is_drawn_stays_drawn_when_others_come_and_go() -> None:
    everybody = np.arange(1, 5001)
    first = drawn(everybody, 500)
    assert len(first) == 500
    assert (np.diff(first) > 0).all()
    gone = drawn(np.setdiff1d(everybody, first[:3]), 500)
    assert len(np.intersect1d(first, gone)) == 497
    # Neither the oldest nor the newest alone.
    assert abs(first.mean() - 2500) < 250
    np.testing.assert_array_equal(drawn(everybody[:20], 500), everybody[:20])


def test_a_cohort_of_recordings_has_one_voiceprint_a_speaker() -> None:
    vectors = unit(600, 3)
    names = np.array([f"s{number // 2:03}" for number in range(600)])
    made = cohort_of(vectors, names, np.tile([3.0, 1.0], 300), 5000)
    assert made.speakers.tolist() == sorted(set(names.tolist()))
    mean = 3 * vectors[0] + vectors[1]
    np.testing.assert_allclose(made.vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert len(cohort_of(vectors, names, np.ones(600), 250)) == 250
