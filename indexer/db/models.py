"""Tables of the record. Every embedding, vector included, is here; any index is a projection of it."""

import datetime as dt
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from indexer.errors import CorruptArtifact
from indexer.types import EMBEDDING_DIM, EncoderId
from indexer.vectors import require_unit_rows

SCHEMA_REVISION = "0007"
"""Newest migration; a test holds it equal to Alembic's head, so that opening a database need not load Alembic."""

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# Postgres compares `jsonb`, and not `json`.
Document = JSON().with_variant(JSONB(), "postgresql")

# SQLite numbers rows by itself only where the column is an INTEGER PRIMARY KEY.
RowId = BigInteger().with_variant(Integer(), "sqlite")


def utc_now() -> dt.datetime:
    """Return the present time, aware and in UTC."""
    return dt.datetime.now(dt.UTC)


class UtcDateTime(TypeDecorator[dt.datetime]):
    """An aware instant, stored in UTC; SQLite keeps no zone, so it is put back when read."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Refuse naive times; convert the rest to UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value.isoformat()} has no time zone; the record keeps UTC")
        return value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: Dialect) -> dt.datetime | None:
        """Return an aware UTC time on every database."""
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class UnitVector(TypeDecorator[NDArray[np.float32]]):
    """A (D,) unit vector as D little-endian float32; the same bytes on every database and machine."""

    impl = LargeBinary
    cache_ok = True

    def __init__(self, dim: int = EMBEDDING_DIM) -> None:
        super().__init__()
        self.dim = dim

    def process_bind_param(self, value: Any, dialect: Dialect) -> bytes | None:
        """Refuse a wrong dimension, NaN, infinity and any norm but 1, each by name."""
        if value is None:
            return None
        return require_unit_rows(np.asarray(value)[None, ...], self.dim).tobytes()

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> NDArray[np.float32] | None:
        """Return a read-only (D,) array.

        Raises
        ------
        CorruptArtifact
            If the stored bytes are not D float32.
        """
        if value is None:
            return None
        if len(value) != 4 * self.dim:
            raise CorruptArtifact(
                f"a stored vector has {len(value)} bytes where {4 * self.dim} are kept: "
                "delete its recording and ingest it again"
            )
        return np.frombuffer(value, dtype="<f4")


def _state(states: type[StrEnum]) -> Enum:
    return _enumerated(states, "state")


def _enumerated(values: type[StrEnum], name: str) -> Enum:
    # Text and a CHECK on both databases: adding a value is an ordinary migration, not ALTER TYPE.
    return Enum(
        values,
        native_enum=False,
        length=32,
        create_constraint=True,
        name=name,
        values_callable=lambda members: [member.value for member in members],
    )


class RecordingState(StrEnum):
    """How far a recording got."""

    READY = "ready"
    PARTIAL = "partial"
    FAILED = "failed"


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


class Base(DeclarativeBase):
    """Root of all tables."""

    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = {dt.datetime: UtcDateTime()}  # noqa: RUF012 - SQLAlchemy reads this class attribute


class _Numbered:
    """A row id that is never used again, even after its row is deleted: indexes and logs refer to it."""

    id: Mapped[int] = mapped_column(RowId, primary_key=True, sort_order=-1)


# AUTOINCREMENT: without it SQLite gives a deleted row's id to the next row.
_NEVER_REUSE = {"sqlite_autoincrement": True}


class Encoder(Base):
    """Weights and front end that made vectors; comparable only with themselves."""

    __tablename__ = "encoders"

    id: Mapped[EncoderId] = mapped_column(String(200), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    family: Mapped[str] = mapped_column(String(64))
    weights_sha256: Mapped[str] = mapped_column(String(64))
    front_end: Mapped[str] = mapped_column(String(64))
    dim: Mapped[int]
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class Gallery(_Numbered, Base):
    """An enrolled set, searched under one encoder."""

    __tablename__ = "galleries"
    __table_args__ = (CheckConstraint(f"dim = {EMBEDDING_DIM}", name="dim"), _NEVER_REUSE)

    name: Mapped[str] = mapped_column(String(200), unique=True)
    encoder_id: Mapped[EncoderId] = mapped_column(ForeignKey("encoders.id", ondelete="RESTRICT"))
    dim: Mapped[int]
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    identification_threshold: Mapped[float | None]
    """Cosine of this gallery's operating point; null: the setting's or the encoder's."""
    verification_threshold: Mapped[float | None]
    consent_required: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """Whether nobody may be enrolled without a reference to their consent."""
    retention_days: Mapped[int | None]
    """Days after which recordings are erased; null: kept."""
    index_engine: Mapped[str | None] = mapped_column(String(32))
    """What searches this gallery since it was migrated; null: the setting's engine."""
    second_encoder_id: Mapped[EncoderId | None] = mapped_column(ForeignKey("encoders.id", ondelete="RESTRICT"))
    """Whose scores are fused with those of the first; null: the gallery has one encoder."""
    # Altered in: a calibration may belong to a gallery in turn, and one of the two tables must be made first.
    calibration_id: Mapped[str | None] = mapped_column(
        ForeignKey("calibrations.id", ondelete="SET NULL", use_alter=True)
    )
    """What turns scores into llrs here; null: the one that is shipped for the encoders, if there is one."""
    target_fpir: Mapped[float | None]
    """Share of unknown voices that may be named; null: the setting's."""
    possible_fpir: Mapped[float | None]
    """Share of unknown voices for whom somebody may be shown as possible; null: the setting's."""
    possible_threshold: Mapped[float | None]
    """Cosine from which on a candidate is possible, where `identification_threshold` rules; null: no such band."""
    target_p_fa: Mapped[float | None]
    """Share of false claims that may be accepted; null: the setting's."""
    score_normalization: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """Whether scores are normalized by the gallery's own speakers before they are calibrated."""

    encoder: Mapped[Encoder] = relationship(lazy="raise", viewonly=True, foreign_keys=[encoder_id])


class Calibration(Base):
    """What turns scores under an encoder, or under two of them together, into log-likelihood ratios."""

    __tablename__ = "calibrations"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    """Of the document's content: the same content is the same calibration."""
    name: Mapped[str] = mapped_column(String(200))
    """The condition that it was fitted for, as "telephone"."""
    encoder_ids: Mapped[list[str]] = mapped_column(Document)
    document: Mapped[dict[str, Any]] = mapped_column(Document)
    gallery_id: Mapped[int | None] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"), index=True)
    """Always null: a calibration is for any gallery of its encoders."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class GalleryEncoder(Base):
    """An encoder that a gallery was searched under, or is being embedded again for.

    A gallery that has never been on the way from one encoder to another has no row here.
    """

    __tablename__ = "gallery_encoders"

    gallery_id: Mapped[int] = mapped_column(
        ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    encoder_id: Mapped[EncoderId] = mapped_column(ForeignKey("encoders.id", ondelete="RESTRICT"), primary_key=True)
    identification_threshold: Mapped[float | None]
    """The gallery's threshold under this encoder, kept while it is searched under another one."""
    verification_threshold: Mapped[float | None]
    possible_threshold: Mapped[float | None]
    calibration_id: Mapped[str | None] = mapped_column(ForeignKey("calibrations.id", ondelete="SET NULL"))
    started_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    """When the gallery was first embedded again for it, or first left it."""
    left_at: Mapped[dt.datetime | None]
    """When the gallery last went from it to another one; null for one that is or has not been searched under."""


class GalleryFeed(Base):
    """How often the vectors and the enrollments of a gallery have changed: what every searching process follows.

    A row of its own, because it is locked by whoever changes the gallery until they commit: that is what gives the
    changes numbers in the order of their commits.
    """

    __tablename__ = "gallery_feeds"

    gallery_id: Mapped[int] = mapped_column(
        ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    vectors_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    """Number of the newest row of `index_changes`; 0 where there is none."""
    speakers_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    """Counts the transactions that changed speakers, their labels or their enrollments."""


class IndexChange(Base):
    """Vectors that one transaction added to a gallery or took out of it."""

    __tablename__ = "index_changes"

    gallery_id: Mapped[int] = mapped_column(
        ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """1, 2, 3, ... within the gallery, without gaps, in the order of the commits."""
    encoder_id: Mapped[EncoderId] = mapped_column(ForeignKey("encoders.id", ondelete="RESTRICT"))
    removed: Mapped[bool] = mapped_column(Boolean)
    embedding_ids: Mapped[bytes] = mapped_column(LargeBinary)
    """Ids as little-endian int64."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class SpeakerChange(Base):
    """Speakers that one transaction made, changed, enrolled or erased in a gallery."""

    __tablename__ = "speaker_changes"

    gallery_id: Mapped[int] = mapped_column(
        ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """1, 2, 3, ... within the gallery, without gaps, in the order of the commits."""
    speaker_ids: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Ids as little-endian int64; null: any of them."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class Speaker(_Numbered, Base):
    """A person known by name within one gallery."""

    __tablename__ = "speakers"
    __table_args__ = (UniqueConstraint("gallery_id", "name"), _NEVER_REUSE)

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    consent_reference: Mapped[str | None] = mapped_column(String(500))
    """Where the person's consent to being enrolled is kept: a contract number, a form, a date."""
    consented_at: Mapped[dt.datetime | None]


class SpeakerLabel(Base):
    """A word that speakers are filtered by."""

    __tablename__ = "speaker_labels"
    __table_args__ = (Index(None, "label", "speaker_id"),)

    speaker_id: Mapped[int] = mapped_column(
        ForeignKey("speakers.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    label: Mapped[str] = mapped_column(String(200), primary_key=True)


class Recording(_Numbered, Base):
    """One audio file of an archive; within a gallery its content is its identity, not its name."""

    __tablename__ = "recordings"
    __table_args__ = (
        UniqueConstraint("gallery_id", "content_sha256"),
        Index(None, "gallery_id", "id"),
        _NEVER_REUSE,
    )

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"))
    content_sha256: Mapped[str] = mapped_column(String(64))
    uri: Mapped[str]
    duration_s: Mapped[float | None]
    sample_rate_hz: Mapped[int | None]
    channels: Mapped[int | None]
    container: Mapped[str | None] = mapped_column(String(64))
    codec: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[RecordingState] = mapped_column(_state(RecordingState))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None]
    session: Mapped[str | None] = mapped_column(String(200))
    """The occasion it was made on, as the user names it (a call, a broadcast)."""
    recorded_at: Mapped[dt.datetime | None]
    labels: Mapped[list[str]] = mapped_column(Document, default=list, server_default=text("'[]'"))
    speech_s: Mapped[float | None]
    """Seconds that were embedded."""
    media_key: Mapped[str | None] = mapped_column(String(200))
    """Place of the uploaded file below the media folder; null where the audio stays at `uri`."""
    voices: Mapped[int | None]
    """How many voices were heard; null: nobody looked."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[dt.datetime] = mapped_column(default=utc_now, onupdate=utc_now)

    utterances: Mapped[list["Utterance"]] = relationship(
        back_populates="recording", lazy="raise", passive_deletes=True, order_by="Utterance.id"
    )


class Utterance(_Numbered, Base):
    """A stretch of one speaker's speech in one channel of a recording, or in its mix where `channel` is null."""

    __tablename__ = "utterances"
    __table_args__ = (CheckConstraint("start_s >= 0 AND end_s > start_s", name="stretch"), _NEVER_REUSE)

    recording_id: Mapped[int] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"), index=True)
    channel: Mapped[int | None]
    start_s: Mapped[float]
    end_s: Mapped[float]
    voice: Mapped[int | None]
    """Number of the voice within its recording, from 0; null: nobody looked who speaks when."""
    net_speech_s: Mapped[float | None]
    """Seconds of speech in it; null, like all quality: nobody looked."""
    snr_db: Mapped[float | None]
    clipped_share: Mapped[float | None]
    bandwidth_hz: Mapped[float | None]
    level_dbfs: Mapped[float | None]

    recording: Mapped[Recording] = relationship(back_populates="utterances", lazy="raise")


class Embedding(_Numbered, Base):
    """The unit vector of one utterance under one encoder.

    `gallery_id` repeats what utterance and recording say, so that the index on it answers "which rows, with which
    checksums" of one gallery without a join and without touching a vector: an index is compared to it at every start.
    """

    __tablename__ = "embeddings"
    __table_args__ = (
        UniqueConstraint("utterance_id", "encoder_id"),
        Index("ix_embeddings_projection", "gallery_id", "encoder_id", "id", "checksum"),
        _NEVER_REUSE,
    )

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"))
    utterance_id: Mapped[int] = mapped_column(ForeignKey("utterances.id", ondelete="CASCADE"))
    encoder_id: Mapped[EncoderId] = mapped_column(ForeignKey("encoders.id", ondelete="RESTRICT"))
    vector: Mapped[NDArray[np.float32]] = mapped_column(UnitVector())
    checksum: Mapped[int] = mapped_column(BigInteger)


class Reembedding(Base):
    """A recording on its way to another encoder: who works on it, or why it cannot get there.

    There is no row for one that nobody has looked at yet, and none for one whose utterances all have their vectors.
    """

    __tablename__ = "reembeddings"

    recording_id: Mapped[int] = mapped_column(
        ForeignKey("recordings.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    encoder_id: Mapped[EncoderId] = mapped_column(ForeignKey("encoders.id", ondelete="RESTRICT"), primary_key=True)
    lease_token: Mapped[str | None] = mapped_column(String(32))
    """Who works on it now."""
    lease_until: Mapped[dt.datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    """How often it was begun without coming to an end."""
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None]
    tried_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class Enrollment(_Numbered, Base):
    """The statement that an utterance is a speaker's voice."""

    __tablename__ = "enrollments"
    __table_args__ = (UniqueConstraint("speaker_id", "utterance_id"), _NEVER_REUSE)

    speaker_id: Mapped[int] = mapped_column(ForeignKey("speakers.id", ondelete="CASCADE"))
    utterance_id: Mapped[int] = mapped_column(ForeignKey("utterances.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class Clustering(Base):
    """What is known of the unknown voices of a gallery as a whole."""

    __tablename__ = "clusterings"

    gallery_id: Mapped[int] = mapped_column(
        ForeignKey("galleries.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    last_number: Mapped[int] = mapped_column(default=0)
    """Highest number that an unknown voice of the gallery was ever given."""
    encoder_id: Mapped[EncoderId | None] = mapped_column(ForeignKey("encoders.id", ondelete="RESTRICT"))
    """Under which encoder the last run compared the voices; null: none has ended yet."""
    utterances: Mapped[int | None]
    """Unnamed utterances that the last run looked at."""
    rule: Mapped[dict[str, Any] | None] = mapped_column(Document)
    """What the last run asked for, and the threshold that this came to."""
    finished_at: Mapped[dt.datetime | None]


class UnknownVoice(_Numbered, Base):
    """Somebody without a name who is heard in a gallery again and again: "Unknown-17"."""

    __tablename__ = "unknown_voices"
    __table_args__ = (UniqueConstraint("gallery_id", "number"), _NEVER_REUSE)

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"))
    number: Mapped[int]
    """Within the gallery; never given twice."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class UnknownVoiceMember(Base):
    """The statement that an unnamed utterance is of an unknown voice; one that is enrolled counts no more."""

    __tablename__ = "unknown_voice_members"

    utterance_id: Mapped[int] = mapped_column(
        ForeignKey("utterances.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    voice_id: Mapped[int] = mapped_column(ForeignKey("unknown_voices.id", ondelete="CASCADE"), index=True)
    score: Mapped[float | None]
    """Cosine to the mean of the voice; null where a person put it there."""
    pinned: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())
    """Whether a person looked at the voice: what is pinned to it stays together whatever a run finds."""


class UnknownVoiceApart(Base):
    """The statement of a person that an utterance is not of an unknown voice."""

    __tablename__ = "unknown_voices_apart"

    voice_id: Mapped[int] = mapped_column(
        ForeignKey("unknown_voices.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    utterance_id: Mapped[int] = mapped_column(
        ForeignKey("utterances.id", ondelete="CASCADE"), primary_key=True, autoincrement=False, index=True
    )


class Job(_Numbered, Base):
    """Work over many files, with what came of it."""

    __tablename__ = "jobs"
    __table_args__ = (Index(None, "state", "id"), _NEVER_REUSE)

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[JobState] = mapped_column(_state(JobState), default=JobState.QUEUED)
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
        _enumerated(OnDuplicate, "on_duplicate"), default=OnDuplicate.SKIP, server_default=OnDuplicate.SKIP.value
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


class JobShard(_Numbered, Base):
    """Files of a job that one task works through."""

    __tablename__ = "job_shards"
    __table_args__ = (
        Index(None, "job_id", "state"),
        Index(None, "state", "lease_until"),
        Index(None, "state", "sent_at"),
        _NEVER_REUSE,
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    state: Mapped[ShardState] = mapped_column(_state(ShardState), default=ShardState.QUEUED)
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


class JobItem(_Numbered, Base):
    """One file of a job; erasing its recording erases this note of it too, for a path can name a person."""

    __tablename__ = "job_items"
    __table_args__ = (
        UniqueConstraint("job_id", "uri"),
        Index(None, "job_id", "state", "id"),
        Index(None, "shard_id", "state"),
        _NEVER_REUSE,
    )

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    shard_id: Mapped[int | None] = mapped_column(ForeignKey("job_shards.id", ondelete="SET NULL"))
    uri: Mapped[str]
    speaker: Mapped[str | None] = mapped_column(String(200))
    session: Mapped[str | None] = mapped_column(String(200))
    recorded_at: Mapped[dt.datetime | None]
    labels: Mapped[list[str] | None] = mapped_column(Document)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[JobItemState] = mapped_column(_state(JobItemState), default=JobItemState.QUEUED)
    attempts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """How often a worker died while it worked on this file alone."""
    recording_id: Mapped[int | None] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"), index=True)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None]
    notice: Mapped[str | None]
    """What a person should know of a file that was not refused (partly readable, kept under another name)."""
    finished_at: Mapped[dt.datetime | None]


class ErasedFile(_Numbered, Base):
    """A file of a job whose recording was erased: a checksum, so that nobody finds what it was called."""

    __tablename__ = "erased_files"
    __table_args__ = (UniqueConstraint("job_id", "uri_sha256"), _NEVER_REUSE)

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    uri_sha256: Mapped[str] = mapped_column(String(64))
    """Of the job's id and the file's URI: see `indexer.db.erased_files`."""


class ApiKey(_Numbered, Base):
    """A key to the API; the secret half is known to its holder only."""

    __tablename__ = "api_keys"
    __table_args__ = (_NEVER_REUSE,)

    public_id: Mapped[str] = mapped_column(String(32), unique=True)
    secret_sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(200))
    gallery_id: Mapped[int | None] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"), index=True)
    """The one gallery it opens; null: every gallery."""
    scopes: Mapped[list[str]] = mapped_column(Document)
    rate_limit_per_minute: Mapped[int | None]
    """Null: the setting's."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    last_used_at: Mapped[dt.datetime | None]
    revoked_at: Mapped[dt.datetime | None]


class PageSession(_Numbered, Base):
    """A browser that is signed in with a key; it may what the key may, as long as that is in force."""

    __tablename__ = "page_sessions"
    __table_args__ = (Index(None, "expires_at"), _NEVER_REUSE)

    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    """Of the random id that only the browser's cookie holds."""
    api_key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[dt.datetime]


class IdempotentRequest(_Numbered, Base):
    """A writing request that carried an `Idempotency-Key`, and the answer it got."""

    __tablename__ = "idempotent_requests"
    __table_args__ = (UniqueConstraint("owner", "key"), Index(None, "created_at"), _NEVER_REUSE)

    owner: Mapped[str] = mapped_column(String(32))
    """Public id of the API key, or `open`."""
    key: Mapped[str] = mapped_column(String(255))
    request_sha256: Mapped[str] = mapped_column(String(64))
    """Of method, path and body: the same key with another request is refused."""
    gallery_id: Mapped[int | None] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"), index=True)
    """The gallery that the answer is about: an erasure in it erases this note too."""
    token: Mapped[str] = mapped_column(String(32))
    """Who works on the request now; whoever took so long that somebody took over neither keeps nor drops the note."""
    status: Mapped[int | None]
    """HTTP status of the answer; null while the request is being worked on."""
    headers: Mapped[dict[str, str] | None] = mapped_column(Document)
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class WebhookDelivery(_Numbered, Base):
    """A message about a job's end, until its receiver took it or the tries are used up; one for each end of a job."""

    __tablename__ = "webhook_deliveries"
    __table_args__ = (Index(None, "delivered_at", "next_attempt_at"), _NEVER_REUSE)

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
