"""What a job is pointed at, how that is read, and what one file of it is known by before it is opened."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol, Self
from urllib.parse import urlsplit

from indexer.archive import parse_speaker_rule
from indexer.audio.channels import ChannelPolicy
from indexer.errors import AccessDenied, InvalidRequest, VoxdexError
from indexer.http_download import is_loopback
from indexer.jobs.uris import local_path, normal_uri, resolved, scheme_of
from indexer.listening import parse_speakers
from indexer.manifests import MANIFEST_SUFFIXES, suffix_of
from indexer.settings import JobSettings

SourceKind = Literal["folder", "manifest", "url"]

KINDS: tuple[SourceKind, ...] = ("folder", "manifest", "url")

MAX_RULE_LENGTH = 500
"""Most characters of a speaker rule that arrives with a job."""


def guess_kind(source: str) -> SourceKind:
    """Tell a manifest by its suffix and a URL by its scheme; everything else is a folder (or one file)."""
    if suffix_of(source) in MANIFEST_SUFFIXES:
        return "manifest"
    return "url" if "://" in source else "folder"


@dataclass(frozen=True, slots=True)
class JobOptions:
    """How a job's source is read; kept with the job as a document.

    Attributes
    ----------
    kind
        `folder` (a local path), `manifest` (a CSV or JSON lines file, local or a URL), or `url`.
    speaker_from
        `none`, `parent`, `parent:N` or `regex:PATTERN`: see `indexer.archive.parse_speaker_rule`.
    channels
        A channel policy for this job; None: the setting's.
    speakers
        How many voices its recordings hold, as `indexer.listening.parse_speakers` reads it; None: the setting's.
    speech
        `auto`: speech is found; `off`: all that sounds is taken for it; None: the setting's.

    Raises
    ------
    InvalidRequest
        If a value is none of these.
    """

    kind: SourceKind
    speaker_from: str = "none"
    channels: str | None = None
    speakers: str | None = None
    speech: Literal["auto", "off"] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidRequest(f"kind {self.kind!r}: give one of {', '.join(KINDS)}")
        if len(self.speaker_from) > MAX_RULE_LENGTH:
            raise InvalidRequest(
                f"speaker_from has {len(self.speaker_from)} characters, the limit is {MAX_RULE_LENGTH}"
            )
        if self.speaker_from.startswith("csv:"):
            raise InvalidRequest(
                "speaker_from csv: is for files at hand; give a manifest with a column speaker instead"
            )
        parse_speaker_rule(self.speaker_from)
        if self.channels is not None:
            ChannelPolicy.parse(self.channels)
        if self.speakers is not None:
            parse_speakers(self.speakers)
        if self.speech not in (None, "auto", "off"):
            raise InvalidRequest(f"speech = {self.speech!r}: give auto or off; marked speech is for files at hand")

    def as_document(self) -> dict[str, Any]:
        """Return what `from_document` reads."""
        return {
            "kind": self.kind,
            "speaker_from": self.speaker_from,
            "channels": self.channels,
            "speakers": self.speakers,
            "speech": self.speech,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read what `as_document` wrote; further keys are somebody else's."""
        return cls(
            document["kind"],
            document.get("speaker_from", "none"),
            document.get("channels"),
            document.get("speakers"),
            document.get("speech"),
        )


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """One file of a source, before anybody opened it."""

    uri: str
    """An absolute path, or a URL."""
    speaker: str | None = None
    session: str | None = None
    recorded_at: dt.datetime | None = None
    labels: tuple[str, ...] | None = None
    size_bytes: int | None = None
    estimated_s: float = 0.0
    """Audio inside, guessed; it only decides how shards are cut."""
    line: int | None = None
    """Line of the manifest that names it."""


@dataclass(frozen=True, slots=True)
class UnusableEntry:
    """A row, file or folder of a source of which nothing can be made; it becomes a failed item."""

    uri: str
    error: VoxdexError


Cursor = dict[str, Any]
"""A place in a source, as JSON: reading goes on behind it."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A step through a source: what was found (None: something that is passed over), and the place behind it."""

    entry: SourceEntry | UnusableEntry | None
    cursor: Cursor


class Source(Protocol):
    """A folder, bucket or manifest that is read in an order of its own, from any place on."""

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        """Step through everything behind `after`, from the beginning where that is None, in constant memory.

        Raises
        ------
        NotFound, AccessDenied, InvalidRequest
            If the source as a whole is not there or not usable.
        Unavailable
            If the network or the server fails; reading again may work.
        """


def require_allowed(source: str, settings: JobSettings, *, trusted: bool) -> str:
    """Return the normal URI of what is asked for, if jobs may read it.

    A listed https:// prefix is the operator's word for that server, wherever its name leads: archives stand in private
    networks more often than not. What nobody listed is refused by its name, redirects included, and whoever else comes
    to answer for a listed name has to prove it by a certificate.

    Parameters
    ----------
    source
        A path or URL: of a job, of a row of a manifest, or that a server redirects to.
    trusted
        Whether it is an administrator who asks (or anybody, on a server that runs open).

    Raises
    ------
    InvalidRequest
        If it is no absolute path and no URL that is read.
    AccessDenied
        If `VOXDEX_JOBS__SOURCES` does not list it; what is not listed is refused, and an empty list allows local
        folders, s3:// and gs:// to the trusted only.
    """
    uri = normal_uri(source)
    if _is_listed(uri, settings.sources):
        return uri
    unlisted = not settings.sources and scheme_of(uri) in ("", "s3", "gs")
    if unlisted and trusted:
        return uri
    remedy = "list its folder or URL prefix in VOXDEX_JOBS__SOURCES"
    if unlisted:
        remedy += ", or use an admin key"
    raise AccessDenied(f"{source}: jobs may not read this; {remedy}")


def _is_listed(uri: str, sources: tuple[str, ...]) -> bool:
    path = local_path(uri)
    if path is None:
        return any(_covers(entry, uri) for entry in _listed(sources))
    # Where links lead is what counts; a listed folder may itself be reached through one.
    roots = [root for entry in _listed(sources) if (root := local_path(entry)) is not None]
    if not roots:
        return False
    target = resolved(path)
    return any(target.is_relative_to(resolved(root)) for root in roots)


@lru_cache(maxsize=8)
def _listed(sources: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(entry if entry in ("s3://", "gs://") else normal_uri(entry) for entry in sources)
    except InvalidRequest as error:
        raise InvalidRequest(f"VOXDEX_JOBS__SOURCES: {error}") from error


def _covers(prefix: str, uri: str) -> bool:
    """Tell whether a listed URL prefix covers a URL; a prefix ends where a part of the path ends, never inside one."""
    if prefix in ("s3://", "gs://"):
        return uri.startswith(prefix)
    wanted, given = urlsplit(prefix), urlsplit(uri)
    if (wanted.scheme, wanted.netloc) != (given.scheme, given.netloc):
        return False
    if given.scheme == "http" and not is_loopback(given.hostname or ""):
        return False  # What travels unencrypted can be read and replaced on the way.
    rest = uri.partition("://")[2] if given.scheme in ("s3", "gs") else given.netloc + given.path
    start = (prefix.partition("://")[2] if given.scheme in ("s3", "gs") else wanted.netloc + wanted.path).rstrip("/")
    return rest == start or rest.startswith(start + "/")
