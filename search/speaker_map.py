"""Voices on a plane: near to each other where they sound alike, the same every time."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors

Method = Literal["t-SNE", "PCA"]

_LEAST_NEIGHBORED = 8
"""Voices from which on neighborhoods mean something; fewer are laid out by their main directions."""

_SEED = 0


def speaker_map(vectors: Vectors) -> tuple[NDArray[np.float64], Method]:
    """Place voices on a plane.

    Parameters
    ----------
    vectors : (n, D) float32 array
        Unit vectors, at least one.

    Returns
    -------
    (n, 2) float64 array, str
        Places from -1 to 1, and how they were found: by t-SNE (van der Maaten and Hinton, 2008), which keeps
        neighbors together and begins with the main directions, or by these alone (PCA) where there are few voices.
    """
    if len(vectors) < 2:
        return np.zeros((len(vectors), 2)), "PCA"
    if len(vectors) < _LEAST_NEIGHBORED:
        return _scaled(_main_directions(vectors, 2)), "PCA"
    from sklearn.manifold import TSNE

    found = TSNE(
        2,
        perplexity=min(30.0, (len(vectors) - 1) / 3),
        metric="cosine",
        init=_scaled(_main_directions(vectors, 2)).astype(np.float32) * 1e-4,
        learning_rate="auto",
        max_iter=500,
        random_state=_SEED,
        n_jobs=1,
    ).fit_transform(vectors)
    return _scaled(found.astype(np.float64)), "t-SNE"


def _main_directions(vectors: Vectors, count: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    width = min(count, *vectors.shape)
    found = PCA(width, svd_solver="full").fit_transform(vectors.astype(np.float64))
    padded: NDArray[np.float64] = np.zeros((len(vectors), count))
    padded[:, :width] = found
    return padded


def _scaled(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move and stretch places so that they fill -1 to 1 both ways."""
    low, high = places.min(axis=0), places.max(axis=0)
    half = np.maximum((high - low) / 2, 1e-12)
    scaled: NDArray[np.float64] = np.clip((places - (low + high) / 2) / half, -1.0, 1.0)
    return scaled
