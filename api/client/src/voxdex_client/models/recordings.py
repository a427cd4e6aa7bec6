"""Recordings, their utterances, and how they look."""

import datetime as dt
from typing import Literal

from pydantic import Field

from voxdex_client.models.answers import Candidate, OperatingPoint, Turn
from voxdex_client.models.base import Model

RecordingState = Literal["ready", "partial", "failed"]


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
    audio_track: int | None = None
    """Which audio track of its container was read, from 1, and is played; None: not known."""
    audio_tracks: int | None = None
    """How many audio tracks there were; None: not known."""
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


class PossibleSecondVoice(Model):
    """A stretch of a recording that was enrolled as one voice, and may be somebody else's: listen to it."""

    start_s: float
    end_s: float
    cosine: float
    """With the rest of the recording's speech."""


class TakenRecording(Recording):
    """A recording that was just taken in."""

    warnings: list[str] = Field(default_factory=list)
    """What to know of it, as that several voices were heard."""
    possible_second_voice: PossibleSecondVoice | None = None
    """What may be a second voice of one that is enrolled; the warnings say so too."""


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


class Waveform(Model):
    """How loud a recording is along its length."""

    start_s: float
    end_s: float
    peaks: list[float]
    """Largest magnitude of each of so many equal parts, from 0 to 1."""
    issues: list[str]
    """Why it was read in part only, and which of several audio tracks was."""
    audio_track: int
    """Which audio track of its container was looked at, from 1."""
    audio_tracks: int
    """How many audio tracks there are."""


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
