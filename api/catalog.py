"""What is stored, how it is changed, and its erasure: through row, index, snapshot and uploaded file."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.orm import Session

from api.deciding import require_normalized
from api.gallery_rules import require_rules
from indexer.db.calibrations import Calibrations
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.models import RecordingState
from indexer.db.recordings import Recordings
from indexer.db.rows import EnrolledStretch, Erased, GallerySummary, RecordingSummary, SpeakerSummary, UtteranceSummary
from indexer.db.session import Database
from indexer.db.speaker_records import Consent, EnrolledRecording, SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.db.traces import Traces
from indexer.db.transactions import in_transaction
from indexer.errors import Conflict, InvalidRequest, NotFound, Unavailable
from indexer.likeness import enrollment_likeness
from indexer.media import MediaStore
from indexer.types import GalleryId, RecordingId, SpeakerId
from search.normalization import require_cohort
from search.stored_calibration import stored_calibration

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ErasedCounts:
    """How much an erasure took away."""

    speakers: int = 0
    recordings: int = 0
    vectors: int = 0


@dataclass(frozen=True, slots=True)
class Erasable:
    """What the erasure of a speaker would take away, and the recordings that would stay for whoever else is in them."""

    enrollments: int
    recordings: int
    vectors: int
    kept_recordings: int


@dataclass(frozen=True, slots=True)
class SpeakerChange:
    """What is to change about a speaker; None leaves a name or the labels as they are."""

    name: str | None = None
    labels: Sequence[str] | None = None
    changes_consent: bool = False
    consent: Consent | None = None


class Catalog:
    """Lists and erases.

    Parameters
    ----------
    refresh_index
        Called with a gallery after rows of it are gone; must leave no copy of their vectors in any index file.
    drop_index
        Called with a gallery that is gone.
    media
        Uploaded files, which go with their recordings.
    """

    def __init__(
        self,
        database: Database,
        *,
        refresh_index: Callable[[GalleryId], None],
        drop_index: Callable[[GalleryId], None],
        media: MediaStore,
    ) -> None:
        self._database = database
        self._media = media
        self._refresh_index = refresh_index
        self._drop_index = drop_index

    def galleries(self, *, after: int = 0, limit: int = 1000) -> list[GallerySummary]:
        """List the galleries in the order they were made."""
        with self._database.read_scope() as session:
            return Galleries(session).page(after, limit)

    def gallery(self, name: str) -> GallerySummary:
        """Return one gallery, or raise NotFound."""
        with self._database.read_scope() as session:
            galleries = Galleries(session)
            return galleries.summary(GalleryId(galleries.by_name(name).id))

    def change_gallery(self, name: str, **rules: Any) -> GallerySummary:
        """Set columns of a gallery's operating point and rules, and return what it is now.

        Raises
        ------
        NotFound
            If there is no such gallery.
        InvalidRequest
            If the rules contradict each other, or those that stay; see `require_rules`. If scores are to be normalized,
            and the gallery has too few enrolled speakers or no calibration for that.
        """
        with self._database.session_scope() as session:
            galleries = Galleries(session)
            gallery_id = GalleryId(galleries.by_name(name).id)
            before = galleries.summary(gallery_id)
            require_rules(before, rules)
            if rules.get("score_normalization"):
                number = before.calibration_id
                stored = Calibrations(session).find(number) if number is not None else None
                own = stored_calibration(stored.id, stored.document) if stored is not None else None
                normalization = require_normalized(own)
                require_cohort(Speakers(session).count_enrolled(gallery_id), normalization.cohort)
            galleries.change(gallery_id, **rules)
            return galleries.summary(gallery_id)

    def speakers(
        self, gallery: str, *, after: int, limit: int, labels: Sequence[str] = (), part: str | None = None
    ) -> list[SpeakerSummary]:
        """List the speakers of a gallery with an id above `after`, with all labels and with `part` in their name."""
        with self._database.read_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            return Speakers(session).page(gallery_id, after, limit, labels=labels, part=part)

    def speaker(self, gallery: str, name: str) -> tuple[SpeakerSummary, list[EnrolledStretch]]:
        """Return one speaker with every enrolled stretch, or raise NotFound."""
        with self._database.read_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            speakers = Speakers(session)
            speaker_id = SpeakerId(speakers.by_name(gallery_id, name).id)
            return speakers.summary(speaker_id), speakers.enrolled_stretches(speaker_id)

    def speaker_summary(self, gallery: str, name: str) -> SpeakerSummary:
        """Return one speaker, or raise NotFound."""
        with self._database.read_scope() as session:
            _, speaker_id = _speaker(session, gallery, name)
            return Speakers(session).summary(speaker_id)

    def add_speaker(self, gallery: str, name: str, *, labels: Sequence[str], consent: Consent | None) -> SpeakerSummary:
        """Add a speaker without a voice, or raise AlreadyExists."""
        with self._database.session_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            speaker_id = SpeakerRecords(session, gallery_id).create(name, labels=labels, consent=consent)
            return Speakers(session).summary(speaker_id)

    def record_consent(self, gallery: str, name: str, consent: Consent) -> None:
        """Note a speaker's consent, before they are enrolled; the speaker is added if new."""
        with self._database.session_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            speaker_id = Speakers(session).get_or_create(gallery_id, [name])[name]
            SpeakerRecords(session, gallery_id).set_consent(speaker_id, consent)

    def change_speaker(self, gallery: str, name: str, change: SpeakerChange) -> SpeakerSummary:
        """Change what is said of a speaker; raises what `SpeakerRecords` raises."""
        with self._database.session_scope() as session:
            gallery_id, speaker_id = _speaker(session, gallery, name)
            records = SpeakerRecords(session, gallery_id)
            if change.labels is not None:
                records.label(speaker_id, change.labels)
            if change.changes_consent:
                records.set_consent(speaker_id, change.consent)
            if change.name is not None:
                records.rename(speaker_id, change.name)
                Traces(session, gallery_id).rename(name, change.name)
            return Speakers(session).summary(speaker_id)

    def merge_speakers(self, gallery: str, name: str, into: str) -> SpeakerSummary:
        """Make two speakers one, and return the one who stays."""

        def merge(session: Session) -> SpeakerSummary:
            gallery_id, speaker_id = _speaker(session, gallery, name)
            stays = SpeakerId(Speakers(session).by_name(gallery_id, into).id)
            SpeakerRecords(session, gallery_id).merge(speaker_id, stays)
            Traces(session, gallery_id).rename(name, into)
            return Speakers(session).summary(stays)

        return in_transaction(self._database, merge, refusals=True)

    def enrollments(self, gallery: str, name: str, *, after: int, limit: int) -> list[EnrolledRecording]:
        """List the recordings that a speaker is enrolled with, those with an id above `after`, and what is wrong."""
        with self._database.read_scope() as session:
            gallery_id, speaker_id = _speaker(session, gallery, name)
            found = SpeakerRecords(session, gallery_id).enrollments(speaker_id, after, limit)
            encoder_id = Galleries(session).summary(gallery_id).encoder_id
            likeness = enrollment_likeness(session, gallery_id, encoder_id, speaker_id) if found else {}
            return [replace(row, likeness=likeness.get(row.id)) for row in found]

    def delete_enrollment(self, gallery: str, name: str, recording_id: int, *, erase: bool) -> ErasedCounts:
        """Take back that a recording is a speaker's voice; with `erase`, the recording goes too.

        Raises
        ------
        NotFound
            If it is not.
        Conflict
            If the recording is to go and somebody else is enrolled with it.
        """
        number = RecordingId(recording_id)

        def withdraw(session: Session) -> tuple[GalleryId, Erased] | None:
            gallery_id, speaker_id = _speaker(session, gallery, name)
            recordings = Recordings(session)
            SpeakerRecords(session, gallery_id).withdraw(speaker_id, number)
            if not erase:
                return None
            others = recordings.speakers_of([number]).get(number, ())
            if others:
                raise Conflict(
                    f"recording {number} is enrolled as {', '.join(others)} too: delete the enrollment without erase"
                )
            erased = recordings.delete(number)
            Traces(session, gallery_id).forget_erased()
            return gallery_id, erased

        gone = in_transaction(self._database, withdraw, refusals=True)
        return self._forget(*gone) if gone is not None else ErasedCounts()

    def recordings(
        self, gallery: str, *, state: str | None, after: int, limit: int, part: str | None = None
    ) -> list[RecordingSummary]:
        """List the recordings of a gallery with an id above `after`, of one state or any, with `part` in their place.

        Raises
        ------
        InvalidRequest
            If there is no such state.
        """
        states: Sequence[str] = list(RecordingState)
        if state is not None and state not in states:
            raise InvalidRequest(f"no recording state {state!r}: ask for {', '.join(states)}")
        with self._database.read_scope() as session:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            wanted = RecordingState(state) if state else None
            return Recordings(session).page(gallery_id, after, limit, state=wanted, part=part)

    def recording(self, gallery: str, recording_id: int) -> tuple[RecordingSummary, list[UtteranceSummary]]:
        """Return one recording of a gallery with its utterances, or raise NotFound."""
        with self._database.read_scope() as session:
            number = self._in_gallery(Galleries(session), Recordings(session), gallery, recording_id)
            recordings = Recordings(session)
            return recordings.summary(number), recordings.utterances(number)

    def erasable(self, gallery: str, name: str, *, keep_recordings: bool) -> Erasable:
        """Tell what `delete_speaker` would erase now, and what it would leave, or raise NotFound."""
        with self._database.read_scope() as session:
            _, speaker_id = _speaker(session, gallery, name)
            speakers = Speakers(session)
            summary = speakers.summary(speaker_id)
            if keep_recordings:
                return Erasable(summary.enrollments, 0, 0, summary.recordings)
            gone = speakers.erasable(speaker_id)
            left = summary.recordings - len(gone.recording_ids)
            return Erasable(summary.enrollments, len(gone.recording_ids), len(gone.embedding_ids), left)

    def delete_speaker(self, gallery: str, name: str, *, keep_recordings: bool) -> ErasedCounts:
        """Erase a speaker; the vectors that are enrolled to nobody else go too, unless recordings are kept."""

        def erase(session: Session) -> tuple[GalleryId, Erased]:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            speakers = Speakers(session)
            speaker_id = SpeakerId(speakers.by_name(gallery_id, name).id)
            erased = speakers.delete(speaker_id, erase_voice=not keep_recordings)
            Traces(session, gallery_id).forget_name(name)
            Traces(session, gallery_id).forget_erased()
            return gallery_id, erased

        return self._forget(*in_transaction(self._database, erase))

    def delete_recording(self, gallery: str, recording_id: int) -> ErasedCounts:
        """Erase a recording with its utterances, vectors and enrollments."""

        def erase(session: Session) -> tuple[GalleryId, Erased]:
            gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
            recordings = Recordings(session)
            erased = recordings.delete(self._in_gallery(Galleries(session), recordings, gallery, recording_id))
            Traces(session, gallery_id).forget_erased()
            return gallery_id, erased

        return self._forget(*in_transaction(self._database, erase))

    def delete_gallery(self, name: str) -> ErasedCounts:
        """Erase a gallery and everything in it."""

        def erase(session: Session) -> GallerySummary:
            galleries = Galleries(session)
            summary = galleries.summary(GalleryId(galleries.by_name(name).id))
            Jobs(session).lock_all(summary.id)  # First, in the order of whoever works on them.
            galleries.delete(summary.id)
            return summary

        summary = in_transaction(self._database, erase)
        self._media.drop(summary.id)
        self._finish(lambda: self._drop_index(summary.id), self._database.scrub)
        return ErasedCounts(summary.speakers, summary.recordings, summary.embeddings)

    def _forget(self, gallery_id: GalleryId, erased: Erased) -> ErasedCounts:
        self._media.delete(erased.media_keys)
        refreshed = (lambda: self._refresh_index(gallery_id),) if erased.embedding_ids else ()
        self._finish(*refreshed, self._database.scrub)
        return ErasedCounts(len(erased.speaker_ids), len(erased.recording_ids), len(erased.embedding_ids))

    def _finish(self, *steps: Callable[[], None]) -> None:
        """Clean up after an erasure was committed.

        Whoever asked for it must not be told that it failed, for it did not and cannot be asked for again. What is
        left is cleaned up by the chores of the service and when the index is opened.
        """
        for step in steps:
            try:
                step()
            except Unavailable as error:
                logger.warning("erased, and cleaned up later: %s", error.code, exc_info=error)

    def _in_gallery(self, galleries: Galleries, recordings: Recordings, gallery: str, recording_id: int) -> RecordingId:
        gallery_id = galleries.by_name(gallery).id
        # One answer, whether it is nowhere or in a gallery that whoever asks may not know of.
        if recordings.gallery_of(RecordingId(recording_id)) != gallery_id:
            raise NotFound(f"no recording with id {recording_id} in gallery {gallery}: see `voxdex recordings list`")
        return RecordingId(recording_id)


def _speaker(session: Session, gallery: str, name: str) -> tuple[GalleryId, SpeakerId]:
    gallery_id = GalleryId(Galleries(session).by_name(gallery).id)
    return gallery_id, SpeakerId(Speakers(session).by_name(gallery_id, name).id)
