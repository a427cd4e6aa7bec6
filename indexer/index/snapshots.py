"""Index files: written beside the old ones, made durable, then swapped in; mapped only when they are as written.

A snapshot is a handful of files of one stem, `snapshot-G-R`: G is the generation, R is random. Each section is a file
of plain little-endian numbers, so that any engine can map it and no parser meets foreign bytes. `snapshot-G-R.json`,
renamed into place last, makes it count: it says what the others must be, and which change of the record they are of.
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
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from indexer.errors import CorruptSnapshot, InvalidRequest, Unavailable
from indexer.file_integrity import make_private_dir
from indexer.index.base import FeedMark
from indexer.index.keeper import KEEPER
from indexer.index.snapshot_format import (
    BLOCK_ROWS,
    FORMAT_VERSION,
    ROW_DTYPES,
    Manifest,
    MappedSnapshot,
    Origin,
    Section,
    SnapshotSource,
)
from indexer.types import EncoderId, GalleryId
from indexer.vectors import EMPTY, Fingerprint

logger = logging.getLogger(__name__)

VERIFIED_AT_LOAD_BYTES = 64 << 20
"""Rows up to this size are verified before they are lent (50 ms); larger ones by `MappedSnapshot.verify`, later."""

_NAME = re.compile(r"snapshot-(\d{10})-[0-9a-f]{16}\.json")
_LOCK = ".lock"


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


class SnapshotStore:
    """The snapshots of one index: the newest and the one before it."""

    def __init__(self, folder: Path, encoder_id: EncoderId, dim: int) -> None:
        self._folder = folder
        self._encoder_id = encoder_id
        self._dim = dim

    def save(
        self, source: SnapshotSource, mark: FeedMark, *, keep_previous: bool = True, origin: Origin = "save"
    ) -> MappedSnapshot:
        """Write a source as the newest snapshot and map it; killed at any moment, the one before it still stands.

        Parameters
        ----------
        source : SnapshotSource
            What is written.
        mark : FeedMark
            The change of the record up to which it is complete.
        keep_previous : bool
            False after an erasure: then no file but the new ones is left.
        origin : str
            Whether an index in use is written, or one that was made from the record alone.

        Raises
        ------
        Unavailable
            If the folder cannot be written.
        """
        try:
            with self._one_writer():
                self._prune()  # room for the new ones
                generation = self.generation() + 1
                stem = f"snapshot-{generation:010d}-{secrets.token_hex(8)}"
                try:
                    path = self._write(source, mark, origin, generation, stem)
                except BaseException:
                    self._discard(stem)
                    raise
                # At once: what has to go stays where this process is killed meanwhile, and mapping reads every file.
                self._prune(keep=2 if keep_previous else 1)
                mapped = self._map(path)
        except OSError as error:
            raise Unavailable(f"cannot write the index in {self._folder}: {error.strerror}; free some space") from error
        return mapped

    def load(self) -> MappedSnapshot | None:
        """Map the newest snapshot that is whole; None where none was ever saved.

        Raises
        ------
        CorruptSnapshot
            If there are snapshots and none is whole; the record can rebuild them.
        """
        damaged: list[CorruptSnapshot] = []
        for attempt in range(3):
            damaged = []
            for _, path in self._manifests():
                try:
                    return self._map(path, damage="; ".join(error.problem for error in damaged) or None)
                except CorruptSnapshot as error:
                    damaged.append(error)
                except FileNotFoundError:
                    break  # another process pruned it meanwhile: look again
            else:
                break
            logger.debug("snapshots changed while being read (attempt %d)", attempt + 1)
        if damaged:
            raise CorruptSnapshot("; ".join([*(error.problem for error in damaged[:-1]), str(damaged[-1])]))
        return None

    def generation(self) -> int:
        """Return the number of the newest snapshot, without opening it; 0 where there is none."""
        return max((number for number, _ in self._manifests()), default=0)

    def marks(self) -> list[FeedMark]:
        """Say of which changes the snapshots are, newest first; what cannot be read is of none."""
        found = []
        for _, path in self._manifests():
            try:
                found.append(_parse(path).mark)
            except (CorruptSnapshot, FileNotFoundError):
                found.append(FeedMark())
        return found

    def clear(self) -> None:
        """Delete every snapshot, half-written ones too."""
        if self._folder.is_dir():
            with self._one_writer():
                self._prune(keep=0)

    def prune_to_newest(self) -> None:
        """Delete every file that is not of the newest snapshot: what a writer left that was killed after it wrote it.

        Raises
        ------
        Unavailable
            If the folder cannot be written.
        """
        if not self._folder.is_dir():
            return
        try:
            with self._one_writer():
                self._prune(keep=1)
        except OSError as error:
            raise Unavailable(f"cannot write the index in {self._folder}: {error.strerror}; free some space") from error

    def _manifests(self) -> list[tuple[int, Path]]:
        """List (generation, manifest path) of every snapshot, newest first."""
        try:
            found = [(_NAME.fullmatch(path.name), path) for path in list(self._folder.iterdir())]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise Unavailable(f"cannot read the index in {self._folder}: {error.strerror}") from error
        return sorted(((int(match[1]), path) for match, path in found if match), reverse=True)

    @contextmanager
    def _one_writer(self) -> Iterator[None]:
        # The system drops the lock with its holder, so a killed process leaves none behind.
        make_private_dir(self._folder)
        with (self._folder / _LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, source: SnapshotSource, mark: FeedMark, origin: Origin, generation: int, stem: str) -> Path:
        total = EMPTY
        with ExitStack() as files:

            def opened(name: str, dtype: str, *width: int) -> _SectionWriter:
                return _SectionWriter(files, self._folder / f"{stem}.{name}", dtype, width)

            ids, crcs = opened("ids", "<i8"), opened("crcs", "<u4")
            rows = opened("rows", ROW_DTYPES[source.row_dtype], source.dim)
            codes: _SectionWriter | None = None
            for block in source.blocks():
                total += Fingerprint.of(block.ids, block.crcs.astype(np.int64))
                ids.append(block.ids)
                crcs.append(block.crcs)
                rows.append(block.rows)
                if block.codes is not None:
                    codes = codes or opened("codes", "|u1", block.codes.shape[1])
                    codes.append(block.codes)
            sections = {"ids": ids.finish(), "crcs": crcs.finish(), "rows": rows.finish()}
            if codes is not None:
                sections["codes"] = codes.finish()
            if source.codebook is not None:
                book = opened("codebook", "<f4", *source.codebook.shape[1:])
                book.append(source.codebook)
                sections["codebook"] = book.finish()
        manifest = Manifest(
            format_version=FORMAT_VERSION,
            generation=generation,
            encoder_id=source.encoder_id,
            dim=source.dim,
            count=total.count,
            row_dtype=source.row_dtype,
            mark=mark,
            origin=origin,
            fingerprint=total,
            calibration=source.calibration,
            sections=sections,
        )
        path = self._folder / f"{stem}.json"
        body = json.loads(json.dumps(asdict(manifest)))  # as it will be read: tuples are lists
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as out:
            out.write(json.dumps({**body, "manifest_sha256": _digest(body)}, indent=1).encode())
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)
        _sync_folder(self._folder)
        return path

    def _map(self, path: Path, *, damage: str | None = None) -> MappedSnapshot:
        """Map a snapshot whose every section but the rows was read and found as written; small rows too."""
        manifest = _parse(path)
        if manifest.encoder_id != self._encoder_id or manifest.dim != self._dim:
            raise CorruptSnapshot(
                f"{path} is of encoder {manifest.encoder_id} (D = {manifest.dim}) where {self._encoder_id} "
                f"(D = {self._dim}) is needed: run `voxdex index rebuild`"
            )
        arrays = {
            name: _mapped(path.with_name(section.file), section, path) for name, section in manifest.sections.items()
        }
        mapped = MappedSnapshot(
            path=path,
            manifest=manifest,
            ids=arrays["ids"],
            crcs=arrays["crcs"],
            rows=arrays["rows"],
            codes=arrays.get("codes"),
            codebook=arrays.get("codebook"),
            damage=damage,
        )
        mapped.verify_rest()
        if manifest.sections["rows"].size <= VERIFIED_AT_LOAD_BYTES:
            mapped.verify()
        return mapped

    def _discard(self, stem: str) -> None:
        """Delete what there is of a snapshot that could not be written; where that fails the next one that is does."""
        with suppress(OSError):
            for path in sorted(self._folder.iterdir(), key=lambda path: path.suffix != ".json"):
                if stem in path.name:
                    path.unlink(missing_ok=True)

    def _prune(self, keep: int | None = None) -> None:
        """Delete all but the newest `keep` snapshots (all), and every other file: under the lock, a dead writer's."""
        kept = {_LOCK, KEEPER}
        stems = {path.stem for _, path in self._manifests()[:keep]}
        # Manifests first: one without its sections would look damaged to a reader.
        for path in sorted(self._folder.iterdir(), key=lambda path: path.suffix != ".json"):
            if path.name not in kept and path.stem not in stems:
                path.unlink(missing_ok=True)
        _sync_folder(self._folder)


class _SectionWriter:
    """One section on its way to the disk."""

    def __init__(self, files: ExitStack, path: Path, dtype: str, width: tuple[int, ...]) -> None:
        self._out = files.enter_context(path.open("wb"))
        self._path = path
        self._dtype = dtype
        self._width = width
        self._count = 0
        self._digest = hashlib.sha256()
        self._digests: list[str] = []

    def append(self, numbers: NDArray[Any]) -> None:
        """Write some rows, however many; digests are of `BLOCK_ROWS` each all the same."""
        rows = np.ascontiguousarray(numbers, dtype=self._dtype)
        assert rows.shape[1:] == self._width
        while len(rows):
            room = BLOCK_ROWS - self._count % BLOCK_ROWS
            some, rows = rows[:room], rows[room:]
            self._digest.update(some.data)
            self._out.write(some.data)
            self._count += len(some)
            if self._count % BLOCK_ROWS == 0:
                self._end_block()

    def finish(self) -> Section:
        """Make it durable, and say what it must be."""
        if self._count % BLOCK_ROWS:
            self._end_block()
        self._out.flush()
        os.fsync(self._out.fileno())
        return Section(self._path.name, self._dtype, (self._count, *self._width), tuple(self._digests))

    def _end_block(self) -> None:
        self._digests.append(self._digest.hexdigest())
        self._digest = hashlib.sha256()


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
        if not isinstance(body, dict) or "manifest_sha256" not in body:
            raise ValueError("it is no manifest")
        claimed = body.pop("manifest_sha256")
        if claimed != _digest(body):
            raise ValueError("its own checksum does not match")
        if body["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format version {body['format_version']} where {FORMAT_VERSION} is read")
        sections = {
            name: Section(one["file"], one["dtype"], tuple(one["shape"]), tuple(one["digests"]))
            for name, one in body["sections"].items()
        }
        if not {"ids", "crcs", "rows"} <= sections.keys():
            raise ValueError("a section is missing")
        parts = {
            "fingerprint": Fingerprint(**body["fingerprint"]),
            "mark": FeedMark(**body["mark"]),
            "sections": sections,
        }
        return Manifest(**{**body, **parts})
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptSnapshot(f"{path} is not a readable snapshot ({error}): run `voxdex index rebuild`") from error


def _mapped(file: Path, section: Section, manifest: Path) -> NDArray[Any]:
    """Map a section whose size is as it was written."""
    try:
        size = file.stat().st_size
        if size == section.size > 0:
            # Plain arrays: each part of a memmap is made a memmap in Python, several times a search.
            mapped = np.memmap(file, dtype=section.dtype, mode="r", shape=section.shape)
            return mapped.view(np.ndarray)
    except FileNotFoundError:
        # Whoever prunes deletes the manifest first: where it is still there, the section was lost, not pruned.
        if not manifest.exists():
            raise
        raise CorruptSnapshot(f"{file} is gone: run `voxdex index rebuild`") from None
    except OSError as error:
        raise CorruptSnapshot(f"{file} cannot be read ({error.strerror}): run `voxdex index rebuild`") from error
    if size != section.size:
        raise CorruptSnapshot(f"{file} has {size} bytes where {section.size} were written: run `voxdex index rebuild`")
    empty = np.empty(section.shape, dtype=section.dtype)  # an empty file cannot be mapped
    empty.flags.writeable = False
    return empty


def _digest(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once the folder itself is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
