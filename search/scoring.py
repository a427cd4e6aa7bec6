"""Scores between voices: cosines, never rescaled."""

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors


def cosine_scores(probe: NDArray[np.float32], vectors: Vectors) -> NDArray[np.float64]:
    """Score a probe against each row.

    Parameters
    ----------
    probe : (D,) float32 array
        Unit vector.
    vectors : (n, D) float32 array
        Unit vectors of the same encoder.

    Returns
    -------
    (n,) float64 array
        Cosines as an index returns them, whatever the other rows are; clipped to [-1, 1] because rounding can leave
        that range by one part in ten million.
    """
    # Summed row by row rather than by a matrix product, whose rounding depends on the row's place in it.
    scores: NDArray[np.float64] = (vectors.astype(np.float64) * probe.astype(np.float64)).sum(axis=1)
    return np.clip(scores, -1.0, 1.0)


def speaker_score(probe: NDArray[np.float32], voiceprint: NDArray[np.float32]) -> float:
    """Score a probe against a speaker: the cosine with their voiceprint.

    The best or the mean of the cosines with a speaker's enrollments, alone or combined with this one, was never better
    on labeled recordings; see docs/decisions/0011-voiceprint-scores.md.

    Parameters
    ----------
    probe, voiceprint : (D,) float32 arrays
        Unit vectors of the same encoder.
    """
    return float(cosine_scores(probe, voiceprint[None, :])[0])
