"""What other processes must hear of: changed vectors and speakers of each gallery, numbered in the order of commits.

A number is given out under the lock of the gallery's row in `gallery_feeds`, and that lock is held until the commit.
So whoever sees number n also sees everything that was numbered before it, and nothing below n appears later: a reader
that remembers the last number it saw skips nothing, which a reader that remembers the highest row id does.
"""

import datetime as dt
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, Table, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from indexer.db.models import GalleryFeed, IndexChange, SpeakerChange
from indexer.types import EncoderId, GalleryId

Ids = NDArray[np.int64]

IDS_OF_A_CHANGE = 100_000
"""Most ids in one row of the feed: 800 kB."""

_PRUNED_AT_ONCE = 1000

CHANNEL = "voxdex_changes"
"""Where Postgres tells that a gallery's feed grew; the payload is the gallery's number."""

_PENDING = "voxdex_changes"


@dataclass(frozen=True)
class FeedPosition:
    """How far the feed of a gallery has got; both are 0 where nothing has been recorded."""

    vectors: int = 0
    speakers: int = 0
    vectors_at: dt.datetime | None = field(default=None, compare=False)
    """When the newest change of vectors was written: in a record that was put back in time its number comes again."""
    speakers_at: dt.datetime | None = field(default=None, compare=False)
    """When the newest change of speakers was written."""


@dataclass(frozen=True)
class VectorChange:
    """Vectors of one encoder that a transaction added to a gallery or took out of it."""

    seq: int
    encoder_id: EncoderId
    removed: bool
    embedding_ids: Ids
    digest: str
    """SHA-256 of all of the change, hex: which it is, where a record was put back in time and the number came again."""


@dataclass
class _Pending:
    """What the transaction under way has changed in one gallery."""

    added: dict[EncoderId, list[int]] = field(default_factory=dict)
    removed: dict[EncoderId, list[int]] = field(default_factory=dict)
    speakers: set[int] = field(default_factory=set)
    any_speaker: bool = False

    @property
    def of_speakers(self) -> bool:
        return self.any_speaker or bool(self.speakers)


class Changes:
    """The feed of changes.

    What is noted here is kept with the session and written by `Database.session_scope` right before the commit, a row
    or two for the whole transaction: so the lock is taken last and held shortly, however early a change is noted.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def vectors_added(self, gallery_id: GalleryId, encoder_id: EncoderId, embedding_ids: Iterable[int]) -> None:
        """Note that these embeddings were inserted."""
        self._of(gallery_id).added.setdefault(encoder_id, []).extend(embedding_ids)

    def vectors_removed(self, gallery_id: GalleryId, encoder_id: EncoderId, embedding_ids: Iterable[int]) -> None:
        """Note that these embeddings were deleted."""
        self._of(gallery_id).removed.setdefault(encoder_id, []).extend(embedding_ids)

    def speakers_changed(self, gallery_id: GalleryId, speaker_ids: Iterable[int] | None = None) -> None:
        """Note that these speakers of the gallery, their names, labels or enrollments changed; None: any of them."""
        pending = self._of(gallery_id)
        if speaker_ids is None:
            pending.any_speaker = True
        else:
            pending.speakers.update(speaker_ids)

    def gallery_deleted(self, gallery_id: GalleryId) -> None:
        """Forget what was noted of a gallery that goes with its feed; whoever follows it finds it gone."""
        self._noted().pop(gallery_id, None)

    def write(self) -> None:
        """Write what was noted under the next numbers; nobody else numbers a change there until the commit."""
        noted = self._noted()
        # In the order of their ids: two transactions that change the same galleries cannot wait for each other.
        for gallery_id in sorted(noted):
            pending = noted[gallery_id]
            rows = [*_rows(pending.added, removed=False), *_rows(pending.removed, removed=True)]
            if not rows and not pending.of_speakers:
                continue
            last = self._advance(gallery_id, vectors=len(rows), speakers=int(pending.of_speakers))
            if pending.of_speakers:
                ids = None if pending.any_speaker else np.sort(np.array([*pending.speakers], dtype="<i8")).tobytes()
                one = {"gallery_id": gallery_id, "seq": last.speakers, "speaker_ids": ids}
                self._session.execute(insert(SpeakerChange), one)
            if rows:
                first = last.vectors - len(rows) + 1
                numbered = [{"gallery_id": gallery_id, "seq": seq, **row} for seq, row in enumerate(rows, start=first)]
                self._session.execute(insert(IndexChange), numbered)
            if self._session.get_bind().dialect.name == "postgresql":
                # Sent by the server when, and only when, the transaction commits.
                self._session.execute(select(func.pg_notify(CHANNEL, str(int(gallery_id)))))
        noted.clear()

    def position(self, gallery_id: GalleryId) -> FeedPosition:
        """Return how far the gallery's feed has got."""
        return self.positions([gallery_id]).get(gallery_id, FeedPosition())

    def positions(self, gallery_ids: Sequence[GalleryId]) -> dict[GalleryId, FeedPosition]:
        """Return how far the feeds of these galleries have got; those without any change are absent."""
        query = with_newest(select(GalleryFeed.gallery_id, *POSITION).select_from(GalleryFeed))
        rows = self._session.execute(query.where(GalleryFeed.gallery_id.in_(gallery_ids)))
        return {GalleryId(number): FeedPosition(*position) for number, *position in rows}

    def since(self, gallery_id: GalleryId, seq: int, limit: int | None = None) -> list[VectorChange]:
        """Return the changes numbered above `seq`, in order; a gap where old ones have been pruned."""
        return self._changes(IndexChange.gallery_id == gallery_id, IndexChange.seq > seq, limit=limit)

    def digest_of(self, gallery_id: GalleryId, seq: int) -> str | None:
        """Return the digest of the change of this number; None where there is none, or not any more."""
        found = self._changes(IndexChange.gallery_id == gallery_id, IndexChange.seq == seq)
        return found[0].digest if found else None

    def last_removal(self, gallery_id: GalleryId, encoder_id: EncoderId) -> int:
        """Return the number of the newest change that took vectors of an encoder out; 0 where none is known."""
        query = select(func.max(IndexChange.seq)).where(
            IndexChange.gallery_id == gallery_id, IndexChange.encoder_id == encoder_id, IndexChange.removed.is_(True)
        )
        return self._session.scalar(query) or 0

    def _changes(self, *which: ColumnElement[bool], limit: int | None = None) -> list[VectorChange]:
        query = select(
            IndexChange.seq,
            IndexChange.encoder_id,
            IndexChange.removed,
            IndexChange.embedding_ids,
            IndexChange.created_at,
        )
        rows = self._session.execute(query.where(*which).order_by(IndexChange.seq).limit(limit))
        return [
            VectorChange(
                seq,
                encoder_id,
                removed,
                np.frombuffer(ids, dtype="<i8").astype(np.int64, copy=False),
                _digest(seq, encoder_id, removed, ids, created_at),
            )
            for seq, encoder_id, removed, ids, created_at in rows
        ]

    def speakers_at(self, gallery_id: GalleryId, seq: int) -> dt.datetime | None:
        """Return when the change of speakers of this number was written; None where there is none, or not any more."""
        query = select(SpeakerChange.created_at).where(SpeakerChange.gallery_id == gallery_id, SpeakerChange.seq == seq)
        return self._session.scalar(query)

    def speakers_since(self, gallery_id: GalleryId, seq: int, upto: int, *, limit: int) -> Ids | None:
        """Return the speakers that were changed by the changes numbered above `seq` up to `upto`, rising.

        None where that is not known: more than `limit` changes, old ones that are pruned, numbers that run backwards,
        or a change of any speaker.
        """
        if not 0 <= upto - seq <= limit:
            return None
        query = (
            select(SpeakerChange.speaker_ids)
            .where(SpeakerChange.gallery_id == gallery_id, SpeakerChange.seq > seq, SpeakerChange.seq <= upto)
            .order_by(SpeakerChange.seq)
        )
        changed = self._session.scalars(query).all()
        known = [np.frombuffer(ids, dtype="<i8").astype(np.int64, copy=False) for ids in changed if ids is not None]
        if len(known) != upto - seq:
            return None
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *known]))

    def prune(self, before: dt.datetime) -> int:
        """Delete the changes that were written before a moment, and return how many went.

        Who has not read them by then compares its index with the whole record instead, and loads all speakers. The
        newest of a gallery stays, however old: index files that are of it need no comparison.
        """
        pruned = 0
        for gallery_id in self._session.scalars(select(GalleryFeed.gallery_id)).all():
            for table in (IndexChange, SpeakerChange):
                # Oldest first and some at a time, by the primary key: there is no index on the time, nor need for one.
                some = _PRUNED_AT_ONCE
                while some == _PRUNED_AT_ONCE:
                    some = self._prune_oldest(table, gallery_id, before)
                    pruned += some
        return pruned

    def _prune_oldest(
        self, table: type[IndexChange] | type[SpeakerChange], gallery_id: int, before: dt.datetime
    ) -> int:
        oldest = (
            select(table.seq, table.created_at)
            .where(table.gallery_id == gallery_id)
            .order_by(table.seq)
            .limit(_PRUNED_AT_ONCE)
        )
        newest = select(func.max(table.seq)).where(table.gallery_id == gallery_id).scalar_subquery()
        oldest = oldest.where(table.seq < newest)
        old = [seq for seq, created_at in self._session.execute(oldest) if created_at < before]
        if old:
            gone = (table.gallery_id == gallery_id, table.seq.in_(old))
            self._session.execute(delete(table).where(*gone).execution_options(synchronize_session=False))
        return len(old)

    def _noted(self) -> dict[GalleryId, _Pending]:
        noted: dict[GalleryId, _Pending] = self._session.info.setdefault(_PENDING, {})
        return noted

    def _of(self, gallery_id: GalleryId) -> _Pending:
        return self._noted().setdefault(gallery_id, _Pending())

    def _advance(self, gallery_id: GalleryId, *, vectors: int, speakers: int) -> FeedPosition:
        """Lock the gallery's feed until the commit, count the changes in, and return the last ones' numbers."""
        table = GalleryFeed.__table__
        assert isinstance(table, Table)
        postgres = self._session.get_bind().dialect.name == "postgresql"
        start = (postgresql.insert if postgres else sqlite.insert)(table)
        start = start.values(gallery_id=gallery_id, vectors_seq=vectors, speakers_seq=speakers)
        statement = start.on_conflict_do_update(
            index_elements=[table.c.gallery_id],
            set_={
                "vectors_seq": table.c.vectors_seq + vectors,
                "speakers_seq": table.c.speakers_seq + speakers,
            },
        )
        row = self._session.execute(statement.returning(table.c.vectors_seq, table.c.speakers_seq)).one()
        return FeedPosition(*row)


POSITION = (
    func.coalesce(GalleryFeed.vectors_seq, 0),
    func.coalesce(GalleryFeed.speakers_seq, 0),
    IndexChange.created_at,
    SpeakerChange.created_at,
)
"""Columns of a `FeedPosition`, for a query that `with_newest` has joined."""


def with_newest(query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    """Join the newest changes to a query of feeds, by their primary keys."""
    vectors = (IndexChange.gallery_id == GalleryFeed.gallery_id) & (IndexChange.seq == GalleryFeed.vectors_seq)
    speakers = (SpeakerChange.gallery_id == GalleryFeed.gallery_id) & (SpeakerChange.seq == GalleryFeed.speakers_seq)
    return query.outerjoin(IndexChange, vectors).outerjoin(SpeakerChange, speakers)


def _digest(seq: int, encoder_id: EncoderId, removed: bool, ids: bytes, created_at: dt.datetime) -> str:
    told = f"{seq} {encoder_id} {removed} {created_at.astimezone(dt.UTC).isoformat()} ".encode()
    return hashlib.sha256(told + ids).hexdigest()


def _rows(changed: dict[EncoderId, list[int]], *, removed: bool) -> Iterator[dict[str, Any]]:
    for encoder_id in sorted(changed):
        ids = np.unique(np.asarray(changed[encoder_id], dtype="<i8"))
        for start in range(0, len(ids), IDS_OF_A_CHANGE):
            some = ids[start : start + IDS_OF_A_CHANGE]
            yield {"encoder_id": encoder_id, "removed": removed, "embedding_ids": some.tobytes()}
