"""Who asks, and what they may: keys, sessions of browsers, the open rule, the one gallery of a bound key, limits."""

import datetime as dt
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer
from starlette.concurrency import run_in_threadpool

from api.approach import MARK_HEADER, Approach, given_key, is_loopback
from api.keys import Scope, granted, hashed, is_right, new_secret, split_key
from api.paths import slashes_restored
from api.rate_limits import RateLimiter
from indexer.db.keys import LAST_USED_STEP, KeyRow, Keys, any_key, key_of
from indexer.db.models import utc_now
from indexer.db.names import canonical
from indexer.db.page_sessions import PageSessions
from indexer.db.session import Database
from indexer.errors import AccessDenied, InvalidRequest, NotFound, Unauthenticated, Unavailable
from indexer.settings import ApiSettings
from indexer.types import GalleryId

OPEN = "open"
"""Owner of what requests without a key do."""

_BEARER = HTTPBearer(auto_error=False, scheme_name="key", description="`Authorization: Bearer vdx_...`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="keyHeader", description="`X-API-Key: vdx_...`")

SESSION_COOKIE = "voxdex_session"
"""Holds the random id of a browser's session."""

_COOKIE = APIKeyCookie(
    name=SESSION_COOKIE,
    auto_error=False,
    scheme_name="session",
    description=f"Of a browser that signed in by `POST /v1/session`; what changes anything needs `{MARK_HEADER}` too.",
)

SIGN_INS_PER_MINUTE = 30
"""Of one address; a key has 256 random bits, so this keeps a script off the database more than off the keys."""

_NO_KEY = "this service needs a key: send Authorization: Bearer vdx_... (`voxdex key create` makes one)"
_FORWARDED = (
    "this request came through a proxy, and without a key only this machine itself is served: make one with "
    "`voxdex key create --scope admin`, or say VOXDEX_API__OPEN=true"
)
_BAD_KEY = "this key is unknown or revoked; ask for another one"
_ELSEWHERE = (
    "a browser says that another site sends this; where a proxy stands before the service, let it pass the header "
    "Host on as it came"
)
_UNMARKED = f"a browser's session changes nothing without the header {MARK_HEADER}, which the page sends"


@dataclass(frozen=True)
class Principal:
    """Whoever asks.

    Attributes
    ----------
    id
        Public id of the key, or `open`.
    scopes
        What they may, the implied scopes included.
    gallery_id, gallery
        The one gallery that they see; None: every gallery.
    name
        What people call the key.
    session_sha256, expires_at
        Of the browser's session, and until when it lasts; None where the key itself was sent.
    """

    id: str
    scopes: frozenset[str]
    gallery_id: GalleryId | None = None
    gallery: str | None = None
    rate_limit_per_minute: int | None = field(default=None, repr=False)
    name: str | None = field(default=None, repr=False)
    session_sha256: str | None = field(default=None, repr=False)
    expires_at: dt.datetime | None = field(default=None, repr=False)

    @property
    def key(self) -> str | None:
        """Public id of the key; None where the service is open."""
        return None if self.id == OPEN else self.id

    def may(self, scope: Scope) -> bool:
        """Tell whether the scope was given."""
        return scope in self.scopes

    def require(self, scope: Scope) -> None:
        """Refuse what needs a scope that was not given."""
        if not self.may(scope) and self.key is None:
            raise AccessDenied(
                f"this needs the scope {scope}, which only a key can have: make one with "
                f"`voxdex key create --scope identify --scope {scope}`"
            )
        if not self.may(scope):
            raise AccessDenied(f"this needs the scope {scope}; this key has {', '.join(sorted(self.scopes)) or 'none'}")

    def sees(self, gallery_id: int) -> bool:
        """Tell whether a gallery exists as far as they are concerned."""
        return self.gallery_id is None or self.gallery_id == gallery_id

    def require_gallery(self, name: str) -> None:
        """Refuse another gallery than the key's in the words for one that does not exist."""
        if self.gallery_id is not None and name != self.gallery:
            raise NotFound(f"no gallery {name!r}: see `voxdex galleries list`")


def require_safe_binding(settings: ApiSettings, *, keys_exist: bool) -> bool:
    """Refuse to listen where anybody could ask; return whether requests without a key are served.

    Raises
    ------
    InvalidRequest
        If the address is not loopback, no key exists, and nobody said that the service is to be open.
    """
    if not is_loopback(settings.host) and not keys_exist and settings.open is None:
        raise InvalidRequest(
            f"VOXDEX_API__HOST = {settings.host} can be reached by others and there is no key: make one with "
            "`voxdex key create --scope admin`, or listen on 127.0.0.1, or say VOXDEX_API__OPEN=true"
        )
    return settings.open if settings.open is not None else is_loopback(settings.host) and not keys_exist


class Gate:
    """Recognizes who asks and counts their requests."""

    def __init__(self, database: Database, settings: ApiSettings, limiter: RateLimiter) -> None:
        self._database = database
        self._settings = settings
        self._limiter = limiter

    def admit(self, given: str | None, approach: Approach, *, session: str | None = None) -> Principal:
        """Return whoever a request comes from.

        Parameters
        ----------
        given
            The key as it was sent; None where there was none.
        session
            What the browser's cookie holds; a key that is sent too is what counts.

        Raises
        ------
        Unauthenticated
            If there is no key and no session and the service is not open, or the key is not in force.
        AccessDenied
            If a session is to change something, and the request is not the page's.
        RateLimited
            If the requests of this minute are used up.
        """
        if given is not None:
            principal = self._keyed(given)
        else:
            principal = self._signed_in(session, approach) or self._open(approach)
        if principal.key is not None:
            most = principal.rate_limit_per_minute or self._settings.rate_limit_per_minute
            self._limiter.hit(principal.id, most)
        return principal

    def still_admits(self, principal: Principal) -> bool:
        """Tell whether somebody who was admitted before would be now, as far as the record says; counts no request."""
        with self._database.read_scope() as session:
            if principal.key is None:
                return self._settings.open or not Keys(session).any()
            if principal.session_sha256 is not None and PageSessions(session).find(principal.session_sha256) is None:
                return False
            row = Keys(session).find(principal.key)
            return row is not None and row.revoked_at is None

    def sign_in(self, given: str, approach: Approach, *, address: str) -> tuple[Principal, str]:
        """Begin a browser's session with a key; return whose it is, and what the cookie is to hold.

        Parameters
        ----------
        address
            Of whoever asks, whose tries are counted.

        Raises
        ------
        Unauthenticated
            If the key is not in force.
        AccessDenied
            If another site's page asks.
        RateLimited
            If the tries of this minute are used up.
        """
        self._require_own_page(approach)
        self._limiter.hit(f"sign-in {address}", SIGN_INS_PER_MINUTE)
        principal = self._keyed(given)
        token = new_secret()
        session_sha256, expires_at = hashed(token), utc_now() + dt.timedelta(hours=self._settings.session_hours)
        with self._database.session_scope() as session:
            row = Keys(session).get(principal.id)
            PageSessions(session).add(row.id, session_sha256, expires_at)
        return replace(principal, session_sha256=session_sha256, expires_at=expires_at), token

    def sign_out(self, token: str | None, approach: Approach) -> None:
        """End a browser's session, here and wherever its cookie may have got to; without one nothing is done."""
        self._require_own_page(approach)
        if token is not None:
            with self._database.session_scope() as session:
                PageSessions(session).end(hashed(token))

    def _require_own_page(self, approach: Approach) -> None:
        if approach.elsewhere:
            raise AccessDenied(_ELSEWHERE)
        if not approach.marked:
            raise AccessDenied(_UNMARKED)

    def _open(self, approach: Approach) -> Principal:
        principal = Principal(OPEN, granted(["admin"]))
        if self._settings.open is not None:
            if not self._settings.open:
                raise Unauthenticated(_NO_KEY)
            # Open to whoever reaches it is not open to pages that a browser within reach happens to show.
            if approach.changes and approach.elsewhere:
                raise AccessDenied(_ELSEWHERE)
            return principal
        # Open by default is meant for whoever sits at this machine. A page of another site in their browser, or a
        # name that leads to this address from elsewhere, is not them.
        if not is_loopback(self._settings.host) or not is_loopback(approach.host) or approach.cross_site:
            raise Unauthenticated(_NO_KEY)
        if any_key(self._database):
            raise Unauthenticated(_NO_KEY)
        if approach.forwarded:  # By a proxy of this machine, as its address and name can be those of loopback then.
            raise Unauthenticated(_FORWARDED)
        return principal

    def _signed_in(self, token: str | None, approach: Approach) -> Principal | None:
        """Return whose session it is; None where it has ended or is of another service, for cookies know no port."""
        if token is None or approach.elsewhere:
            return None
        session_sha256 = hashed(token)
        with self._database.read_scope() as session:
            found = PageSessions(session).find(session_sha256)
            row = Keys(session).find(found[0]) if found is not None else None
        if found is None or row is None or row.revoked_at is not None:
            return None
        if approach.changes and not approach.marked:
            raise AccessDenied(_UNMARKED)
        return replace(self._principal(row), session_sha256=session_sha256, expires_at=found[1])

    def _keyed(self, given: str) -> Principal:
        parts = split_key(given)
        if parts is None:
            raise Unauthenticated(_BAD_KEY)
        public_id, secret_sha256 = parts
        row = key_of(self._database, public_id)
        if not is_right(row, secret_sha256) or row is None:
            raise Unauthenticated(_BAD_KEY)
        return self._principal(row)

    def _principal(self, row: KeyRow) -> Principal:
        self._note_use(row)
        return Principal(
            row.public_id, granted(row.scopes), row.gallery_id, row.gallery, row.rate_limit_per_minute, row.name
        )

    def _note_use(self, row: KeyRow) -> None:
        if row.last_used_at is not None and row.last_used_at > utc_now() - LAST_USED_STEP:
            return
        # A record that is busy must not refuse a question because of a note.
        with suppress(Unavailable), self._database.session_scope() as session:
            Keys(session).touch(row.id)


@lru_cache
def require(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """Build the dependency that admits whoever has a scope, and hides other galleries from a key bound to one."""

    async def admitted(
        request: Request,
        _bearer: Annotated[object, Security(_BEARER)] = None,
        _header: Annotated[object, Security(_HEADER)] = None,
        session: Annotated[str | None, Security(_COOKIE)] = None,
    ) -> Principal:
        gate: Gate = request.app.state.runtime.gate
        principal: Principal = await run_in_threadpool(
            gate.admit, given_key(request), Approach.of(request), session=session
        )
        principal.require(scope)
        gallery = request.path_params.get("gallery")
        if gallery is not None:
            principal.require_gallery(canonical(slashes_restored(gallery)))
        return principal

    return admitted


Reader = Annotated[Principal, Depends(require("read"))]
Identifier = Annotated[Principal, Depends(require("identify"))]
Writer = Annotated[Principal, Depends(require("write"))]
Admin = Annotated[Principal, Depends(require("admin"))]
