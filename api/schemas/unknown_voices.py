"""Unknown voices over the API."""

import datetime as dt
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from api.schemas.common import ID_LIMIT, Body, Cosine, Name, View
from api.schemas.speakers import ConsentedAt, ConsentReference

MOST_NAMED = 10_000
"""Utterances that one request names."""

_EXAMPLE: dict[str, Any] = {
    "name": "Unknown-17",
    "utterances": 12,
    "recordings": 5,
    "speech_s": 96.5,
    "edited": False,
    "created_at": "2026-01-31T09:00:00Z",
}


class NewClustering(Body):
    """How alike voices must be to be called one, and how often one must be heard."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"fpir": 0.001, "min_recordings": 3}]})

    threshold: Cosine | None = Field(
        default=None,
        gt=-1,
        description="Mean cosine from which on two groups are one voice.",
    )
    fpir: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="Instead: share of voices heard once that may be taken for another one; needs a calibration. With "
        "neither, the calibration says from which llr on a voice has at most one stranger that near; without one, the "
        "encoder's own cosine decides.",
    )
    min_utterances: int = Field(default=2, ge=1, le=1_000_000, description="Utterances that a voice must have.")
    min_recordings: int = Field(default=2, ge=1, le=1_000_000, description="Recordings that it must be heard in.")
    min_speech_s: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Net speech below which what one voice says in a recording is left alone.",
    )


class UnknownVoice(View):
    """Somebody without a name who is heard again and again."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    name: str = Field(description="Stays with the voice from run to run, and is never given to another one.")
    utterances: int
    recordings: int
    speech_s: float
    edited: bool = Field(description="Whether a person merged or split it, or took utterances out.")
    created_at: dt.datetime


class UnknownUtterance(View):
    """A stretch in which an unknown voice is heard; `GET .../recordings/{recording_id}/audio` plays it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 981,
                    "recording_id": 42,
                    "uri": "/archive/2026/monday.flac",
                    "channel": None,
                    "start_s": 12.5,
                    "end_s": 21.0,
                    "score": 0.83,
                }
            ]
        }
    )

    id: int
    recording_id: int
    uri: str
    channel: int | None = Field(description="Number from 0; null: the mix of all.")
    start_s: float
    end_s: float
    score: float | None = Field(description="Cosine to the mean of the voice when a run put it there.")


class Promotion(Body):
    """Who an unknown voice is."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"speaker": "Ann Lee"}, {"speaker": "Bo Chen", "consent_reference": "form 2026-114"}]
        }
    )

    speaker: Name = Field(description="Added if new; otherwise the utterances are enrolled beside the others.")
    consent_reference: ConsentReference = None
    consented_at: ConsentedAt = None


class UnknownMerge(Body):
    """Which other unknown voice this one is."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"into": "Unknown-3"}]})

    into: Name = Field(description="Name of the unknown voice that stays.")


class UnknownSplit(Body):
    """Which utterances are of another voice."""

    model_config = ConfigDict(json_schema_extra={"examples": [{}, {"utterance_ids": [981, 982]}]})

    utterance_ids: list[Annotated[int, Field(ge=1, le=ID_LIMIT)]] | None = Field(
        default=None,
        min_length=1,
        max_length=MOST_NAMED,
        description="They become a voice of their own; left out: the voice is parted in two by its vectors.",
    )


class Parted(View):
    """What became of an unknown voice that was two."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"kept": _EXAMPLE, "made": {**_EXAMPLE, "name": "Unknown-18"}}]}
    )

    kept: UnknownVoice
    made: UnknownVoice


class Ungrouped(View):
    """What a forgotten unknown voice leaves."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"utterances": 12}]})

    utterances: int = Field(description="Utterances that are in no unknown voice now.")
