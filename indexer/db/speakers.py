"""Named queries about speakers and their enrollments. The session's owner commits."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Select, bindparam, delete, distinct, exists, func, select
from sqlalchemy.orm import Session, aliased

from indexer.db.changes import Changes
from indexer.db.erased_files import remember_erased
from indexer.db.models import (
    Embedding,
    Enrollment,
    Recording,
    Speaker,
    SpeakerLabel,
    Utterance,
)
from indexer.db.names import canonical, require_name, require_text
from indexer.db.prepared import Prepared
from indexer.db.rows import (
    PAGE_LIMIT,
    EnrolledStretch,
    Erased,
    SpeakerSummary,
    quality_of,
)
from indexer.db.session import Database
from indexer.db.statements import batches, insert_if_absent, per_row, take_out_vectors
from indexer.errors import Conflict, NotFound
from indexer.types import (
    EmbeddingId,
    GalleryId,
    RecordingId,
    SpeakerId,
    UtteranceId,
)

# Every verification asks who is claimed.
_BY_NAME = Prepared(
    select(Speaker.id).where(Speaker.gallery_id == bindparam("gallery"), Speaker.name == bindparam("speaker"))
)


def speaker_named(database: Database, gallery_id: GalleryId, name: str) -> SpeakerId | None:
    """Read the id of the speaker of this name in a gallery; None where there is none."""
    found = _BY_NAME.rows(database, gallery=gallery_id, speaker=canonical(require_text("speaker", name)))
    return SpeakerId(found[0].id) if found else None


class Speakers:
    """Speakers of galleries, and which utterances are enrolled as theirs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, gallery_id: GalleryId, name: str) -> Speaker | None:
        """Return the speaker of this name in a gallery, if there is one."""
        kept = canonical(require_text("speaker", name))
        query = select(Speaker).where(Speaker.gallery_id == gallery_id, Speaker.name == kept)
        return self._session.scalars(query).one_or_none()

    def by_name(self, gallery_id: GalleryId, name: str) -> Speaker:
        """Return the speaker of this name in a gallery, or raise NotFound."""
        row = self.find(gallery_id, name)
        if row is None:
            raise NotFound(f"no speaker {name!r} in this gallery: see `voxdex speakers list`")
        return row

    def get_or_create(self, gallery_id: GalleryId, names: Iterable[str]) -> dict[str, SpeakerId]:
        """Return the id of each name in a gallery, as it was given, making the speakers that are not there yet."""
        kept = {name: require_name("speaker", name) for name in names}
        wanted = sorted(set(kept.values()))
        ids: dict[str, SpeakerId] = {}
        for some in batches(wanted):
            self._session.execute(
                insert_if_absent(self._session, Speaker), [{"gallery_id": gallery_id, "name": name} for name in some]
            )
            # Locked against erasure until the end, before any recording is locked: so an erasure of one of them waits
            # for what the caller enrolls, and takes it along.
            query = (
                select(Speaker.name, Speaker.id)
                .where(Speaker.gallery_id == gallery_id, Speaker.name.in_(some))
                .order_by(Speaker.id)
                .with_for_update(read=True, key_share=True)
            )
            ids.update((name, SpeakerId(number)) for name, number in self._session.execute(query))
        gone = next((name for name in wanted if name not in ids), None)
        if gone is not None:
            raise Conflict(f"speaker {gone!r} was erased meanwhile: try again")
        return {name: ids[own] for name, own in kept.items()}

    def lock(self, speaker_ids: Iterable[SpeakerId]) -> dict[SpeakerId, Speaker]:
        """Return those of these speakers that are there, whom nobody else enrolls or changes until the end.

        What others were just enrolling is committed by then.
        """
        query = select(Speaker).where(Speaker.id.in_(sorted(speaker_ids))).order_by(Speaker.id).with_for_update()
        rows = self._session.scalars(query.execution_options(populate_existing=True))
        return {SpeakerId(row.id): row for row in rows}

    def names(self, speaker_ids: Iterable[int]) -> dict[SpeakerId, str]:
        """Names of the speakers that still exist."""
        found: dict[SpeakerId, str] = {}
        for some in batches(sorted(set(speaker_ids))):
            query = select(Speaker.id, Speaker.name).where(Speaker.id.in_(some))
            found.update((SpeakerId(number), name) for number, name in self._session.execute(query))
        return found

    def directory(self, gallery_id: GalleryId) -> tuple[dict[SpeakerId, str], dict[SpeakerId, tuple[str, ...]]]:
        """Return the name of every speaker of a gallery, and the labels of those who have any."""
        query = select(Speaker.id, Speaker.name).where(Speaker.gallery_id == gallery_id)
        names = {SpeakerId(number): name for number, name in self._session.execute(query)}
        tags = select(SpeakerLabel.speaker_id, SpeakerLabel.label).join(Speaker, Speaker.id == SpeakerLabel.speaker_id)
        return names, self._labels(tags.where(Speaker.gallery_id == gallery_id))

    def enroll(self, speaker_id: SpeakerId, utterance_ids: Iterable[int]) -> None:
        """State that these utterances are the speaker's voice; saying it again changes nothing."""
        rows = [{"speaker_id": speaker_id, "utterance_id": number} for number in utterance_ids]
        for some in batches(rows):
            self._session.execute(insert_if_absent(self._session, Enrollment), list(some))
        gallery_id = self._session.scalar(select(Speaker.gallery_id).where(Speaker.id == speaker_id))
        if rows and gallery_id is not None:
            Changes(self._session).speakers_changed(GalleryId(gallery_id), [speaker_id])

    def withdraw(self, gallery_id: GalleryId, utterance_ids: Sequence[UtteranceId]) -> None:
        """Take back every statement of whose voice these utterances of the gallery are."""
        for some in batches(utterance_ids):
            statement = delete(Enrollment).where(Enrollment.utterance_id.in_(some)).returning(Enrollment.speaker_id)
            owners = self._session.scalars(statement.execution_options(synchronize_session=False)).all()
            Changes(self._session).speakers_changed(gallery_id, owners)

    def count_enrolled(self, gallery_id: GalleryId) -> int:
        """Count the speakers of a gallery who have an enrollment."""
        query = select(func.count(distinct(Enrollment.speaker_id))).join(Speaker)
        return self._session.scalars(query.where(Speaker.gallery_id == gallery_id)).one()

    def consenting(self, gallery_id: GalleryId, names: Iterable[str]) -> set[str]:
        """Tell which of these names are speakers of the gallery whose consent is on record."""
        found: set[str] = set()
        for some in batches(sorted(set(names))):
            query = select(Speaker.name).where(
                Speaker.gallery_id == gallery_id, Speaker.name.in_(some), Speaker.consent_reference.is_not(None)
            )
            found.update(self._session.scalars(query))
        return found

    def summary(self, speaker_id: SpeakerId) -> SpeakerSummary:
        """Return one speaker with what is enrolled, or raise NotFound."""
        found = self._summaries(_speaker_query().where(Speaker.id == speaker_id))
        if not found:
            raise NotFound(f"no speaker with id {speaker_id}: it may have been deleted already")
        return found[0]

    def page(
        self,
        gallery_id: GalleryId,
        after: int = 0,
        limit: int = PAGE_LIMIT,
        *,
        labels: Sequence[str] = (),
        part: str | None = None,
    ) -> list[SpeakerSummary]:
        """List speakers of a gallery with what is enrolled, in id order above `after`.

        Parameters
        ----------
        labels
            Only those with all of them.
        part
            Only those whose name has this in it, in upper or lower case.
        """
        query = _speaker_query().where(Speaker.gallery_id == gallery_id, Speaker.id > after)
        if part is not None:
            query = query.where(
                Speaker.name.icontains(canonical(require_text("part of a name", part)), autoescape=True)
            )
        for label in sorted(set(labels)):
            query = query.where(
                exists().where(
                    SpeakerLabel.speaker_id == Speaker.id, SpeakerLabel.label == require_text("label", label)
                )
            )
        return self._summaries(query.order_by(Speaker.id).limit(limit))

    def enrolled_stretches(self, speaker_id: SpeakerId) -> list[EnrolledStretch]:
        """List where a speaker's enrolled voice was heard, in the order it was added."""
        query = (
            select(Utterance, Recording.uri)
            .join(Enrollment, Enrollment.utterance_id == Utterance.id)
            .join(Recording, Recording.id == Utterance.recording_id)
            .where(Enrollment.speaker_id == speaker_id)
            .order_by(Utterance.id)
        )
        return [
            EnrolledStretch(
                UtteranceId(row.id),
                RecordingId(row.recording_id),
                uri,
                row.channel,
                row.start_s,
                row.end_s,
                row.voice,
                quality_of(row),
            )
            for row, uri in self._session.execute(query)
        ]

    def _summaries(self, query: Select[Any]) -> list[SpeakerSummary]:
        rows = self._session.execute(query).all()
        labels = self.labels([row.Speaker.id for row in rows])
        return [
            SpeakerSummary(
                id=SpeakerId(row.Speaker.id),
                name=row.Speaker.name,
                created_at=row.Speaker.created_at,
                enrollments=row.enrollments,
                enrolled_s=float(row.enrolled_s or 0.0),
                recordings=row.recordings,
                labels=labels.get(row.Speaker.id, ()),
                consent_reference=row.Speaker.consent_reference,
                consented_at=row.Speaker.consented_at,
            )
            for row in rows
        ]

    def labels(self, speaker_ids: Iterable[int]) -> dict[SpeakerId, tuple[str, ...]]:
        """Labels of each speaker, sorted; those without any are absent."""
        found: dict[SpeakerId, tuple[str, ...]] = {}
        for some in batches(sorted(set(speaker_ids))):
            tags = select(SpeakerLabel.speaker_id, SpeakerLabel.label).where(SpeakerLabel.speaker_id.in_(some))
            found.update(self._labels(tags))
        return found

    def _labels(self, tags: Select[int, str]) -> dict[SpeakerId, tuple[str, ...]]:
        found: dict[SpeakerId, tuple[str, ...]] = {}
        for number, label in self._session.execute(tags.order_by(SpeakerLabel.speaker_id, SpeakerLabel.label)):
            found[SpeakerId(number)] = (*found.get(SpeakerId(number), ()), label)
        return found

    def delete(self, speaker_id: SpeakerId, *, erase_voice: bool = True) -> Erased:
        """Delete a speaker and their enrollments.

        Parameters
        ----------
        speaker_id : SpeakerId
            The speaker; NotFound if already gone.
        erase_voice : bool
            Whether the utterances enrolled to nobody else go too, with their vectors, and the recordings that
            this leaves without any utterance. Otherwise they stay in the archive as an unknown voice.

        Returns
        -------
        Erased
            What went; indexes must forget its embedding ids.
        """
        row = self.lock([speaker_id]).get(speaker_id)
        if row is None:
            raise NotFound(f"no speaker with id {speaker_id}: it may have been deleted already")
        gallery_id = GalleryId(row.gallery_id)
        Changes(self._session).speakers_changed(gallery_id, [speaker_id])
        embeddings: list[EmbeddingId] = []
        recordings: list[RecordingId] = []
        media: list[str] = []
        if erase_voice:
            self._lock_recordings(speaker_id)
            utterances, touched = self._only_of(speaker_id)
            for some in batches(utterances):
                embeddings += take_out_vectors(self._session, gallery_id, Embedding.utterance_id.in_(some))
                self._session.execute(delete(Utterance).where(Utterance.id.in_(some)))
            for candidates in batches(touched):
                empty = select(Recording.id, Recording.media_key).where(
                    Recording.id.in_(candidates), ~exists().where(Utterance.recording_id == Recording.id)
                )
                rows = self._session.execute(empty).all()
                gone = [RecordingId(row.id) for row in rows]
                media += [row.media_key for row in rows if row.media_key is not None]
                remember_erased(self._session, gone)
                self._session.execute(delete(Recording).where(Recording.id.in_(gone)))
                recordings += gone
        self._session.execute(delete(Speaker).where(Speaker.id == speaker_id))
        self._session.expire_all()
        return Erased(tuple(sorted(embeddings)), tuple(sorted(recordings)), (speaker_id,), tuple(media))

    def _lock_recordings(self, speaker_id: SpeakerId) -> None:
        """Keep others from erasing or writing anew what a locked speaker is heard in.

        Two erasures that share an utterance would each leave it to the other one's speaker.
        """
        theirs = (
            select(Utterance.recording_id)
            .join(Enrollment, Enrollment.utterance_id == Utterance.id)
            .where(Enrollment.speaker_id == speaker_id)
        )
        query = select(Recording.id).where(Recording.id.in_(theirs)).order_by(Recording.id).with_for_update()
        self._session.execute(query)

    def erasable(self, speaker_id: SpeakerId) -> Erased:
        """Return what `delete` would take away now with the speaker's voice; nothing is changed."""
        utterances, touched = self._only_of(speaker_id)
        embeddings: list[EmbeddingId] = []
        for some in batches(utterances):
            found = self._session.scalars(select(Embedding.id).where(Embedding.utterance_id.in_(some)))
            embeddings += [EmbeddingId(number) for number in found]
        left: set[int] = set()
        for candidates in batches(touched):
            inside = select(Utterance.recording_id, Utterance.id).where(Utterance.recording_id.in_(candidates))
            gone = set(utterances)
            left |= {row.recording_id for row in self._session.execute(inside) if row.id not in gone}
        emptied = tuple(RecordingId(number) for number in touched if number not in left)
        return Erased(tuple(sorted(embeddings)), emptied, (speaker_id,), ())

    def _only_of(self, speaker_id: SpeakerId) -> tuple[list[UtteranceId], list[int]]:
        """Utterances enrolled to this speaker and to no other, and the recordings they are in."""
        other = aliased(Enrollment)
        query = (
            select(Utterance.id, Utterance.recording_id)
            .join(Enrollment, Enrollment.utterance_id == Utterance.id)
            .where(
                Enrollment.speaker_id == speaker_id,
                ~exists().where(other.utterance_id == Utterance.id, other.speaker_id != speaker_id),
            )
            .order_by(Utterance.id)
        )
        rows = self._session.execute(query).all()
        return [UtteranceId(row.id) for row in rows], sorted({row.recording_id for row in rows})


def _speaker_query() -> Select[Any]:
    theirs = (Enrollment.speaker_id == Speaker.id) & (Enrollment.utterance_id == Utterance.id)
    return select(
        Speaker,
        per_row(func.count(Utterance.id), theirs).label("enrollments"),
        per_row(func.sum(Utterance.end_s - Utterance.start_s), theirs).label("enrolled_s"),
        per_row(func.count(Utterance.recording_id.distinct()), theirs).label("recordings"),
    )
