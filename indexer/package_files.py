"""Files out of Python package archives: fetched with the user's pip and index, read as archives, never run.

pip writes the archive of a wheel straight to disk. For an sdist it insists on the package's metadata first, which would
install the package's build tools and run them. So pip is told not to install any (`--no-build-isolation`) and finds, in
the place of the build backend, a stand-in of a few lines that answers the one question with name and version. Only the
interface between pip and build backends (PEP 517) is relied upon; should it fail, plain `pip download` is tried.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO

from indexer.file_integrity import sha256_of
from indexer.sources import NotWritableError, PackageSource, Progress, SourceError

PIP_LIMIT_S = 1_800.0
"""Longest run of one pip; far above what 90 MB need on a slow line, and an end all the same."""

_POLL_S = 0.1
_BLOCK_BYTES = 1 << 20

_STAND_IN = """\
from pathlib import Path


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = Path(metadata_directory) / "{project}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: {project}\\nVersion: {version}\\n")
    return folder.name
"""


def find_pip() -> list[str]:
    """Return the command line that runs a pip: this interpreter's, the one Python carries for new environments, or any.

    Virtual environments made by some tools hold no pip.

    Raises
    ------
    SourceError
        If there is none.
    """
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR")]
    if (ensurepip := find_spec("ensurepip")) is not None and ensurepip.origin:
        folders.insert(0, str(Path(ensurepip.origin).parent / "_bundled"))
    for folder in filter(None, folders):
        for wheel in sorted(Path(folder).glob("pip-*.whl"), reverse=True):
            return [sys.executable, str(wheel / "pip")]
    for name in ("pip3", "pip"):
        if (command := shutil.which(name)) is not None:
            return [command]
    raise SourceError("no pip found: install it into this environment (python -m ensurepip) and try again")


@contextmanager
def downloaded_archive(
    source: PackageSource, work: Path, *, progress: Progress | None = None, pip: Sequence[str] | None = None
) -> Iterator[Path]:
    """Fetch the archive of a package, its hash verified, for the time of the block; then it is deleted.

    Parameters
    ----------
    source : PackageSource
        What to fetch.
    work : Path
        A folder for pip's temporary files, on a disk with room for twice the archive. What a killed process left there
        is removed first, and the folder afterwards; the caller holds a lock on it.
    progress : Progress, optional
        Called about ten times a second.
    pip : sequence of str, optional
        Command line of pip; found when not given.

    Raises
    ------
    SourceError
        With pip's own reason.
    NotWritableError
        If `work` cannot be written.
    """
    command = list(pip) if pip is not None else find_pip()
    shutil.rmtree(work, ignore_errors=True)
    try:
        work.mkdir(mode=0o700)
    except OSError as error:
        raise NotWritableError(f"cannot write {work}: {error.strerror or error}") from error
    try:
        try:
            archive = _pip_download(command, source, work, progress, stand_in=not source.binary)
        except SourceError:
            if source.binary or source.build_backend is None:
                raise
            archive = _pip_download(command, source, work, progress, stand_in=False)
        if (digest := sha256_of(archive)) != source.archive_sha256:
            raise SourceError(f"{archive.name} has SHA-256 {digest}, expected {source.archive_sha256}")
        yield archive
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _pip_download(
    command: list[str], source: PackageSource, work: Path, progress: Progress | None, *, stand_in: bool
) -> Path:
    requirements, destination, scratch = work / "requirements.txt", work / "archive", work / "tmp"
    for folder in (destination, scratch):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    requirements.write_text(f"{source.requirement} --hash=sha256:{source.archive_sha256}\n", encoding="utf-8")
    # No cache: pip's would keep a second copy of the archive for good.
    arguments = [
        "download",
        "--no-deps",
        "--require-hashes",
        "--no-cache-dir",
        "--ignore-requires-python",
        "--no-input",
    ]
    arguments += ["--disable-pip-version-check", "--progress-bar=off"]
    if source.binary:
        arguments += ["--no-binary=:none:", "--only-binary=:all:", *_of_tag(source.wheel_tag)]
    else:
        arguments += ["--only-binary=:none:", f"--no-binary={source.project}"]
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONUTF8": "1"}
    if stand_in and source.build_backend is not None:
        arguments.append("--no-build-isolation")
        environment["PYTHONPATH"] = str(_write_stand_in(source, work / "stand-in"))
    arguments += ["-r", str(requirements), "-d", str(destination)]
    _run([*command, *arguments], environment, work, source, progress)
    archives = [path for path in destination.iterdir() if path.is_file()]
    if len(archives) != 1:
        raise SourceError(f"pip saved {len(archives)} files where one was asked for")
    return archives[0]


def _of_tag(tag: str | None) -> list[str]:
    """Make pip take the wheel of one tag, whatever machine it runs on."""
    if tag is None:
        return []
    python, abi, platform = tag.split("-")
    implementation, version = python[:2], f"{python[2]}.{python[3:]}"
    return [
        f"--python-version={version}",
        f"--implementation={implementation}",
        f"--abi={abi}",
        f"--platform={platform}",
    ]


def _write_stand_in(source: PackageSource, folder: Path) -> Path:
    """Lay out a build backend that states the metadata and can do nothing else."""
    *packages, module = str(source.build_backend).split(".")
    place = folder
    for package in packages:
        place /= package
        place.mkdir(parents=True, exist_ok=True)
        (place / "__init__.py").touch()
    place.mkdir(parents=True, exist_ok=True)
    project, _, version = source.requirement.partition("==")
    (place / f"{module}.py").write_text(_STAND_IN.format(project=project, version=version), encoding="utf-8")
    return folder


def _run(
    command: list[str], environment: dict[str, str], work: Path, source: PackageSource, progress: Progress | None
) -> None:
    """Run pip to its end, watching the bytes arrive in its temporary folder (its own bar differs by version)."""
    log = work / "pip.log"
    deadline = time.monotonic() + PIP_LIMIT_S
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=work
            )
        except OSError as error:
            raise SourceError(f"pip cannot be started: {error.strerror or error}") from error
        try:
            while process.poll() is None:
                if time.monotonic() > deadline:
                    raise SourceError(f"pip was not done after {PIP_LIMIT_S:g} s")
                if progress is not None:
                    done = _bytes_below(work / "tmp") + _bytes_below(work / "archive")
                    progress(min(done, source.archive_bytes or done), source.archive_bytes, source.label)
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise SourceError(f"pip: {_reason_of(log.read_text(encoding='utf-8', errors='replace'))}")


def _bytes_below(folder: Path) -> int:
    total = 0
    for inside, _, names in os.walk(folder):  # which passes over folders that pip removes meanwhile; rglob fails then
        for name in names:
            with suppress(FileNotFoundError):  # pip moves files while they are counted
                total += Path(inside, name).stat().st_size
    return total


def _reason_of(log: str) -> str:
    """Pick the line of pip's output that says what went wrong."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR:").strip() for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no output"])[-1][:300]


@contextmanager
def opened_member(archive: Path, source: PackageSource) -> Iterator[tuple[IO[bytes], int]]:
    """Open one file of a wheel or sdist for reading, by its exact name, with its size in bytes.

    Raises
    ------
    SourceError
        If there is no such file, or the archive is damaged.
    """
    try:
        if source.binary:
            with zipfile.ZipFile(archive) as wheel, wheel.open(source.member) as file:
                yield file, wheel.getinfo(source.member).file_size
        else:
            with tarfile.open(archive) as sdist:
                info = sdist.getmember(source.member)
                tar_file = sdist.extractfile(info) if info.isfile() else None
                if tar_file is None:
                    raise SourceError(f"{source.member} in {archive.name} is not a plain file")
                with tar_file:
                    yield tar_file, info.size
    except KeyError as error:
        raise SourceError(f"{archive.name} holds no {source.member}") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise SourceError(f"{archive.name} is damaged: {error}") from error


def extract_member(archive: Path, source: PackageSource, part: Path, *, size_bytes: int | None = None) -> None:
    """Copy the wanted file of an archive to `part`; nothing else is unpacked and no name in the archive is a path here.

    Raises
    ------
    SourceError
        If the archive does not hold it, or holds another size than `size_bytes`.
    NotWritableError
        If the disk refuses.
    """
    with opened_member(archive, source) as (file, size):
        if size_bytes is not None and size != size_bytes:
            raise SourceError(f"{source.member} has {size} bytes where {size_bytes} are expected")
        try:
            with part.open("wb") as output:
                shutil.copyfileobj(file, output, _BLOCK_BYTES)
        except OSError as error:
            raise NotWritableError(f"cannot write {part}: {error.strerror or error}") from error
