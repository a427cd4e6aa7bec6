"""How a request comes: with which key, by whose browser, through what, as far as its headers tell."""

import ipaddress
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from fastapi import Request

from indexer.errors import Unauthenticated

MARK_HEADER = "X-Voxdex-Request"
"""What the page sends with every request: no other site can make a browser add a header of its own."""

_READS = frozenset({"GET", "HEAD", "OPTIONS"})

_PROXY_HEADERS = frozenset({"forwarded", "x-real-ip", "via"})
"""Headers by which proxies tell of themselves; besides `X-Forwarded-...`."""


@dataclass(frozen=True)
class Approach:
    """How a request comes, as far as its headers tell.

    Attributes
    ----------
    host
        Name that it was addressed to, without the port.
    cross_site
        Whether a browser may have sent it on behalf of another site.
    elsewhere
        Whether a browser says so; a proxy that changes `Host` makes no difference where the browser is not an old one.
    forwarded
        Whether a proxy says that it sent it on behalf of somebody, who may be anywhere.
    changes
        Whether it may change something.
    marked
        Whether it has the page's own header.
    """

    host: str
    cross_site: bool = False
    elsewhere: bool = False
    forwarded: bool = False
    changes: bool = False
    marked: bool = False

    @classmethod
    def of(cls, request: Request) -> "Approach":
        """Read the headers of a request."""
        return cls(
            host=_host(request),
            cross_site=_is_cross_site(request),
            elsewhere=_is_from_elsewhere(request),
            forwarded=_is_forwarded(request),
            changes=request.method not in _READS,
            marked=MARK_HEADER in request.headers,
        )


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach an address."""
    bare = host.strip("[]").lower()
    if bare == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(bare).is_loopback
    return False


def given_key(request: Request) -> str | None:
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


def _is_from_elsewhere(request: Request) -> bool:
    """Tell whether a browser says so in so many words; old ones leave no word but `Origin`."""
    site = request.headers.get("sec-fetch-site")
    return site not in ("none", "same-origin") if site is not None else _is_cross_site(request)


def _is_forwarded(request: Request) -> bool:
    """Tell whether a proxy says that it passes this on."""
    return any(name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in request.headers)


def _host(request: Request) -> str:
    with suppress(ValueError):  # Brackets that hold no address.
        return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return ""
