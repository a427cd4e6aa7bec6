"""What identification, verification, comparison and search answer."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue

from api.schemas.common import Cosine, View
from api.voice_search import MOST_HITS
from search.occurrences import MOST_STRETCHES
from search.operating_point import ThresholdSource

Score = Annotated[Cosine, Field(description="Cosine of the two voices, never rescaled.")]
Llr = Annotated[
    float | None,
    Field(
        description="Calibrated natural-log likelihood ratio: above 0 speaks for the same person, below for another; "
        "null where uncalibrated."
    ),
]
Posterior = Annotated[
    float | None,
    Field(ge=0, le=1, description="Probability under the operating point's `prior`; null where uncalibrated."),
]
Warnings = Annotated[
    list[str], Field(description="What makes the answer less sure than it looks, in plain words; empty: nothing known.")
]

_POINT: dict[str, JsonValue] = {
    "asked": "at most 1 % of unknown voices named, 12 enrolled",
    "decides_by": "llr",
    "llr_threshold": 5.1,
    "score_threshold": 0.46,
    "possible_llr_threshold": 2.7,
    "possible_score_threshold": None,
    "source": "setting",
    "calibration_id": "4be1f0c59d0a",
    "gallery_size": 12,
    "prior": 0.5,
}
_QUALITY: dict[str, JsonValue] = {
    "net_speech_s": 4.2,
    "snr_db": 21.0,
    "clipped_share": 0.0,
    "bandwidth_hz": 7800.0,
    "level_dbfs": -24.5,
    "telephone": False,
}
_HEARD: dict[str, JsonValue] = {"speech_s": 4.2, "needed_s": 0.3, "issues": [], "quality": _QUALITY, "voices_heard": 1}
_ENROLLMENT: dict[str, JsonValue] = {
    "utterance_id": 31,
    "recording_id": 7,
    "uri": "meetings/monday.flac",
    "channel": None,
    "start_s": 10.0,
    "end_s": 20.0,
    "score": 0.81,
}
_CANDIDATES: list[JsonValue] = [
    {
        "rank": 1,
        "speaker": "Ada",
        "score": 0.83,
        "llr": 14.2,
        "posterior": 0.999992,
        "margin": 0.61,
        "llr_margin": 19.8,
        "second_score": None,
        "enrollments": 3,
        "best_enrollments": [_ENROLLMENT],
    }
]


class OperatingPoint(View):
    """From where on a voice is accepted, on whose word, and what that is to achieve."""

    asked: str = Field(description="What the threshold is to achieve, in words.")
    decides_by: Literal["llr", "score"] = Field(description="`score`: by the raw cosine.")
    llr_threshold: float | None = Field(description="Accepted from this llr on; null where the score decides.")
    score_threshold: float | None = Field(
        description="Accepted from this score on; where the llr decides, the score that has that llr for this "
        "recording and this speaker, null where there is none or it is not known."
    )
    possible_llr_threshold: float | None = Field(description="Possible from this llr on; null: no such band.")
    possible_score_threshold: float | None = Field(description="Possible from this score on; null: no such band.")
    source: ThresholdSource = Field(description="The most specific of: request, gallery, setting, encoder.")
    calibration_id: str | None = Field(description="What made the llrs of scores; null: uncalibrated.")
    gallery_size: int | None = Field(
        description="Speakers (for a search: utterances) that were compared, after filters; null for a claim."
    )
    prior: float = Field(description="How likely it was beforehand; what the posteriors assume, decisions do not.")


class VoiceQuality(View):
    """What limits how well a recording tells its voice."""

    net_speech_s: float = Field(description="Seconds in which the voice speaks.")
    snr_db: float | None = Field(description="Power of the speech over that of the noise, estimated; null: unknown.")
    clipped_share: float = Field(description="Share of the samples that reach full scale.")
    bandwidth_hz: float = Field(description="Where the spectrum of the speech ends.")
    level_dbfs: float = Field(description="Root mean square of the speech.")
    telephone: bool = Field(description="Whether the spectrum ends where a telephone's does.")


class ProbeHeard(View):
    """What was heard of the recording that was sent."""

    speech_s: float = Field(description="Seconds of speech of the voice that the answer is about.")
    needed_s: float = Field(description="Fewest seconds for a decision.")
    issues: list[str] = Field(
        default=[],
        description="Why the recording was read in part only, which of several audio tracks was, or why no decision "
        "was made; empty otherwise.",
    )
    quality: VoiceQuality | None = Field(default=None, description="Of that voice; null where none was heard.")
    voices_heard: int = Field(default=1, description="How many voices speak in the recording.")


class BestEnrollment(View):
    """An enrolled stretch that the voice resembles; /recordings/{recording_id}/audio plays it."""

    utterance_id: int
    recording_id: int
    uri: str
    channel: int | None
    start_s: float
    end_s: float
    score: Score


class Candidate(View):
    """A ranked speaker."""

    rank: int = Field(ge=1)
    speaker: str
    score: Score
    llr: Llr
    posterior: Posterior
    margin: float | None = Field(description="Score above the next candidate's, shown or not; null for the last.")
    llr_margin: float | None = Field(description="The same for the llr.")
    second_score: float | None = Field(description="Score under the gallery's second encoder; null: it has none.")
    enrollments: int = Field(description="Embeddings that the speaker's voiceprint is made of.")
    best_enrollments: list[BestEnrollment] = Field(description="Those that the voice resembles most, best first.")


class Turn(View):
    """A stretch in which a voice speaks."""

    start_s: float
    end_s: float


class VoiceHeard(View):
    """When one voice of the recording speaks."""

    voice: int = Field(description="Number within the recording, from 0, by first appearance.")
    channel: int | None = Field(description="Number from 0 where channels were kept apart.")
    speech_s: float = Field(description="Seconds in which it speaks.")
    turns: list[Turn] = Field(description="When it speaks, in order of time.")


class DiarizeAnswer(View):
    """Who speaks when in a recording; who they are is `identify`'s to say."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "duration_s": 9.5,
                    "voices": [
                        {"voice": 0, "channel": None, "speech_s": 6.0, "turns": [{"start_s": 0.3, "end_s": 6.3}]},
                        {"voice": 1, "channel": None, "speech_s": 2.9, "turns": [{"start_s": 6.4, "end_s": 9.3}]},
                    ],
                    "issues": [],
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                }
            ]
        }
    )

    duration_s: float = Field(description="Length of the recording.")
    voices: list[VoiceHeard] = Field(description="Whoever speaks most comes first.")
    issues: list[str] = Field(
        description="Why the recording was read in part only, or which of several audio tracks was; empty where all of "
        "it was."
    )
    encoder_id: str


class VoiceIdentified(View):
    """Who one voice of the recording is."""

    voice: int = Field(description="Number within the recording, from 0, by first appearance.")
    channel: int | None = Field(description="Number from 0 where channels were kept apart.")
    turns: list[Turn] = Field(description="When it speaks, in order of time.")
    quality: VoiceQuality
    decision: Literal["identified", "possible", "unknown", "not_enough_speech"]
    speaker: str | None = Field(description="Who it is; null unless identified.")
    operating_point: OperatingPoint
    candidates: list[Candidate] = Field(description="Best first; empty where nobody is enrolled.")
    warnings: Warnings


class IdentifyAnswer(ProbeHeard):
    """Who it is among the enrolled, or that it is nobody of them."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decision": "identified",
                    "speaker": "Ada",
                    "operating_point": _POINT,
                    **_HEARD,
                    "candidates": _CANDIDATES,
                    "warnings": [],
                    "voices": [
                        {
                            "voice": 0,
                            "channel": None,
                            "turns": [{"start_s": 0.3, "end_s": 4.5}],
                            "quality": _QUALITY,
                            "decision": "identified",
                            "speaker": "Ada",
                            "operating_point": _POINT,
                            "candidates": _CANDIDATES,
                            "warnings": [],
                        }
                    ],
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                    "embedding": None,
                }
            ]
        }
    )

    decision: Literal["identified", "possible", "unknown", "not_enough_speech"] = Field(
        description="Of the voice that speaks most. `possible`: the best candidate is between the two edges."
    )
    speaker: str | None = Field(description="Who it is; null unless identified.")
    operating_point: OperatingPoint
    candidates: list[Candidate] = Field(description="Best first; empty where nobody is enrolled.")
    warnings: Warnings
    voices: list[VoiceIdentified] = Field(
        description="Every voice that is heard, whoever speaks most first; its answer is also the one above."
    )
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
                    "llr": 14.2,
                    "posterior": 0.999999,
                    "second_score": None,
                    "operating_point": {**_POINT, "asked": "at most 0.1 % of strangers accepted", "gallery_size": None},
                    **_HEARD,
                    "warnings": [],
                    "best_enrollments": [_ENROLLMENT],
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                }
            ]
        }
    )

    decision: Literal["accept", "reject", "not_enough_speech"]
    speaker: str = Field(description="Who they claim to be.")
    score: Score | None = Field(description="Null where there was not enough speech.")
    llr: Llr
    posterior: Posterior
    second_score: float | None = Field(description="Score under the gallery's second encoder; null: it has none.")
    operating_point: OperatingPoint
    warnings: Warnings
    best_enrollments: list[BestEnrollment] = Field(description="Those that the voice resembles most, best first.")
    encoder_id: str


class CompareAnswer(View):
    """Whether two recordings are of the same voice."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "decision": "reject",
                    "score": 0.07,
                    "llr": -6.3,
                    "posterior": 0.0018,
                    "operating_point": {**_POINT, "asked": "at most 0.1 % of strangers accepted", "gallery_size": None},
                    "warnings": [],
                    "first": _HEARD,
                    "second": _HEARD,
                    "encoder_id": "0575cb64845e6b9a-speechbrain",
                }
            ]
        }
    )

    decision: Literal["accept", "reject", "not_enough_speech"]
    score: Score | None = Field(description="Null where there was not enough speech.")
    llr: Llr
    posterior: Posterior
    operating_point: OperatingPoint
    warnings: Warnings
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
    llr: Llr = Field(description="Highest of its utterances; null where uncalibrated.")
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
                    "operating_point": {
                        **_POINT,
                        "asked": "at most 1 % of unknown voices found, 5120 utterances",
                        "gallery_size": 5120,
                    },
                    **_HEARD,
                    "warnings": [],
                    "found": 1,
                    "truncated": False,
                    "eligible": None,
                    "recordings": [
                        {
                            "recording_id": 7,
                            "uri": "meetings/monday.flac",
                            "score": 0.79,
                            "llr": 12.9,
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
    operating_point: OperatingPoint = Field(
        description="Its `score_threshold` is what utterances are found by: where an llr was asked for, the score that "
        "has it for an utterance of the usual length."
    )
    warnings: Warnings
    found: int = Field(description="Recordings with the voice: those whose score reaches the threshold.")
    truncated: bool = Field(
        description=f"Whether more utterances reach the threshold than `top_k`, or {MOST_HITS} without it; only the "
        "best of them were looked at, so a higher threshold tells more."
    )
    eligible: int | None = Field(description="Utterances that the filter leaves; null where there was none.")
    recordings: list[RecordingFound] = Field(
        description="Best first, at most `limit`. With `top_k` and no threshold also those below the threshold."
    )
    encoder_id: str
