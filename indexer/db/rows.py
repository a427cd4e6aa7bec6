"""What goes into the record and what comes out of it, as plain values that outlive their session."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.audio.quality import Quality
from indexer.db.changes import FeedPosition
from indexer.db.models import RecordingState, Utterance
from indexer.types import EmbeddingId, EncoderId, GalleryId, RecordingId, SpeakerId, UtteranceId

PAGE_LIMIT = 100
"""Rows of a page unless the caller says otherwise."""


@dataclass(frozen=True)
class NewEncoder:
    """An encoder as the registry knows it."""

    id: EncoderId
    name: str
    family: str
    weights_sha256: str
    front_end: str
    dim: int


@dataclass(frozen=True)
class NewUtterance:
    """A stretch to be recorded, with its unit vectors and, where it is known, its speaker."""

    channel: int | None
    """Channel from 0; None for the mix of all."""
    start_s: float
    end_s: float
    vector: NDArray[np.float32] | None = field(default=None, repr=False)
    """Under the encoder that the gallery is of."""
    speaker_id: SpeakerId | None = None
    voice: int | None = None
    """Number of the voice within its recording, from 0; None: nobody looked who speaks when."""
    quality: Quality | None = None
    """None: nobody looked."""
    beside: Mapping[EncoderId, NDArray[np.float32]] = field(default_factory=dict, repr=False)
    """Under the gallery's second encoder, where it has one."""


@dataclass(frozen=True)
class NewRecording:
    """A recording to be added with everything that was found in it."""

    content_sha256: str
    uri: str
    state: RecordingState = RecordingState.READY
    duration_s: float | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None
    container: str | None = None
    codec: str | None = None
    size_bytes: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    session: str | None = None
    """The occasion it was made on."""
    recorded_at: dt.datetime | None = None
    labels: Sequence[str] = ()
    speech_s: float | None = None
    """Seconds that were embedded."""
    media_key: str | None = None
    """Place of an upload below the media folder."""
    voices: int | None = None
    """How many voices were heard; None: nobody looked."""
    audio_track: int | None = None
    """Which audio track of its container was read, from 1; None: not known."""
    audio_tracks: int | None = None
    """How many there were."""
    utterances: Sequence[NewUtterance] = ()


@dataclass(frozen=True)
class RecordedIds:
    """Ids that a recording was given; `embeddings` pairs with the utterances that had a vector, in their order."""

    recording_id: RecordingId
    utterance_ids: tuple[UtteranceId, ...]
    embedding_ids: tuple[EmbeddingId, ...]


@dataclass(frozen=True)
class Erased:
    """What a deletion took away; every index must forget `embedding_ids`."""

    embedding_ids: tuple[EmbeddingId, ...] = ()
    recording_ids: tuple[RecordingId, ...] = ()
    speaker_ids: tuple[SpeakerId, ...] = ()
    media_keys: tuple[str, ...] = ()
    """Uploaded files that no row names any more."""


@dataclass(frozen=True)
class GallerySummary:
    """A gallery and what it holds."""

    id: GalleryId
    name: str
    encoder_id: EncoderId
    encoder_name: str
    dim: int
    created_at: dt.datetime
    speakers: int
    recordings: int
    embeddings: int
    duration_s: float
    """Audio in its recordings."""
    identification_threshold: float | None = None
    verification_threshold: float | None = None
    consent_required: bool = False
    retention_days: int | None = None
    second_encoder_id: EncoderId | None = None
    calibration_id: str | None = None
    target_fpir: float | None = None
    possible_fpir: float | None = None
    possible_threshold: float | None = None
    target_p_fa: float | None = None
    score_normalization: bool = False


@dataclass(frozen=True)
class GalleryHead:
    """What an answer from a gallery depends on, beside its vectors, as it was at one moment."""

    id: GalleryId
    name: str
    encoder_id: EncoderId
    identification_threshold: float | None
    verification_threshold: float | None
    position: FeedPosition
    engine: str | None = None
    """What searches it since it was migrated; None: the setting's engine."""
    second_encoder_id: EncoderId | None = None
    calibration_id: str | None = None
    target_fpir: float | None = None
    possible_fpir: float | None = None
    possible_threshold: float | None = None
    target_p_fa: float | None = None
    score_normalization: bool = False

    @property
    def encoder_ids(self) -> tuple[EncoderId, ...]:
        """Encoders that the gallery is searched under, its own first."""
        return (self.encoder_id,) if self.second_encoder_id is None else (self.encoder_id, self.second_encoder_id)


@dataclass(frozen=True)
class SpeakerSummary:
    """A speaker and how much of their voice is enrolled."""

    id: SpeakerId
    name: str
    created_at: dt.datetime
    enrollments: int
    """Enrolled utterances."""
    enrolled_s: float
    recordings: int
    labels: tuple[str, ...] = ()
    consent_reference: str | None = None
    consented_at: dt.datetime | None = None


@dataclass(frozen=True)
class RecordingSummary:
    """A recording and what was found in it."""

    id: RecordingId
    content_sha256: str
    uri: str
    state: RecordingState
    duration_s: float | None
    sample_rate_hz: int | None
    channels: int | None
    container: str | None
    codec: str | None
    size_bytes: int | None
    error_code: str | None
    error_message: str | None
    created_at: dt.datetime
    utterances: int
    speakers: tuple[str, ...]
    session: str | None = None
    recorded_at: dt.datetime | None = None
    labels: tuple[str, ...] = ()
    speech_s: float | None = None
    media_key: str | None = None
    voices: int | None = None
    audio_track: int | None = None
    """Which audio track of its container was read, from 1; None: not known."""
    audio_tracks: int | None = None


@dataclass(frozen=True)
class EnrolledStretch:
    """Where a speaker's enrolled voice was heard."""

    utterance_id: UtteranceId
    recording_id: RecordingId
    uri: str
    channel: int | None
    start_s: float
    end_s: float
    voice: int | None = None
    quality: Quality | None = None


@dataclass(frozen=True, eq=False)
class EnrolledRows:
    """What voiceprints are made of: parallel (n,) arrays, by speaker and then embedding."""

    speaker_ids: NDArray[np.int64]
    embedding_ids: NDArray[np.int64]
    durations_s: NDArray[np.float64]
    """Seconds of speech in the utterances behind the embeddings; their lengths where nobody looked."""
    snr_db: NDArray[np.float64]
    """Signal-to-noise ratio of those utterances, NaN where nobody looked."""
    bandwidth_hz: NDArray[np.float64]
    """Where their spectrum ends, NaN where nobody looked."""


@dataclass(frozen=True)
class UtteranceSummary:
    """An utterance of a recording, and whose voice it is said to be."""

    utterance_id: UtteranceId
    channel: int | None
    start_s: float
    end_s: float
    speakers: tuple[str, ...]
    voice: int | None = None
    quality: Quality | None = None

    @property
    def speech_s(self) -> float:
        """Seconds of speech in it; its length where nobody looked."""
        return self.end_s - self.start_s if self.quality is None else self.quality.net_speech_s


@dataclass(frozen=True)
class Stretch:
    """Where in the archive an embedding was heard, and whose voice it is said to be."""

    embedding_id: EmbeddingId
    utterance_id: UtteranceId
    recording_id: RecordingId
    uri: str
    channel: int | None
    start_s: float
    end_s: float
    speakers: tuple[str, ...]
    quality: Quality | None = None


QUALITY = (
    Utterance.net_speech_s,
    Utterance.snr_db,
    Utterance.clipped_share,
    Utterance.bandwidth_hz,
    Utterance.level_dbfs,
)
"""Columns that `quality_of` reads."""


def quality_of(row: Any) -> Quality | None:
    """Return the quality that an utterance, or a row with `QUALITY`, was recorded with; None where nobody looked."""
    if row.net_speech_s is None:
        return None
    return Quality(
        net_speech_s=row.net_speech_s,
        snr_db=row.snr_db,
        clipped_share=row.clipped_share or 0.0,
        bandwidth_hz=row.bandwidth_hz or 0.0,
        level_dbfs=row.level_dbfs or 0.0,
    )
