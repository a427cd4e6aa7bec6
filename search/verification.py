"""1:1: whether this is the person they claim to be."""

from dataclasses import dataclass
from typing import Literal

from search.evidence import EVEN, posterior_of_claim
from search.identification import ProbeQuality, Rules, ScoredSpeaker, score_at_threshold, speaker_llrs
from search.operating_point import OperatingPoint, verification_point


@dataclass(frozen=True, slots=True)
class Verification:
    """A decision about a claimed identity: accept when score, or llr, >= threshold.

    Attributes
    ----------
    llr, posterior
        None where uncalibrated.
    score_at_threshold
        The cosine that has the operating point's llr here; None where the cosine decides, where two encoders or
        normalized scores do, or where no cosine has it.
    """

    outcome: Literal["accept", "reject"]
    score: float
    operating_point: OperatingPoint
    llr: float | None = None
    posterior: float | None = None
    prior: float = EVEN
    score_at_threshold: float | None = None
    second_score: float | None = None


def verify(claimed: ScoredSpeaker, *, quality: ProbeQuality, rules: Rules) -> Verification:
    """Decide whether a probe is of the speaker whom it was scored against.

    Raises
    ------
    InvalidRequest
        If a threshold or a rate is out of range, or is asked for and cannot be had.
    """
    point = verification_point(rules.calibration, rules.layers, encoder=rules.encoder)
    llrs = speaker_llrs([claimed], quality, rules.calibration)
    llr = float(llrs[0]) if llrs is not None else None
    accepted = point.band(claimed.score, llr) == "identified"
    return Verification(
        outcome="accept" if accepted else "reject",
        score=claimed.score,
        operating_point=point,
        llr=llr,
        posterior=posterior_of_claim(llr, prior=rules.prior) if llr is not None else None,
        prior=rules.prior,
        score_at_threshold=score_at_threshold(point, rules.calibration, claimed, quality),
        second_score=claimed.second_score,
    )
