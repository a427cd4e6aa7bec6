"""Named queries that write and read recordings, with the utterances, vectors and enrollments inside them."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, Select, bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from indexer.db.bulk_rows import insert_utterances
from indexer.db.changes import Changes
from indexer.db.erased_files import remember_erased
from indexer.db.models import Embedding, Enrollment, Recording, RecordingState, Speaker, Utterance, utc_now
from indexer.db.names import canonical, require_text
from indexer.db.rows import (
    PAGE_LIMIT,
    Erased,
    NewRecording,
    RecordedIds,
    RecordingSummary,
    UtteranceSummary,
    quality_of,
)
from indexer.db.statements import batches, insert_if_absent, take_out_vectors
from indexer.errors import AlreadyExists, Conflict, NotFound
from indexer.jobs.uris import without_queries
from indexer.types import EmbeddingId, EncoderId, GalleryId, RecordingId, UtteranceId

_KNOWN = select(Recording.content_sha256, Recording.id, Recording.state).where(
    Recording.gallery_id == bindparam("gallery"), Recording.content_sha256.in_(bindparam("contents", expanding=True))
)
"""Made once: every file asks."""


class Recordings:
    """Recordings of galleries; within one, the SHA-256 of the content is a recording's identity."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, recording_id: RecordingId) -> Recording:
        """Return a recording, or raise NotFound."""
        row = self._session.get(Recording, recording_id)
        if row is None:
            raise _not_found(recording_id)
        return row

    def gallery_of(self, recording_id: RecordingId) -> GalleryId | None:
        """Return the gallery that a recording is in; None where there is no such recording."""
        number = self._session.scalar(select(Recording.gallery_id).where(Recording.id == recording_id))
        return GalleryId(number) if number is not None else None

    def by_content(self, gallery_id: GalleryId, content_sha256: str) -> Recording | None:
        """Return the gallery's recording with this content, if it was seen before."""
        query = select(Recording).where(Recording.gallery_id == gallery_id, Recording.content_sha256 == content_sha256)
        return self._session.scalars(query).one_or_none()

    def known_contents(
        self, gallery_id: GalleryId, contents: Iterable[str]
    ) -> dict[str, tuple[RecordingId, RecordingState]]:
        """Tell which of these contents the gallery has seen, and what came of them."""
        known: dict[str, tuple[RecordingId, RecordingState]] = {}
        for some in batches(sorted(set(contents))):
            found = self._session.connection().execute(_KNOWN, {"gallery": gallery_id, "contents": some})
            known.update((sha, (RecordingId(number), state)) for sha, number, state in found)
        return known

    def add(self, gallery_id: GalleryId, encoder_id: EncoderId, recording: NewRecording) -> RecordedIds:
        """Add a recording with its utterances, vectors and enrollments.

        Raises
        ------
        AlreadyExists
            If the gallery has a recording with this content; whoever came first keeps it.
        """
        return self.add_many(gallery_id, encoder_id, [recording])[0]

    def add_many(
        self, gallery_id: GalleryId, encoder_id: EncoderId, recordings: Sequence[NewRecording]
    ) -> list[RecordedIds]:
        """Add recordings of different contents, all or none.

        Raises
        ------
        AlreadyExists
            If the gallery has a recording with one of these contents; whoever came first keeps it.
        """
        if not recordings:
            return []
        # In the order of their contents: two transactions that add the same ones cannot wait for each other.
        rows = [
            {"gallery_id": gallery_id, **_columns(recording)}
            for recording in sorted(recordings, key=lambda recording: recording.content_sha256)
        ]
        statement = insert_if_absent(self._session, Recording).returning(Recording.content_sha256, Recording.id)
        numbers = {content: RecordingId(number) for content, number in self._session.execute(statement, rows)}
        taken = next((recording for recording in recordings if recording.content_sha256 not in numbers), None)
        if taken is not None:
            raise AlreadyExists(f"{taken.uri}: this gallery already has a recording with the same content")
        named = [(numbers[recording.content_sha256], recording) for recording in recordings]
        return self._fill(gallery_id, encoder_id, named)

    def replace(
        self, recording_id: RecordingId, encoder_id: EncoderId, recording: NewRecording
    ) -> tuple[RecordedIds, Erased]:
        """Write a recording anew, as when a failed one succeeds; its id stays and what was in it goes.

        Raises
        ------
        Conflict
            If the recording is gone: it was erased since the caller looked.
        """
        row = self._locked(recording_id)
        if row is None:
            raise Conflict(f"{recording.uri}: recording {recording_id} was erased meanwhile; ingest it again")
        gallery_id = GalleryId(row.gallery_id)
        erased = Erased(embedding_ids=self._take_out(gallery_id, recording_id))
        self._session.execute(delete(Utterance).where(Utterance.recording_id == recording_id))
        self._session.execute(
            update(Recording).where(Recording.id == recording_id).values(**_columns(recording), updated_at=utc_now())
        )
        self._session.expire_all()
        return self._fill(gallery_id, encoder_id, [(recording_id, recording)])[0], erased

    def relabel(
        self, recording_id: RecordingId, *, session: str | None, recorded_at: dt.datetime | None, labels: Sequence[str]
    ) -> None:
        """Take over what is said of a recording; what is not said (None, no labels) stays."""
        said: dict[str, Any] = {
            "session": canonical(session) if session is not None else None,
            "recorded_at": recorded_at,
            "labels": [canonical(label) for label in labels] or None,
        }
        query = select(Recording.session, Recording.recorded_at, Recording.labels).where(Recording.id == recording_id)
        before = self._session.execute(query).mappings().one_or_none()
        values = {
            name: value
            for name, value in said.items()
            if value is not None and before is not None and value != before[name]
        }
        if values:
            self._session.execute(
                update(Recording).where(Recording.id == recording_id).values(**values, updated_at=utc_now())
            )
            self._session.expire_all()
            self._note_described(recording_id)

    def _note_described(self, recording_id: RecordingId) -> None:
        """Have whoever follows the feed look again at the vectors of a recording: other filters may leave them now."""
        query = (
            select(Embedding.gallery_id, Embedding.encoder_id, Embedding.id)
            .join(Utterance, Utterance.id == Embedding.utterance_id)
            .where(Utterance.recording_id == recording_id)
        )
        for gallery_id, encoder_id, number in self._session.execute(query):
            Changes(self._session).vectors_added(GalleryId(gallery_id), encoder_id, [number])

    def utterance_ids(self, recording_id: RecordingId) -> list[UtteranceId]:
        """Utterances of a recording, in the order they were added."""
        query = select(Utterance.id).where(Utterance.recording_id == recording_id).order_by(Utterance.id)
        return [UtteranceId(number) for number in self._session.scalars(query)]

    def utterances(self, recording_id: RecordingId) -> list[UtteranceSummary]:
        """List the utterances of a recording and whose they are said to be, in the order they were added."""
        query = (
            select(Utterance, Speaker.name)
            .outerjoin(Enrollment, Enrollment.utterance_id == Utterance.id)
            .outerjoin(Speaker, Speaker.id == Enrollment.speaker_id)
            .where(Utterance.recording_id == recording_id)
            .order_by(Utterance.id, Speaker.name)
        )
        found: dict[int, UtteranceSummary] = {}
        for row, speaker in self._session.execute(query):
            before = found[row.id].speakers if row.id in found else ()
            speakers = before if speaker is None else (*before, speaker)
            found[row.id] = UtteranceSummary(
                UtteranceId(row.id), row.channel, row.start_s, row.end_s, speakers, row.voice, quality_of(row)
            )
        return list(found.values())

    def summary(self, recording_id: RecordingId) -> RecordingSummary:
        """Return one recording with what was found in it, or raise NotFound."""
        rows = self._summaries(_summary_query().where(Recording.id == recording_id))
        if not rows:
            raise _not_found(recording_id)
        return rows[0]

    def page(
        self,
        gallery_id: GalleryId,
        after: int = 0,
        limit: int = PAGE_LIMIT,
        *,
        state: RecordingState | None = None,
        part: str | None = None,
    ) -> list[RecordingSummary]:
        """List recordings of a gallery with what was found in them, in id order above `after`.

        Parameters
        ----------
        part
            Only those whose place or name has this in it, in upper or lower case.
        """
        query = _summary_query().where(Recording.gallery_id == gallery_id, Recording.id > after)
        if state is not None:
            query = query.where(Recording.state == state)
        if part is not None:
            query = query.where(Recording.uri.icontains(require_text("part of a place", part), autoescape=True))
        return self._summaries(query.order_by(Recording.id).limit(limit))

    def named_media(self, keys: Iterable[str]) -> set[str]:
        """Tell which of these places below the media folder some recording names."""
        named: set[str] = set()
        for some in batches(sorted(set(keys))):
            query = select(Recording.media_key).where(Recording.media_key.in_(some))
            named.update(key for key in self._session.scalars(query) if key is not None)
        return named

    def delete(self, recording_id: RecordingId) -> Erased:
        """Delete a recording with its utterances, vectors and enrollments; NotFound if already gone."""
        row = self._locked(recording_id)
        if row is None:
            raise _not_found(recording_id)
        erased = Erased(
            embedding_ids=self._take_out(GalleryId(row.gallery_id), recording_id),
            recording_ids=(recording_id,),
            media_keys=(row.media_key,) if row.media_key is not None else (),
        )
        remember_erased(self._session, [recording_id])
        self._session.execute(delete(Recording).where(Recording.id == recording_id))
        self._session.expire_all()
        return erased

    def _locked(self, recording_id: RecordingId) -> Recording | None:
        """Return a recording as it is now, which nobody else erases or writes into before this transaction ends."""
        query = select(Recording).where(Recording.id == recording_id).with_for_update()
        return self._session.scalars(query.execution_options(populate_existing=True)).one_or_none()

    def _take_out(self, gallery_id: GalleryId, recording_id: RecordingId) -> tuple[EmbeddingId, ...]:
        """Delete the vectors of a locked recording, tell the indexes, and return the ids.

        The utterances are locked too: whoever is enrolling one has done so by then, and nobody does any more.
        """
        utterances = select(Utterance.id).where(Utterance.recording_id == recording_id)
        self._session.execute(utterances.order_by(Utterance.id).with_for_update())
        owners = select(Enrollment.speaker_id).where(Enrollment.utterance_id.in_(utterances)).distinct()
        Changes(self._session).speakers_changed(gallery_id, self._session.scalars(owners))
        return take_out_vectors(self._session, gallery_id, Embedding.utterance_id.in_(utterances))

    def _fill(
        self, gallery_id: GalleryId, encoder_id: EncoderId, recordings: Sequence[tuple[RecordingId, NewRecording]]
    ) -> list[RecordedIds]:
        """Write what is inside of recordings whose rows are there, in one go."""
        parts = [(number, part) for number, recording in recordings for part in recording.utterances]
        rows = insert_utterances(self._session, gallery_id, encoder_id, parts)
        changes = Changes(self._session)
        changes.vectors_added(gallery_id, encoder_id, [number for number in rows.embedding_ids if number is not None])
        for second_id, embedding_ids in rows.beside.items():
            changes.vectors_added(gallery_id, second_id, embedding_ids)
        changes.speakers_changed(gallery_id, [part.speaker_id for _, part in parts if part.speaker_id is not None])
        filled: list[RecordedIds] = []
        start = 0
        for number, recording in recordings:
            inside = slice(start, start + len(recording.utterances))
            embeddings = tuple(embedding for embedding in rows.embedding_ids[inside] if embedding is not None)
            filled.append(RecordedIds(number, tuple(rows.utterance_ids[inside]), embeddings))
            start = inside.stop
        return filled

    def _summaries(self, query: Select[Any]) -> list[RecordingSummary]:
        rows = self._session.execute(query).all()
        speakers = self.speakers_of([row.Recording.id for row in rows])
        return [_summary(row, speakers.get(row.Recording.id, ())) for row in rows]

    def speakers_of(self, recording_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
        """Names of the speakers that each recording is enrolled to; those without any are absent."""
        names: dict[int, tuple[str, ...]] = {}
        for some in batches(recording_ids):
            query = (
                select(Utterance.recording_id, Speaker.name)
                .join(Enrollment, Enrollment.utterance_id == Utterance.id)
                .join(Speaker, Speaker.id == Enrollment.speaker_id)
                .where(Utterance.recording_id.in_(some))
                .distinct()
                .order_by(Utterance.recording_id, Speaker.name)
            )
            for recording_id, name in self._session.execute(query):
                names[recording_id] = (*names.get(recording_id, ()), name)
        return names

    def speakers_of_utterances(self, utterance_ids: Sequence[UtteranceId]) -> tuple[str, ...]:
        """Names of the speakers that any of these utterances is enrolled to."""
        names: set[str] = set()
        for some in batches(utterance_ids):
            query = select(Speaker.name).join(Enrollment).where(Enrollment.utterance_id.in_(some)).distinct()
            names.update(self._session.scalars(query))
        return tuple(sorted(names))


def _not_found(recording_id: RecordingId) -> NotFound:
    return NotFound(f"no recording with id {recording_id}: see `voxdex recordings list`")


def _columns(recording: NewRecording) -> dict[str, Any]:
    values = {name: value for name, value in vars(recording).items() if name != "utterances"}
    require_text("path", recording.uri)
    message = without_queries(recording.error_message) if recording.error_message is not None else None
    shown = {"uri": without_queries(recording.uri), "error_message": message}
    # In one form of Unicode, as filters look for them.
    session = canonical(recording.session) if recording.session is not None else None
    return {**values, **shown, "session": session, "labels": [canonical(label) for label in recording.labels]}


def _summary_query() -> Select[Any]:
    utterances = select(func.count(Utterance.id)).where(Utterance.recording_id == Recording.id).scalar_subquery()
    return select(Recording, utterances.label("utterances"))


def _summary(row: Row[Any], speakers: tuple[str, ...]) -> RecordingSummary:
    recording: Recording = row.Recording
    return RecordingSummary(
        id=RecordingId(recording.id),
        content_sha256=recording.content_sha256,
        uri=recording.uri,
        state=recording.state,
        duration_s=recording.duration_s,
        sample_rate_hz=recording.sample_rate_hz,
        channels=recording.channels,
        container=recording.container,
        codec=recording.codec,
        size_bytes=recording.size_bytes,
        error_code=recording.error_code,
        error_message=recording.error_message,
        created_at=recording.created_at,
        utterances=row.utterances,
        speakers=speakers,
        session=recording.session,
        recorded_at=recording.recorded_at,
        labels=tuple(recording.labels),
        speech_s=recording.speech_s,
        media_key=recording.media_key,
        voices=recording.voices,
        audio_track=recording.audio_track,
        audio_tracks=recording.audio_tracks,
    )
