"""Named queries of a gallery's way to another encoder: what is left to embed, who works on it, and what cannot be."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, delete, exists, func, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from indexer.archive import as_text
from indexer.db.changes import Changes
from indexer.db.leases import clock
from indexer.db.models import Embedding, Enrollment, Recording, Reembedding, Speaker, Utterance
from indexer.db.statements import batches, insert_if_absent
from indexer.errors import VoxdexError, one_line
from indexer.jobs.uris import without_queries
from indexer.types import EMBEDDING_DIM, EncoderId, GalleryId, RecordingId, UtteranceId, Vectors
from indexer.vectors import checksums_of, require_unit_rows


@dataclass(frozen=True, slots=True)
class OpenUtterance:
    """An utterance that has no vector under the encoder yet."""

    id: UtteranceId
    channel: int | None
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class OpenRecording:
    """A recording with such utterances."""

    id: RecordingId
    uri: str
    media_key: str | None
    content_sha256: str
    size_bytes: int | None
    audio_track: int | None
    """Which audio track of its container was read, from 1; None: not known."""
    utterances: tuple[OpenUtterance, ...]


@dataclass(frozen=True, slots=True)
class Reembedded:
    """What came of a recording: vectors of some of its utterances, and why there are none of the others."""

    recording_id: RecordingId
    utterance_ids: tuple[UtteranceId, ...]
    vectors: Vectors
    """(n, D) unit rows."""
    error: VoxdexError | None = None


@dataclass(frozen=True, slots=True)
class Missing:
    """A recording of which utterances cannot be had under the encoder, and why."""

    recording_id: RecordingId
    uri: str
    utterances: int
    code: str
    message: str


class Reembeddings:
    """The way of one gallery to one encoder."""

    def __init__(self, session: Session, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        self._session = session
        self._gallery_id = gallery_id
        self._encoder_id = encoder_id

    def counts(self) -> tuple[int, int]:
        """Count the utterances of the gallery, and those that have a vector under the encoder."""
        every = select(func.count(Utterance.id)).join(Recording, Recording.id == Utterance.recording_id)
        done = select(func.count(Embedding.id)).where(
            Embedding.gallery_id == self._gallery_id, Embedding.encoder_id == self._encoder_id
        )
        return (
            self._session.scalar(every.where(Recording.gallery_id == self._gallery_id)) or 0,
            self._session.scalar(done) or 0,
        )

    def open(
        self,
        *,
        since: dt.datetime,
        after: int = 0,
        limit: int = 1,
        leased: bool = False,
        broken_off: bool | None = None,
    ) -> list[tuple[RecordingId, int]]:
        """List recordings with an id above `after` that lack vectors, and how often work on each was broken off.

        Parameters
        ----------
        since
            What was found to be impossible from then on is left out, and what was before is tried again.
        leased
            Whether those that somebody works on are listed too.
        broken_off
            Whether to list only those on which work was, or was not, broken off; None: both.
        """
        state = (Reembedding.recording_id == Recording.id, Reembedding.encoder_id == self._encoder_id)
        query = (
            select(Recording.id, func.coalesce(Reembedding.attempts, 0))
            .outerjoin(Reembedding, state[0] & state[1])
            .where(Recording.gallery_id == self._gallery_id, Recording.id > after, self._lacks_vectors())
            .where(or_(Reembedding.error_code.is_(None), Reembedding.tried_at < since))
            .order_by(Recording.id)
            .limit(limit)
        )
        if broken_off is True:  # Of which there are few: databases then begin with those.
            query = query.where(Reembedding.attempts > 0)
        elif broken_off is False:
            query = query.where(or_(Reembedding.attempts.is_(None), Reembedding.attempts == 0))
        if not leased:
            query = query.where(or_(Reembedding.lease_until.is_(None), Reembedding.lease_until < clock(self._session)))
        return [(RecordingId(number), attempts) for number, attempts in self._session.execute(query)]

    def claim(self, recording_ids: Sequence[RecordingId], token: str, *, lease_s: float) -> list[OpenRecording]:
        """Take up those of these recordings that nobody works on, and return what is to be done, in id order."""
        now = clock(self._session)
        until = now + dt.timedelta(seconds=lease_s)
        table = Reembedding.__table__
        assert isinstance(table, Table)
        values = {
            "recording_id": Recording.id,
            "encoder_id": literal(self._encoder_id, table.c.encoder_id.type),
            "lease_token": literal(token, table.c.lease_token.type),
            "lease_until": literal(until, table.c.lease_until.type),
            "attempts": literal(1, table.c.attempts.type),
            "tried_at": literal(now, table.c.tried_at.type),
        }
        columns: list[ColumnElement[Any]] = [column.label(name) for name, column in values.items()]
        rows = select(*columns).where(Recording.id.in_(recording_ids))
        postgres = self._session.get_bind().dialect.name == "postgresql"
        given = (postgresql.insert if postgres else sqlite.insert)(table).from_select(list(values), rows)
        statement = given.on_conflict_do_update(
            index_elements=[table.c.recording_id, table.c.encoder_id],
            set_={
                "lease_token": token,
                "lease_until": until,
                "attempts": table.c.attempts + 1,
                "error_code": None,
                "error_message": None,
                "tried_at": now,
            },
            where=or_(table.c.lease_until.is_(None), table.c.lease_until < now),
        )
        claimed = [RecordingId(number) for number in self._session.scalars(statement.returning(table.c.recording_id))]
        found = self.recordings(claimed)
        done = set(claimed) - {recording.id for recording in found}
        if done:  # Somebody else has embedded the rest since it was listed.
            self._session.execute(delete(Reembedding).where(*self._of(done)))
        return found

    def recordings(self, recording_ids: Iterable[RecordingId]) -> list[OpenRecording]:
        """Return what is left to embed of these recordings, in id order; those of which nothing is are absent."""
        found: list[OpenRecording] = []
        for some in batches(sorted(set(recording_ids))):
            query = (
                select(Utterance.recording_id, Utterance.id, Utterance.channel, Utterance.start_s, Utterance.end_s)
                .where(Utterance.recording_id.in_(some), ~self._has_vector())
                .order_by(Utterance.id)
            )
            inside: dict[int, list[OpenUtterance]] = {}
            for number, utterance_id, channel, start_s, end_s in self._session.execute(query):
                inside.setdefault(number, []).append(OpenUtterance(UtteranceId(utterance_id), channel, start_s, end_s))
            columns = (
                Recording.id,
                Recording.uri,
                Recording.media_key,
                Recording.content_sha256,
                Recording.size_bytes,
                Recording.audio_track,
            )
            rows = self._session.execute(select(*columns).where(Recording.id.in_(list(inside))).order_by(Recording.id))
            found += [OpenRecording(RecordingId(row[0]), *row[1:], tuple(inside[row[0]])) for row in rows]
        return found

    def renew(self, token: str, *, lease_s: float) -> None:
        """Keep what this process works on."""
        until = clock(self._session) + dt.timedelta(seconds=lease_s)
        self._session.execute(update(Reembedding).where(Reembedding.lease_token == token).values(lease_until=until))

    def release(self, token: str) -> None:
        """Give back what this process works on, as if it had not been taken up."""
        self._session.execute(
            update(Reembedding)
            .where(Reembedding.lease_token == token)
            .values(lease_token=None, lease_until=None, attempts=Reembedding.attempts - 1)
        )

    def write(self, results: Sequence[Reembedded], token: str | None) -> int:
        """Write vectors of utterances that are still there, and why others have none; return how many were written.

        Parameters
        ----------
        token
            Whose work it is: what another process has taken over is passed over. None: of nobody who took it up.
        """
        present = self._locked([result.recording_id for result in results])
        if token is not None:
            held = select(Reembedding.recording_id).where(*self._of(present), Reembedding.lease_token == token)
            present = set(self._session.scalars(held.with_for_update()))
        results = [result for result in results if result.recording_id in present]
        written = self._insert(results)
        left = {recording.id for recording in self.recordings([RecordingId(number) for number in present])}
        refused = [result for result in results if result.error is not None and result.recording_id in left]
        settled = present - {result.recording_id for result in refused}
        self._session.execute(delete(Reembedding).where(*self._of(settled)))
        for result in refused:
            assert result.error is not None
            self.refuse(result.recording_id, result.error)
        return written

    def refuse(self, recording_id: RecordingId, error: VoxdexError) -> None:
        """Note why utterances of a recording cannot be had under the encoder."""
        said = {
            "lease_token": None,
            "lease_until": None,
            "attempts": 0,
            "error_code": error.code,
            "error_message": without_queries(as_text(one_line(error))),
            "tried_at": clock(self._session),
        }
        key = {"recording_id": recording_id, "encoder_id": self._encoder_id}
        self._session.execute(insert_if_absent(self._session, Reembedding), {**key, **said})
        self._session.execute(update(Reembedding).where(*self._of([recording_id])).values(**said))

    def missing(self) -> list[Missing]:
        """List the recordings of which utterances cannot be had under the encoder, in id order."""
        lacking = (
            select(func.count(Utterance.id))
            .where(Utterance.recording_id == Recording.id, ~self._has_vector())
            .correlate(Recording)
            .scalar_subquery()
        )
        query = (
            select(Recording.id, Recording.uri, lacking, Reembedding.error_code, Reembedding.error_message)
            .join(Reembedding, Reembedding.recording_id == Recording.id)
            .where(
                Recording.gallery_id == self._gallery_id,
                Reembedding.encoder_id == self._encoder_id,
                Reembedding.error_code.is_not(None),
            )
            .order_by(Recording.id)
        )
        return [
            Missing(RecordingId(number), uri, count, code, message or "")
            for number, uri, count, code, message in self._session.execute(query)
            if count
        ]

    def voiceless(self) -> list[str]:
        """Name the speakers who are enrolled and have no vector under the encoder, by name."""
        enrolled = exists().where(Enrollment.speaker_id == Speaker.id)
        embedded = exists().where(
            Enrollment.speaker_id == Speaker.id,
            Embedding.utterance_id == Enrollment.utterance_id,
            Embedding.encoder_id == self._encoder_id,
        )
        query = select(Speaker.name).where(Speaker.gallery_id == self._gallery_id, enrolled, ~embedded)
        return list(self._session.scalars(query.order_by(Speaker.name)))

    def came_since(self, seq: int, *, most: int) -> list[RecordingId] | None:
        """Return which recordings that changed after the feed's number `seq` lack vectors, in id order.

        None where the feed does not say, or says too much: all of them have to be looked at then.
        """
        feed = Changes(self._session)
        newest = feed.position(self._gallery_id).vectors
        changes = feed.since(self._gallery_id, seq, limit=most)
        if len(changes) != newest - seq:
            return None
        added = [number for change in changes if not change.removed for number in change.embedding_ids.tolist()]
        found: set[int] = set()
        for some in batches(sorted(set(added))):
            query = (
                select(Utterance.recording_id)
                .join(Embedding, Embedding.utterance_id == Utterance.id)
                .where(Embedding.id.in_(some), ~self._has_vector())
            )
            found.update(self._session.scalars(query))
        return [RecordingId(number) for number in sorted(found)]

    def _insert(self, results: Sequence[Reembedded]) -> int:
        vectors = {
            number: row for result in results for number, row in zip(result.utterance_ids, result.vectors, strict=True)
        }
        written = 0
        for some in batches(sorted(vectors), size=1000):
            # Their recordings are locked, and with them who erases: those that are there now stay until the commit.
            present = sorted(self._session.scalars(select(Utterance.id).where(Utterance.id.in_(some))))
            if not present:
                continue
            matrix = require_unit_rows([vectors[UtteranceId(number)] for number in present], EMBEDDING_DIM)
            rows = [
                {
                    "gallery_id": self._gallery_id,
                    "utterance_id": number,
                    "encoder_id": self._encoder_id,
                    "vector": row,
                    "checksum": int(checksum),
                }
                for number, row, checksum in zip(present, matrix, checksums_of(matrix), strict=True)
            ]
            statement = insert_if_absent(self._session, Embedding).returning(Embedding.id)
            ids = list(self._session.scalars(statement, rows))
            Changes(self._session).vectors_added(self._gallery_id, self._encoder_id, ids)
            written += len(ids)
        return written

    def _locked(self, recording_ids: Iterable[RecordingId]) -> set[int]:
        """Keep these recordings from being erased before this transaction ends; return those that are there."""
        query = select(Recording.id).where(Recording.id.in_(list(recording_ids))).order_by(Recording.id)
        return set(self._session.scalars(query.with_for_update(read=True, key_share=True)))

    def _of(self, recording_ids: Iterable[int]) -> tuple[ColumnElement[bool], ...]:
        return Reembedding.recording_id.in_(list(recording_ids)), Reembedding.encoder_id == self._encoder_id

    def _has_vector(self) -> ColumnElement[bool]:
        other = aliased(Embedding)
        return exists().where(other.utterance_id == Utterance.id, other.encoder_id == self._encoder_id)

    def _lacks_vectors(self) -> ColumnElement[bool]:
        return exists().where(Utterance.recording_id == Recording.id, ~self._has_vector())
