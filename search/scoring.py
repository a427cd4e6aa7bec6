"""Scores between voices: cosines, never rescaled."""

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors


def cosine_scores(probe: NDArray[np.float32], vectors: Vectors) -> NDArray[np.float32]:
    """Score a probe against each row.

    Parameters
    ----------
    probe : (D,) float32 array
        Unit vector.
    vectors : (n, D) float32 array
        Unit vectors of the same encoder.

    Returns
    -------
    (n,) float32 array
        Cosines; clipped to [-1, 1] because rounding can leave that range by one part in ten million.
    """
    scores: NDArray[np.float32] = np.clip(vectors @ probe, -1.0, 1.0).astype(np.float32)
    return scores
