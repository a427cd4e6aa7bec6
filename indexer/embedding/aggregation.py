"""Several embeddings of one voice -> one vector."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors


def aggregate_embeddings(vectors: Vectors, durations_s: Sequence[float]) -> NDArray[np.float32]:
    """Aggregate embeddings of one voice into one unit vector: a voiceprint, or the probe of a long recording.

    The mean of the unit vectors weighted by duration, normalized: a longer utterance is the better estimate of the
    voice (Snyder et al., "X-vectors", ICASSP 2018 average enrollment vectors likewise).

    Parameters
    ----------
    vectors : (n, D) float32 array
        Unit vectors, at least one.
    durations_s
        Length of each utterance; must be positive.

    Raises
    ------
    ValueError
        If there is no vector, the counts differ, a duration is not positive, or the vectors cancel out.
    """
    weights = np.asarray(durations_s, dtype=np.float64)
    if len(vectors) == 0 or len(vectors) != len(weights):
        raise ValueError(
            f"{len(vectors)} vectors with {len(weights)} durations: need one duration for each of at least one vector"
        )
    if not (weights > 0).all():
        raise ValueError(f"durations must be positive seconds, got {weights.min()}")
    mean = (weights[:, None] * vectors.astype(np.float64)).sum(axis=0) / weights.sum()
    norm = float(np.linalg.norm(mean))
    if norm < 1e-6:
        raise ValueError("the vectors cancel out: their mean has no direction")
    voiceprint: NDArray[np.float32] = (mean / norm).astype(np.float32)
    return voiceprint
