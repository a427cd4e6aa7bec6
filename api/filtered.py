"""Which rows of a gallery each filter leaves, kept in memory between searches and never older than the record says.

A search first reads the gallery's head, where the record counts the changes of vectors and of speakers. While those
counts are the ones that a filter was read at, memory answers. When they have moved, only the rows that changed are
looked at again, so that ingest under way does not cost every search a reading of the whole gallery.
"""

import datetime as dt
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from indexer.db.changes import Changes, FeedPosition
from indexer.db.filters import FilteredRows, RowFilter
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.index.base import IdSet
from indexer.types import EncoderId, GalleryId, SpeakerId

Ids = NDArray[np.int64]

FILTERS_KEPT = 64
"""Filters whose rows are kept ready."""

BYTES_KEPT = 256 << 20
"""Memory of all of them, beside the one in use: eight bytes a row."""

CHANGES_AT_ONCE = 1000
"""Changes after which a filter is read anew: as quick as looking at what each of them touched."""


@dataclass(eq=False)
class _Kept:
    """A filter's rows as they were at one position of the feed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while the rows are read: threads that ask for the same filter share one reading."""
    rows: IdSet | None = None
    position: FeedPosition = field(default_factory=FeedPosition)
    digest: str | None = None
    """Of the change at that position: in a record that was put back in time, another one has its number."""
    speakers: frozenset[SpeakerId] = frozenset()

    def is_of(self, position: FeedPosition, wanted: RowFilter) -> bool:
        """Tell whether the rows are those of this position; speakers count where the filter names some."""
        if self.rows is None or _of_vectors(self.position) != _of_vectors(position):
            return False
        return not wanted.speakers or _of_speakers(self.position) == _of_speakers(position)


class FilteredGallery:
    """The filters of one gallery under one encoder, for searches of many threads."""

    def __init__(self, database: Database, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        self._database = database
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id
        self._guard = threading.Lock()
        self._kept: OrderedDict[RowFilter, _Kept] = OrderedDict()

    def rows(self, wanted: RowFilter, head: GalleryHead) -> IdSet:
        """Return the embeddings that a filter leaves, as the record had it when `head` was read or later.

        Returns
        -------
        IdSet
            The same one as before where nothing has changed, so that what an index made of it serves again.

        Raises
        ------
        NotFound
            If the filter names a speaker whom the gallery does not know.
        """
        with self._guard:
            kept = self._kept.setdefault(wanted, _Kept())
            self._kept.move_to_end(wanted)
        with kept.lock:
            if not kept.is_of(head.position, wanted):
                try:
                    with self._database.read_scope() as session:
                        self._renew(session, kept, wanted)
                except BaseException:
                    with self._guard:  # What names nobody is not worth a place.
                        self._kept.pop(wanted, None)
                    raise
            rows = kept.rows
            assert rows is not None
        self._bound(wanted)
        return rows

    def _renew(self, session: Session, kept: _Kept, wanted: RowFilter) -> None:
        changes = Changes(session)
        position = changes.position(self._gallery_id)
        filtered = FilteredRows(session, self._gallery_id, self._encoder_id)
        speakers = frozenset(filtered.speakers(wanted.speakers).values())
        touched = self._touched(changes, kept, position, speakers)
        if touched is None or kept.rows is None:
            kept.rows = IdSet(filtered.matching(wanted, speakers))
        elif len(touched):
            kept.rows = _replaced(kept.rows, touched, filtered.matching(wanted, speakers, among=touched))
        kept.position, kept.speakers = position, speakers
        kept.digest = changes.digest_of(self._gallery_id, position.vectors)

    def _touched(
        self, changes: Changes, kept: _Kept, position: FeedPosition, speakers: frozenset[SpeakerId]
    ) -> Ids | None:
        """Return the rows that changed since a filter was read, rising; None where any of them may have."""
        if kept.rows is None or speakers != kept.speakers:
            return None
        if speakers and _of_speakers(position) != _of_speakers(kept.position):
            if position.speakers == kept.position.speakers:
                return None  # The record was put back in time and has come to the same number.
            # An enrollment adds rows to a speaker's and takes others away: those who changed are read anew.
            changed = changes.speakers_since(
                self._gallery_id, kept.position.speakers, position.speakers, limit=CHANGES_AT_ONCE
            )
            if changed is None or np.isin(changed, list(speakers)).any():
                return None
        missed = position.vectors - kept.position.vectors
        if not 0 <= missed <= CHANGES_AT_ONCE:
            return None
        if changes.digest_of(self._gallery_id, kept.position.vectors) != kept.digest:
            return None
        since = changes.since(self._gallery_id, kept.position.vectors)
        if len(since) != missed:  # Old ones are pruned.
            return None
        ours = [change.embedding_ids for change in since if change.encoder_id == self._encoder_id]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *ours]))

    def _bound(self, in_use: RowFilter) -> None:
        """Forget the filters that were asked for longest ago, as far as there are too many or they are too large."""
        with self._guard:
            size = sum(8 * len(kept.rows) for kept in self._kept.values() if kept.rows is not None)
            for wanted in list(self._kept):
                if len(self._kept) <= FILTERS_KEPT and size <= BYTES_KEPT:
                    return
                if wanted == in_use:
                    continue
                gone = self._kept.pop(wanted).rows
                size -= 8 * len(gone) if gone is not None else 0


def _of_vectors(position: FeedPosition) -> tuple[int, dt.datetime | None]:
    return position.vectors, position.vectors_at


def _of_speakers(position: FeedPosition) -> tuple[int, dt.datetime | None]:
    return position.speakers, position.speakers_at


def _replaced(before: IdSet, touched: Ids, now: Ids) -> IdSet:
    """Leave of the touched rows those that match now; the same set where that changes nothing."""
    ids = before.ids
    places = np.searchsorted(ids, touched)
    inside = ids[np.minimum(places, len(ids) - 1)] == touched if len(ids) else np.zeros(len(touched), dtype=bool)
    if np.array_equal(touched[inside], now):
        return before
    # Linear in the set, however few are touched: no sorting of what is sorted.
    if not inside.any() and (len(ids) == 0 or now[0] > ids[-1]):  # As ingest does it: an index goes on from there.
        return IdSet(np.concatenate([ids, now]), grown_from=before)
    kept = np.delete(ids, places[inside])
    return IdSet(np.insert(kept, np.searchsorted(kept, now), now))
