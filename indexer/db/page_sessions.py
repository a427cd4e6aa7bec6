"""Named queries about browsers that are signed in. A session's random id is never here, only its hash."""

import datetime as dt

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from indexer.db.models import ApiKey, PageSession, utc_now


class PageSessions:
    """Browsers that are signed in with an API key."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, key_id: int, token_sha256: str, expires_at: dt.datetime) -> None:
        """Note that a browser is signed in until then; what has run out is forgotten with it."""
        self._session.execute(
            delete(PageSession).where(PageSession.expires_at <= utc_now()).execution_options(synchronize_session=False)
        )
        self._session.add(PageSession(api_key_id=key_id, token_sha256=token_sha256, expires_at=expires_at))

    def find(self, token_sha256: str) -> tuple[str, dt.datetime] | None:
        """Return the public id of a session's key, and until when it lasts; None where it has run out or is none."""
        query = (
            select(ApiKey.public_id, PageSession.expires_at)
            .join(ApiKey, ApiKey.id == PageSession.api_key_id)
            .where(PageSession.token_sha256 == token_sha256, PageSession.expires_at > utc_now())
        )
        row = self._session.execute(query).one_or_none()
        return None if row is None else (row[0], row[1])

    def end(self, token_sha256: str) -> None:
        """Sign a browser out; one that is not signed in is none the worse."""
        self._session.execute(delete(PageSession).where(PageSession.token_sha256 == token_sha256))
