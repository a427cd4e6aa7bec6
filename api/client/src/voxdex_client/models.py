"""What the service answers, as typed and frozen models. Fields that a newer service adds are passed over."""

import datetime as dt
import json
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Decision = Literal["identified", "possible", "unknown", "not_enough_speech"]
Verdict = Literal["accept", "reject", "not_enough_speech"]
Scope = Literal["read", "identify", "write", "admin", "embeddings"]
OnDuplicate = Literal["skip", "relabel", "error"]
SourceKind = Literal["folder", "manifest", "url"]
JobState = Literal["queued", "planning", "running", "succeeded", "succeeded_with_errors", "failed", "canceled"]
JobItemState = Literal["queued", "running", "done", "duplicate", "failed"]
RecordingState = Literal["ready", "partial", "failed"]

ENDED: frozenset[JobState] = frozenset({"succeeded", "succeeded_with_errors", "failed", "canceled"})
"""States in which nothing more happens to a job."""


class Model(BaseModel):
    """Base of all models here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


Item = TypeVar("Item")


class Page(Model, Generic[Item]):
    """Some items of a list, and where to go on."""

    items: list[Item]
    next_cursor: str | None


class Gallery(Model):
    """A gallery and what it holds."""

    name: str
    encoder: str
    encoder_id: str
    """Weights and front end; vectors are comparable only where these are equal."""
    second_encoder_id: str | None
    """Whose scores are fused with those of the first; None: of none."""
    created_at: dt.datetime
    identification_threshold: float | None
    verification_threshold: float | None
    possible_threshold: float | None
    target_fpir: float | None
    possible_fpir: float | None
    target_p_fa: float | None
    calibration_id: str | None
    """None: the one that comes with the service, if there is one."""
    score_normalization: bool
    """Whether scores are normalized by other people of the gallery."""
    consent_required: bool
    retention_days: int | None
    speakers: int
    recordings: int
    embeddings: int
    duration_s: float


class Erased(Model):
    """How much an erasure took away."""

    speakers: int
    recordings: int
    vectors: int


class Speaker(Model):
    """A person known by name within one gallery, and how much of their voice is enrolled."""

    name: str
    labels: list[str]
    consent_reference: str | None
    consented_at: dt.datetime | None
    created_at: dt.datetime
    enrolled_utterances: int
    enrolled_s: float
    recordings: int
    """Recordings in which the speaker is enrolled."""


class Quality(Model):
    """What the recording of an enrollment is like."""

    duration_s: float | None
    speech_s: float | None
    """Seconds that were embedded."""
    sample_rate_hz: int | None
    channels: int | None
    level_dbfs: float | None
    """Root mean square below full scale; None where the recording was known already."""
    clipped_share: float | None
    """Share of samples at full scale; above about 0.001 it was recorded too loud."""
    issues: list[str]
    """Why it was read in part only; empty where all of it was."""


class Enrollment(Model):
    """A recording of which it is stated that it is a speaker's voice."""

    enrollment_id: int
    """The recording's number."""
    recording_id: int
    utterances: int
    enrolled_s: float
    created_at: dt.datetime
    net_speech_s: float | None = None
    """Speech in them; None where nobody looked."""
    snr_db: float | None = None
    cosine_to_others: float | None = None
    """With the speaker's other enrollments together; None where there is no other."""
    is_outlier: bool = False
    """Whether it does not sound like the others."""


class NewEnrollment(Enrollment):
    """An enrollment that was just made, and what its recording is like."""

    quality: Quality
    warnings: list[str] = Field(default_factory=list)
    """What to know of it, as that several voices were heard, of which only the one that speaks most is enrolled."""


class Recording(Model):
    """A recording and what was found in it."""

    id: int
    uri: str
    """Where it was read from; `upload:` and the client's name for an upload."""
    state: RecordingState
    content_sha256: str
    duration_s: float | None
    speech_s: float | None
    """Seconds of speech that were embedded."""
    voices: int | None = None
    """How many voices were heard; None: nobody looked."""
    sample_rate_hz: int | None
    channels: int | None
    container: str | None
    codec: str | None
    size_bytes: int | None
    session: str | None
    recorded_at: dt.datetime | None
    labels: list[str]
    error_code: str | None
    """Why it is partial or failed."""
    error_message: str | None
    created_at: dt.datetime
    utterance_count: int
    speakers: list[str]
    """Whom it is enrolled as."""


class TakenRecording(Recording):
    """A recording that was just taken in."""

    warnings: list[str] = Field(default_factory=list)
    """What to know of it, as that several voices were heard."""


class UtteranceQuality(Model):
    """How good an utterance is to tell a voice by."""

    net_speech_s: float
    """Seconds in which somebody speaks."""
    snr_db: float | None
    """Speech above the noise behind it, estimated."""
    clipped_share: float
    bandwidth_hz: float
    """Where the spectrum of the speech ends."""
    level_dbfs: float


class Utterance(Model):
    """A stretch of one voice."""

    id: int
    channel: int | None
    """Number from 0; None: the mix of all."""
    start_s: float
    end_s: float
    voice: int | None = None
    """Whose it is, numbered within the recording; None: nobody looked."""
    quality: UtteranceQuality | None = None
    """None: nobody looked."""
    speakers: list[str]


class RecordingDetail(Recording):
    """A recording with every stretch that was embedded."""

    utterances: list[Utterance]


class UnknownVoice(Model):
    """Somebody without a name who is heard again and again."""

    name: str
    """As "Unknown-17": stays with the voice from run to run, and is never given to another one."""
    utterances: int
    recordings: int
    speech_s: float
    edited: bool
    """Whether a person merged or split it, or took utterances out."""
    created_at: dt.datetime


class UnknownUtterance(Model):
    """A stretch in which an unknown voice is heard."""

    id: int
    recording_id: int
    uri: str
    channel: int | None
    """Number from 0; None: the mix of all."""
    start_s: float
    end_s: float
    score: float | None
    """Cosine to the mean of the voice when it was put there; None where a person did."""


class Parted(Model):
    """What became of an unknown voice that was two."""

    kept: UnknownVoice
    made: UnknownVoice


class Ungrouped(Model):
    """What a forgotten unknown voice leaves."""

    utterances: int
    """Utterances that are in no unknown voice now."""


class Key(Model):
    """An API key, without its secret."""

    public_id: str
    name: str
    scopes: list[Scope]
    gallery: str | None
    """The one gallery it opens; None: every gallery."""
    rate_limit_per_minute: int | None
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None


class CreatedKey(Key):
    """An API key that was just made."""

    key: str
    """What requests carry; shown this once."""


class Encoder(Model):
    """A network that makes vectors, as the service knows it."""

    name: str
    family: str
    description: str
    license: str
    published_eer: str
    identification_threshold: float | None
    verification_threshold: float | None
    measured_eer: dict[str, float]
    """Equal error rate in percent, by kind of speech."""
    times_real_time: float | None
    """Seconds of audio that one CPU core embeds in a second."""
    default: bool
    """Whether new galleries get it."""
    here: bool
    """Whether its weights are on the service's machine."""


class Encoders(Model):
    """The encoders that galleries can be made with."""

    items: list[Encoder]


class Session(Model):
    """Who asks, and what they may."""

    state: Literal["open", "signed_in", "signed_out"]
    """`open`: no key is needed; `signed_out`: one is, and there is none in force."""
    key: str | None
    """Public id of the key."""
    name: str | None
    scopes: list[Scope]
    gallery: str | None
    """The one gallery that is seen; None: every gallery."""
    expires_at: dt.datetime | None
    """When a browser's session ends; None where a key was sent."""
    version: str


class Stats(Model):
    """What is stored, in all galleries that the key opens."""

    galleries: int
    speakers: int
    recordings: int
    embeddings: int
    duration_s: float
    jobs: dict[JobState, int]
    """Jobs by state; a state without jobs is left out."""


class Alive(Model):
    """The process answers."""

    status: str


class Check(Model):
    """Whether a part works; `problem` is a stable code where it does not."""

    ok: bool
    problem: str | None


class EncoderCheck(Check):
    """Whether the default encoder is loaded."""

    encoder_id: str | None


class GalleryLag(Model):
    """How far one open index is behind the record."""

    gallery_id: int
    vectors: int
    changes_behind: int
    lag_s: float


class IndexCheck(Check):
    """Whether every open index is in step with the record."""

    lag_s: float
    galleries: list[GalleryLag]


class Readiness(Model):
    """Whether requests should be sent there, and if not, which part is at fault."""

    ready: bool
    database: Check
    broker: Check | None
    encoder: EncoderCheck
    index: IndexCheck


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
    """Why the recording was read in part only, or no decision was made."""
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


class JobProgress(Model):
    """How far a job got."""

    state: JobState
    planned: bool
    """Whether every file of the source is listed: `found` grows no more."""
    found: int
    done: int
    duplicate: int
    failed: int
    audio_s: float
    speech_s: float
    elapsed_s: float
    times_real_time: float
    eta_s: float | None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED


class Job(JobProgress):
    """A job and how far it got."""

    id: int
    gallery: str
    kind: str
    source: str
    speaker_from: str
    channels: str | None
    speakers: str | None
    speech: str | None
    on_duplicate: OnDuplicate
    error: str | None
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class JobItem(Model):
    """One file of a job."""

    id: int
    uri: str
    state: JobItemState
    speaker: str | None
    recording_id: int | None
    error_code: str | None
    error_message: str | None
    notice: str | None
    finished_at: dt.datetime | None


class Requeued(Model):
    """How many failed files are tried again."""

    requeued: int


class WebhookData(Model):
    """Counts of an ended job."""

    job_id: int
    gallery_id: int
    state: JobState
    found: int
    done: int
    duplicate: int
    failed: int
    audio_s: float
    speech_s: float
    created_at: dt.datetime
    finished_at: dt.datetime


class WebhookEvent(Model):
    """A verified message about a job's end."""

    id: str
    """The same for every try of one message."""
    type: str
    """`job.` and the state it ended in."""
    timestamp: dt.datetime
    data: WebhookData

    @classmethod
    def from_message(cls, message_id: str, body: bytes) -> "WebhookEvent":
        """Read a message's body; pydantic.ValidationError where it is not one."""
        try:
            document: Any = json.loads(body)
        except ValueError:
            document = None
        fields = document if isinstance(document, dict) else {}
        return cls.model_validate({**fields, "id": message_id})


class Erasable(Model):
    """What erasing a speaker would take away."""

    enrollments: int
    """Utterances that are enrolled as the speaker."""
    recordings: int
    vectors: int
    kept_recordings: int
    """Recordings with the speaker that would stay, for others speak in them."""


class Waveform(Model):
    """How loud a recording is along its length."""

    start_s: float
    end_s: float
    peaks: list[float]
    """Largest magnitude of each of so many equal parts, from 0 to 1."""
    issues: list[str]


class Inspection(Waveform):
    """What a recording is, how loud along its length, and where somebody speaks."""

    sample_rate_hz: int
    channels: int
    container: str
    codec: str
    speech: list[Turn]
    speech_s: float


class RecordedVoice(Model):
    """One voice of a stored recording."""

    voice: int | None
    """None: nobody told the voices of the recording apart."""
    channel: int | None
    speech_s: float
    turns: list[Turn]
    speakers: list[str]
    """Whom it is enrolled as."""
    unknown_voice: str | None
    decision: Literal["enrolled", "identified", "possible", "unknown", "not_enough_speech"]
    speaker: str | None
    candidates: list[Candidate]
    operating_point: OperatingPoint | None
    warnings: list[str]


class RecordingVoices(Model):
    """Who speaks when in a stored recording, whoever speaks most first."""

    duration_s: float | None
    voices: list[RecordedVoice]


class Calibration(Model):
    """What turns scores into llrs, and how well it does on speakers it was not fitted to."""

    id: str
    name: str
    origin: Literal["voxdex", "record"]
    encoder_ids: list[str]
    description: str
    speakers: int
    recordings: int
    fitted_at: str
    cllr_before: float
    cllr_after: float
    min_cllr: float


class Calibrations(Model):
    """The calibrations that galleries can be given."""

    items: list[Calibration]


class Shares(Model):
    """Shares of the pairs of one speaker and of two, by columns between the edges."""

    edges: list[float]
    same: list[float]
    different: list[float]


class DetPoint(Model):
    """Both error rates of pairs at a threshold."""

    threshold: float
    p_fa: float
    p_miss: float


class Errors(Model):
    """What is to be expected of identification at a threshold."""

    threshold: float
    fpir: float
    """Share of strangers who would be named."""
    fnir: float
    """Share of recordings of enrolled people that would not be given their name."""


class ErrorsNow(Errors):
    """The same where the gallery decides now."""

    asked: str


class GalleryQuality(Model):
    """How well a gallery's recordings are told apart: each compared with the others, as if it were new."""

    speakers: int
    recordings: int
    sampled: bool
    same_pairs: int
    different_pairs: int
    scores: Shares
    llrs: Shares | None
    eer: float | None
    det: list[DetPoint]
    decides_by: Literal["llr", "score"]
    """What thresholds are of."""
    curve: list[Errors]
    point: ErrorsNow | None
    calibration: Calibration | None
    warnings: list[str]


class PlacedSpeaker(Model):
    """A speaker on the map."""

    speaker: str
    x: float
    y: float
    recordings: int
    enrolled_s: float
    nearest: str | None
    score: float | None


class GalleryMap(Model):
    """Speakers on a plane: the nearer two are, the more alike they sound."""

    method: Literal["t-SNE", "PCA"]
    speakers: int
    points: list[PlacedSpeaker]


class OpenIndex(Model):
    """One index of an open gallery in the process that answered."""

    gallery: str
    encoder_id: str
    kind: str
    vectors: int
    memory_bytes: int
    mapped_bytes: int
    changes_behind: int
    lag_s: float
    details: dict[str, str | int | float]


class EncoderInUse(Model):
    """An encoder, and the galleries that are searched under it."""

    encoder_id: str
    name: str
    galleries: list[str]


class WorkUnderWay(Model):
    """A shard of a job that somebody works on."""

    name: str
    state: str


class System(Model):
    """What the process that answered is made of and how it is."""

    version: str
    database: Literal["sqlite", "postgresql"]
    jobs_run: Literal["here", "workers"]
    workers: list[WorkUnderWay]
    queues: dict[str, int]
    device: str
    encoders: list[EncoderInUse]
    indexes: list[OpenIndex]
    media_bytes_free: int | None
