"""Where a decision is made: which threshold holds, on whose word, and what it promises.

Whoever is most specific decides: the request, then the gallery, then the settings, then the encoder. Each may ask for a
threshold on the score, for one on the llr, or for an error rate; the last two need a calibration.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from indexer.errors import InvalidRequest
from search.calibration import Calibration
from search.metrics import bayes_threshold

ThresholdSource = Literal["request", "gallery", "setting", "encoder", "family"]
Band = Literal["identified", "possible", "unknown"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold, accepted when score (or llr) >= threshold, and where it comes from.

    Attributes
    ----------
    score_threshold
        Cosine from which on a voice is accepted; None where the llr decides.
    source
        On whose word.
    llr_threshold
        Natural-log llr from which on a voice is accepted; None where the cosine decides.
    possible_score_threshold, possible_llr_threshold
        Lower edge of the band "possible"; None: there is no such band.
    calibration_id
        What made llrs of scores; None: uncalibrated.
    asked
        What the threshold is to achieve, in words.
    """

    score_threshold: float | None
    source: ThresholdSource
    llr_threshold: float | None = None
    possible_score_threshold: float | None = None
    possible_llr_threshold: float | None = None
    calibration_id: str | None = None
    asked: str = ""

    @property
    def lowest_edge(self) -> float:
        """The llr, or the cosine, from which on a candidate is named or possible."""
        edges = (
            (self.llr_threshold, self.possible_llr_threshold)
            if self.llr_threshold is not None
            else (self.score_threshold, self.possible_score_threshold)
        )
        return min(edge for edge in edges if edge is not None)

    def band(self, score: float | None, llr: float | None = None) -> Band:
        """Tell on which side of the edges a candidate is.

        Raises
        ------
        InvalidRequest
            If it lacks what this point decides by.
        """
        decides, accept, possible = (
            (llr, self.llr_threshold, self.possible_llr_threshold)
            if self.llr_threshold is not None
            else (score, self.score_threshold, self.possible_score_threshold)
        )
        if decides is None or accept is None:
            raise InvalidRequest("this operating point decides by the llr, and the candidate has none: calibrate it")
        if decides >= accept:
            return "identified"
        return "possible" if possible is not None and decides >= possible else "unknown"


@dataclass(frozen=True, slots=True)
class Costs:
    """How likely a voice is the claimed one, or one of the enrolled, beforehand, and what both errors cost."""

    p_target: float
    c_miss: float = 1.0
    c_fa: float = 1.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one layer (a request, a gallery, the settings) asks of decisions; None: it leaves that to the next one.

    Attributes
    ----------
    score, llr
        Threshold on the cosine, or on the llr.
    rate
        Error rate: FPIR for identification, p_fa for verification.
    costs
        Prior and costs.
    possible_score, possible_llr, possible_rate
        Lower edge of the band "possible", by the same means.

    Raises
    ------
    InvalidRequest
        If a cosine is none, an llr is not finite, or a rate is not between 0 and 1.
    """

    score: float | None = None
    llr: float | None = None
    rate: float | None = None
    costs: Costs | None = None
    possible_score: float | None = None
    possible_llr: float | None = None
    possible_rate: float | None = None

    def __post_init__(self) -> None:
        for score in (self.score, self.possible_score):
            if score is not None and not -1.0 <= score <= 1.0:
                raise InvalidRequest(f"score threshold {score} is no cosine: give a number from -1 to 1")
        for llr in (self.llr, self.possible_llr):
            if llr is not None and not math.isfinite(llr):
                raise InvalidRequest(
                    f"llr threshold {llr} is no number to compare with: give a natural-log llr, as in 4.6"
                )
        for rate in (self.rate, self.possible_rate):
            if rate is not None and not 0.0 < rate < 1.0:
                raise InvalidRequest(
                    f"error rate {rate:g} is out of range: give a share above 0 and below 1, as in 0.01"
                )

    @property
    def decides(self) -> bool:
        """Whether it gives a threshold, by whatever means."""
        return self.score is not None or self.needs_calibration

    @property
    def needs_calibration(self) -> bool:
        """Whether only an llr can answer it."""
        return self.score is None and (self.llr is not None or self.rate is not None or self.costs is not None)


LEAST_LLR = 0.0
"""Nobody is named or called possible by an error rate where the evidence speaks against it; few may be enrolled, so
that even that would keep the rate."""


Layers = Sequence[tuple[ThresholdSource, Wanted]]
"""Who asks for what, most specific first."""


def identification_point(
    calibration: Calibration | None,
    layers: Layers,
    *,
    gallery_size: int,
    rivals: ArrayLike,
    slope: float | None = None,
    encoder: str,
    compared: str = "enrolled",
) -> OperatingPoint:
    """Choose the threshold for the best speaker of a gallery.

    Parameters
    ----------
    calibration
        Of the gallery's encoder or encoders; None: by the cosine, as far as somebody gives one.
    layers
        Most specific first; the last has the encoder's own cosine.
    gallery_size
        Speakers that were compared, after filters; where there is nobody, the threshold is that of one.
    rivals : (k,) array
        llrs of the speakers ranked below the best one, best first: `RIVALS` of them, or as many as there are.
    slope
        How much the probe's llr rises with its score; None: as much as a typical probe's.
    encoder
        Name for messages.
    compared
        What was compared, for words.

    Raises
    ------
    InvalidRequest
        If a threshold or rate needs a calibration and there is none.
    """
    chances = max(1, gallery_size)

    def at_rate(rate: float) -> float:
        assert calibration is not None
        if calibration.open_set is None:
            raise InvalidRequest(
                f"calibration {calibration.name} was fitted on too few speakers to promise an FPIR: fit it on more, "
                "or give --llr-threshold"
            )
        model = calibration.open_set
        return max(LEAST_LLR, model.threshold(rate, gallery_size=chances, rivals=rivals, slope=slope))

    promise = f"of unknown voices named, {gallery_size} {compared}"
    # As likely beforehand as all of them together is each of them only in part.
    return _point(calibration, layers, at_rate, encoder, promise, chances=chances)


def verification_point(calibration: Calibration | None, layers: Layers, *, encoder: str) -> OperatingPoint:
    """Choose the threshold of a 1:1 decision; see `identification_point`."""

    def at_rate(rate: float) -> float:
        assert calibration is not None
        return calibration.llr_at_p_fa(rate)

    return _point(calibration, layers, at_rate, encoder, "of strangers accepted")


def _point(
    calibration: Calibration | None,
    layers: Layers,
    llr_at_rate: Callable[[float], float],
    encoder: str,
    promise: str,
    *,
    chances: int = 1,
) -> OperatingPoint:
    for source, wanted in layers:
        if wanted.score is not None:
            possible = next((w.possible_score for _, w in layers if w.possible_score is not None), None)
            return OperatingPoint(
                score_threshold=wanted.score,
                source=source,
                possible_score_threshold=None if possible is None else min(possible, wanted.score),
                calibration_id=calibration.id if calibration else None,
                asked=f"score of {wanted.score:g} or more" + ("" if calibration else " (uncalibrated)"),
            )
        if not wanted.needs_calibration:
            continue
        if calibration is None:
            if source in ("request", "gallery"):
                raise InvalidRequest(
                    f"encoder {encoder} has no calibration, which an error rate, costs or an llr threshold need: fit "
                    "one with `voxdex calibrate`, or give a score threshold"
                )
            continue
        accept, asked = _llr(wanted, llr_at_rate, promise, chances)
        return OperatingPoint(
            score_threshold=None,
            source=source,
            llr_threshold=accept,
            possible_llr_threshold=_possible_llr(layers, accept, llr_at_rate),
            calibration_id=calibration.id,
            asked=asked,
        )
    raise _no_threshold(encoder)


def _llr(wanted: Wanted, llr_at_rate: Callable[[float], float], promise: str, chances: int) -> tuple[float, str]:
    if wanted.llr is not None:
        return wanted.llr, f"llr of {wanted.llr:g} or more"
    if wanted.rate is not None:
        return llr_at_rate(wanted.rate), f"at most {100 * wanted.rate:g} % {promise}"
    assert wanted.costs is not None
    costs = wanted.costs
    threshold = bayes_threshold(costs.p_target, c_miss=costs.c_miss, c_fa=costs.c_fa) + math.log(chances)
    asked = f"least cost at p_target {costs.p_target:g}, c_miss {costs.c_miss:g}, c_fa {costs.c_fa:g}"
    return threshold, asked if chances == 1 else f"{asked}, among {chances}"


def _possible_llr(layers: Layers, accept: float, llr_at_rate: Callable[[float], float]) -> float | None:
    for _, wanted in layers:
        if wanted.possible_llr is not None:
            return min(wanted.possible_llr, accept)
        if wanted.possible_rate is not None:
            return min(llr_at_rate(wanted.possible_rate), accept)
    return None


def _no_threshold(encoder: str) -> InvalidRequest:
    return InvalidRequest(
        f"encoder {encoder} has no default threshold and none was given: measure one on labeled recordings and "
        "pass it with --threshold (over HTTP: ?threshold=), or set VOXDEX_DECISION__IDENTIFICATION_THRESHOLD and "
        "..._VERIFICATION_THRESHOLD"
    )
