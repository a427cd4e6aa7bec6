"""Where a decision is made: which threshold holds, and on whose word."""

from dataclasses import dataclass
from typing import Literal

from indexer.errors import InvalidRequest

ThresholdSource = Literal["request", "gallery", "setting", "encoder", "family"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on the score, accepted when score >= threshold, and where it comes from."""

    score_threshold: float
    source: ThresholdSource


def choose_operating_point(
    *,
    requested: float | None,
    gallery: float | None = None,
    setting: float | None,
    encoder_default: float | None,
    encoder: str,
    default_source: ThresholdSource = "encoder",
) -> OperatingPoint:
    """Take the most specific threshold: the request's, the gallery's, the setting's, the encoder's.

    `default_source` is "family" where the default was published for another model of the encoder's family: it holds
    for that model's scores, and for this one's only perhaps. An answer says so.

    Raises
    ------
    InvalidRequest
        If a threshold is not a cosine, or if nobody gives one: a decision without a threshold would be a guess.
    """
    candidates: list[tuple[ThresholdSource, float | None]] = [
        ("request", requested),
        ("gallery", gallery),
        ("setting", setting),
        (default_source, encoder_default),
    ]
    for source, value in candidates:
        if value is None:
            continue
        if not -1.0 <= value <= 1.0:
            raise InvalidRequest(f"score threshold {value} is no cosine: give a number from -1 to 1")
        return OperatingPoint(value, source)
    raise InvalidRequest(
        f"encoder {encoder} has no default threshold and none was given: measure one on labeled recordings and "
        "pass it with --threshold (over HTTP: ?threshold=), or set VOXDEX_DECISION__IDENTIFICATION_THRESHOLD and "
        "..._VERIFICATION_THRESHOLD"
    )
