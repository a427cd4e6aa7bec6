"""Bring an index into step with the record, and prove that it is.

The record decides: a row that an index lacks is added, one that it should not have goes, one that differs is replaced.
A vector that is damaged in the record is passed over and logged: nothing that came after it waits for a repair.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from sqlalchemy.orm import Session

from indexer.db.changes import Changes
from indexer.db.embeddings import STREAM_ROWS, Embeddings
from indexer.db.session import Database
from indexer.errors import CorruptSnapshot
from indexer.index.adjustment import Adjustment, Note, Opened, Total, unheard
from indexer.index.base import FeedMark, Ids, IndexStore, Save, Tended, VectorIndex
from indexer.index.drift import CheckReport, Sample, compare_all, compare_some, compare_these, everything
from indexer.types import EmbeddingId, EncoderId, GalleryId, Vectors
from indexer.vectors import Fingerprint

logger = logging.getLogger(__name__)

LOOKS_S = (0.0, 0.2, 0.5)
"""Pauses before one looks again at vectors that differ."""

DOUBTS = 10_000
"""More vectors that differ than that are no doubts: nobody changes so many in a moment."""

CHANGES_AT_ONCE = 64
"""Changes applied in one step; a change is a transaction, in bulk ingest some tens of recordings."""

SETTLE_S = 1800.0
"""Longest wait for an index to train on what is inside: under a minute for a million vectors."""


def settle(index: VectorIndex) -> None:
    """Wait for what an index does to itself in the background, so that what it learned is saved with it."""
    if isinstance(index, Tended) and not index.wait_until_settled(SETTLE_S):
        logger.warning("an index is saved before it has settled: it was given %g s", SETTLE_S)


class IndexFeed:
    """The way from the record to one index of one gallery under one encoder, and to where it is kept."""

    def __init__(self, database: Database, store: IndexStore, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        self._database = database
        self._store = store
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id
        self._mark = FeedMark()
        # Two threads catching up one index would add the same rows; what is saved is what the mark says.
        self._changing = threading.Lock()

    @property
    def position(self) -> int:
        """Number of the last change of the record that the index has seen; see `indexer.db.changes`."""
        return self._mark.seq

    def open(self) -> Opened:
        """Load the newest whole index and apply what was committed since; without one, build it from the record.

        Raises
        ------
        Unavailable
            If the record or the engine is out of reach.
        """
        generation = self._store.generation()
        index, mark, problem = self._load()
        total = Total()
        try:
            if mark is None:
                self.compare(index, total)
            else:
                self._mark = mark
                self.follow(index, total)
        except BaseException:
            index.close()
            raise
        logger.info("gallery %d: index opened with %d vectors: %s", self._gallery_id, index.count, total.adjustment)
        return Opened(index, generation, total.adjustment, problem)

    def _load(self) -> tuple[VectorIndex, FeedMark | None, str | None]:
        """Return what is kept, the change it is of if the record still has that, and what is wrong with it."""
        try:
            kept = self._store.load()
        except CorruptSnapshot as error:
            logger.warning("gallery %d: %s; the index is made anew from the record", self._gallery_id, error.problem)
            return self._store.create(), None, error.problem
        if kept is None:
            return self._store.create(), None, None
        if kept.damage is not None:
            logger.warning("gallery %d: %s; the snapshot before is used", self._gallery_id, kept.damage)
        return kept.index, kept.mark if self._has(kept.mark) else None, kept.damage

    def _has(self, mark: FeedMark) -> bool:
        """Tell whether the record went on from where a mark was taken; not so if it was put back in time.

        Of an index that had seen no change nobody knows which rows it has: the record may be older than its feed.
        """
        if mark.seq == 0:
            return False
        with self._database.read_scope() as session:
            return Changes(session).digest_of(self._gallery_id, mark.seq) == mark.digest

    def follow(self, index: VectorIndex, note: Note) -> None:
        """Apply what was committed since the index last looked.

        Where the record no longer has the changes in between, index and record are compared as a whole instead.
        """
        with self._changing:
            newest: int | None = None
            while newest is None or self._mark.seq < newest:
                with self._database.read_scope() as session:
                    newest = self._follow_some(session, index, note)
                if newest is None:
                    logger.info("gallery %d: changes were missed; comparing with the whole record", self._gallery_id)
                    self._compare(index, note, deep=False)
                    note(Adjustment(elsewhere=1))  # for all that is known
                    return

    def _follow_some(self, session: Session, index: VectorIndex, note: Note) -> int | None:
        """Apply the next changes, and say which is the newest; None where they do not follow on the last one seen."""
        feed = Changes(session)
        newest = feed.position(self._gallery_id).vectors
        last = self._mark
        # The last one seen is looked at again: in a record that was put back in time another one has its number.
        first = max(last.seq, 1)
        changes = feed.since(self._gallery_id, first - 1, limit=CHANGES_AT_ONCE + 1)
        wanted = range(first, min(newest, first + CHANGES_AT_ONCE) + 1)
        if [change.seq for change in changes] != list(wanted) or newest < last.seq:
            return None
        if last.seq and changes.pop(0).digest != last.digest:
            return None
        if not changes:
            return newest
        touched = [change.embedding_ids for change in changes if change.encoder_id == self._encoder_id]
        if touched:
            self._settle(index, Embeddings(session), touched, note)
        others = [change for change in changes if change.removed and change.encoder_id != self._encoder_id]
        if others:
            note(Adjustment(elsewhere=sum(len(change.embedding_ids) for change in others)))
        self._mark = FeedMark(changes[-1].seq, changes[-1].digest)
        return newest

    def _settle(self, index: VectorIndex, record: Embeddings, touched: list[Ids], note: Note) -> None:
        """Make the index agree with the record on the ids that changes name, whatever became of them since."""
        ids = np.unique(np.concatenate(touched))
        inside = index.holds(ids)
        held, absent = ids[inside], ids[~inside]
        gone = np.setdiff1d(held, record.existing(self._gallery_id, self._encoder_id, held), assume_unique=True)
        if len(gone):
            index.remove(gone)
            note(Adjustment(removed=len(gone)))
        for start in range(0, len(absent), STREAM_ROWS):
            some = absent[start : start + STREAM_ROWS]
            found, vectors, damaged = record.present(self._gallery_id, self._encoder_id, some)
            self._add(index, found, vectors, damaged, note)

    def _add(self, index: VectorIndex, ids: Ids, vectors: Vectors, damaged: Ids, note: Note) -> None:
        """Add what is sound and tell of what is not."""
        if len(ids):
            index.add(ids, vectors)
            note(Adjustment(added=len(ids)))
        if len(damaged):
            logger.error(
                "gallery %d: %d vectors are damaged in the record and not searched (first: embedding %d): run "
                "`voxdex index check`, delete their recordings and ingest them again",
                self._gallery_id,
                len(damaged),
                damaged[0],
            )

    def compare(self, index: VectorIndex, note: Note, *, deep: bool = False) -> None:
        """Make an index equal to the record as it is now, by comparing all of both.

        Parameters
        ----------
        index : VectorIndex
            What is changed.
        note : callable
            Hears of every change.
        deep : bool
            Whether its checksums are computed anew from the bytes that it searches.
        """
        with self._changing:
            self._compare(index, note, deep=deep)

    def _compare(self, index: VectorIndex, note: Note, *, deep: bool) -> None:
        with self._database.read_scope() as session:
            # Read with the rows in one snapshot: what is numbered above it is exactly what is not among them.
            mark = self._newest(session)
            record = Embeddings(session)
            held_ids, held_checksums = everything(index, deep=deep)
            top = int(held_ids[-1]) if len(held_ids) else 0
            so_far = record.fingerprint(self._gallery_id, self._encoder_id, up_to=top)
            if so_far != Fingerprint.of(held_ids, held_checksums):
                self._repair(index, record, held_ids, held_checksums, top, note)
            # Rows above the highest id are all that is missing after an ingest.
            for ids, vectors, damaged in record.stream(self._gallery_id, self._encoder_id, after=top):
                self._add(index, ids, vectors, damaged, note)
            self._mark = mark

    def _newest(self, session: Session) -> FeedMark:
        feed = Changes(session)
        seq = feed.position(self._gallery_id).vectors
        return FeedMark(seq, feed.digest_of(self._gallery_id, seq) or "")

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
            found, vectors, damaged = record.present(self._gallery_id, self._encoder_id, some)
            # Those that are replaced were counted when the old ones went.
            self._add(index, found, vectors, damaged, unheard)
            note(Adjustment(added=int((~np.isin(found, changed, assume_unique=True)).sum())))

    def build(self) -> Opened:
        """Build an index from the record alone, beside the one that is kept; errors as in `open`."""
        generation, index, total = self._store.generation(), self._store.create(), Total()
        try:
            self.compare(index, total)
            settle(index)
        except BaseException:
            index.close()
            raise
        return Opened(index, generation, total.adjustment)

    def begin_save(self, index: VectorIndex) -> Save:
        """Take note of the index as it is now, to be written with the change that it is of."""
        with self._changing:
            return index.begin_save(self._mark)

    def save(self, index: VectorIndex, *, keep_previous: bool = True) -> int:
        """Keep the index, without what was erased until it is written, and return the generation.

        Neither changes nor searches wait for the disk.

        Parameters
        ----------
        index : VectorIndex
            What is kept, in step with the record as it then is.
        keep_previous : bool
            False where something that was kept had to go; what goes meanwhile is seen here.

        Raises
        ------
        Unavailable
            If it cannot be written, or the record is out of reach.
        """
        while True:
            before, after = Total(), Total()
            self.follow(index, before)
            keep_previous = keep_previous and not before.adjustment.erases
            generation = self.begin_save(index).write(keep_previous=keep_previous)
            self.follow(index, after)
            if not after.adjustment.erases:
                return generation
            keep_previous = False  # Who erased it may have been told already that it is gone.

    def check_kept(self) -> CheckReport:
        """Compare every id and vector that is kept, with what was committed since, with the record; changes nothing."""
        index, mark, problem = self._load()
        try:
            self._mark = mark or FeedMark()
            # Where the record does not say what came since, rows above the highest id must have.
            since = None if mark is None else self._follow_all
            return replace(self._check(index, since, problem), kept=self._store.generation() > 0)
        finally:
            index.close()

    def check(self, index: VectorIndex) -> CheckReport:
        """Compare every id and every vector's bytes of an open index with the record, once it has followed."""
        return self._check(index, self._follow_all, None)

    def _check(
        self, index: VectorIndex, since: Callable[[Session, VectorIndex, Note], bool] | None, problem: str | None
    ) -> CheckReport:
        total = Total()
        with self._changing, self._database.read_scope() as session:
            if since is not None:
                since(session, index, total)
            held = everything(index, deep=True)
            rows = Embeddings(session).raw_stream(self._gallery_id, self._encoder_id)
            report = compare_all(held, rows)
        if since is not None:
            report = report.only(self._confirmed(index, report.differing, total))
        top = int(held[0][-1]) if len(held[0]) else 0
        newer = [number for number in report.missing if number > top] if since is None else []
        missing = report.missing[: len(report.missing) - len(newer)]
        return replace(report, missing=missing, behind=total.adjustment.added + len(newer), problem=problem)

    def sample(self, index: VectorIndex, note: Note) -> Sample:
        """Compare some vectors, chosen at random, with the record, once the index has followed."""
        with self._changing, self._database.read_scope() as session:
            if not self._follow_all(session, index, note):
                return Sample()  # changes were missed: `follow` compares everything
            sample = compare_some(index, Embeddings(session), self._gallery_id, self._encoder_id)
        drifted = self._confirmed(index, np.array(sample.drifted, dtype=np.int64), note)
        return replace(sample, drifted=tuple(map(EmbeddingId, drifted.tolist())))

    def _confirmed(self, index: VectorIndex, ids: Ids, note: Note) -> Ids:
        """Return those of (n,) rising ids that differ however often one looks.

        Into an index that processes share another one may have brought changes that the view of the record which it
        was compared with does not have.
        """
        for pause_s in LOOKS_S:
            if not 0 < len(ids) <= DOUBTS:
                return ids
            time.sleep(pause_s)
            with self._changing, self._database.read_scope() as session:
                self._follow_all(session, index, note)
                ids = compare_these(index, Embeddings(session), self._gallery_id, self._encoder_id, ids)
        return ids

    def _follow_all(self, session: Session, index: VectorIndex, note: Note) -> bool:
        """Follow up to what one session sees; return whether that was possible."""
        while (newest := self._follow_some(session, index, note)) is not None:
            if self._mark.seq >= newest:
                return True
        return False
