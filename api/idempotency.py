"""`Idempotency-Key`: a writing request that is sent again, as when its answer was lost, is not done again.

The request is known by method, path, query and what its body means (fields, contents of files): a retried upload has
another multipart boundary and is the same request. Answers of the 5xx and 429 kind are not kept, so that a retry can
succeed. The note that a request is under way is committed before the work begins; where a process died of it, the note
goes stale and the next retry takes over. All that can be written here is itself written once for the same content or
name, so that the rare retry of a request that was finished and not noted changes nothing either.
"""

import datetime as dt
import hashlib
import logging
import secrets
from collections.abc import Callable
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy import CursorResult, delete, select, update
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.errors import problem_of, status_of
from api.paths import slashes_restored
from api.security import Principal
from indexer.db.models import Gallery, IdempotentRequest, utc_now
from indexer.db.names import canonical
from indexer.db.session import Database
from indexer.db.statements import insert_if_absent
from indexer.errors import Conflict, IdempotencyKeyReused, RequestInFlight, VoxdexError

logger = logging.getLogger(__name__)

REPLAYED_HEADER = "Idempotency-Replayed"

IN_FLIGHT = dt.timedelta(minutes=15)
"""Silence after which a request is taken for dead with its process."""

_CLAIMS = 5
"""Tries to note a request whose first sender keeps failing just then."""

_VANISHED = Response(status_code=500)
"""Stands for a note that was there and is not any more; never sent."""

_KEPT_HEADERS = ("content-type", "location", "retry-after")
_MOST_BYTES = 1 << 20

_SHOWN_ONCE = Conflict(
    "the first request with this Idempotency-Key was done, and what it made is shown once: revoke it and make another"
)

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Any text of your own, as a UUID; the same request sent again with it is not done again.",
    ),
]


class Answer:
    """A response under way: status, body and headers.

    Parameters
    ----------
    secret
        Whether the body is shown once and kept nowhere: a retry is then told so.
    gallery
        Name of the gallery that it is about, where the path does not have it.
    """

    def __init__(
        self,
        body: BaseModel,
        status: int = 201,
        *,
        location: str | None = None,
        secret: bool = False,
        gallery: str | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.location = location
        self.secret = secret
        self.gallery = gallery

    def response(self) -> Response:
        """Write it out."""
        headers = {"Location": self.location} if self.location is not None else {}
        return Response(self.body.model_dump_json(), self.status, headers, "application/json")


class Once:
    """Answers one request, or repeats the answer that it got before."""

    def __init__(self, database: Database, request: Request, key: str | None, hours: float) -> None:
        self._database = database
        self._request = request
        self._key = key
        self._kept_for = dt.timedelta(hours=hours)
        self._token = secrets.token_hex(16)

    def __call__(self, principal: Principal, body: BaseModel | str, work: Callable[[], Answer]) -> Response:
        """Do the work, unless this request was answered before.

        Parameters
        ----------
        body
            What was sent: the parsed body, or the hash of an upload.

        Raises
        ------
        RequestInFlight
            If the same request is being worked on now.
        IdempotencyKeyReused
            If the key came with another request before.
        """
        if self._key is None:
            return work().response()
        digest = self._digest(body)
        before = self._claim(principal.id, digest)
        if before is not None:
            return before
        try:
            response, kept, gallery = self._work(work)
        except BaseException:
            self._forget()
            raise
        if kept.status_code >= 500 or kept.status_code == 429 or len(kept.body) > _MOST_BYTES:
            self._forget()
        else:
            self._keep(kept, gallery)
        return response

    def _work(self, work: Callable[[], Answer]) -> tuple[Response, Response, str | None]:
        """Return the answer, what a retry will be answered, and the gallery that both are about."""
        try:
            answer = work()
        except VoxdexError as error:
            if status_of(error) >= 500:
                raise
            response = problem_of(error)
            return response, response, None
        response = answer.response()
        return response, problem_of(_SHOWN_ONCE) if answer.secret else response, answer.gallery

    def _digest(self, body: BaseModel | str) -> str:
        content = body if isinstance(body, str) else body.model_dump_json()
        raw_path = self._request.scope.get("raw_path") or self._request.url.path.encode()
        parts = (
            self._request.method.encode(),
            raw_path,
            self._request.scope.get("query_string", b""),
            content.encode("utf-8", "surrogatepass"),
        )
        return hashlib.sha256(b"\n".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()

    def _claim(self, owner: str, digest: str) -> Response | None:
        """Note that the request is under way, or return the answer that it got before."""
        for _ in range(_CLAIMS):
            claimed = self._claim_once(owner, digest)
            if claimed is not _VANISHED:
                return claimed
        raise RequestInFlight("the first request with this Idempotency-Key is failing over and over; wait")

    def _claim_once(self, owner: str, digest: str) -> Response | None:
        with self._database.session_scope() as session:
            now = utc_now()
            mine = (IdempotentRequest.owner == owner, IdempotentRequest.key == self._key)
            session.execute(delete(IdempotentRequest).where(*mine, IdempotentRequest.created_at < now - self._kept_for))
            values = {
                "owner": owner,
                "key": self._key,
                "request_sha256": digest,
                "gallery_id": self._gallery_id(session, None),
                "token": self._token,
                "created_at": now,
            }
            statement = insert_if_absent(session, IdempotentRequest).returning(IdempotentRequest.id)
            if session.scalars(statement, values).one_or_none() is not None:
                return None
            before = session.scalars(select(IdempotentRequest).where(*mine)).one_or_none()
            if before is None:  # It failed between our two statements, and its note is gone.
                return _VANISHED
            if before.request_sha256 != digest:
                raise IdempotencyKeyReused("this Idempotency-Key came with another request before; use a new one")
            if before.status is not None:
                headers = {**(before.headers or {}), REPLAYED_HEADER: "true"}
                return Response(before.body, before.status, headers)
            stale = update(IdempotentRequest).where(
                IdempotentRequest.id == before.id,
                IdempotentRequest.status.is_(None),
                IdempotentRequest.created_at < now - IN_FLIGHT,
            )
            taken = session.execute(stale.values(created_at=now, token=self._token))
            if not cast(CursorResult[Any], taken).rowcount:
                raise RequestInFlight("the first request with this Idempotency-Key is still being worked on; wait")
            return None

    def _keep(self, response: Response, gallery: str | None) -> None:
        """Keep the answer, unless the gallery it is about was erased meanwhile, or something in it."""
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        answer = {"status": response.status_code, "headers": headers, "body": bytes(response.body)}
        try:
            with self._database.session_scope() as session:
                gallery_id = self._gallery_id(session, gallery)
                if gallery is not None and gallery_id is None:
                    session.execute(delete(IdempotentRequest).where(IdempotentRequest.token == self._token))
                else:
                    note = update(IdempotentRequest).where(IdempotentRequest.token == self._token)
                    session.execute(note.values(**answer, gallery_id=gallery_id))
        except VoxdexError as error:  # The work is done, and whoever asked is to know.
            logger.warning("the answer of a request is not kept: %s", error.code)

    def _forget(self) -> None:
        try:
            with self._database.session_scope() as session:
                session.execute(delete(IdempotentRequest).where(IdempotentRequest.token == self._token))
        except VoxdexError as error:  # It goes stale by itself; what went wrong first is what is to be told.
            logger.warning("a note of a failed request stays for now: %s", error.code)

    def _gallery_id(self, session: Session, name: str | None) -> int | None:
        """Return the id of the gallery that the request is about, if there is one."""
        if name is None and "gallery" in self._request.path_params:
            name = slashes_restored(self._request.path_params["gallery"])
        return session.scalar(select(Gallery.id).where(Gallery.name == canonical(name))) if name is not None else None


def _once(request: Request, key: Key = None) -> Once:
    runtime = request.app.state.runtime
    return Once(runtime.database, request, key, runtime.settings.api.idempotency_hours)


Idempotent = Annotated[Once, Depends(_once)]
"""Every POST that writes takes one, and hands its work over to it."""
