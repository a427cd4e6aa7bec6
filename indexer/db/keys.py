"""Named queries about API keys. A key's secret is never here, only its hash."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.orm import Session

from indexer.db.models import ApiKey, Gallery, utc_now
from indexer.db.names import require_name
from indexer.db.prepared import Prepared
from indexer.db.rows import PAGE_LIMIT
from indexer.db.session import Database
from indexer.errors import NotFound
from indexer.types import GalleryId

LAST_USED_STEP = dt.timedelta(minutes=1)
"""How exact `last_used_at` is: a write for every request would cost more than the request."""


@dataclass(frozen=True)
class KeyRow:
    """A key, without the secret that only its holder knows."""

    id: int
    public_id: str
    secret_sha256: str
    name: str
    gallery_id: GalleryId | None
    gallery: str | None
    """Name of the one gallery it opens; None: every gallery."""
    scopes: tuple[str, ...]
    rate_limit_per_minute: int | None
    created_at: dt.datetime
    last_used_at: dt.datetime | None
    revoked_at: dt.datetime | None


# Before each answer a service that is open asks whether it still is, and any other whose the key is.
_ANY = Prepared(select(ApiKey.id).limit(1))
_BY_PUBLIC_ID = Prepared(
    select(*ApiKey.__table__.columns, Gallery.name.label("gallery"))
    .outerjoin(Gallery, Gallery.id == ApiKey.gallery_id)
    .where(ApiKey.public_id == bindparam("of"))
)


def any_key(database: Database) -> bool:
    """Tell whether a key was ever made; see `Keys.any`."""
    return bool(_ANY.rows(database))


def key_of(database: Database, public_id: str) -> KeyRow | None:
    """Read the key of this public id, revoked or not, if there is one."""
    found = _BY_PUBLIC_ID.rows(database, of=public_id)
    return _as_key(found[0], found[0].gallery) if found else None


class Keys:
    """API keys."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        *,
        public_id: str,
        secret_sha256: str,
        name: str,
        gallery_id: GalleryId | None,
        scopes: Sequence[str],
        rate_limit_per_minute: int | None,
    ) -> KeyRow:
        """Add a key."""
        self._session.add(
            ApiKey(
                public_id=public_id,
                secret_sha256=secret_sha256,
                name=require_name("key", name),
                gallery_id=gallery_id,
                scopes=list(scopes),
                rate_limit_per_minute=rate_limit_per_minute,
            )
        )
        self._session.flush()
        return self.get(public_id)

    def find(self, public_id: str) -> KeyRow | None:
        """Return the key of this public id, revoked or not, if there is one."""
        rows = self._rows(_query().where(ApiKey.public_id == public_id))
        return rows[0] if rows else None

    def get(self, public_id: str) -> KeyRow:
        """Return the key of this public id, or raise NotFound."""
        row = self.find(public_id)
        if row is None:
            raise NotFound(f"no key {public_id!r}: see `voxdex key list`")
        return row

    def any(self) -> bool:
        """Tell whether a key was ever made; a revoked one counts, so that revoking the last one opens nothing."""
        return self._session.connection().execute(_ANY.statement).first() is not None

    def page(self, after: int = 0, limit: int = PAGE_LIMIT) -> list[KeyRow]:
        """List keys in the order they were made, those with an id above `after`."""
        return self._rows(_query().where(ApiKey.id > after).order_by(ApiKey.id).limit(limit))

    def revoke(self, public_id: str) -> KeyRow:
        """Make a key worthless from now on, or raise NotFound; revoking it again changes nothing."""
        key = self.get(public_id)
        if key.revoked_at is None:
            self._session.execute(update(ApiKey).where(ApiKey.id == key.id).values(revoked_at=utc_now()))
        return self.get(public_id)

    def touch(self, key_id: int) -> None:
        """Note that a key was used now, where the last note is more than a minute old."""
        now = utc_now()
        stale = ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at < now - LAST_USED_STEP)
        self._session.execute(update(ApiKey).where(ApiKey.id == key_id, stale).values(last_used_at=now))

    def _rows(self, query: "Select[ApiKey, str]") -> list[KeyRow]:
        return [_as_key(key, gallery) for key, gallery in self._session.execute(query)]


def _as_key(key: Any, gallery: str | None) -> KeyRow:
    return KeyRow(
        id=key.id,
        public_id=key.public_id,
        secret_sha256=key.secret_sha256,
        name=key.name,
        gallery_id=GalleryId(key.gallery_id) if key.gallery_id is not None else None,
        gallery=gallery,
        scopes=tuple(key.scopes),
        rate_limit_per_minute=key.rate_limit_per_minute,
        created_at=key.created_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
    )


def _query() -> "Select[ApiKey, str]":
    return (
        select(ApiKey, Gallery.name)
        .outerjoin(Gallery, Gallery.id == ApiKey.gallery_id)
        .execution_options(populate_existing=True)
    )
