"""Jobs, their files, and messages about their end."""

import datetime as dt
import json
from typing import Any, Literal

from voxdex_client.models.base import Model

OnDuplicate = Literal["skip", "relabel", "error"]


SourceKind = Literal["folder", "manifest", "url"]


JobState = Literal["queued", "planning", "running", "succeeded", "succeeded_with_errors", "failed", "canceled"]


JobItemState = Literal["queued", "running", "done", "duplicate", "failed"]


ENDED: frozenset[JobState] = frozenset({"succeeded", "succeeded_with_errors", "failed", "canceled"})
"""States in which nothing more happens to a job."""


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


class TwoNames(Model):
    """Two speakers of a gallery who seem to be one voice."""

    speaker: str
    """Of the job."""
    other: str
    """Who sounds like them, of the job or not."""
    score: float
    """Cosine of the two voiceprints."""
    llr: float | None


class SameVoices(Model):
    """Speakers of a job who sound like others of the gallery, as it is now."""

    items: list[TwoNames]
    """Each two once."""
    compared: int
    """Speakers of the job that were compared with all others of the gallery."""
    complete: bool
    """Whether these are all: of very many speakers only the first are compared."""


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
