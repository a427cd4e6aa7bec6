"""Adaptive score normalization: how much more a pair resembles each other than others resemble either of them."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import InvalidRequest

MIN_COHORT = 200
"""Speakers a cohort needs; see docs/decisions/0020: smaller ones gave little and cost some kinds of recordings."""

TOP_N = 100
"""Cohort members most like a voice whose scores describe it."""


def as_norm(
    scores: ArrayLike, probe_cohort: ArrayLike, enrolled_cohort: ArrayLike, *, top_n: int = TOP_N
) -> NDArray[np.float64]:
    """Return scores in standard deviations above what both sides reach with the cohort members most like them.

    Parameters
    ----------
    scores : (n,) array
        Cosines of one probe with n voices.
    probe_cohort : (c,) array
        Cosines of the probe with the cohort.
    enrolled_cohort : (n, c) array
        Cosines of each voice with the cohort.
    top_n
        How many of the cohort count, the most similar ones.

    Raises
    ------
    InvalidRequest
        If the cohort has fewer than `MIN_COHORT` speakers.

    References
    ----------
    Matejka et al., "Analysis of Score Normalization in Multilingual Speaker Recognition", Interspeech 2017 (adaptive
    symmetric normalization, AS-norm1).
    """
    probe = np.asarray(probe_cohort, dtype=np.float64)
    enrolled = np.asarray(enrolled_cohort, dtype=np.float64)
    require_cohort(len(probe))
    probe_mean, probe_spread = cohort_statistics(probe[None, :], top_n)
    mean, spread = cohort_statistics(enrolled, top_n)
    given = np.asarray(scores, dtype=np.float64)
    normalized: NDArray[np.float64] = 0.5 * ((given - probe_mean) / probe_spread + (given - mean) / spread)
    return normalized


def cohort_statistics(cohort: ArrayLike, top_n: int = TOP_N) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each row's `top_n` highest cohort scores, (n,) each."""
    rows = np.asarray(cohort, dtype=np.float64)
    kept = min(top_n, rows.shape[1])
    highest = np.partition(rows, rows.shape[1] - kept, axis=1)[:, rows.shape[1] - kept :]
    return highest.mean(axis=1), np.maximum(highest.std(axis=1), 1e-6)


def require_cohort(speakers: int) -> None:
    """Refuse a cohort that would do harm.

    Raises
    ------
    InvalidRequest
        If it has fewer than `MIN_COHORT` speakers.
    """
    if speakers < MIN_COHORT:
        raise InvalidRequest(
            f"score normalization with a cohort of {speakers} speakers: fewer than {MIN_COHORT} may raise the error rate; "
            "enroll or give more, or leave it off"
        )
