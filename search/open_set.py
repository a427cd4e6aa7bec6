"""Open-set identification: from which llr on the best of a whole gallery is no chance likeness.

One stranger seldom scores high; the best of 100,000 strangers does. How high depends on how many there are, and on how
this probe resembles people at all: its channel, its length, how common its voice is. The speakers ranked below the best
one, its rivals, show that, for they are strangers whoever spoke. Their llrs are taken for the upper order statistics of
as many normal draws as the gallery has speakers, and what the best of so many strangers exceeds with the asked rate is
the threshold. Only the upper fifth of a gallery tells how its best one scores: those below are mostly people who were
recorded otherwise. No gallery is taken for more than some hundreds of people recorded as the probe is, however many
others there are: from there on the threshold follows the rivals, who can only rise as people are added. Where there are
few rivals, what the threshold was for the probes of training, whatever their rivals, takes the place of what they
cannot say. Among very many the rivals are near the best one; how near, crowds show that are drawn from what speakers of
training score (docs/decisions/0020).
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

CROWD = 100_000
"""Size of the galleries that `OpenSetModel.crowd` is of."""

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
        Standard deviation of the llrs of one probe with strangers, as their upper part tells it.
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
    alike
        Speakers that a larger gallery counts as where there are rivals; None: as many as it has.
    slope
        How much the llr of a typical probe of training rises with its score: `spread` and the correction are of such a
        probe, and for others in proportion. None: the same for all.
    crowd
        Added where there are rivals in galleries of `CROWD` speakers and more, and of fewer in proportion to the
        logarithm of the size, from `alike` on. None: nothing.
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
    alike: int | None = None
    slope: float | None = None
    crowd: float | None = None

    @property
    def unwritten(self) -> tuple[str, ...]:
        """Figures that documents from before there were such did not have, where it has none either."""
        trust = ("among", "half_trust") if (self.among, self.half_trust) == (EVERYBODY, EARLIER_HALF_TRUST) else ()
        return trust + tuple(name for name in ("alike", "slope", "crowd") if getattr(self, name) is None)

    @property
    def rises(self) -> bool:
        """Whether its thresholds rise with the gallery, whatever the rivals are."""
        least_spread = self.spread * self.spread_weight / (RIVALS + self.spread_weight)
        own = self.trust * least_spread + (1.0 - self.trust) * self.rise + self.correction_rise
        return min(self.rise, own) > 0

    def threshold(self, fpir: float, *, gallery_size: int, rivals: ArrayLike, slope: float | None = None) -> float:
        """Return the llr from which on the best speaker is named.

        Parameters
        ----------
        fpir
            Share of unknown voices that may be named, above 0 and below 1.
        gallery_size
            Speakers that were compared, after filters.
        rivals : (k,) array
            llrs of the speakers ranked below the best one, best first: the next `RIVALS`, or as many as there are.
        slope
            How much the probe's llr rises with its score; None: as much as a typical probe's.

        Raises
        ------
        InvalidRequest
            If the rate is out of range, or there are more rivals than the gallery has speakers beside the best one.
        """
        slopes = None if slope is None else [slope]
        rows = np.asarray(rivals)[None, :]
        return float(self.thresholds(fpir, gallery_size=gallery_size, rivals=rows, slopes=slopes)[0])

    def thresholds(
        self, fpir: float, *, gallery_size: int, rivals: ArrayLike, slopes: ArrayLike | None = None
    ) -> Floats:
        """Return `threshold` for each row of (n, k) rivals, and of (n,) slopes: many probes of one gallery."""
        given = np.asarray(rivals, dtype=np.float64)
        if gallery_size < given.shape[1] + 1:
            raise InvalidRequest(
                f"{given.shape[1]} rivals in a gallery of {gallery_size} speakers: leave the best one out"
            )
        found = given[:, : self.rivals_among(gallery_size)]
        count = found.shape[1]
        steady = self.level + self.rise * best_of_strangers(fpir, gallery_size)
        if count == 0:
            return np.full(len(found), steady)
        size = self._counted(gallery_size)
        z = best_of_strangers(fpir, size)
        scale = self._scale(len(found), slopes)
        share = self.share(count)
        trust = self.trust * share
        mean, spread = _mean_and_spread(found, size, self.spread * scale, self.spread_weight)
        shift = share * scale * (self.correction + self.correction_rise * z + self._crowded(gallery_size))
        own: Floats = trust * (mean + spread * z) + (1.0 - trust) * steady + shift
        return own

    def _counted(self, gallery_size: int) -> int:
        """Return how many speakers a gallery counts as."""
        return gallery_size if self.alike is None else min(gallery_size, self.alike)

    def _crowded(self, gallery_size: int) -> float:
        """Return what a gallery of so many adds for a typical probe."""
        if self.crowd is None or self.alike is None or gallery_size <= self.alike:
            return 0.0
        return self.crowd * min(1.0, math.log(gallery_size / self.alike) / math.log(CROWD / self.alike))

    def _scale(self, count: int, slopes: ArrayLike | None) -> Floats:
        """Return how much each probe's llrs are spread beside those of a typical one."""
        if self.slope is None or slopes is None:
            return np.ones(count)
        return np.broadcast_to(np.asarray(slopes, dtype=np.float64) / self.slope, count)

    def rivals_among(self, gallery_size: int) -> int:
        """Return how many rivals are looked at in a gallery of this size."""
        return min(RIVALS, max(LEAST_RIVALS, round(self.among * self._counted(gallery_size))))

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


def tail_spreads(rivals: Floats, gallery_size: int) -> Floats:
    """Return the spread of normal draws of which each row of (n, k) rivals, 3 or more, would be the next to highest."""
    expected = np.asarray(_order_statistics(gallery_size, rivals.shape[1]))
    centered = expected - expected.mean()
    spreads: Floats = np.maximum(0.0, rivals @ centered / float(centered @ centered))
    return spreads


def _mean_and_spread(rivals: Floats, gallery_size: int, spread: Floats, spread_weight: float) -> tuple[Floats, Floats]:
    """Return what mean and spread the strangers' llrs of each probe have, for the rivals to be their highest."""
    count = rivals.shape[1]
    spreads = spread
    if count > 2:
        weight = count / (count + spread_weight)
        spreads = weight * tail_spreads(rivals, gallery_size) + (1.0 - weight) * spread
    expected = float(np.mean(_order_statistics(gallery_size, count)))
    return rivals.mean(axis=1) - spreads * expected, spreads


@lru_cache(maxsize=1024)
def _order_statistics(gallery_size: int, count: int) -> Sequence[float]:
    """Return the expected standard normal values of ranks 2 to count + 1 among the gallery (Blom, 1958)."""
    return tuple(-_NORMAL.inv_cdf((rank - 0.375) / (gallery_size + 0.25)) for rank in range(2, count + 2))
