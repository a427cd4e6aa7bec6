"""Named queries about encoders, galleries and speakers. The session's owner commits."""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Insert, Select, Table, delete, distinct, exists, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, aliased

from indexer.db.changes import POSITION, Changes, FeedPosition, with_newest
from indexer.db.erased_files import remember_erased
from indexer.db.models import (
    ApiKey,
    Base,
    Embedding,
    Encoder,
    Enrollment,
    Gallery,
    GalleryFeed,
    Recording,
    Speaker,
    SpeakerLabel,
    Utterance,
    utc_now,
)
from indexer.db.rows import (
    PAGE_LIMIT,
    EnrolledStretch,
    Erased,
    GalleryHead,
    GallerySummary,
    NewEncoder,
    SpeakerSummary,
    quality_of,
)
from indexer.errors import AlreadyExists, Conflict, EncoderMismatch, InvalidRequest, NotFound
from indexer.types import (
    EMBEDDING_DIM,
    EmbeddingId,
    EncoderId,
    GalleryId,
    RecordingId,
    SpeakerId,
    UtteranceId,
)

NAME_LIMIT = 200
"""Most characters of a gallery's or speaker's name."""

BIND_LIMIT = 10_000
"""Values in one IN list or VALUES clause; SQLite accepts 32,766 parameters in a statement, Postgres 65,535."""

T = TypeVar("T")


def batches(items: Sequence[T], size: int = BIND_LIMIT) -> Iterator[Sequence[T]]:
    """Cut a sequence into runs that fit one statement."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def insert_if_absent(session: Session, table: type[Base]) -> Insert:
    """Build an INSERT that skips rows which a unique constraint already holds, on either database."""
    target = table.__table__
    assert isinstance(target, Table)
    if session.get_bind().dialect.name == "postgresql":
        return postgresql.insert(target).on_conflict_do_nothing()
    return sqlite.insert(target).on_conflict_do_nothing()


def take_out_vectors(session: Session, gallery_id: GalleryId, which: ColumnElement[bool]) -> tuple[EmbeddingId, ...]:
    """Delete these embeddings of a gallery, note exactly what went for the indexes, and return the ids, rising.

    Reading the ids first would miss what another transaction commits between the reading and the deletion.
    """
    statement = delete(Embedding).where(which).returning(Embedding.id, Embedding.encoder_id)
    gone: dict[EncoderId, list[int]] = {}
    for number, encoder_id in session.execute(statement.execution_options(synchronize_session=False)):
        gone.setdefault(encoder_id, []).append(number)
    for encoder_id, numbers in gone.items():
        Changes(session).vectors_removed(gallery_id, encoder_id, numbers)
    return tuple(EmbeddingId(number) for number in sorted(chain.from_iterable(gone.values())))


def require_text(kind: str, value: str) -> str:
    """Refuse text that one of the two databases could not keep (NUL, lone surrogates of undecodable file names)."""
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidRequest(f"{kind} {value!r} holds bytes that are not text: rename it or percent-encode it")
    return value


def canonical(name: str) -> str:
    """Write a name as the record keeps it (NFC): systems write one and the same `ü` as one character or as two."""
    return unicodedata.normalize("NFC", name)


def require_name(kind: str, name: str) -> str:
    """Return a name as it is kept.

    Refuses one that is empty, too long, padded with blanks or unprintable, or that no URL could hold.
    """
    name = canonical(require_text(kind, name))
    if not name.strip() or name != name.strip() or not name.isprintable() or len(name) > NAME_LIMIT:
        raise InvalidRequest(
            f"{kind} name {name[:80]!r} ({len(name)} characters) must be 1 to {NAME_LIMIT} printable characters "
            "without blanks around them"
        )
    if name in {".", ".."}:  # HTTP libraries take these for steps within a path, percent-encoded or not.
        raise InvalidRequest(f"{kind} name {name!r} cannot be part of a URL: choose another one")
    return name


class Encoders:
    """Encoders that made a vector of this record."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def register(self, encoder: NewEncoder) -> Encoder:
        """Record an encoder once; later calls return the same row.

        Raises
        ------
        EncoderMismatch
            If the id is taken by an encoder with other weights, front end or dimension.
        """
        self._session.execute(
            insert_if_absent(self._session, Encoder),
            {
                "id": encoder.id,
                "name": encoder.name,
                "family": encoder.family,
                "weights_sha256": encoder.weights_sha256,
                "front_end": encoder.front_end,
                "dim": encoder.dim,
            },
        )
        row = self.get(encoder.id)
        kept = (row.weights_sha256, row.front_end, row.dim)
        given = (encoder.weights_sha256, encoder.front_end, encoder.dim)
        if kept != given:
            raise EncoderMismatch(
                f"encoder id {encoder.id} is recorded with (weights, front end, dimension) {kept}, not {given}: "
                "an id must name one encoder"
            )
        return row

    def get(self, encoder_id: EncoderId) -> Encoder:
        """Return an encoder, or raise NotFound."""
        row = self._session.get(Encoder, encoder_id)
        if row is None:
            raise NotFound(f"no encoder {encoder_id} in this record: see `voxdex encoder list`")
        return row

    def all(self) -> list[Encoder]:
        """Every encoder, oldest first."""
        return list(self._session.scalars(select(Encoder).order_by(Encoder.created_at, Encoder.id)))


def _require_dim(encoder: Encoder) -> None:
    if encoder.dim != EMBEDDING_DIM:
        raise EncoderMismatch(
            f"encoder {encoder.id} makes vectors of dimension {encoder.dim} and galleries keep {EMBEDDING_DIM}: "
            "choose another encoder (`voxdex embed` still runs this one)"
        )


class Galleries:
    """Galleries by name and id."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, name: str) -> Gallery | None:
        """Return the gallery of this name, if there is one."""
        return self._session.scalars(select(Gallery).where(Gallery.name == canonical(name))).one_or_none()

    def by_name(self, name: str) -> Gallery:
        """Return the gallery of this name, or raise NotFound."""
        row = self.find(name)
        if row is None:
            raise NotFound(f"no gallery {name!r}: see `voxdex galleries list`")
        return row

    def get(self, gallery_id: GalleryId) -> Gallery:
        """Return the gallery of this id, or raise NotFound."""
        row = self._session.get(Gallery, gallery_id)
        if row is None:
            raise NotFound(f"no gallery with id {gallery_id}: see `voxdex galleries list`")
        return row

    def get_or_create(self, name: str, encoder: Encoder) -> Gallery:
        """Return the gallery of this name, made for this encoder if there was none.

        Raises
        ------
        EncoderMismatch
            If the gallery is of another encoder, or the encoder's vectors have a dimension that no gallery keeps.
        """
        self._insert(name, encoder)
        row = self.by_name(name)
        if row.encoder_id != encoder.id:
            raise EncoderMismatch(
                f"gallery {name!r} holds vectors of encoder {row.encoder_id}, not {encoder.id}: "
                "name that encoder or another gallery"
            )
        return row

    def create(self, name: str, encoder: Encoder, second: Encoder | None = None, **rules: Any) -> Gallery:
        """Make a gallery that was not there.

        Parameters
        ----------
        second
            Encoder whose scores are fused with those of the first.
        rules
            Columns of its operating point and rules.

        Raises
        ------
        AlreadyExists
            If the name is taken.
        EncoderMismatch
            If an encoder's vectors have a dimension that no gallery keeps, or both encoders are the same.
        """
        if second is not None and second.id == encoder.id:
            raise EncoderMismatch(f"encoder {encoder.id} twice: name two different ones, or one alone")
        if second is not None:
            _require_dim(second)
        if not self._insert(name, encoder):
            raise AlreadyExists(f"gallery {name!r} is there already; change it, or choose another name")
        row = self.by_name(name)
        self.change(GalleryId(row.id), second_encoder_id=second.id if second is not None else None, **rules)
        return row

    def _insert(self, name: str, encoder: Encoder) -> bool:
        """Add a gallery; return False where the name is taken."""
        _require_dim(encoder)
        statement = insert_if_absent(self._session, Gallery).returning(Gallery.id)
        values = {"name": require_name("gallery", name), "encoder_id": encoder.id, "dim": encoder.dim}
        return self._session.scalars(statement, values).one_or_none() is not None

    def last_number(self) -> int:
        """Return the highest id that was ever given to a gallery, also where it is gone; 0 before the first one."""
        if self._session.get_bind().dialect.name == "postgresql":
            query = text("SELECT pg_sequence_last_value(pg_get_serial_sequence('galleries', 'id')::regclass)")
        else:
            query = text("SELECT seq FROM sqlite_sequence WHERE name = 'galleries'")
        return self._session.scalar(query) or 0

    def names(self) -> list[str]:
        """Name of every gallery, oldest first."""
        return list(self._session.scalars(select(Gallery.name).order_by(Gallery.id)))

    def heads(self, gallery_ids: Iterable[GalleryId]) -> dict[GalleryId, GalleryHead]:
        """Return what answers from these galleries depend on; those that are gone are absent."""
        return {head.id: head for head in self._heads(Gallery.id.in_(list(gallery_ids)))}

    def head(self, name: str) -> GalleryHead:
        """Return what answers from the gallery of this name depend on, or raise NotFound."""
        found = self._heads(Gallery.name == name)
        if not found:
            raise NotFound(f"no gallery {name!r}: see `voxdex galleries list`")
        return found[0]

    def _heads(self, which: ColumnElement[bool]) -> list[GalleryHead]:
        query: Select[*tuple[Any, ...]] = select(
            Gallery.id,
            Gallery.name,
            Gallery.encoder_id,
            Gallery.identification_threshold,
            Gallery.verification_threshold,
            Gallery.index_engine,
            Gallery.second_encoder_id,
            Gallery.calibration_id,
            Gallery.target_fpir,
            Gallery.possible_fpir,
            Gallery.possible_threshold,
            Gallery.target_p_fa,
            Gallery.score_normalization,
            *POSITION,
        ).select_from(Gallery)
        query = with_newest(query.outerjoin(GalleryFeed, GalleryFeed.gallery_id == Gallery.id)).where(which)
        return [
            GalleryHead(
                id=GalleryId(row.id),
                name=row.name,
                encoder_id=row.encoder_id,
                identification_threshold=row.identification_threshold,
                verification_threshold=row.verification_threshold,
                position=FeedPosition(*row[-len(POSITION) :]),
                engine=row.index_engine,
                second_encoder_id=row.second_encoder_id,
                calibration_id=row.calibration_id,
                target_fpir=row.target_fpir,
                possible_fpir=row.possible_fpir,
                possible_threshold=row.possible_threshold,
                target_p_fa=row.target_p_fa,
                score_normalization=row.score_normalization,
            )
            for row in self._session.execute(query)
        ]

    def summary(self, gallery_id: GalleryId) -> GallerySummary:
        """Return one gallery with what it holds, or raise NotFound."""
        self.get(gallery_id)
        return self._summaries(_gallery_query().where(Gallery.id == gallery_id))[0]

    def page(self, after: int = 0, limit: int = PAGE_LIMIT) -> list[GallerySummary]:
        """List galleries with what they hold, in id order, those with an id above `after`."""
        return self._summaries(_gallery_query().where(Gallery.id > after).order_by(Gallery.id).limit(limit))

    def _summaries(self, query: Select[Any]) -> list[GallerySummary]:
        return [
            GallerySummary(
                id=GalleryId(row.Gallery.id),
                name=row.Gallery.name,
                encoder_id=row.Gallery.encoder_id,
                encoder_name=row.encoder_name,
                dim=row.Gallery.dim,
                created_at=row.Gallery.created_at,
                speakers=row.speakers,
                recordings=row.recordings,
                embeddings=row.embeddings,
                duration_s=float(row.duration_s or 0.0),
                identification_threshold=row.Gallery.identification_threshold,
                verification_threshold=row.Gallery.verification_threshold,
                consent_required=row.Gallery.consent_required,
                retention_days=row.Gallery.retention_days,
                second_encoder_id=row.Gallery.second_encoder_id,
                calibration_id=row.Gallery.calibration_id,
                target_fpir=row.Gallery.target_fpir,
                possible_fpir=row.Gallery.possible_fpir,
                possible_threshold=row.Gallery.possible_threshold,
                target_p_fa=row.Gallery.target_p_fa,
                score_normalization=row.Gallery.score_normalization,
            )
            for row in self._session.execute(query)
        ]

    def change(self, gallery_id: GalleryId, **rules: Any) -> None:
        """Set columns of a gallery's operating point and rules; those that are not given stay.

        Scores are normalized by what the calibration was fitted with: with another one, that is off until it is asked
        for again.
        """
        if "calibration_id" in rules:
            rules = {"score_normalization": False, **rules}
        if rules:
            self._session.execute(update(Gallery).where(Gallery.id == gallery_id).values(**rules))
            self._session.expire_all()

    def set_engine(self, gallery_id: GalleryId, encoder_ids: Sequence[EncoderId], engine: str) -> bool:
        """Say what searches a gallery; return False where it is gone, or under other encoders than these, in order."""
        first, second = encoder_ids[0], encoder_ids[1] if len(encoder_ids) > 1 else None
        these = (
            Gallery.id == gallery_id,
            Gallery.encoder_id == first,
            Gallery.second_encoder_id.is_not_distinct_from(second),
        )
        found = self._session.scalars(
            update(Gallery).where(*these).values(index_engine=engine).returning(Gallery.id)
        ).one_or_none()
        self._session.expire_all()
        return found is not None

    def delete(self, gallery_id: GalleryId) -> None:
        """Delete a gallery and all it holds; its index folder is the caller's to remove.

        Keys that open this gallery alone stay as revoked ones: that a key was ever made is what keeps a service closed.

        Raises
        ------
        NotFound
            If it is already gone.
        """
        self.get(gallery_id)
        # Locked first: a key that is being bound to it waits, and finds it gone.
        self._session.execute(select(Gallery.id).where(Gallery.id == gallery_id).with_for_update())
        bound = ApiKey.gallery_id == gallery_id
        self._session.execute(update(ApiKey).where(bound, ApiKey.revoked_at.is_(None)).values(revoked_at=utc_now()))
        self._session.execute(update(ApiKey).where(bound).values(gallery_id=None))
        self._session.execute(delete(Gallery).where(Gallery.id == gallery_id))
        Changes(self._session).gallery_deleted(gallery_id)
        self._session.expire_all()


class Speakers:
    """Speakers of galleries, and which utterances are enrolled as theirs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, gallery_id: GalleryId, name: str) -> Speaker | None:
        """Return the speaker of this name in a gallery, if there is one."""
        query = select(Speaker).where(Speaker.gallery_id == gallery_id, Speaker.name == canonical(name))
        return self._session.scalars(query).one_or_none()

    def by_name(self, gallery_id: GalleryId, name: str) -> Speaker:
        """Return the speaker of this name in a gallery, or raise NotFound."""
        row = self.find(gallery_id, name)
        if row is None:
            raise NotFound(f"no speaker {name!r} in this gallery: see `voxdex speakers list`")
        return row

    def get_or_create(self, gallery_id: GalleryId, names: Iterable[str]) -> dict[str, SpeakerId]:
        """Return the id of each name in a gallery, making the speakers that are not there yet."""
        wanted = sorted({require_name("speaker", name) for name in names})
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
        return ids

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
            query = query.where(Speaker.name.icontains(require_text("part of a name", part), autoescape=True))
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


def _gallery_query() -> Select[Any]:
    in_use = (Embedding.gallery_id == Gallery.id) & (Embedding.encoder_id == Gallery.encoder_id)
    return select(
        Gallery,
        Encoder.name.label("encoder_name"),
        _per_row(func.count(Speaker.id), Speaker.gallery_id == Gallery.id).label("speakers"),
        _per_row(func.count(Recording.id), Recording.gallery_id == Gallery.id).label("recordings"),
        _per_row(func.count(Embedding.id), in_use).label("embeddings"),
        _per_row(func.sum(Recording.duration_s), Recording.gallery_id == Gallery.id).label("duration_s"),
    ).join(Encoder, Encoder.id == Gallery.encoder_id)


def _speaker_query() -> Select[Any]:
    theirs = (Enrollment.speaker_id == Speaker.id) & (Enrollment.utterance_id == Utterance.id)
    return select(
        Speaker,
        _per_row(func.count(Utterance.id), theirs).label("enrollments"),
        _per_row(func.sum(Utterance.end_s - Utterance.start_s), theirs).label("enrolled_s"),
        _per_row(func.count(Utterance.recording_id.distinct()), theirs).label("recordings"),
    )


def _per_row(aggregate: Any, condition: ColumnElement[bool]) -> Any:
    """Aggregate over the rows that belong to each row of the enclosing query."""
    return select(aggregate).where(condition).scalar_subquery()
