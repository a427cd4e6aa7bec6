"""1:1: whether this is the person they claim to be."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from search.operating_point import OperatingPoint
from search.scoring import cosine_scores


@dataclass(frozen=True, slots=True)
class Verification:
    """A decision about a claimed identity: accept when score >= threshold."""

    outcome: Literal["accept", "reject"]
    score: float
    operating_point: OperatingPoint


def verify(
    probe: NDArray[np.float32], reference: NDArray[np.float32], *, operating_point: OperatingPoint
) -> Verification:
    """Compare a probe with a voiceprint, or with another probe.

    Parameters
    ----------
    probe, reference : (D,) float32 arrays
        Unit vectors of the same encoder.
    """
    score = float(cosine_scores(probe, reference[None, :])[0])
    return Verification("accept" if score >= operating_point.score_threshold else "reject", score, operating_point)
