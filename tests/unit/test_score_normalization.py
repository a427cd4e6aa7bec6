"""AS-norm: by hand, by law, and refused where it does harm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.errors import InvalidRequest
from search.normalization import MIN_COHORT, as_norm, cohort_statistics


def test_a_score_is_counted_in_spreads_above_both_cohorts() -> None:
    # The probe's two best cohort scores: 0.3 and 0.1, mean 0.2, deviation 0.1; the voice's: 0.2 and 0.4.
    probe = np.full(MIN_COHORT, -0.5)
    probe[:2] = 0.3, 0.1
    enrolled = np.full((1, MIN_COHORT), -0.5)
    enrolled[0, 5:7] = 0.2, 0.4
    # 0.5 * ((0.6 - 0.2) / 0.1 + (0.6 - 0.3) / 0.1)
    assert as_norm([0.6], probe, enrolled, top_n=2) == pytest.approx([3.5])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), shift=st.floats(-0.3, 0.3), scale=st.floats(0.2, 1.5))
def test_a_channel_that_shifts_and_stretches_all_scores_changes_nothing(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    scores, probe, enrolled = rng.normal(0, 0.1, 5), rng.normal(0, 0.1, 300), rng.normal(0, 0.1, (5, 300))
    plain = as_norm(scores, probe, enrolled)
    moved = as_norm(scores * scale + shift, probe * scale + shift, enrolled * scale + shift)
    np.testing.assert_allclose(moved, plain, atol=1e-6)


def test_only_the_most_similar_count() -> None:
    mean, spread = cohort_statistics([[0.1, 0.9, 0.5, 0.7]], 2)
    assert mean == pytest.approx([0.8])
    assert spread == pytest.approx([0.1])


def test_a_small_cohort_is_refused_with_the_least_there_must_be() -> None:
    with pytest.raises(InvalidRequest, match=f"cohort of 40 speakers: fewer than {MIN_COHORT}"):
        as_norm([0.5], np.zeros(40), np.zeros((1, 40)))


def test_a_cohort_that_is_all_the_same_gives_finite_scores() -> None:
    assert np.isfinite(as_norm([0.5], np.zeros(300), np.zeros((1, 300)))).all()
