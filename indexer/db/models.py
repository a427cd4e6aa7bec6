"""Tables of the record. Every embedding, vector included, is here; any index is a projection of it."""

import datetime as dt
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
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
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from indexer.errors import CorruptArtifact
from indexer.types import EMBEDDING_DIM, EncoderId
from indexer.vectors import require_unit_rows

SCHEMA_REVISION = "0001"
"""Newest migration; a test holds it equal to Alembic's head, so that opening a database need not load Alembic."""

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

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
    # Text and a CHECK on both databases: adding a state is an ordinary migration, not ALTER TYPE.
    return Enum(
        states,
        native_enum=False,
        length=32,
        create_constraint=True,
        name="state",
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

    encoder: Mapped[Encoder] = relationship(lazy="raise", viewonly=True)


class Speaker(_Numbered, Base):
    """A person known by name within one gallery."""

    __tablename__ = "speakers"
    __table_args__ = (UniqueConstraint("gallery_id", "name"), _NEVER_REUSE)

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


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


class Enrollment(_Numbered, Base):
    """The statement that an utterance is a speaker's voice."""

    __tablename__ = "enrollments"
    __table_args__ = (UniqueConstraint("speaker_id", "utterance_id"), _NEVER_REUSE)

    speaker_id: Mapped[int] = mapped_column(ForeignKey("speakers.id", ondelete="CASCADE"))
    utterance_id: Mapped[int] = mapped_column(ForeignKey("utterances.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)


class Job(_Numbered, Base):
    """Work over many files, with what came of it."""

    __tablename__ = "jobs"
    __table_args__ = (_NEVER_REUSE,)

    gallery_id: Mapped[int] = mapped_column(ForeignKey("galleries.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[JobState] = mapped_column(_state(JobState), default=JobState.QUEUED)
    source: Mapped[str]
    found: Mapped[int] = mapped_column(default=0)
    done: Mapped[int] = mapped_column(default=0)
    duplicate: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    started_at: Mapped[dt.datetime | None]
    finished_at: Mapped[dt.datetime | None]


class JobItem(_Numbered, Base):
    """One file of a job; erasing its recording erases this note of it too, for a path can name a person."""

    __tablename__ = "job_items"
    __table_args__ = (UniqueConstraint("job_id", "uri"), Index(None, "job_id", "state", "id"), _NEVER_REUSE)

    job_id: Mapped[int] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    uri: Mapped[str]
    state: Mapped[JobItemState] = mapped_column(_state(JobItemState), default=JobItemState.QUEUED)
    recording_id: Mapped[int | None] = mapped_column(ForeignKey("recordings.id", ondelete="CASCADE"), index=True)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_message: Mapped[str | None]
