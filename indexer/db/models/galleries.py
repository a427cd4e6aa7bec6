"""Galleries, the encoders they are searched under, and calibrations."""

import datetime as dt
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, String, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from indexer.db.models.base import NEVER_REUSE, Base, Document, Numbered, utc_now
from indexer.types import EMBEDDING_DIM, EncoderId


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


class Gallery(Numbered, Base):
    """An enrolled set, searched under one encoder."""

    __tablename__ = "galleries"
    __table_args__ = (CheckConstraint(f"dim = {EMBEDDING_DIM}", name="dim"), NEVER_REUSE)

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
