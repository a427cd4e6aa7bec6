"""Open-set identification: from which llr on the best of a whole gallery is no chance likeness.

One stranger seldom scores high; the best of 100,000 strangers does. How high depends on how many there are, and on how
this probe resembles people at all: its channel, its length, how common its voice is. The speakers ranked below the best
one, its rivals, show that, for they are strangers whoever spoke. Their llrs are taken for the upper order statistics of
as many normal draws as the gallery has speakers, and what the best of so many strangers exceeds with the asked rate is
the threshold. Only the upper fifth of a gallery tells how its best one scores: those below are mostly people who were
recorded otherwise. Where there are few rivals, what the threshold was for the probes of training, whatever their
rivals, takes the place of what they cannot say (docs/decisions/0020).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import InvalidRequest

Floats = NDArray[np.float64]

RIVALS = 50
"""Speakers below the best whose llrs are looked at; fewer where a gallery has fewer."""

LEAST_RIVALS = 5
"""So many are looked at, however small a share of the gallery `among` would leave."""

EVERYBODY = 1.0
EARLIER_HALF_TRUST = 5.0
"""`among` and `half_trust` of models that were fitted before there were these two figures."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class OpenSetModel:
    """What the best of many strangers scores, as the training speakers show it.

    z is the standard normal value that the best of a gallery of strangers exceeds with the asked rate.

    Attributes
    ----------
    level, rise
        The threshold without a look at rivals is `level + rise * z`.
    spread
        Standard deviation of the llrs of one probe with strangers.
    spread_weight
        How many rivals it takes to believe their own spread as much as `spread`.
    trust
        Weight of the estimate from the rivals, 0 to 1, where there are many.
    correction, correction_rise
        Added to the weighted mean: `correction + correction_rise * z`; what makes the asked rate the measured one.
    among
        Share of the gallery, from the best speaker down, whose llrs count as rivals: `RIVALS` at most.
    half_trust
        Rivals that it takes to give their estimate half of its weight.
    """

    level: float
    rise: float
    spread: float
    spread_weight: float
    trust: float
    correction: float = 0.0
    correction_rise: float = 0.0
    among: float = EVERYBODY
    half_trust: float = EARLIER_HALF_TRUST

    @property
    def is_earlier(self) -> bool:
        """Whether it is of before `among` and `half_trust`, which are not written then."""
        return self.among == EVERYBODY and self.half_trust == EARLIER_HALF_TRUST

    @property
    def rises(self) -> bool:
        """Whether its thresholds rise with the gallery, whatever the rivals are."""
        least_spread = self.spread * self.spread_weight / (RIVALS + self.spread_weight)
        own = self.trust * least_spread + (1.0 - self.trust) * self.rise + self.correction_rise
        return min(self.rise, own) > 0

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
            If the rate is out of range, or there are more rivals than the gallery has speakers beside the best one.
        """
        return float(self.thresholds(fpir, gallery_size=gallery_size, rivals=np.asarray(rivals)[None, :])[0])

    def thresholds(self, fpir: float, *, gallery_size: int, rivals: ArrayLike) -> Floats:
        """Return `threshold` for each row of (n, k) rivals: many probes of one gallery."""
        z = best_of_strangers(fpir, gallery_size)
        given = np.asarray(rivals, dtype=np.float64)
        if gallery_size < given.shape[1] + 1:
            raise InvalidRequest(
                f"{given.shape[1]} rivals in a gallery of {gallery_size} speakers: leave the best one out"
            )
        found = given[:, : self.rivals_among(gallery_size)]
        count = found.shape[1]
        steady = self.level + self.rise * z
        if count == 0:
            return np.full(len(found), steady)
        share = self.share(count)
        trust = self.trust * share
        mean, spread = _mean_and_spread(found, gallery_size, self.spread, self.spread_weight)
        shift = share * (self.correction + self.correction_rise * z)
        own: Floats = trust * (mean + spread * z) + (1.0 - trust) * steady + shift
        return own

    def rivals_among(self, gallery_size: int) -> int:
        """Return how many rivals are looked at in a gallery of this size."""
        return min(RIVALS, max(LEAST_RIVALS, round(self.among * gallery_size)))

    def share(self, count: int) -> float:
        """Return how much so many rivals tell of a probe, from 0 for none to nearly 1 for `RIVALS`."""
        return count / (count + self.half_trust)


def best_of_strangers(fpir: float, gallery_size: int) -> float:
    """Return the standard normal value that the highest of so many draws exceeds with this probability.

    Raises
    ------
    InvalidRequest
        If the rate is not between 0 and 1, or the gallery is empty.
    """
    if not 0.0 < fpir < 1.0:
        raise InvalidRequest(f"fpir {fpir} is out of range: give the share of unknown voices, as in 0.01")
    if gallery_size < 1:
        raise InvalidRequest("a gallery of 0 speakers names nobody: enroll somebody first")
    # 1 - p rather than p: a share of 1e-9 is nothing beside 1.
    return -_NORMAL.inv_cdf(-math.expm1(math.log1p(-fpir) / gallery_size))


def _mean_and_spread(rivals: Floats, gallery_size: int, spread: float, spread_weight: float) -> tuple[Floats, Floats]:
    """Return what mean and spread the strangers' llrs of each probe have, for the rivals to be their highest."""
    count = rivals.shape[1]
    expected = np.asarray(_order_statistics(gallery_size, count))
    centered = expected - expected.mean()
    spreads = np.full(len(rivals), spread)
    if count > 2:
        own = np.maximum(0.0, rivals @ centered / float(centered @ centered))
        weight = count / (count + spread_weight)
        spreads = weight * own + (1.0 - weight) * spread
    return rivals.mean(axis=1) - spreads * expected.mean(), spreads


@lru_cache(maxsize=1024)
def _order_statistics(gallery_size: int, count: int) -> Sequence[float]:
    """Return the expected standard normal values of ranks 2 to count + 1 among the gallery (Blom, 1958)."""
    return tuple(-_NORMAL.inv_cdf((rank - 0.375) / (gallery_size + 0.25)) for rank in range(2, count + 2))
