"""Index files: written beside the old ones, made durable, then swapped in; read only when every byte is as written.

A snapshot is two files. `snapshot-G-R.vectors` holds n int64 ids and then n x D float32 rows, little-endian, so that
any engine can load or map it and no parser meets foreign bytes. `snapshot-G-R.json`, renamed into place last, makes
it count: it says what the other must be. G is the generation, R is random.
"""

import fcntl
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import quote, unquote

import numpy as np

from indexer.errors import CorruptSnapshot, InvalidRequest, Unavailable
from indexer.file_integrity import make_private_dir
from indexer.index.base import Ids
from indexer.types import EncoderId, GalleryId, Vectors
from indexer.vectors import Fingerprint, checksums_of

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
BLOCK_ROWS = 65_536
"""Rows written and hashed at a time: 48 MiB."""

_NAME = re.compile(r"snapshot-(\d{10})-[0-9a-f]{16}\.json")
_LOCK = ".lock"


@dataclass(frozen=True)
class Manifest:
    """What a snapshot holds, and what its file must be."""

    format_version: int
    generation: int
    encoder_id: EncoderId
    dim: int
    count: int
    file: str
    sha256: str
    fingerprint: Fingerprint


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that was read and found whole."""

    manifest: Manifest
    ids: Ids
    vectors: Vectors
    damage: str | None
    """What is wrong with a newer one, where this is the one before it."""


def index_folder(home: Path, gallery_id: GalleryId, encoder_id: EncoderId | None = None) -> Path:
    """Folder of a gallery's index files, or of one encoder's among them."""
    folder = home / "index" / str(int(gallery_id))
    if encoder_id is None:
        return folder
    name = quote(encoder_id, safe="")
    if name in {"", ".", ".."}:
        raise InvalidRequest(
            f"encoder id {encoder_id!r} cannot name a folder: use the id that `voxdex encoder show` prints"
        )
    return folder / name


def encoders_indexed(home: Path, gallery_id: GalleryId) -> list[EncoderId]:
    """List the encoders under which a gallery has index files."""
    folder = index_folder(home, gallery_id)
    return sorted(EncoderId(unquote(path.name)) for path in folder.iterdir()) if folder.is_dir() else []


class Savable(Protocol):
    """What a snapshot is made of: an index, or a copy of one."""

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside."""
        ...

    @property
    def dim(self) -> int:
        """D of every vector."""
        ...

    def frozen(self) -> AbstractContextManager[tuple[Ids, Vectors]]:
        """Lend (n,) ids and their (n, D) vectors as one consistent view."""
        ...


class SnapshotStore:
    """The snapshots of one index: the newest and the one before it."""

    def __init__(self, folder: Path, encoder_id: EncoderId, dim: int) -> None:
        self._folder = folder
        self._encoder_id = encoder_id
        self._dim = dim

    def save(self, index: Savable, *, keep_previous: bool = True) -> Manifest:
        """Write what the index holds as the newest snapshot; killed at any moment, the one before it still stands.

        Parameters
        ----------
        index : Savable
            Its writers wait while it is written.
        keep_previous : bool
            False after an erasure: then no file but the new one is left.

        Raises
        ------
        Unavailable
            If the folder cannot be written.
        """
        try:
            with self._one_writer():
                generation = max((number for number, _ in self._manifests()), default=0) + 1
                stem = f"snapshot-{generation:010d}-{secrets.token_hex(8)}"
                manifest = self._write(index, generation, stem)
                self._prune(keep=2 if keep_previous else 1)
        except OSError as error:
            raise Unavailable(f"cannot write the index in {self._folder}: {error.strerror}; free some space") from error
        return manifest

    def load(self) -> Snapshot | None:
        """Read the newest snapshot that is whole; None where none was ever saved.

        Raises
        ------
        CorruptSnapshot
            If there are snapshots and none is whole; the record can rebuild them.
        """
        damaged: CorruptSnapshot | None = None
        for attempt in range(3):
            damaged = None
            for _, path in self._manifests():
                try:
                    manifest, ids, vectors = self._read(path)
                except CorruptSnapshot as error:
                    logger.warning("a snapshot cannot be used: %s", error.code, exc_info=error)
                    damaged = error
                    continue
                except FileNotFoundError:
                    break  # another process pruned it meanwhile: look again
                return Snapshot(manifest, ids, vectors, damage=None if damaged is None else str(damaged))
            else:
                break
            logger.debug("snapshots changed while being read (attempt %d)", attempt + 1)
        if damaged is not None:
            raise damaged
        return None

    def clear(self) -> None:
        """Delete every snapshot, half-written ones too."""
        if self._folder.is_dir():
            with self._one_writer():
                self._prune(keep=0)

    def _manifests(self) -> list[tuple[int, Path]]:
        """List (generation, manifest path) of every snapshot, newest first."""
        if not self._folder.is_dir():
            return []
        found = [(_NAME.fullmatch(path.name), path) for path in self._folder.iterdir()]
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        # The system drops the lock with its holder, so a killed process leaves none behind.
        make_private_dir(self._folder)
        with (self._folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, index: Savable, generation: int, stem: str) -> Manifest:
        data = self._folder / f"{stem}.vectors"
        digest = hashlib.sha256()
        total = Fingerprint(0, 0, 0, 0)
        with index.frozen() as (ids, vectors), _replacing(data) as out:
            count = len(ids)
            numbers = np.ascontiguousarray(ids, dtype="<i8")
            digest.update(numbers.data)
            out.write(numbers)
            for start in range(0, count, BLOCK_ROWS):
                rows = np.ascontiguousarray(vectors[start : start + BLOCK_ROWS], dtype="<f4")
                digest.update(rows.data)
                out.write(rows)
                total += Fingerprint.of(ids[start : start + BLOCK_ROWS], checksums_of(rows))
        manifest = Manifest(
            FORMAT_VERSION, generation, index.encoder_id, index.dim, count, data.name, digest.hexdigest(), total
        )
        body = asdict(manifest)
        with _replacing(self._folder / f"{stem}.json") as out:
            out.write(json.dumps({**body, "manifest_sha256": _digest(body)}, indent=1).encode())
        _sync_folder(self._folder)
        return manifest

    def _read(self, path: Path) -> tuple[Manifest, Ids, Vectors]:
        manifest = _parse(path)
        if manifest.encoder_id != self._encoder_id or manifest.dim != self._dim:
            raise CorruptSnapshot(
                f"{path} is of encoder {manifest.encoder_id} (D = {manifest.dim}) where {self._encoder_id} "
                f"(D = {self._dim}) is needed: run `voxdex index rebuild`"
            )
        data = path.with_suffix(".vectors")
        size = manifest.count * (8 + 4 * manifest.dim)
        with _opened(data, path) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise CorruptSnapshot(f"{data} has {found} bytes where {size} were written: run `voxdex index rebuild`")
            ids = np.fromfile(file, dtype="<i8", count=manifest.count)
            vectors = np.fromfile(file, dtype="<f4", count=manifest.count * manifest.dim)
        digest = hashlib.sha256(ids.data)
        digest.update(vectors.data)
        if digest.hexdigest() != manifest.sha256:
            raise CorruptSnapshot(f"{data} does not have the SHA-256 it was written with: run `voxdex index rebuild`")
        return manifest, ids.astype(np.int64, copy=False), vectors.reshape(manifest.count, manifest.dim)

    def _prune(self, keep: int) -> None:
        """Delete all but the newest `keep` snapshots; under the lock every other file is a dead writer's."""
        kept = {_LOCK}
        for _, path in self._manifests()[:keep]:
            kept |= {path.name, path.with_suffix(".vectors").name}
        # Manifests first: one without its vectors would look damaged to a reader.
        for path in sorted(self._folder.iterdir(), key=lambda path: path.suffix != ".json"):
            if path.name not in kept:
                path.unlink(missing_ok=True)
        _sync_folder(self._folder)


def remove_folder(folder: Path) -> None:
    """Delete an index folder and all in it; nothing happens where there is none."""
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unavailable(f"cannot delete the index in {folder}: {error.strerror}; delete it by hand") from error


def _parse(path: Path) -> Manifest:
    try:
        body = json.loads(path.read_bytes())
        claimed = body.pop("manifest_sha256")
        if claimed != _digest(body):
            raise ValueError("its own checksum does not match")
        if body["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {body['format_version']} where {FORMAT_VERSION} is read")
        return Manifest(**{**body, "fingerprint": Fingerprint(**body["fingerprint"])})
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptSnapshot(f"{path} is not a readable snapshot ({error}): run `voxdex index rebuild`") from error


def _opened(data: Path, manifest: Path) -> BinaryIO:
    try:
        return data.open("rb")
    except FileNotFoundError:
        # Whoever prunes deletes the manifest first: where it is still there, the vectors were lost, not pruned.
        if not manifest.exists():
            raise
    raise CorruptSnapshot(f"{data} is gone: run `voxdex index rebuild`")


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    """Write a file under another name, make it durable, then give it its own name."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
    partial.replace(path)


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once the folder itself is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
