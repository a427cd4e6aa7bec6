"""How well a gallery's voices are told apart, over the API."""

from typing import Literal

from pydantic import ConfigDict, Field, JsonValue

from api.schemas.common import View

_CALIBRATION: dict[str, JsonValue] = {
    "id": "4be1f0c59d0a",
    "name": "default",
    "origin": "voxdex",
    "encoder_ids": ["0575cb64845e6b9a-speechbrain"],
    "description": "spelled and read English, clean and noisy",
    "speakers": 261,
    "recordings": 1840,
    "fitted_at": "2026-01-31",
    "cllr_before": 0.71,
    "cllr_after": 0.06,
    "min_cllr": 0.05,
}
_SHARES: dict[str, JsonValue] = {"edges": [-0.2, 0.4, 1.0], "same": [0.1, 0.9], "different": [0.98, 0.02]}


class CalibrationView(View):
    """What turns scores into llrs, and how well it does on speakers it was not fitted to."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CALIBRATION]})

    id: str
    name: str = Field(description="The condition that it is for.")
    origin: Literal["voxdex", "record"] = Field(description="Whether it comes with voxdex or was fitted here.")
    encoder_ids: list[str] = Field(description="One, or two whose scores it fuses.")
    description: str = Field(description="What it was fitted on.")
    speakers: int
    recordings: int
    fitted_at: str = Field(description="Date, as 2026-01-31.")
    cllr_before: float = Field(description="Cost in bits of taking the cosine for an llr.")
    cllr_after: float
    min_cllr: float = Field(description="Of the best calibration that keeps the order of the llrs.")


class Calibrations(View):
    """The calibrations that galleries can be given."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"items": [_CALIBRATION]}]})

    items: list[CalibrationView]


class Shares(View):
    """Shares of the pairs of one speaker and of two, by columns of equal width."""

    edges: list[float] = Field(description="One more than there are columns, rising.")
    same: list[float]
    different: list[float]


class DetPoint(View):
    """Both error rates of pairs at a threshold."""

    threshold: float
    p_fa: float
    p_miss: float


class Errors(View):
    """What is to be expected of identification at a threshold."""

    threshold: float
    fpir: float = Field(description="Share of strangers who would be named.")
    fnir: float = Field(description="Share of recordings of enrolled people that would not be given their name.")


class ErrorsNow(Errors):
    """The same where the gallery decides now."""

    threshold: float = Field(description="The middle one: where a rate is asked for, thresholds follow the recording.")
    asked: str = Field(description="What it is to achieve, in words.")


class GalleryQualityView(View):
    """How well a gallery's recordings are told apart: each compared with the others, as if it were new."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "speakers": 12,
                    "recordings": 40,
                    "sampled": False,
                    "same_pairs": 60,
                    "different_pairs": 720,
                    "scores": _SHARES,
                    "llrs": None,
                    "eer": 0.016,
                    "det": [{"threshold": 0.31, "p_fa": 0.02, "p_miss": 0.01}],
                    "decides_by": "score",
                    "curve": [{"threshold": 0.5, "fpir": 0.03, "fnir": 0.01}],
                    "point": {"threshold": 0.5, "fpir": 0.03, "fnir": 0.01, "asked": "score of 0.5 or more"},
                    "calibration": _CALIBRATION,
                    "warnings": [],
                }
            ]
        }
    )

    speakers: int = Field(description="Who is enrolled.")
    recordings: int = Field(description="Recordings that were compared.")
    sampled: bool = Field(description="Whether some speakers were left out, for there are too many.")
    same_pairs: int
    different_pairs: int
    scores: Shares
    llrs: Shares | None = Field(description="Null without a calibration.")
    eer: float | None = Field(description="Equal error rate of the pairs; null where there are not both kinds.")
    det: list[DetPoint] = Field(description="By rising threshold.")
    decides_by: Literal["llr", "score"] = Field(description="What thresholds are of.")
    curve: list[Errors] = Field(description="By rising threshold; empty where fewer than two are enrolled.")
    point: ErrorsNow | None
    calibration: CalibrationView | None
    warnings: list[str] = Field(description="What makes the figures less sure than they look.")


class PlacedSpeaker(View):
    """A speaker on the map."""

    speaker: str
    x: float = Field(ge=-1, le=1)
    y: float = Field(ge=-1, le=1)
    recordings: int
    enrolled_s: float
    nearest: str | None = Field(description="Who sounds most like them; null where nobody else is enrolled.")
    score: float | None = Field(description="Cosine with them.")


class GalleryMapView(View):
    """Speakers on a plane: the nearer two are, the more alike they sound."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "method": "t-SNE",
                    "speakers": 2,
                    "points": [
                        {
                            "speaker": "Ann Lee",
                            "x": -1.0,
                            "y": 0.0,
                            "recordings": 2,
                            "enrolled_s": 58.4,
                            "nearest": "Bo Chen",
                            "score": 0.12,
                        }
                    ],
                }
            ]
        }
    )

    method: Literal["t-SNE", "PCA"]
    speakers: int = Field(description="Who is enrolled.")
    points: list[PlacedSpeaker] = Field(description="All of them, or a sample.")
