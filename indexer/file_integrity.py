"""Files that are what they claim to be: hashes remembered beside them, atomic writes, locks between processes."""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_BLOCK_BYTES = 1 << 20
_SIDECAR_SCHEMA = 1


def sha256_of(path: Path) -> str:
    """Hash a whole file; lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sidecar_of(path: Path) -> Path:
    """Where the hash of `path` is remembered."""
    return path.with_name(path.name + ".verified.json")


def remembered_sha256(path: Path, *, verify: bool = False, digest: str | None = None) -> str:
    """Hash a file, reading it only when its size or modification time changed since the last time.

    Parameters
    ----------
    path : Path
        An existing file.
    verify : bool
        Read the file whatever is remembered; the only way to notice a disk that changed bytes by itself.
    digest : str, optional
        The hash, where the caller has just computed it: it is remembered without another reading.
    """
    status = path.stat()
    stamp = {"schema": _SIDECAR_SCHEMA, "size_bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    sidecar = sidecar_of(path)
    if not verify and digest is None:
        known = _read_json(sidecar)
        remembered = known.pop("sha256", None)
        if known == stamp and isinstance(remembered, str):
            return remembered
    digest = digest or sha256_of(path)
    # A read-only cache (baked into an image) is rehashed at each start; that is slower, and right.
    with suppress(OSError):
        write_json_atomically(sidecar, {**stamp, "sha256": digest})
    return digest


def _read_json(path: Path) -> dict[str, Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def write_json_atomically(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file in one step: a reader sees the old content or the new, never a half."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o644)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def make_private_dir(path: Path) -> Path:
    """Create a folder, and the missing ones above it, readable by their owner only."""
    for folder in [*reversed(path.parents), path]:
        folder.mkdir(mode=0o700, exist_ok=True) if not folder.is_dir() else None
    return path


@contextmanager
def exclusive_lock(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold `path` as a lock between processes; the operating system frees it when the holder dies.

    The lock file stays: removing it would let a third process lock another file of the same name.
    On Windows nothing is locked; the hash check then is the only guard of a file that two processes write.

    Parameters
    ----------
    path : Path
        A file of its own, in an existing folder.
    waiting : callable, optional
        Called each time that somebody else still holds the lock.
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                time.sleep(0.1)
        yield
