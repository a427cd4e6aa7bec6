"""What a log-likelihood ratio says: a probability where the prior is stated, and words for people."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.errors import InvalidRequest

EVEN = 0.5
"""Prior that posteriors assume unless another is stated: either is as likely beforehand."""

_MOST_TIMES = 1_000_000
_EVEN_TIMES = 1.5


def require_prior(prior: float) -> float:
    """Return a prior that leaves room for evidence.

    Raises
    ------
    InvalidRequest
        If it is not between 0 and 1.
    """
    if not 0.0 < prior < 1.0:
        raise InvalidRequest(f"prior {prior:g} is out of range: give a probability above 0 and below 1, as in 0.5")
    return prior


def posterior_of_claim(llr: float, *, prior: float = EVEN) -> float:
    """Return how likely it is that a claim is true, given the evidence and how likely it was beforehand."""
    logit = llr + math.log(require_prior(prior) / (1.0 - prior))
    return 1.0 / (1.0 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1.0 + math.exp(logit))


def posteriors_of_speakers(
    llrs: Sequence[float] | NDArray[np.float64], *, gallery_size: int, prior: float = EVEN
) -> NDArray[np.float64]:
    """Return how likely it is that each of these speakers, and nobody else enrolled, is heard.

    Parameters
    ----------
    llrs : (n,) array
        Of the speakers that were looked at, the likeliest ones; the others count as ruled out.
    gallery_size
        Speakers that the voice could be of, each as likely beforehand.
    prior
        How likely it was beforehand that the voice is of any of them.

    Returns
    -------
    (n,) float64 array
        They and the probability of an unknown voice add up to 1.
    """
    share = math.log(require_prior(prior)) - math.log(max(1, gallery_size))
    weights = np.asarray(llrs, dtype=np.float64) + share
    unknown = math.log1p(-prior)
    top = max(unknown, float(weights.max(initial=-math.inf)))
    likely = np.exp(weights - top)
    result: NDArray[np.float64] = likely / (likely.sum() + math.exp(unknown - top))
    return result


def llr_in_words(llr: float) -> str:
    """Say what an llr means: how many times likelier the recording is if it is the same person, or another one."""
    times = math.exp(min(abs(llr), 50.0))
    if times < _EVEN_TIMES:
        return "as likely if it is the same person as if it is another"
    shown = f"over {_MOST_TIMES:,}" if times > _MOST_TIMES else _two_digits(times)
    return f"{shown} times likelier if it is {'the same' if llr > 0 else 'another'} person"


def _two_digits(times: float) -> str:
    if times < 10:
        return f"{times:.1f}".removesuffix(".0")
    digits = 1 - math.floor(math.log10(times))
    return f"{round(times, digits):,.0f}"
