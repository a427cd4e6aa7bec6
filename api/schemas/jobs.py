"""Jobs over the API."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from api.schemas.common import ID_LIMIT, Body, Page, Text, View
from indexer.db.models import JobItemState, JobState, OnDuplicate
from indexer.jobs.uris import without_queries

ItemNumber = Annotated[int, Field(ge=1, le=ID_LIMIT)]

Shown = Annotated[str, AfterValidator(without_queries)]
"""Text in which web addresses may be, shown without their queries."""


class NewJob(Body):
    """A source of recordings to take into a gallery."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"source": "/archive/2026", "speaker_from": "parent:1"},
                {"source": "s3://calls/2026/manifest.csv", "channels": "each", "on_duplicate": "relabel"},
            ]
        },
    )

    source: Text = Field(
        min_length=1,
        max_length=4096,
        description="Folder or manifest that the workers can see, or a URL (s3://, gs://, file://, https://) of one.",
    )
    kind: Literal["folder", "manifest", "url"] | None = Field(
        default=None, description="What the source is; left out, it is told by the source."
    )
    speaker_from: Text = Field(
        default="none",
        max_length=500,
        description="Where a recording's speaker is read from: none, parent:N (the Nth folder above the file) or "
        "regex:... (its group `speaker`, or its first); a manifest states them itself.",
    )
    channels: Text | None = Field(
        default=None, max_length=16, description="mix, left, right, a channel number from 0, or each."
    )
    speakers: Text | None = Field(
        default=None,
        max_length=16,
        description="Voices of each recording: auto (found), one, channels (one a channel), or how many. Left out: the "
        "workers' setting.",
    )
    speech: Literal["auto", "off"] | None = Field(
        default=None,
        description="auto: speech is found; off: all that sounds is taken for it. Left out: the workers' setting.",
    )
    on_duplicate: OnDuplicate = Field(
        default=OnDuplicate.SKIP, description="What is done with a recording that the gallery has already."
    )
    webhook_url: Text | None = Field(
        default=None, max_length=2000, description="Told of the job's end, in a signed message."
    )


class JobProgress(View):
    """How far a job got."""

    state: JobState
    planned: bool = Field(description="Whether every file of the source is listed: `found` grows no more.")
    found: int
    done: int
    duplicate: int
    failed: int
    audio_s: float = Field(description="Audio of the files that are done.")
    speech_s: float = Field(description="Speech in the files that are done.")
    elapsed_s: float = Field(description="Since work began, until the end or now; without pauses before a retry.")
    times_real_time: float = Field(description="Seconds of audio done in a second.")
    eta_s: float | None = Field(description="Seconds until the end at this pace; null where that cannot be told.")


class Job(JobProgress):
    """A job and how far it got."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 12,
                    "gallery": "archive",
                    "kind": "folder",
                    "source": "/archive/2026",
                    "speaker_from": "parent:1",
                    "channels": None,
                    "speakers": None,
                    "speech": None,
                    "on_duplicate": "skip",
                    "error": None,
                    "created_at": "2026-01-31T09:00:00Z",
                    "started_at": "2026-01-31T09:00:01Z",
                    "finished_at": None,
                    "state": "running",
                    "planned": True,
                    "found": 5000,
                    "done": 1200,
                    "duplicate": 3,
                    "failed": 1,
                    "audio_s": 36000.0,
                    "speech_s": 35200.5,
                    "elapsed_s": 300.0,
                    "times_real_time": 120.0,
                    "eta_s": 948.0,
                }
            ]
        }
    )

    id: int
    gallery: str
    kind: str
    source: Shown = Field(description="Where it reads from; a web address without its query.")
    speaker_from: str
    channels: str | None
    speakers: str | None
    speech: str | None
    on_duplicate: OnDuplicate
    error: Shown | None = Field(description="Why the job as a whole ended before its time.")
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None


class JobItem(View):
    """One file of a job."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": 981,
                    "uri": "/archive/2026/torn.flac",
                    "state": "failed",
                    "speaker": "Ada",
                    "recording_id": None,
                    "error_code": "corrupt-audio",
                    "error_message": "/archive/2026/torn.flac: the file is empty (0 bytes); record or copy it again",
                    "notice": None,
                    "finished_at": "2026-01-31T09:04:11Z",
                }
            ]
        }
    )

    id: int
    uri: Shown = Field(description="Where the file is; a web address without its query.")
    state: JobItemState
    speaker: str | None
    recording_id: int | None
    error_code: str | None
    error_message: Shown | None
    notice: Shown | None = Field(
        description="What to know of a file that was not refused, as that it was read in part."
    )
    finished_at: dt.datetime | None


JobPage = Page[Job]
"""Jobs, in the order they were posted."""

JobItemPage = Page[JobItem]
"""Files of a job, in the order of the source."""


class Requeued(View):
    """How many failed files are tried again."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"requeued": 3}]})

    requeued: int


class TwoNames(View):
    """Two speakers of a gallery who seem to be one voice."""

    speaker: str = Field(description="Of the job.")
    other: str = Field(description="Who sounds like them, of the job or not.")
    score: float = Field(ge=-1, le=1, description="Cosine of the two voiceprints.")
    llr: float | None = Field(description="What that is worth: natural logarithm; null where nothing is calibrated.")


class SameVoices(View):
    """Speakers of a job who sound like others of the gallery, as it is now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [{"speaker": "Ada", "other": "Ada Lovelace", "score": 0.83, "llr": 9.4}],
                    "compared": 250,
                    "complete": True,
                }
            ]
        }
    )

    items: list[TwoNames] = Field(description="Each two once: listen to both, and merge them if they are one person.")
    compared: int = Field(description="Speakers of the job that were compared with all others of the gallery.")
    complete: bool = Field(description="Whether these are all: of very many speakers only the first are compared.")
