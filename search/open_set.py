"""Open-set identification: from which llr on the best of a whole gallery is no chance likeness.

One stranger seldom scores high; the best of 100,000 strangers does. How high depends on how many there are, and on how
this probe resembles people at all: its channel, its length, how common its voice is. The speakers ranked below the best
one, its rivals, show that, for they are strangers whoever spoke. Their llrs are taken as the upper order statistics of
as many normal draws as the gallery has speakers; the threshold is what the best of as many strangers exceeds with the
asked rate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import InvalidRequest

RIVALS = 100
"""Speakers below the best whose llrs are looked at; fewer where a gallery has fewer."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class OpenSetModel:
    """How nontarget llrs of one probe are distributed, as the training speakers show it.

    Attributes
    ----------
    mean
        Of nontarget llrs over probes: where a probe is expected before it is compared with anybody.
    probe_spread
        Standard deviation of the probes' own means around it.
    spread
        Standard deviation of the llrs of one probe around its mean.
    spread_weight
        How many rivals it takes to believe their own spread as much as `spread`.
    tail
        Factor on how far above its mean the threshold is: real tails are heavier than normal ones.
    """

    mean: float
    probe_spread: float
    spread: float
    spread_weight: float
    tail: float

    def threshold(self, fpir: float, *, gallery_size: int, rivals: ArrayLike) -> float:
        """Return the llr from which on the best speaker is named.

        Parameters
        ----------
        fpir
            Share of unknown voices that may be named, above 0 and below 1.
        gallery_size
            Speakers that were compared, after filters.
        rivals : (k,) array
            llrs of the speakers ranked below the best one, best first: the next `RIVALS`, or as many as there are.

        Raises
        ------
        InvalidRequest
            If the rate is out of range, the gallery is empty, or it has fewer speakers than rivals.
        """
        if not 0.0 < fpir < 1.0:
            raise InvalidRequest(f"fpir {fpir} is out of range: give the share of unknown voices, as in 0.01")
        found = np.asarray(rivals, dtype=np.float64)[:RIVALS]
        if gallery_size < max(1, len(found) + 1):
            raise InvalidRequest(f"{len(found)} rivals in a gallery of {gallery_size} speakers: leave the best one out")
        mean, spread = self._probe(found, gallery_size)
        highest = _NORMAL.inv_cdf(math.exp(math.log1p(-fpir) / gallery_size))
        return float(mean + self.tail * spread * highest)

    def _probe(self, rivals: NDArray[np.float64], gallery_size: int) -> tuple[float, float]:
        """Return mean and spread of the probe's nontarget llrs, from its rivals as far as there are enough."""
        count = len(rivals)
        if not count:
            return self.mean, math.hypot(self.spread, self.probe_spread)
        expected = np.asarray(_order_statistics(gallery_size, count))
        spread = self.spread
        if count > 2:
            centered = expected - expected.mean()
            own = max(0.0, float(centered @ rivals) / float(centered @ centered))
            weight = count / (count + self.spread_weight)
            spread = weight * own + (1.0 - weight) * self.spread
        mean = float(np.mean(rivals - spread * expected))
        doubt = spread**2 / count
        trust = self.probe_spread**2 / (self.probe_spread**2 + doubt)
        return trust * mean + (1.0 - trust) * self.mean, math.sqrt(spread**2 + trust * doubt)


@lru_cache(maxsize=1024)
def _order_statistics(gallery_size: int, count: int) -> Sequence[float]:
    """Return the expected standard normal values of ranks 2 to count + 1 among the gallery (Blom, 1958)."""
    return tuple(_NORMAL.inv_cdf(1.0 - (rank - 0.375) / (gallery_size + 0.25)) for rank in range(2, count + 2))
