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
from collections.abc import Callable
from typing import Annotated, Any, cast

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy import CursorResult, delete, select, update
from starlette.responses import Response

from api.errors import problem_of, status_of
from api.security import Principal
from indexer.db.models import IdempotentRequest, utc_now
from indexer.db.repositories import insert_if_absent
from indexer.db.session import Database
from indexer.errors import Conflict, IdempotencyKeyReused, RequestInFlight, VoxdexError

logger = logging.getLogger(__name__)

REPLAYED_HEADER = "Idempotency-Replayed"

IN_FLIGHT = dt.timedelta(minutes=15)
"""Silence after which a request is taken for dead with its process."""

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
    """

    def __init__(
        self, body: BaseModel, status: int = 201, *, location: str | None = None, secret: bool = False
    ) -> None:
        self.body = body
        self.status = status
        self.location = location
        self.secret = secret

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
        number = self._claim(principal.id, digest)
        if isinstance(number, Response):
            return number
        try:
            response, kept = self._work(work)
        except BaseException:
            self._forget(number)
            raise
        if kept.status_code >= 500 or kept.status_code == 429 or len(kept.body) > _MOST_BYTES:
            self._forget(number)
        else:
            self._keep(number, kept)
        return response

    def _work(self, work: Callable[[], Answer]) -> tuple[Response, Response]:
        """Return the answer, and what a retry will be answered."""
        try:
            answer = work()
        except VoxdexError as error:
            if status_of(error) >= 500:
                raise
            response = problem_of(error)
            return response, response
        response = answer.response()
        return response, problem_of(_SHOWN_ONCE) if answer.secret else response

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

    def _claim(self, owner: str, digest: str) -> int | Response:
        """Note that the request is under way and return the note's id, or the answer that it got before."""
        with self._database.session_scope() as session:
            now = utc_now()
            mine = (IdempotentRequest.owner == owner, IdempotentRequest.key == self._key)
            session.execute(delete(IdempotentRequest).where(*mine, IdempotentRequest.created_at < now - self._kept_for))
            statement = insert_if_absent(session, IdempotentRequest).returning(IdempotentRequest.id)
            values = {"owner": owner, "key": self._key, "request_sha256": digest, "created_at": now}
            number = session.scalars(statement, values).one_or_none()
            if number is not None:
                return number
            before = session.scalars(select(IdempotentRequest).where(*mine)).one()
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
            taken = cast(CursorResult[Any], session.execute(stale.values(created_at=now))).rowcount
            if not taken:
                raise RequestInFlight("the first request with this Idempotency-Key is still being worked on; wait")
            return before.id

    def _keep(self, number: int, response: Response) -> None:
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        answer = {"status": response.status_code, "headers": headers, "body": bytes(response.body)}
        with self._database.session_scope() as session:
            session.execute(update(IdempotentRequest).where(IdempotentRequest.id == number).values(**answer))

    def _forget(self, number: int) -> None:
        try:
            with self._database.session_scope() as session:
                session.execute(delete(IdempotentRequest).where(IdempotentRequest.id == number))
        except VoxdexError as error:  # It goes stale by itself; what went wrong first is what is to be told.
            logger.warning("a note of a failed request stays for now: %s", error.code)


def _once(request: Request, key: Key = None) -> Once:
    runtime = request.app.state.runtime
    return Once(runtime.database, request, key, runtime.settings.api.idempotency_hours)


Idempotent = Annotated[Once, Depends(_once)]
"""Every POST that writes takes one, and hands its work over to it."""
