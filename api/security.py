"""Who asks, and what they may: keys, the open rule, the one gallery of a bound key, rate limits."""

import ipaddress
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer
from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter
from starlette.concurrency import run_in_threadpool

from api.keys import Scope, granted, is_right, split_key
from api.paths import slashes_restored
from indexer.db.keys import LAST_USED_STEP, KeyRow, Keys
from indexer.db.models import utc_now
from indexer.db.repositories import canonical
from indexer.db.session import Database
from indexer.errors import AccessDenied, InvalidRequest, NotFound, RateLimited, Unauthenticated, Unavailable
from indexer.settings import ApiSettings, BrokerSettings
from indexer.types import GalleryId

logger = logging.getLogger(__name__)

OPEN = "open"
"""Owner of what requests without a key do."""

_BEARER = HTTPBearer(auto_error=False, scheme_name="key", description="`Authorization: Bearer vdx_...`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="keyHeader", description="`X-API-Key: vdx_...`")

_PROXY_HEADERS = frozenset({"forwarded", "x-real-ip", "via"})
"""Headers by which proxies tell of themselves; besides `X-Forwarded-...`."""

_NO_KEY = "this service needs a key: send Authorization: Bearer vdx_... (`voxdex key create` makes one)"
_FORWARDED = (
    "this request came through a proxy, and without a key only this machine itself is served: make one with "
    "`voxdex key create --scope admin`, or say VOXDEX_API__OPEN=true"
)
_BAD_KEY = "this key is unknown or revoked; ask for another one"


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
    """

    id: str
    scopes: frozenset[str]
    gallery_id: GalleryId | None = None
    gallery: str | None = None
    rate_limit_per_minute: int | None = field(default=None, repr=False)

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


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    bare = host.strip("[]").lower()
    if bare == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(bare).is_loopback
    return False


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

    def __init__(self, database: Database, settings: ApiSettings, limiter: "RateLimiter") -> None:
        self._database = database
        self._settings = settings
        self._limiter = limiter

    def admit(self, given: str | None, *, host: str, cross_site: bool, forwarded: bool = False) -> Principal:
        """Return whoever a request comes from.

        Parameters
        ----------
        given
            The key as it was sent; None where there was none.
        host
            Name that the request was addressed to, without the port.
        cross_site
            Whether a browser sent it on behalf of another site.
        forwarded
            Whether a proxy says that it sent it on behalf of somebody, who may be anywhere.

        Raises
        ------
        Unauthenticated
            If there is no key and the service is not open, or the key is not in force.
        RateLimited
            If the requests of this minute are used up.
        """
        principal = self._open(host, cross_site, forwarded) if given is None else self._keyed(given)
        if principal.key is not None:
            most = principal.rate_limit_per_minute or self._settings.rate_limit_per_minute
            self._limiter.hit(principal.id, most)
        return principal

    def still_admits(self, principal: Principal) -> bool:
        """Tell whether somebody who was admitted before would be now, as far as the record says; counts no request."""
        with self._database.read_scope() as session:
            if principal.key is None:
                return self._settings.open or not Keys(session).any()
            row = Keys(session).find(principal.key)
            return row is not None and row.revoked_at is None

    def _open(self, host: str, cross_site: bool, forwarded: bool) -> Principal:
        principal = Principal(OPEN, granted(["admin"]))
        if self._settings.open is not None:
            if not self._settings.open:
                raise Unauthenticated(_NO_KEY)
            return principal
        # Open by default is meant for whoever sits at this machine. A page of another site in their browser, or a
        # name that leads to this address from elsewhere, is not them.
        if not is_loopback(self._settings.host) or not is_loopback(host) or cross_site:
            raise Unauthenticated(_NO_KEY)
        with self._database.read_scope() as session:
            if Keys(session).any():
                raise Unauthenticated(_NO_KEY)
        if forwarded:  # By a proxy of this machine, as its address and name can be those of loopback then.
            raise Unauthenticated(_FORWARDED)
        return principal

    def _keyed(self, given: str) -> Principal:
        parts = split_key(given)
        if parts is None:
            raise Unauthenticated(_BAD_KEY)
        public_id, secret_sha256 = parts
        with self._database.read_scope() as session:
            row = Keys(session).find(public_id)
        if not is_right(row, secret_sha256) or row is None:
            raise Unauthenticated(_BAD_KEY)
        self._note_use(row)
        return Principal(row.public_id, granted(row.scopes), row.gallery_id, row.gallery, row.rate_limit_per_minute)

    def _note_use(self, row: KeyRow) -> None:
        if row.last_used_at is not None and row.last_used_at > utc_now() - LAST_USED_STEP:
            return
        # A record that is busy must not refuse a question because of a note.
        with suppress(Unavailable), self._database.session_scope() as session:
            Keys(session).touch(row.id)


class RateLimiter:
    """Counts requests of a minute, in Redis where there is one, so that several processes share the count.

    While Redis does not answer each process counts for itself: a limit that is too wide for a moment, and neither none
    nor a service that stands still.
    """

    _RETRY_REDIS_S = 5.0

    def __init__(self, broker: BrokerSettings) -> None:
        self._local = FixedWindowRateLimiter(MemoryStorage())
        self._shared: FixedWindowRateLimiter | None = None
        self._shared_again_at = 0.0
        if broker.url is not None:
            storage = storage_from_string(
                broker.url.get_secret_value(),
                wrap_exceptions=True,
                socket_connect_timeout=0.5,
                socket_timeout=0.5,
            )
            assert isinstance(storage, Storage)
            self._shared = FixedWindowRateLimiter(storage)
        self._lock = threading.Lock()

    def hit(self, owner: str, most_per_minute: int) -> None:
        """Count a request, or raise RateLimited with the seconds until the next one is served."""
        item = RateLimitItemPerMinute(most_per_minute, namespace="voxdex")
        reset_at = self._hit(item, owner)
        if reset_at is not None:
            wait_s = max(0.0, reset_at - time.time())
            raise RateLimited(
                f"{most_per_minute} requests of this minute are used up; wait {math.ceil(wait_s)} s, or ask for a "
                "higher limit",
                retry_after_s=wait_s,
            )

    def _hit(self, item: RateLimitItemPerMinute, owner: str) -> float | None:
        """Count a request; return when the next one is served if this one is not."""
        if self._shared is not None and time.monotonic() >= self._shared_again_at:
            try:
                return _hit_one(self._shared, item, owner)
            except StorageError:
                with self._lock:
                    self._shared_again_at = time.monotonic() + self._RETRY_REDIS_S
                logger.warning("rate limits are counted in this process: the broker does not answer")
        return _hit_one(self._local, item, owner)


def _hit_one(limiter: FixedWindowRateLimiter, item: RateLimitItemPerMinute, owner: str) -> float | None:
    return None if limiter.hit(item, owner) else limiter.get_window_stats(item, owner).reset_time


def _given_key(request: Request) -> str | None:
    """Read the key that a request carries; None where it carries none.

    Raises
    ------
    Unauthenticated
        If it carries something else, or two that differ.
    """
    found: set[str] = set(request.headers.getlist("x-api-key"))
    for value in request.headers.getlist("authorization"):
        scheme, _, key = value.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated(f"Authorization: {scheme[:20]} is not known here; send Bearer and a key")
        found.add(key.strip())
    if len(found) > 1:
        raise Unauthenticated("two different keys in one request; send one")
    return found.pop() if found else None


def _is_cross_site(request: Request) -> bool:
    """Tell whether a browser says that a page of another site sends this."""
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return True
    origin = request.headers.get("origin")
    return origin is not None and origin.partition("://")[2] != request.headers.get("host")


def _is_forwarded(request: Request) -> bool:
    """Tell whether a proxy says that it passes this on."""
    return any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in request.headers)


def _host(request: Request) -> str:
    with suppress(ValueError):  # Brackets that hold no address.
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return ""


@lru_cache
def require(scope: Scope) -> Callable[..., Awaitable[Principal]]:
    """Build the dependency that admits whoever has a scope, and hides other galleries from a key bound to one."""

    async def admitted(
        request: Request,
        _bearer: Annotated[object, Security(_BEARER)] = None,
        _header: Annotated[object, Security(_HEADER)] = None,
    ) -> Principal:
        gate: Gate = request.app.state.runtime.gate
        given = _given_key(request)
        host, cross_site = _host(request), _is_cross_site(request)
        principal: Principal = await run_in_threadpool(
            gate.admit, given, host=host, cross_site=cross_site, forwarded=_is_forwarded(request)
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
