"""Work over many files, and who is told of its end."""

import datetime as dt
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Boolean, ForeignKey, Index, String, UniqueConstraint, false, text
from sqlalchemy.orm import Mapped, mapped_column

from indexer.db.models.base import NEVER_REUSE, Base, Document, Numbered, enumerated, state_type, utc_now


class JobState(StrEnum):
    """How far a job got."""

    QUEUED = "queued"
    PLANNING = "planning"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    SUCCEEDED_WITH_ERRORS = "succeeded_with_errors"
    FAILED = "failed"
    CANCELED = "canceled"


class JobItemState(StrEnum):
    """What became of one file of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    DUPLICATE = "duplicate"
    FAILED = "failed"


class ShardState(StrEnum):
    """How far a shard of a job got."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class OnDuplicate(StrEnum):
    """What a job does with a recording whose content the gallery has already."""

    SKIP = "skip"
    """Leave it as it is; give it the job's speaker only where it has none."""
    RELABEL = "relabel"
    """Enroll it as the job's speaker and nobody else, and take over session, time and labels."""
    ERROR = "error"
    """Count the file as failed."""


class Job(Numbered, Base):
    """Work over many files, with what came of it."""

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "state", "id"), NEVER_REUSE)

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[JobState] = mapped_column(state_type(JobState), default=JobState.QUEUED)
    source: Mapped[str]
    found: Mapped[int] = mapped_column(default=0)
    done: Mapped[int] = mapped_column(default=0)
    duplicate: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    audio_s: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    """Audio of the files that are done."""
    speech_s: Mapped[float] = mapped_column(default=0.0, server_default=text("0"))
    """Audio of the files that are done that was embedded."""
    on_duplicate: Mapped[OnDuplicate] = mapped_column(
        enumerated(OnDuplicate, "on_duplicate"), default=OnDuplicate.SKIP, server_default=OnDuplicate.SKIP.value
    )
    options: Mapped[dict[str, Any]] = mapped_column(Document, default=dict, server_default=text("'{}'"))
    """How the source is read: `indexer.jobs.source.JobOptions` as a document."""
    cursor: Mapped[dict[str, Any] | None] = mapped_column(Document)
    """How far planning got; null before it begins."""
    planned_at: Mapped[dt.datetime | None]
    """When the last file was listed; null while files may still be added."""
    lease_token: Mapped[str | None] = mapped_column(String(32))
    """Who plans it now."""
    lease_until: Mapped[dt.datetime | None]
    sent_at: Mapped[dt.datetime | None]
    """When planning was last handed to the broker."""
    webhook_url: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]


class JobShard(Numbered, Base):
    """Files of a job that one task works through."""

    __tablename__ = "job_shards"
    __table_args__ = (
        Index(None, "job_id", "state"),
        Index(None, "state", "lease_until"),
        Index(None, "state", "sent_at"),
        NEVER_REUSE,
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    state: Mapped[ShardState] = mapped_column(state_type(ShardState), default=ShardState.QUEUED)
    items: Mapped[int]
    estimated_s: Mapped[float]
    """Audio inside, guessed when it was planned."""
    solo: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """Whether it holds one file that was under way when a worker died."""
    attempts: Mapped[int] = mapped_column(default=0)
    """How often workers failed at it, by no file's fault, since a file of it was last done with."""
    lease_token: Mapped[str | None] = mapped_column(String(32))
    """Who works on it now; a commit under another token is refused."""
    lease_until: Mapped[dt.datetime | None]
    sent_at: Mapped[dt.datetime | None]
    """When it was last handed to the broker."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    finished_at: Mapped[dt.datetime | None]


class JobItem(Numbered, Base):
    """One file of a job; erasing its recording erases this note of it too, for a path can name a person."""

    __tablename__ = "job_items"
    __table_args__ = (
        UniqueConstraint("job_id", "uri"),
        Index(None, "job_id", "state", "id"),
        Index(None, "shard_id", "state"),
        NEVER_REUSE,
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    shard_id: Mapped[int | None] = mapped_column(ForeignKey("job_shards.id", ondelete="SET NULL"))
    uri: Mapped[str]
    speaker: Mapped[str | None] = mapped_column(String(200))
    session: Mapped[str | None] = mapped_column(String(200))
    recorded_at: Mapped[dt.datetime | None]
    labels: Mapped[list[str] | None] = mapped_column(Document)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[JobItemState] = mapped_column(state_type(JobItemState), default=JobItemState.QUEUED)
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How often a worker died while it worked on this file alone."""
    recording_id: Mapped[int | None] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"), index=True)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None]
    notice: Mapped[str | None]
    """What a person should know of a file that was not refused (partly readable, kept under another name)."""
    finished_at: Mapped[dt.datetime | None]


class ErasedFile(Numbered, Base):
    """A file of a job whose recording was erased: a checksum, so that nobody finds what it was called."""

    __tablename__ = "erased_files"
    __table_args__ = (UniqueConstraint("job_id", "uri_sha256"), NEVER_REUSE)

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    uri_sha256: Mapped[str] = mapped_column(String(64))
    """Of the job's id and the file's URI: see `indexer.db.erased_files`."""


class WebhookDelivery(Numbered, Base):
    """A message about a job's end, until its receiver took it or the tries are used up; one for each end of a job."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "delivered_at", "next_attempt_at"), NEVER_REUSE)

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    message_id: Mapped[str] = mapped_column(String(64), unique=True)
    url: Mapped[str]
    payload: Mapped[dict[str, Any]] = mapped_column(Document)
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[dt.datetime | None] = mapped_column(default=utc_now)
    """Null: given up, or delivered."""
    delivered_at: Mapped[dt.datetime | None]
    last_error: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
