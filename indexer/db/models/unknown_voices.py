"""People without a name who are heard again and again."""

import datetime as dt
from typing import Any

from sqlalchemy import Boolean, ForeignKey, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from indexer.db.models.base import NEVER_REUSE, Base, Document, Numbered, utc_now
from indexer.types import EncoderId


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


class UnknownVoice(Numbered, Base):
    """Somebody without a name who is heard in a gallery again and again: "Unknown-17"."""

    __tablename__ = "unknown_voices"
    __table_args__ = (UniqueConstraint("gallery_id", "number"), NEVER_REUSE)

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
