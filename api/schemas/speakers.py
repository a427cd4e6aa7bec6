"""Speakers and their enrollments over the API."""

import datetime as dt
from typing import Annotated

from pydantic import ConfigDict, Field

from api.schemas.common import Body, Instant, Name, Reference, View
from api.schemas.recordings import PossibleSecondVoice
from indexer.db.speaker_records import LABELS_LIMIT

Labels = Annotated[list[Name], Field(max_length=LABELS_LIMIT, description="Words that speakers are filtered by.")]
ConsentReference = Annotated[
    Reference | None, Field(description="Where the person's consent is kept: a contract number, a form.")
]
ConsentedAt = Annotated[
    Instant | None,
    Field(description="When it was given, without a time zone in UTC; left out: now. Needs a consent_reference."),
]


class NewSpeaker(Body):
    """A speaker to be added, without a voice yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "Ann Lee"},
                {"name": "Bo Chen", "labels": ["staff", "berlin"], "consent_reference": "form 2026-114"},
            ]
        }
    )

    name: Name
    labels: Labels = Field(default=[])
    consent_reference: ConsentReference = None
    consented_at: ConsentedAt = None


class SpeakerChange(Body):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Ann Lee-Park"}, {"labels": ["staff"], "consent_reference": None}]}
    )

    # Factories, because a stated default would say that leaving a field out sets it.
    name: Name = Field(default_factory=str, description="Another name.")
    labels: Labels = Field(default_factory=list, description="Replaces all labels.")
    consent_reference: ConsentReference = Field(
        default_factory=lambda: None, description="null: consent is taken back."
    )
    consented_at: ConsentedAt = Field(default_factory=lambda: None)


class SpeakerMerge(Body):
    """Who else this speaker is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"into": "Ann Lee"}]})

    into: Name = Field(description="Name of the speaker who stays.")


class Speaker(View):
    """A speaker, and how much of their voice is enrolled."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Ann Lee",
                    "labels": ["staff"],
                    "consent_reference": "form 2026-114",
                    "consented_at": "2026-01-30T10:00:00Z",
                    "created_at": "2026-01-31T09:00:00Z",
                    "enrolled_utterances": 6,
                    "enrolled_s": 58.4,
                    "recordings": 2,
                }
            ]
        }
    )

    name: str
    labels: list[str]
    consent_reference: str | None
    consented_at: dt.datetime | None
    created_at: dt.datetime
    enrolled_utterances: int
    enrolled_s: float
    recordings: int = Field(description="Recordings in which the speaker is enrolled.")


class Erasable(View):
    """What erasing a speaker would take away."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"enrollments": 6, "recordings": 2, "vectors": 6, "kept_recordings": 1}]}
    )

    enrollments: int = Field(description="Utterances that are enrolled as the speaker.")
    recordings: int = Field(description="Recordings that would go, with their uploaded audio.")
    vectors: int = Field(description="Vectors that would go: of utterances that are enrolled as nobody else.")
    kept_recordings: int = Field(description="Recordings with the speaker that would stay, for others speak in them.")


class Quality(View):
    """What the recording of an enrollment is like."""

    duration_s: float | None
    speech_s: float | None = Field(description="Seconds of speech that were embedded.")
    sample_rate_hz: int | None
    channels: int | None
    level_dbfs: float | None = Field(
        description="Root mean square below full scale, before resampling; null where the recording was known already."
    )
    clipped_share: float | None = Field(
        ge=0, le=1, description="Share of samples at full scale; above about 0.001 it was recorded too loud."
    )
    issues: list[str] = Field(description="What speaks against it: read in part only, little speech, clipped.")


class Enrollment(View):
    """A recording of which it is stated that it is a speaker's voice."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "enrollment_id": 42,
                    "recording_id": 42,
                    "uri": "upload:ann-1.wav",
                    "utterances": 3,
                    "enrolled_s": 28.1,
                    "created_at": "2026-01-31T09:00:00Z",
                    "net_speech_s": 26.4,
                    "snr_db": 24.8,
                    "cosine_to_others": 0.71,
                    "is_outlier": False,
                }
            ]
        }
    )

    enrollment_id: int = Field(description="The recording's number.")
    recording_id: int
    uri: str = Field(description="Where it was read from; `upload:` and the client's name for an upload.")
    utterances: int = Field(description="Stretches of it that are enrolled as the speaker.")
    enrolled_s: float
    created_at: dt.datetime
    net_speech_s: float | None = Field(default=None, description="Speech in them; null where nobody looked.")
    snr_db: float | None = Field(default=None, description="Their speech above the noise behind it, in the mean.")
    cosine_to_others: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        description="With the speaker's other enrollments together; null where there is no other.",
    )
    is_outlier: bool = Field(
        default=False, description="Whether it does not sound like the others; delete it if it is somebody else."
    )


class NewEnrollment(Enrollment):
    """An enrollment that was just made, and what its recording is like."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "enrollment_id": 42,
                    "recording_id": 42,
                    "uri": "upload:ann-1.wav",
                    "utterances": 3,
                    "enrolled_s": 28.1,
                    "created_at": "2026-01-31T09:00:00Z",
                    "net_speech_s": 26.4,
                    "snr_db": 24.8,
                    "cosine_to_others": 0.71,
                    "is_outlier": False,
                    "quality": {
                        "duration_s": 28.1,
                        "speech_s": 28.1,
                        "sample_rate_hz": 16000,
                        "channels": 1,
                        "level_dbfs": -24.3,
                        "clipped_share": 0.0,
                        "issues": [],
                    },
                    "warnings": [],
                    "possible_second_voice": None,
                }
            ]
        }
    )

    quality: Quality
    warnings: list[str] = Field(
        description="What to know of it, as that several voices were heard, of which only the one that speaks most is "
        "enrolled, or that another speaker sounds the same."
    )
    possible_second_voice: PossibleSecondVoice | None = Field(
        default=None,
        description="What may be a second voice where it is not sure that there is one; `warnings` say so too. Null "
        "where nothing may be, where several voices were heard, and where the recording was known already.",
    )
