"""Speakers, their enrollments, and what an erasure takes."""

import datetime as dt

from pydantic import Field

from voxdex_client.models.base import Model
from voxdex_client.models.recordings import PossibleSecondVoice


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
    uri: str
    """Where it was read from; `upload:` and the name that was sent for an upload."""
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
    possible_second_voice: PossibleSecondVoice | None = None
    """What may be a second voice where it is not sure that there is one; the warnings say so too."""


class Erasable(Model):
    """What erasing a speaker would take away."""

    enrollments: int
    """Utterances that are enrolled as the speaker."""
    recordings: int
    vectors: int
    kept_recordings: int
    """Recordings with the speaker that would stay, for others speak in them."""
