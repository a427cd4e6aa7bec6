"""What identification, verification, comparison and search answer."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from api.schemas.common import Cosine, View
from api.voices import MOST_HITS
from search.occurrences import MOST_STRETCHES
from search.operating_point import ThresholdSource

Score = Annotated[Cosine, Field(description="Cosine of the two voices, never rescaled.")]


class Threshold(View):
    """Score from which on a voice is accepted, and on whose word."""

    value: Cosine
    source: ThresholdSource = Field(description="The most specific of: request, gallery, setting, encoder.")


class ProbeHeard(View):
    """What was heard of the recording that was sent."""

    speech_s: float = Field(description="Seconds that were embedded.")
    needed_s: float = Field(description="Fewest seconds that the encoder embeds.")
    issues: list[str] = Field(
        default=[], description="Why the recording was read in part only, or not at all; empty where all of it was."
    )


class Candidate(View):
    """A ranked speaker."""

    rank: int = Field(ge=1)
    speaker: str
    score: Score
    enrollments: int = Field(description="Embeddings that the speaker's voiceprint is made of.")


class IdentifyAnswer(ProbeHeard):
    """Who it is among the enrolled, or that it is nobody of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decision": "identified",
                    "speaker": "Ada",
                    "threshold": {"value": 0.5, "source": "encoder"},
                    "speech_s": 4.2,
                    "needed_s": 0.1,
                    "issues": [],
                    "candidates": [{"rank": 1, "speaker": "Ada", "score": 0.83, "enrollments": 3}],
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                    "embedding": None,
                }
            ]
        }
    )

    decision: Literal["identified", "unknown", "not_enough_speech"]
    speaker: str | None = Field(description="Who it is; null unless identified.")
    threshold: Threshold
    candidates: list[Candidate] = Field(description="Best first; empty where nobody is enrolled.")
    encoder_id: str
    embedding: list[float] | None = Field(
        default=None, description="The probe's unit vector; only where it was asked for and the key may have it."
    )


class VerifyAnswer(ProbeHeard):
    """Whether it is who they claim to be."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decision": "accept",
                    "speaker": "Ada",
                    "score": 0.83,
                    "threshold": {"value": 0.4, "source": "encoder"},
                    "speech_s": 4.2,
                    "needed_s": 0.1,
                    "issues": [],
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                }
            ]
        }
    )

    decision: Literal["accept", "reject", "not_enough_speech"]
    speaker: str = Field(description="Who they claim to be.")
    score: Score | None = Field(description="Null where there was not enough speech.")
    threshold: Threshold
    encoder_id: str


class CompareAnswer(View):
    """Whether two recordings are of the same voice."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decision": "reject",
                    "score": 0.07,
                    "threshold": {"value": 0.4, "source": "encoder"},
                    "first": {"speech_s": 4.2, "needed_s": 0.1, "issues": []},
                    "second": {"speech_s": 3.8, "needed_s": 0.1, "issues": []},
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                }
            ]
        }
    )

    decision: Literal["accept", "reject", "not_enough_speech"]
    score: Score | None = Field(description="Null where there was not enough speech.")
    threshold: Threshold
    first: ProbeHeard
    second: ProbeHeard
    encoder_id: str


class Stretch(View):
    """Consecutive utterances in which the voice occurs."""

    start_s: float
    end_s: float
    channel: int | None = Field(description="Number from 0 where channels were kept apart.")
    score: Score = Field(description="Best of its utterances.")
    speakers: list[str] = Field(description="Whom its utterances are enrolled as.")


class RecordingFound(View):
    """A recording in which the voice occurs."""

    recording_id: int
    uri: str
    score: Score = Field(description="Best of its stretches.")
    speakers: list[str]
    stretches: list[Stretch] = Field(description="In order of time.")
    truncated: bool = Field(description=f"Whether there are more stretches than these, the best {MOST_STRETCHES}.")


class SearchAnswer(ProbeHeard):
    """Where a voice occurs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decision": "found",
                    "threshold": {"value": 0.5, "source": "encoder"},
                    "speech_s": 4.2,
                    "needed_s": 0.1,
                    "issues": [],
                    "found": 1,
                    "truncated": False,
                    "eligible": None,
                    "recordings": [
                        {
                            "recording_id": 7,
                            "uri": "meetings/monday.flac",
                            "score": 0.79,
                            "speakers": ["Ada"],
                            "stretches": [
                                {"start_s": 10.0, "end_s": 40.0, "channel": None, "score": 0.79, "speakers": ["Ada"]}
                            ],
                            "truncated": False,
                        }
                    ],
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                }
            ]
        }
    )

    decision: Literal["found", "not_found", "not_enough_speech"]
    threshold: Threshold
    found: int = Field(description="Recordings with the voice: those whose score reaches the threshold.")
    truncated: bool = Field(
        description=f"Whether more utterances reach the threshold than `top_k`, or {MOST_HITS} without it; only the "
        "best of them were looked at, so a higher threshold tells more."
    )
    eligible: int | None = Field(description="Utterances that the filter leaves; null where there was none.")
    recordings: list[RecordingFound] = Field(
        description="Best first, at most `limit`. With `top_k` and no `threshold` also those below the threshold."
    )
    encoder_id: str
