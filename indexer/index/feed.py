"""Bring an index into step with the record, and prove that it is.

The record decides: a row that an index lacks is added, one that it should not have goes, one that differs is replaced.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.db.changes import Changes
from indexer.db.embeddings import STREAM_ROWS, Embeddings, is_sound
from indexer.db.session import Database
from indexer.errors import Unavailable, VoxdexError
from indexer.index.base import FeedMark, Ids, VectorIndex
from indexer.index.faiss_index import FaissFlatIndex
from indexer.index.snapshot_format import Block, Manifest, RowType
from indexer.index.snapshots import SnapshotStore, encoders_indexed, index_folder, remove_folder
from indexer.types import EMBEDDING_DIM, EmbeddingId, EncoderId, GalleryId, Vectors
from indexer.vectors import Fingerprint, checksums_of

logger = logging.getLogger(__name__)

CHANGES_AT_ONCE = 64
"""Changes applied in one step; a change is a transaction, in bulk ingest some tens of recordings."""


@dataclass(frozen=True)
class Adjustment:
    """How many vectors an index gained, lost and had replaced to be in step."""

    added: int = 0
    removed: int = 0
    replaced: int = 0

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.replaced)

    def __add__(self, other: "Adjustment") -> "Adjustment":
        return Adjustment(self.added + other.added, self.removed + other.removed, self.replaced + other.replaced)


Note = Callable[[Adjustment], None]
"""Hears of every change of an index once it is made, for the next step may fail."""


class _Total:
    """The sum of what was noted."""

    def __init__(self) -> None:
        self.adjustment = Adjustment()

    def __call__(self, step: Adjustment) -> None:
        self.adjustment += step


@dataclass(frozen=True)
class CheckReport:
    """Every difference between an index and the record, by embedding id."""

    recorded: int
    indexed: int
    missing: tuple[EmbeddingId, ...]
    """In the record and not in the index."""
    extra: tuple[EmbeddingId, ...]
    """In the index and not in the record."""
    changed: tuple[EmbeddingId, ...]
    """In both, with different bytes."""
    damaged: tuple[EmbeddingId, ...]
    """In the record with bytes that do not match the record's own checksum: no index can hold what was meant."""
    behind: int = 0
    """Rows newer than a snapshot: the next process to open the index adds them, as after every ingest."""
    problem: str | None = None
    """Why the files could not be read, where they could not."""

    @property
    def in_step(self) -> bool:
        """Whether every vector that should be there is there as recorded, and nothing else."""
        return not (self.missing or self.extra or self.changed or self.damaged or self.problem)

    def describe(self) -> str:
        """Say in one sentence what was found and what to do."""
        if self.in_step:
            later = f"; {self.behind} newer rows are added when it is next opened" if self.behind else ""
            return f"index and record agree on {self.indexed} vectors{later}"
        kinds = {"missing": self.missing, "extra": self.extra, "changed": self.changed, "damaged": self.damaged}
        found = [f"{len(ids)} {kind} (first id {ids[0]})" for kind, ids in kinds.items() if ids]
        if self.problem:
            found.append(self.problem)
        remedy = "delete the recordings of the damaged ones" if self.damaged else "run `voxdex index rebuild`"
        return f"{self.indexed} vectors in the index, {self.recorded} in the record: {', '.join(found)}: {remedy}"


class IndexFeed:
    """The way from the record to the index of one gallery under one encoder, and to its files."""

    def __init__(self, database: Database, home: Path, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        self._database = database
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id
        self._home = home
        self._store = SnapshotStore(index_folder(home, gallery_id, encoder_id), encoder_id, EMBEDDING_DIM)
        self._position = 0
        # Two threads catching up one index would add the same rows. Whoever writes a file holds it too: a change that
        # waited for the file inside the index would keep every search out meanwhile.
        self._changing = threading.Lock()

    @property
    def position(self) -> int:
        """Number of the last change of the record that the index has seen; see `indexer.db.changes`."""
        return self._position

    def open(self) -> FaissFlatIndex:
        """Load the newest whole snapshot and bring it into step; without one, build the index from the record.

        What was changed is saved again. If that fails the index still answers, and the next start repeats the work.

        Raises
        ------
        CorruptArtifact
            If a vector in the record itself is damaged.
        """
        index, snapshot, problem = self._load()
        if problem is not None:
            logger.warning("gallery %d: its files are damaged, the record makes them anew", self._gallery_id)
        elif snapshot is not None and self._is_recorded(snapshot.fingerprint):
            return index
        changes = self.catch_up(index)
        logger.info("gallery %d: index brought into step: %s", self._gallery_id, changes)
        if changes or problem is not None:
            # What had to go from the index must go from its files too, and a damaged file is of no further use.
            keep_previous = problem is None and not (changes.removed or changes.replaced)
            self._save_if_possible(index, keep_previous=keep_previous)
        return index

    def _load(self) -> tuple[FaissFlatIndex, Manifest | None, str | None]:
        """Return what the files hold, with what they say of it, and what is wrong with them."""
        index = FaissFlatIndex(self._encoder_id, EMBEDDING_DIM)
        try:
            snapshot = self._store.load()
            if snapshot is None:
                return index, None, None
            index.add(snapshot.ids, np.asarray(snapshot.rows, dtype=np.float32))
        except VoxdexError as error:  # damaged, or whole and holding what no index takes
            return FaissFlatIndex(self._encoder_id, EMBEDDING_DIM), None, str(error)
        return index, snapshot.manifest, snapshot.damage

    def follow(self, index: VectorIndex, note: Note) -> None:
        """Apply what was committed since the index last looked; errors as in `catch_up`.

        Where the record no longer has the changes in between, index and record are compared as a whole instead. A
        vector that is damaged in the record is passed over and logged: nothing that came after it waits for a repair.
        """
        with self._changing:
            while (newest := self._follow_some(index, note)) is not None:
                if self._position >= newest:
                    return
            logger.info("gallery %d: changes were missed; comparing with the whole record", self._gallery_id)
            self._compare(index, note)

    def _follow_some(self, index: VectorIndex, note: Note) -> int | None:
        """Apply the next changes, and say which is the newest; None where they do not follow on the last one seen."""
        with self._database.read_scope() as session:
            feed = Changes(session)
            newest = feed.position(self._gallery_id).vectors
            if newest == self._position:
                return newest
            changes = feed.since(self._gallery_id, self._position, limit=CHANGES_AT_ONCE)
            wanted = min(newest - self._position, CHANGES_AT_ONCE)  # below 0 where the record was put back in time
            if [change.seq - self._position for change in changes] != list(range(1, wanted + 1)) or not changes:
                return None
            touched = [change.embedding_ids for change in changes if change.encoder_id == self._encoder_id]
            if touched:
                self._settle(index, Embeddings(session), touched, note)
            self._position = changes[-1].seq
            return newest

    def _settle(self, index: VectorIndex, record: Embeddings, touched: list[Ids], note: Note) -> None:
        """Make the index agree with the record on the ids that changes name, whatever became of them since."""
        ids = np.unique(np.concatenate(touched))
        inside = index.holds(ids)
        held, absent = ids[inside], ids[~inside]
        gone = np.setdiff1d(held, record.existing(self._gallery_id, self._encoder_id, held), assume_unique=True)
        index.remove(gone)
        note(Adjustment(removed=len(gone)))
        for start in range(0, len(absent), STREAM_ROWS):
            some = absent[start : start + STREAM_ROWS]
            found, vectors, damaged = record.present(self._gallery_id, self._encoder_id, some)
            index.add(found, vectors)
            note(Adjustment(added=len(found)))
            if len(damaged):
                logger.error(
                    "gallery %d: %d vectors are damaged in the record and not searched (first: embedding %d): run "
                    "`voxdex index check`, delete their recordings and ingest them again",
                    self._gallery_id,
                    len(damaged),
                    damaged[0],
                )

    def catch_up(self, index: VectorIndex) -> Adjustment:
        """Make an index equal to the record as it is now, by comparing all of both.

        Raises
        ------
        CorruptArtifact
            If a vector in the record is damaged.
        """
        total = _Total()
        with self._changing:
            self._compare(index, total)
        return total.adjustment

    def _compare(self, index: VectorIndex, note: Note) -> None:
        with self._database.read_scope() as session:
            # Read with the rows in one snapshot: what is numbered above it is exactly what is not among them.
            position = Changes(session).position(self._gallery_id).vectors
            record = Embeddings(session)
            held_ids, held_checksums = _contents(index)
            top = int(held_ids[-1]) if len(held_ids) else 0
            so_far = record.fingerprint(self._gallery_id, self._encoder_id, up_to=top)
            if so_far != Fingerprint.of(held_ids, held_checksums):
                self._repair(index, record, held_ids, held_checksums, top, note)
            # Rows above the highest id are all that is missing after an ingest.
            for ids, _, vectors in record.stream(self._gallery_id, self._encoder_id, after=top):
                index.add(ids, vectors)
                note(Adjustment(added=len(ids)))
            self._position = position

    def _repair(
        self, index: VectorIndex, record: Embeddings, held_ids: Ids, held_checksums: Ids, top: int, note: Note
    ) -> None:
        """Settle the ids up to `top` one by one."""
        ids, checksums = record.checksums(self._gallery_id, self._encoder_id)
        ids, checksums = ids[ids <= top], checksums[ids <= top]
        extra = np.setdiff1d(held_ids, ids, assume_unique=True)
        missing = np.setdiff1d(ids, held_ids, assume_unique=True)
        both, here, there = np.intersect1d(held_ids, ids, assume_unique=True, return_indices=True)
        changed = both[held_checksums[here] != checksums[there]]
        index.remove(np.concatenate([extra, changed]))
        note(Adjustment(removed=len(extra), replaced=len(changed)))
        wanted = np.sort(np.concatenate([missing, changed]))
        for start in range(0, len(wanted), STREAM_ROWS):
            some = wanted[start : start + STREAM_ROWS]
            index.add(some, record.vectors(some.tolist()))
        note(Adjustment(added=len(missing)))

    def check_files(self) -> CheckReport:
        """Compare every id and vector of the newest whole snapshot with the record; nothing is changed."""
        index, _, problem = self._load()
        held = index.ids()
        top = int(held[-1]) if len(held) else 0
        report = self.check(index)
        missing = tuple(number for number in report.missing if number <= top)
        return replace(report, missing=missing, behind=len(report.missing) - len(missing), problem=problem)

    def check(self, index: VectorIndex) -> CheckReport:
        """Compare every id and every vector's bytes of index and record; nothing is changed."""
        missing: list[int] = []
        changed: list[int] = []
        damaged: list[int] = []
        seen: list[Ids] = [np.empty(0, dtype=np.int64)]
        with self._database.read_scope() as session:
            held_ids, held_checksums = _contents(index)
            for ids, checksums, stored in Embeddings(session).raw_stream(self._gallery_id, self._encoder_id):
                seen.append(ids)
                inside, places = _find(held_ids, ids)
                missing += ids[~inside].tolist()
                changed += ids[inside][held_checksums[places[inside]] != checksums[inside]].tolist()
                damaged += [
                    number for number, *row in zip(ids.tolist(), checksums, stored, strict=True) if not is_sound(*row)
                ]
        recorded = np.concatenate(seen)
        extra = np.setdiff1d(held_ids, recorded, assume_unique=True)
        return CheckReport(
            recorded=len(recorded),
            indexed=len(held_ids),
            missing=_as_ids(missing),
            extra=_as_ids(extra.tolist()),
            changed=_as_ids(changed),
            damaged=_as_ids(damaged),
        )

    def rebuild(self) -> FaissFlatIndex:
        """Build a new index from the record alone and save it; one in use goes on answering meanwhile.

        Raises
        ------
        CorruptArtifact
            If a vector in the record is damaged.
        Unavailable
            If the files cannot be written.
        """
        index = FaissFlatIndex(self._encoder_id, EMBEDDING_DIM)
        self.catch_up(index)
        self.save(index, keep_previous=False)
        return index

    def save(self, index: VectorIndex, *, keep_previous: bool = True) -> None:
        """Write the index's snapshot; changes wait meanwhile and searches do not."""
        with self._changing:
            self.save_copy(index, keep_previous=keep_previous)

    def save_copy(self, index: VectorIndex, *, keep_previous: bool = True) -> None:
        """Write the index's snapshot from a copy in memory, so that neither changes nor searches wait for the disk.

        Raises
        ------
        Unavailable
            If the files cannot be written.
        """
        with index.frozen() as (ids, vectors):
            copy = _Copy(index.encoder_id, index.dim, ids.copy(), vectors.copy())
        self._store.save(copy, FeedMark(), keep_previous=keep_previous)

    def forget(self, index: VectorIndex) -> Adjustment:
        """After a deletion was committed: take what went out of the index, out of every file, out of SQLite's log.

        Raises
        ------
        Unavailable
            If a file cannot be written; calling again finishes the erasure, and so does the next `open`.
        """
        adjustment = self.catch_up(index)
        self.save(index, keep_previous=False)
        self._database.scrub()
        return adjustment

    def erase_files(self, index: VectorIndex) -> None:
        """Leave no vector in any file of the gallery that is not in the index, and none in those of other encoders.

        Raises
        ------
        Unavailable
            If a file cannot be written; calling again finishes the erasure, and so does the next `open`.
        """
        self.save_copy(index, keep_previous=False)
        for encoder_id in encoders_indexed(self._home, self._gallery_id):
            if encoder_id != self._encoder_id:
                IndexFeed(self._database, self._home, self._gallery_id, encoder_id).scrub_files()
        self._database.scrub()

    def scrub_files(self) -> None:
        """Do what `forget` does where no index is open; errors as there."""
        index, _, _ = self._load()
        self.forget(index)

    def _is_recorded(self, fingerprint: Fingerprint) -> bool:
        """Tell whether this is what the record holds, and note how far its changes had got by then."""
        with self._database.read_scope() as session:
            position = Changes(session).position(self._gallery_id).vectors
            if Embeddings(session).fingerprint(self._gallery_id, self._encoder_id) != fingerprint:
                return False
            self._position = position
            return True

    def _save_if_possible(self, index: VectorIndex, *, keep_previous: bool) -> None:
        try:
            self.save(index, keep_previous=keep_previous)
        except Unavailable as error:
            logger.warning("gallery %d: the index answers and was not saved: %s", self._gallery_id, error.code)


class _Copy:
    """What an index held at one moment."""

    row_dtype: RowType = "float32"
    codebook = None
    calibration = None

    def __init__(self, encoder_id: EncoderId, dim: int, ids: Ids, vectors: Vectors) -> None:
        self.encoder_id = encoder_id
        self.dim = dim
        self.count = len(ids)
        order = np.argsort(ids)
        self._ids = ids[order]
        self._rows = vectors[order]

    def blocks(self) -> Iterator[Block]:
        """Yield all of it as one block."""
        yield Block(self._ids, checksums_of(self._rows).astype(np.uint32), self._rows, None)


def open_index(database: Database, home: Path, gallery_id: GalleryId, encoder_id: EncoderId) -> FaissFlatIndex:
    """Return a gallery's index, in step with the record at this moment; see `IndexFeed.open`."""
    return IndexFeed(database, home, gallery_id, encoder_id).open()


def check(database: Database, home: Path, gallery_id: GalleryId, encoder_id: EncoderId) -> CheckReport:
    """Compare the index files with the record; see `IndexFeed.check_files`."""
    return IndexFeed(database, home, gallery_id, encoder_id).check_files()


def rebuild(database: Database, home: Path, gallery_id: GalleryId, encoder_id: EncoderId) -> FaissFlatIndex:
    """Build a gallery's index from the record alone; see `IndexFeed.rebuild`."""
    return IndexFeed(database, home, gallery_id, encoder_id).rebuild()


def scrub(database: Database, home: Path, gallery_id: GalleryId) -> None:
    """After a deletion was committed: leave no copy of what went in any index file of the gallery, of any encoder.

    Raises
    ------
    Unavailable
        If a file cannot be written; calling again finishes the erasure, and so does opening the index.
    """
    for encoder_id in encoders_indexed(home, gallery_id):
        IndexFeed(database, home, gallery_id, encoder_id).scrub_files()
    database.scrub()


def drop(home: Path, gallery_id: GalleryId) -> None:
    """Delete the index files of a gallery that was deleted, of every encoder."""
    remove_folder(index_folder(home, gallery_id))


def _contents(index: VectorIndex) -> tuple[Ids, Ids]:
    """Rising ids of an index and the checksums of their vectors."""
    with index.frozen() as (ids, vectors):
        order = np.argsort(ids)
        return ids[order], checksums_of(vectors)[order]


def _find(sorted_ids: Ids, wanted: Ids) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Whether each wanted id is there, and where."""
    if len(sorted_ids) == 0:
        return np.zeros(len(wanted), dtype=bool), np.zeros(len(wanted), dtype=np.intp)
    places = np.minimum(np.searchsorted(sorted_ids, wanted), len(sorted_ids) - 1)
    return sorted_ids[places] == wanted, places


def _as_ids(numbers: list[int]) -> tuple[EmbeddingId, ...]:
    return tuple(EmbeddingId(number) for number in numbers)
