"""How good scores are at telling people apart: the measures of NIST's speaker and face evaluations.

A trial is accepted when its score is at least the threshold. Every measure takes weights, so that a resample of the
speakers (`search.bootstrap`) is the same scores under other weights.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import InvalidRequest

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DetCurve:
    """Both error rates at every threshold that tells two trials apart.

    Attributes
    ----------
    thresholds : (m,) float64 array
        Rising; the distinct scores, and infinity, which accepts nobody.
    p_miss, p_fa : (m,) float64 arrays
        Share of target trials below, and of nontarget trials at or above, each threshold.
    """

    thresholds: Floats
    p_miss: Floats
    p_fa: Floats


class RankedTrials:
    """Scored trials in the order of their scores: sorted once, measured under as many weights as one likes.

    Parameters
    ----------
    scores : (n,) array
        Higher means more likely the same voice.
    is_target : (n,) bool array
        Whether it is the same voice.

    Raises
    ------
    InvalidRequest
        If the lengths differ, a score is NaN, or one of the two kinds of trials is missing.
    """

    def __init__(self, scores: ArrayLike, is_target: ArrayLike) -> None:
        given = np.asarray(scores, dtype=np.float64)
        target = np.asarray(is_target, dtype=bool)
        if given.ndim != 1 or given.shape != target.shape:
            raise InvalidRequest(f"{given.shape} scores for {target.shape} labels: give one label for each score")
        if np.isnan(given).any():
            raise InvalidRequest(f"{int(np.isnan(given).sum())} of {len(given)} scores are NaN: leave those trials out")
        if not target.any() or target.all():
            raise InvalidRequest(
                f"{int(target.sum())} target and {int((~target).sum())} nontarget trials: error rates need both kinds"
            )
        self.order = np.argsort(given, kind="stable")
        self.scores: Floats = given[self.order]
        self.is_target = target[self.order]
        self._starts = np.flatnonzero(np.r_[True, self.scores[1:] != self.scores[:-1]])
        """Where each distinct score begins."""

    def _masses(self, weights: ArrayLike | None) -> tuple[Floats, Floats]:
        """Return the weight of target and of nontarget trials at each distinct score."""
        mass = np.ones(len(self.scores)) if weights is None else np.asarray(weights, dtype=np.float64)[self.order]
        target = np.add.reduceat(np.where(self.is_target, mass, 0.0), self._starts)
        nontarget = np.add.reduceat(np.where(self.is_target, 0.0, mass), self._starts)
        if target.sum() <= 0 or nontarget.sum() <= 0:
            raise InvalidRequest("all target or all nontarget trials weigh nothing: error rates need both kinds")
        return target, nontarget

    def det(self, weights: ArrayLike | None = None) -> DetCurve:
        """Return both error rates at each distinct score."""
        target, nontarget = self._masses(weights)
        below = np.r_[0.0, np.cumsum(target)]
        above = np.r_[0.0, np.cumsum(nontarget)]
        thresholds = np.r_[self.scores[self._starts], np.inf]
        return DetCurve(thresholds, below / below[-1], 1.0 - above / above[-1])

    def eer(self, weights: ArrayLike | None = None) -> float:
        """Return the equal error rate, between two points of the curve by a straight line.

        The definition of the VoxCeleb challenges' scorer (the point at which the ROC, joined by straight lines,
        crosses p_miss = p_fa).
        """
        return equal_error_rate_of(self.det(weights))

    def min_dcf(
        self, p_target: float, *, c_miss: float = 1.0, c_fa: float = 1.0, weights: ArrayLike | None = None
    ) -> float:
        """Return the least normalized detection cost that any one threshold gives."""
        curve = self.det(weights)
        return float(detection_cost(curve.p_miss, curve.p_fa, p_target, c_miss=c_miss, c_fa=c_fa).min())

    def act_dcf(
        self, p_target: float, *, c_miss: float = 1.0, c_fa: float = 1.0, weights: ArrayLike | None = None
    ) -> float:
        """Return the normalized detection cost at the Bayes threshold; the scores must be natural-log llrs."""
        target, nontarget = self._masses(weights)
        accepted = self.scores[self._starts] >= bayes_threshold(p_target, c_miss=c_miss, c_fa=c_fa)
        p_miss = target[~accepted].sum() / target.sum()
        p_fa = nontarget[accepted].sum() / nontarget.sum()
        return float(detection_cost(p_miss, p_fa, p_target, c_miss=c_miss, c_fa=c_fa))

    def error_rates(self, threshold: float, weights: ArrayLike | None = None) -> tuple[float, float]:
        """Return (p_miss, p_fa) when trials are accepted from this threshold on."""
        target, nontarget = self._masses(weights)
        accepted = self.scores[self._starts] >= threshold
        return float(target[~accepted].sum() / target.sum()), float(nontarget[accepted].sum() / nontarget.sum())

    def cllr(self, weights: ArrayLike | None = None) -> float:
        """Return the cost of the scores as natural-log llrs, in bits: 0 is perfect, 1 is what always saying 0 costs.

        References
        ----------
        Brümmer and du Preez, "Application-independent evaluation of speaker detection", Computer Speech & Language 20
        (2006).
        """
        target, nontarget = self._masses(weights)
        return _cllr(self.scores[self._starts], target, nontarget)

    def min_cllr(self, weights: ArrayLike | None = None) -> float:
        """Return what `cllr` would be if the scores kept their order and were calibrated as well as possible (PAV)."""
        target, nontarget = self._masses(weights)
        return _cllr(_pav_llrs(target, nontarget), target, nontarget)

    def optimal_llrs(self) -> tuple[Floats, Floats]:
        """Return the distinct scores, rising, and the llr that pool-adjacent-violators gives to each."""
        return self.scores[self._starts], _pav_llrs(*self._masses(None))


def det_curve(scores: ArrayLike, is_target: ArrayLike, weights: ArrayLike | None = None) -> DetCurve:
    """Return both error rates at every distinct score (see `DetCurve`)."""
    return RankedTrials(scores, is_target).det(weights)


def equal_error_rate(scores: ArrayLike, is_target: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the equal error rate as a share (see `RankedTrials.eer`)."""
    return RankedTrials(scores, is_target).eer(weights)


def min_dcf(
    scores: ArrayLike,
    is_target: ArrayLike,
    p_target: float,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    weights: ArrayLike | None = None,
) -> float:
    """Return the least normalized detection cost (see `detection_cost`)."""
    return RankedTrials(scores, is_target).min_dcf(p_target, c_miss=c_miss, c_fa=c_fa, weights=weights)


def act_dcf(
    llrs: ArrayLike,
    is_target: ArrayLike,
    p_target: float,
    *,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
    weights: ArrayLike | None = None,
) -> float:
    """Return the normalized detection cost of deciding by the Bayes threshold (see `RankedTrials.act_dcf`)."""
    return RankedTrials(llrs, is_target).act_dcf(p_target, c_miss=c_miss, c_fa=c_fa, weights=weights)


def cllr(llrs: ArrayLike, is_target: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the cost of natural-log llrs in bits (see `RankedTrials.cllr`)."""
    return RankedTrials(llrs, is_target).cllr(weights)


def min_cllr(scores: ArrayLike, is_target: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Return the `cllr` of the best calibration that keeps the order of the scores (see `RankedTrials.min_cllr`)."""
    return RankedTrials(scores, is_target).min_cllr(weights)


def equal_error_rate_of(curve: DetCurve) -> float:
    """Return where a DET curve, joined by straight lines, has p_miss = p_fa."""
    above = int(np.argmax(curve.p_miss >= curve.p_fa))  # The last point has p_miss 1 and p_fa 0.
    if above == 0:
        return float(curve.p_miss[0])
    before = curve.p_fa[above - 1] - curve.p_miss[above - 1]
    behind = curve.p_miss[above] - curve.p_fa[above]
    share = before / (before + behind)
    return float(curve.p_miss[above - 1] + share * (curve.p_miss[above] - curve.p_miss[above - 1]))


def detection_cost(
    p_miss: ArrayLike, p_fa: ArrayLike, p_target: float, *, c_miss: float = 1.0, c_fa: float = 1.0
) -> Floats:
    """Return c_miss * p_miss * p_target + c_fa * p_fa * (1 - p_target), divided by what deciding without audio costs.

    Raises
    ------
    InvalidRequest
        If the prior is not between 0 and 1, or a cost is not above 0.

    References
    ----------
    NIST Speaker Recognition Evaluation plans, 2008 to 2021: C_det and C_norm.
    """
    _check_costs(p_target, c_miss, c_fa)
    misses, alarms = np.asarray(p_miss, dtype=np.float64), np.asarray(p_fa, dtype=np.float64)
    cost = c_miss * p_target * misses + c_fa * (1.0 - p_target) * alarms
    normalized: Floats = cost / min(c_miss * p_target, c_fa * (1.0 - p_target))
    return normalized


def bayes_threshold(p_target: float, *, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """Return the natural-log llr from which on accepting costs less than rejecting.

    Raises
    ------
    InvalidRequest
        If the prior is not between 0 and 1, or a cost is not above 0.
    """
    _check_costs(p_target, c_miss, c_fa)
    return math.log(c_fa * (1.0 - p_target)) - math.log(c_miss * p_target)


def threshold_at_fpir(top_scores: ArrayLike, fpir: float, weights: ArrayLike | None = None) -> float:
    """Return the lowest threshold at which at most this share of unknown voices is named.

    Parameters
    ----------
    top_scores : (n,) array
        The best score of each unknown voice against the gallery.
    fpir
        False-positive identification rate, from 0 to 1.

    Returns
    -------
    float
        Just above the best score that must not be accepted; minus infinity where any may be.

    Raises
    ------
    InvalidRequest
        If there is no unknown voice, or the rate is none.
    """
    if not 0.0 <= fpir <= 1.0:
        raise InvalidRequest(f"fpir {fpir} is no share: give a number from 0 to 1")
    tops = np.asarray(top_scores, dtype=np.float64)
    if not len(tops):
        raise InvalidRequest("0 unknown voices: a false-positive rate needs recordings of people who are not enrolled")
    order = np.argsort(-tops, kind="stable")
    mass = np.ones(len(tops)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
    falling = tops[order]
    ends = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])  # Ties are accepted together.
    # A share such as 0.01 of 300 has no exact form: one part in a billion is forgiven.
    too_many = np.cumsum(mass)[ends] > fpir * mass.sum() * (1 + 1e-9)
    if not too_many.any():
        return -math.inf
    return float(np.nextafter(falling[ends[np.argmax(too_many)]], np.inf))


def fnir_at(
    mate_scores: ArrayLike, ranks: ArrayLike, threshold: float, *, rank: int = 1, weights: ArrayLike | None = None
) -> float:
    """Return the share of enrolled people's probes that are not named: below the threshold, or ranked too low.

    Parameters
    ----------
    mate_scores : (n,) array
        Score of each probe against its own speaker; minus infinity where there was no answer.
    ranks : (n,) int array
        Rank of that speaker among the candidates, from 1.
    rank
        Down to which rank a candidate counts as named.
    """
    named = (np.asarray(mate_scores, dtype=np.float64) >= threshold) & (np.asarray(ranks) <= rank)
    return 1.0 - _share(named, weights)


def fnir_at_fpir(
    mate_scores: ArrayLike, ranks: ArrayLike, unknown_top_scores: ArrayLike, fpir: float, *, rank: int = 1
) -> float:
    """Return FNIR at the lowest threshold that keeps FPIR (see `fnir_at` and `threshold_at_fpir`).

    References
    ----------
    ISO/IEC 19795-1; NIST FRTE 1:N reports, which plot FNIR(T) over FPIR(T).
    """
    return fnir_at(mate_scores, ranks, threshold_at_fpir(unknown_top_scores, fpir), rank=rank)


def top_k_rate(ranks: ArrayLike, k: int, weights: ArrayLike | None = None) -> float:
    """Return the share of enrolled people's probes whose speaker is among the first k candidates."""
    return _share(np.asarray(ranks) <= k, weights)


def _share(flags: NDArray[np.bool_], weights: ArrayLike | None) -> float:
    if not len(flags):
        raise InvalidRequest("0 probes of enrolled people: a miss rate needs some")
    return float(np.average(flags, weights=None if weights is None else np.asarray(weights, dtype=np.float64)))


def _check_costs(p_target: float, c_miss: float, c_fa: float) -> None:
    if not 0.0 < p_target < 1.0:
        raise InvalidRequest(f"p_target {p_target} is no prior: give a number between 0 and 1")
    if c_miss <= 0 or c_fa <= 0:
        raise InvalidRequest(f"costs c_miss {c_miss} and c_fa {c_fa} must be above 0")


def _cllr(llrs: Floats, target: Floats, nontarget: Floats) -> float:
    # log(1 + e^x) is log(e^0 + e^x), which neither overflows nor loses infinite llrs. Nothing weighs what is nothing:
    # 0 times infinity would be NaN.
    miss = np.logaddexp(0.0, -llrs, where=target > 0, out=np.zeros_like(llrs)) * target
    alarm = np.logaddexp(0.0, llrs, where=nontarget > 0, out=np.zeros_like(llrs)) * nontarget
    return float((miss.sum() / target.sum() + alarm.sum() / nontarget.sum()) / 2 / math.log(2))


def _pav_llrs(target: Floats, nontarget: Floats) -> Floats:
    """Return the rising llrs that fit the trials best, one for each distinct score; infinite at clean ends."""
    from scipy.optimize import isotonic_regression

    # Both kinds weigh the same, so that the posterior's odds are the likelihood ratio itself.
    target, nontarget = target / target.sum(), nontarget / nontarget.sum()
    weights = target + nontarget
    counted = weights > 0  # A resample may leave scores without trials.
    fitted = isotonic_regression(target[counted] / weights[counted], weights=weights[counted]).x
    posterior = np.interp(np.arange(len(weights)), np.flatnonzero(counted), np.clip(fitted, 0.0, 1.0))
    with np.errstate(divide="ignore"):
        llrs: Floats = np.log(posterior) - np.log1p(-posterior)
    return llrs
