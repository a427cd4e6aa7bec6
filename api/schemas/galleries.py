"""Galleries over the API."""

import datetime as dt
from typing import Annotated

from pydantic import ConfigDict, Field

from api.schemas.common import Body, Cosine, Name, Text, View

IdentificationThreshold = Annotated[
    Cosine | None,
    Field(description="Cosine from which on a voice is identified; null: the setting's or the encoder's."),
]
VerificationThreshold = Annotated[
    Cosine | None, Field(description="Cosine from which on a claim is accepted; null: the setting's or the encoder's.")
]
_Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
PossibleThreshold = Annotated[
    Cosine | None,
    Field(description="Cosine from which on a voice is possible, where the cosine decides; null: the setting's."),
]
TargetFpir = Annotated[
    _Share | None,
    Field(description="Largest share of unknown voices that is named; null: the setting's. Needs a calibration."),
]
PossibleFpir = Annotated[
    _Share | None,
    Field(description="Largest share of unknown voices that is named or called possible; null: the setting's."),
]
TargetPFa = Annotated[
    _Share | None,
    Field(description="Largest share of false claims that is accepted; null: the setting's. Needs a calibration."),
]
ConsentRequired = Annotated[
    bool, Field(description="Whether nobody may be enrolled without a reference to their consent.")
]
RetentionDays = Annotated[
    int | None, Field(ge=1, le=36_500, description="Days after which recordings are erased; null: kept.")
]


class NewGallery(Body):
    """A gallery to be made."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "calls"}, {"name": "staff", "consent_required": True}]}
    )

    name: Name
    encoder: Annotated[
        Text | None,
        Field(max_length=200, description="Name in GET /v1/encoders; null: the service's setting. Never changes."),
    ] = None
    second_encoder: Annotated[
        Text | None,
        Field(max_length=200, description="Another one, whose scores are fused with those of the first; null: none."),
    ] = None
    identification_threshold: IdentificationThreshold = None
    verification_threshold: VerificationThreshold = None
    possible_threshold: PossibleThreshold = None
    target_fpir: TargetFpir = None
    possible_fpir: PossibleFpir = None
    target_p_fa: TargetPFa = None
    consent_required: ConsentRequired = False
    retention_days: RetentionDays = None


class GalleryChange(Body):
    """What is to change; what is left out stays, and null takes a value back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"target_fpir": 0.005, "retention_days": None}]})

    # Factories, because a stated default would say that leaving a field out sets it.
    identification_threshold: IdentificationThreshold = Field(default_factory=lambda: None)
    verification_threshold: VerificationThreshold = Field(default_factory=lambda: None)
    possible_threshold: PossibleThreshold = Field(default_factory=lambda: None)
    target_fpir: TargetFpir = Field(default_factory=lambda: None)
    possible_fpir: PossibleFpir = Field(default_factory=lambda: None)
    target_p_fa: TargetPFa = Field(default_factory=lambda: None)
    calibration_id: Annotated[
        Text | None,
        Field(
            min_length=4,
            max_length=64,
            description="Beginning of the id of the calibration to use, as `voxdex calibrations list` shows it; null: "
            "the one that comes with voxdex.",
        ),
    ] = Field(default_factory=lambda: None)
    score_normalization: Annotated[
        bool,
        Field(
            description="Whether scores are normalized by other people of the gallery; needs a calibration of "
            "normalized scores, and another calibration turns it off."
        ),
    ] = Field(default_factory=bool)
    consent_required: ConsentRequired = Field(default_factory=bool)
    retention_days: RetentionDays = Field(default_factory=lambda: None)


class Gallery(View):
    """A gallery and what it holds."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "calls",
                    "encoder": "speechbrain-ecapa-voxceleb",
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                    "second_encoder_id": None,
                    "created_at": "2026-01-31T09:00:00Z",
                    "identification_threshold": None,
                    "verification_threshold": None,
                    "possible_threshold": None,
                    "target_fpir": 0.01,
                    "possible_fpir": None,
                    "target_p_fa": None,
                    "calibration_id": None,
                    "score_normalization": False,
                    "consent_required": False,
                    "retention_days": None,
                    "speakers": 12,
                    "recordings": 340,
                    "embeddings": 5120,
                    "duration_s": 51200.0,
                }
            ]
        }
    )

    name: str
    encoder: str
    encoder_id: str = Field(description="Weights and front end; vectors are comparable only where these are equal.")
    second_encoder_id: str | None = Field(
        description="Encoder whose scores are fused with those of the first; null: it is searched under one."
    )
    created_at: dt.datetime
    identification_threshold: float | None
    verification_threshold: float | None
    possible_threshold: float | None
    target_fpir: float | None
    possible_fpir: float | None
    target_p_fa: float | None
    calibration_id: str | None = Field(description="Null: the one that comes with voxdex, if there is one.")
    score_normalization: bool = Field(description="Whether scores are normalized by other people of the gallery.")
    consent_required: bool
    retention_days: int | None
    speakers: int
    recordings: int
    embeddings: int
    duration_s: float = Field(description="Audio in its recordings.")


class Erased(View):
    """How much an erasure took away."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"speakers": 1, "recordings": 3, "vectors": 41}]})

    speakers: int
    recordings: int
    vectors: int
