"""Recordings, their utterances, and the vectors of these."""

import datetime as dt
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from indexer.db.models.base import NEVER_REUSE, Base, Document, Numbered, UnitVector, state_type, utc_now
from indexer.types import EncoderId


class RecordingState(StrEnum):
    """How far a recording got."""

    READY = "ready"
    PARTIAL = "partial"
    FAILED = "failed"


class Recording(Numbered, Base):
    """One audio file of an archive; within a gallery its content is its identity, not its name."""

    __tablename__ = "recordings"
    __table_args__ = (
        UniqueConstraint("gallery_id", "content_sha256"),
        Index(None, "gallery_id", "id"),
        NEVER_REUSE,
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
    state: Mapped[RecordingState] = mapped_column(state_type(RecordingState))
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
    audio_track: Mapped[int | None]
    """Which audio track of its container was read, from 1; null: not known, as of all that came before this column."""
    audio_tracks: Mapped[int | None]
    """How many there were."""
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    updated_at: Mapped[dt.datetime] = mapped_column(default=utc_now, onupdate=utc_now)

    utterances: Mapped[list["Utterance"]] = relationship(
        back_populates="recording", lazy="raise", passive_deletes=True, order_by="Utterance.id"
    )


class Utterance(Numbered, Base):
    """A stretch of one speaker's speech in one channel of a recording, or in its mix where `channel` is null."""

    __tablename__ = "utterances"
    __table_args__ = (CheckConstraint("start_s >= 0 AND end_s > start_s", name="stretch"), NEVER_REUSE)

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


class Embedding(Numbered, Base):
    """The unit vector of one utterance under one encoder.

    `gallery_id` repeats what utterance and recording say, so that the index on it answers "which rows, with which
    checksums" of one gallery without a join and without touching a vector: an index is compared to it at every start.
    """

    __tablename__ = "embeddings"
    __table_args__ = (
        UniqueConstraint("utterance_id", "encoder_id"),
        Index("ix_embeddings_projection", "gallery_id", "encoder_id", "id", "checksum"),
        NEVER_REUSE,
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
