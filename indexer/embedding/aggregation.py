"""Several embeddings of one voice -> one vector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.types import Vectors

LEAST_NORM = 1e-6
"""A mean of unit vectors shorter than this has no direction that rounding did not choose."""


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
    if len(vectors) == 0:
        raise ValueError("0 vectors with 0 durations: need one duration for each of at least one vector")
    voiceprints, sound = aggregate_voices(vectors, durations_s, [len(vectors)])
    if not sound[0]:
        raise ValueError("the vectors cancel out: their mean has no direction")
    voiceprint: NDArray[np.float32] = voiceprints[0]
    return voiceprint


def aggregate_voices(vectors: Vectors, durations_s: ArrayLike, sizes: ArrayLike) -> tuple[Vectors, NDArray[np.bool_]]:
    """Aggregate the embeddings of many voices, each exactly as `aggregate_embeddings` does alone.

    Parameters
    ----------
    vectors : (n, D) float32 array
        Unit vectors, those of one voice side by side.
    durations_s : (n,) array
        Length of each utterance; must be positive.
    sizes : (g,) integer array
        How many vectors each voice has, in their order; at least 1.

    Returns
    -------
    (g, D) float32 array, (g,) bool array
        Unit vectors, and which of them are one: where a voice's vectors cancel out, there is none.

    Raises
    ------
    ValueError
        If the counts differ, a voice has no vector, or a duration is not positive.
    """
    weights = np.asarray(durations_s, dtype=np.float64)
    counts = np.asarray(sizes, dtype=np.int64)
    if weights.shape != (len(vectors),) or counts.sum() != len(vectors) or (counts < 1).any():
        raise ValueError(
            f"{len(vectors)} vectors with {len(weights)} durations: need one duration for each of at least one vector"
        )
    if not (weights > 0).all():
        raise ValueError(f"durations must be positive seconds, got {weights.min()}")
    starts = np.cumsum(counts) - counts
    means = np.empty((len(counts), vectors.shape[1]))
    for count in np.unique(counts).tolist():  # voices of as many vectors each are one (g', count, D) array
        which = np.flatnonzero(counts == count)
        rows = starts[which][:, None] + np.arange(count)
        weight = weights[rows]
        means[which] = (weight[:, :, None] * vectors[rows].astype(np.float64)).sum(axis=1)
        means[which] /= weight.sum(axis=1)[:, None]
    norms = np.linalg.norm(means, axis=1)
    sound = norms >= LEAST_NORM
    means /= np.where(sound, norms, 1.0)[:, None]
    return means.astype(np.float32), sound


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much one enrollment of a speaker sounds like the others.

    Attributes
    ----------
    cosine
        With the aggregate of the others, the outliers among them left out; None where there is no other.
    is_outlier
        Whether that is too little for one voice.
    """

    cosine: float | None
    is_outlier: bool


def outliers(
    vectors: Vectors, net_speech_s: Sequence[float], *, threshold: float, pair_threshold: float, least_judged_s: float
) -> list[Likeness]:
    """Tell which of a speaker's enrollments do not sound like the others.

    Each is compared with the aggregate of the others. While the one that is least like them scores below the
    threshold, it is set aside, so that one strange recording does not make the others look strange. Of the last two
    that are unlike each other, nobody can tell which is strange: both are outliers. No weight is above the median, or a
    long recording of somebody else would outweigh all that is right.

    Parameters
    ----------
    vectors : (n, D) float32 array
        Unit vectors, one an enrollment.
    net_speech_s
        Speech in each, above 0.
    threshold
        Least cosine of an enrollment with two others or more.
    pair_threshold
        Least cosine of two enrollments that are alone.
    least_judged_s
        An enrollment with less speech is no outlier, nor is one of which the others together have less.
    """
    seconds = np.asarray(net_speech_s, dtype=np.float64)
    if len(vectors) < 2:
        return [Likeness(None, False) for _ in vectors]
    weights = np.minimum(seconds, np.median(seconds))
    kept = np.ones(len(vectors), dtype=np.bool_)
    while kept.sum() > 1:
        others_s = seconds[kept].sum() - seconds
        judged = kept & (seconds >= least_judged_s) & (others_s >= least_judged_s)
        cosines = np.where(judged, _with_others(vectors, weights, kept), np.inf)
        if cosines.min() >= (threshold if kept.sum() > 2 else pair_threshold):
            break
        if kept.sum() == 2:
            kept[:] = False
        else:
            kept[np.argmin(cosines)] = False
    cosines = _with_others(vectors, weights, kept if kept.any() else np.ones_like(kept))
    return [Likeness(float(cosine), not is_kept) for cosine, is_kept in zip(cosines, kept, strict=True)]


def _with_others(vectors: Vectors, weights: NDArray[np.float64], kept: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the cosine of each row with the weighted mean of those that are kept, itself left out; 0 where none is."""
    weighted = np.where(kept, weights, 0.0)[:, None] * vectors.astype(np.float64)
    means = weighted.sum(axis=0) - weighted
    norms = np.linalg.norm(means, axis=1)
    sound = norms >= LEAST_NORM * weights.sum()
    products = np.einsum("nd,nd->n", means, vectors.astype(np.float64))
    return np.where(sound, np.clip(products / np.where(sound, norms, 1.0), -1.0, 1.0), 0.0)
