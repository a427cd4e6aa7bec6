"""What changed in a gallery, for every process that searches it."""

import datetime as dt

from sqlalchemy import BigInteger, Boolean, ForeignKey, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from indexer.db.models.base import Base, utc_now
from indexer.types import EncoderId


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
