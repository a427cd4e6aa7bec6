"""How loud is it: the one definition of silence."""

import numpy as np
from numpy.typing import NDArray

SILENCE_PEAK = 10.0 ** (-72 / 20)
"""-72 dBFS: eight steps of 16-bit audio. Dithered digital silence stays below, the quietest usable speech above."""


def peak_deviation(samples: NDArray[np.float32]) -> float:
    """Largest distance of a sample from the mean, in full-scale units: a constant offset is no sound.

    Parameters
    ----------
    samples : (N,) float32 array
        One track; an empty one has no deviation.
    """
    if samples.size == 0:
        return 0.0
    mean = float(samples.mean(dtype=np.float64))
    return max(float(samples.max()) - mean, mean - float(samples.min()))


def is_silent(samples: NDArray[np.float32]) -> bool:
    """Tell whether a track of (N,) samples holds no sound at all."""
    return peak_deviation(samples) < SILENCE_PEAK
