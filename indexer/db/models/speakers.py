"""People who are known by name, and what is said to be their voice."""

import datetime as dt

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from indexer.db.models.base import NEVER_REUSE, Base, Numbered, utc_now


class Speaker(Numbered, Base):
    """A person known by name within one gallery."""

    __tablename__ = "speakers"
    __table_args__ = (UniqueConstraint("gallery_id", "name"), NEVER_REUSE)

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


class Enrollment(Numbered, Base):
    """The statement that an utterance is a speaker's voice."""

    __tablename__ = "enrollments"
    __table_args__ = (UniqueConstraint("speaker_id", "utterance_id"), NEVER_REUSE)

    speaker_id: Mapped[int] = mapped_column(ForeignKey("speakers.id", ondelete="CASCADE"))
    utterance_id: Mapped[int] = mapped_column(ForeignKey("utterances.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
