"""Answers about a voice."""

from typing import Literal

from voxdex_client.models.base import Model

Decision = Literal["identified", "possible", "unknown", "not_enough_speech"]


Verdict = Literal["accept", "reject", "not_enough_speech"]


class OperatingPoint(Model):
    """From where on a voice is accepted, on whose word, and what that is to achieve."""

    asked: str
    """In words."""
    decides_by: Literal["llr", "score"]
    llr_threshold: float | None
    score_threshold: float | None
    """Where the llr decides: the score that has that llr for this recording and this speaker, as far as it is known."""
    possible_llr_threshold: float | None
    possible_score_threshold: float | None
    source: Literal["request", "gallery", "setting", "encoder", "family"]
    """The most specific that there is; `family`: no value is published for the encoder, so its kind's is taken."""
    calibration_id: str | None
    """None: uncalibrated."""
    gallery_size: int | None
    """Speakers (for a search: utterances) that were compared; None for a claim."""
    prior: float
    """What the posteriors assume."""


class VoiceQuality(Model):
    """What limits how well a recording tells its voice."""

    net_speech_s: float
    snr_db: float | None
    clipped_share: float
    bandwidth_hz: float
    level_dbfs: float
    telephone: bool


class ProbeHeard(Model):
    """What was heard of the recording that was sent."""

    speech_s: float
    """Seconds of speech of the voice that the answer is about."""
    needed_s: float
    """Fewest seconds for a decision."""
    issues: list[str]
    """Why the recording was read in part only, which of several audio tracks was, or why no decision was made."""
    quality: VoiceQuality | None
    voices_heard: int


class BestEnrollment(Model):
    """An enrolled stretch that the voice resembles; `stretch_audio` of its recording plays it."""

    utterance_id: int
    recording_id: int
    uri: str
    channel: int | None
    start_s: float
    end_s: float
    score: float


class Candidate(Model):
    """A ranked speaker."""

    rank: int
    speaker: str
    score: float
    """Cosine in [-1, 1]."""
    llr: float | None
    """Natural-log likelihood ratio; None: uncalibrated."""
    posterior: float | None
    margin: float | None
    """Score above the next candidate's."""
    llr_margin: float | None
    second_score: float | None
    enrollments: int
    """Embeddings that the speaker's voiceprint is made of."""
    best_enrollments: list[BestEnrollment]


class Turn(Model):
    """A stretch in which a voice speaks."""

    start_s: float
    end_s: float


class IdentifiedVoice(Model):
    """Who one voice of a recording is."""

    voice: int
    channel: int | None
    turns: list[Turn]
    quality: VoiceQuality
    decision: Decision
    speaker: str | None
    operating_point: OperatingPoint
    candidates: list[Candidate]
    warnings: list[str]


class Identification(ProbeHeard):
    """Who it is among the enrolled, or that it is nobody of them; of several voices, whoever speaks most."""

    decision: Decision
    speaker: str | None
    operating_point: OperatingPoint
    candidates: list[Candidate]
    warnings: list[str]
    """What makes the answer less sure than it looks."""
    voices: list[IdentifiedVoice]
    """Every voice that is heard, whoever speaks most first."""
    encoder_id: str
    embedding: list[float] | None


class Verification(ProbeHeard):
    """Whether it is who they claim to be."""

    decision: Verdict
    speaker: str
    score: float | None
    llr: float | None
    posterior: float | None
    second_score: float | None
    operating_point: OperatingPoint
    warnings: list[str]
    best_enrollments: list[BestEnrollment]
    encoder_id: str


class Comparison(Model):
    """Whether two recordings are of the same voice."""

    decision: Verdict
    score: float | None
    llr: float | None
    posterior: float | None
    operating_point: OperatingPoint
    warnings: list[str]
    first: ProbeHeard
    second: ProbeHeard
    encoder_id: str


class HeardVoice(Model):
    """When one voice of the recording speaks."""

    voice: int
    channel: int | None
    speech_s: float
    turns: list[Turn]


class Diarization(Model):
    """Who speaks when in a recording; whoever speaks most comes first."""

    duration_s: float
    voices: list[HeardVoice]
    issues: list[str]
    encoder_id: str


class Stretch(Model):
    """Consecutive utterances in which a voice occurs."""

    start_s: float
    end_s: float
    channel: int | None
    score: float
    speakers: list[str]


class RecordingFound(Model):
    """A recording in which a voice occurs."""

    recording_id: int
    uri: str
    score: float
    llr: float | None
    speakers: list[str]
    stretches: list[Stretch]
    truncated: bool = False
    """Whether it has more stretches than these, the best."""


class SearchResult(ProbeHeard):
    """Where a voice occurs."""

    decision: Literal["found", "not_found", "not_enough_speech"]
    operating_point: OperatingPoint
    warnings: list[str]
    found: int
    """Recordings with the voice: those whose score reaches the threshold."""
    truncated: bool = False
    """Whether more utterances reach the threshold than were looked at; a higher threshold tells more."""
    eligible: int | None = None
    """Utterances that the filter leaves; None where there was none."""
    recordings: list[RecordingFound]
    """Best first, at most `limit`. With `top_k` and no `threshold` also those below the threshold."""
    encoder_id: str
