"""Who may ask, and what was answered to whom."""

import datetime as dt

from sqlalchemy import ForeignKey, Index, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from indexer.db.models.base import NEVER_REUSE, Base, Document, Numbered, utc_now


class ApiKey(Numbered, Base):
    """A key to the API; the secret half is known to its holder only."""

    __tablename__ = "api_keys"
    __table_args__ = (NEVER_REUSE,)

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


class PageSession(Numbered, Base):
    """A browser that is signed in with a key; it may what the key may, as long as that is in force."""

    __tablename__ = "page_sessions"
    __table_args__ = (Index(None, "expires_at"), NEVER_REUSE)

    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    """Of the random id that only the browser's cookie holds."""
    api_key_id: Mapped[int] = mapped_column(ForeignKey("api_keys.id", ondelete="CASCADE"), index=True)
    created_at: Mapped[dt.datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[dt.datetime]


class IdempotentRequest(Numbered, Base):
    """A writing request that carried an `Idempotency-Key`, and the answer it got."""

    __tablename__ = "idempotent_requests"
    __table_args__ = (UniqueConstraint("owner", "key"), Index(None, "created_at"), NEVER_REUSE)

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
