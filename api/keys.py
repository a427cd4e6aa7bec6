"""Keys to the API: made once, shown once, kept as a hash.

A key is `vdx_<public id>_<secret>`. The public id finds the row; the secret has 256 random bits, so that a plain
SHA-256 of it can be kept: there is nothing to guess, and hence nothing that a slow hash would protect.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from indexer.db.galleries import Galleries
from indexer.db.keys import KeyRow, Keys
from indexer.db.session import Database
from indexer.errors import InvalidRequest
from indexer.types import GalleryId

Scope = Literal["read", "identify", "write", "admin", "embeddings"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_IMPLIED: dict[str, frozenset[str]] = {
    "write": frozenset({"read"}),
    # Not `embeddings`: whoever may run a service need not be able to take voiceprints out of it.
    "admin": frozenset({"read", "identify", "write"}),
}

_FORM = re.compile(r"vdx_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class NewKey:
    """A key that was just made; `secret` is the whole key, and shown this once only."""

    row: KeyRow
    secret: str


def granted(scopes: Iterable[str]) -> frozenset[str]:
    """Every scope that these scopes give, the implied ones included."""
    given = frozenset(scopes)
    return given.union(*(_IMPLIED.get(scope, frozenset()) for scope in given))


def split_key(text: str) -> tuple[str, str] | None:
    """Take a key apart into its public id and the hash of its secret; None where it is no key."""
    match = _FORM.fullmatch(text)
    return (match[1], hashed(match[2])) if match else None


def is_right(row: KeyRow | None, secret_sha256: str) -> bool:
    """Tell whether a secret's hash is that of a key in force, taking the same time whatever is wrong."""
    same = hmac.compare_digest(row.secret_sha256 if row else "0" * 64, secret_sha256)
    return same and row is not None and row.revoked_at is None


def new_secret() -> str:
    """Make a secret of 256 random bits."""
    return secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """Hash a secret of so many bits for the record."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyRing:
    """Makes, lists and revokes keys, for the command line and the service alike."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        *,
        scopes: Sequence[str],
        name: str | None = None,
        gallery: str | None = None,
        rate_limit_per_minute: int | None = None,
    ) -> NewKey:
        """Make a key.

        Parameters
        ----------
        gallery
            The one gallery that it opens; None: every gallery.

        Raises
        ------
        InvalidRequest
            If a scope is unknown or missing, or an admin key is to be bound to a gallery.
        NotFound
            If there is no such gallery.
        """
        wanted = sorted(set(scopes), key=SCOPES.index) if set(scopes) <= set(SCOPES) else []
        if not wanted:
            raise InvalidRequest(f"scopes {', '.join(scopes) or '(none)'}: give one or more of {', '.join(SCOPES)}")
        if "admin" in wanted and gallery is not None:
            raise InvalidRequest(
                f"an admin key opens every gallery: leave out gallery {gallery!r}, or give read, identify or write"
            )
        if rate_limit_per_minute is not None and rate_limit_per_minute < 1:
            raise InvalidRequest(f"rate limit {rate_limit_per_minute}: allow at least 1 request a minute")
        public_id, secret = secrets.token_hex(8), new_secret()
        with self._database.session_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id) if gallery is not None else None
            row = Keys(session).add(
                public_id=public_id,
                secret_sha256=hashed(secret),
                name=name or "+".join(wanted),
                gallery_id=gallery_id,
                scopes=wanted,
                rate_limit_per_minute=rate_limit_per_minute,
            )
        return NewKey(row, f"vdx_{public_id}_{secret}")

    def list(self, *, after: int = 0, limit: int = 1000) -> "list[KeyRow]":
        """List keys in the order they were made, the revoked ones too."""
        with self._database.read_scope() as session:
            return Keys(session).page(after, limit)

    def revoke(self, public_id: str) -> KeyRow:
        """Make a key worthless at once, or raise NotFound."""
        with self._database.session_scope() as session:
            return Keys(session).revoke(public_id)

    def is_empty(self) -> bool:
        """Tell whether no key was ever made."""
        with self._database.read_scope() as session:
            return not Keys(session).any()
