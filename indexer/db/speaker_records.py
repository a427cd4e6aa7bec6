"""Named queries that write who the speakers are: names, labels, consent, and two that turn out to be one person."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from indexer.db.changes import Changes
from indexer.db.models import Enrollment, Gallery, Recording, Speaker, SpeakerLabel, Utterance, utc_now
from indexer.db.names import require_name, require_text
from indexer.db.rows import PAGE_LIMIT
from indexer.db.speakers import Speakers
from indexer.db.statements import batches, insert_if_absent
from indexer.embedding.aggregation import Likeness
from indexer.errors import AlreadyExists, ConsentRequired, InvalidRequest, NotFound
from indexer.types import GalleryId, RecordingId, SpeakerId

LABELS_LIMIT = 100
"""Most labels of one speaker."""

REFERENCE_LIMIT = 500


@dataclass(frozen=True)
class Consent:
    """Where a person's consent is kept, and since when there is one."""

    reference: str
    given_at: dt.datetime | None = None


@dataclass(frozen=True)
class EnrolledRecording:
    """A recording that a speaker is enrolled with."""

    id: RecordingId
    uri: str
    utterances: int
    """Stretches of it that are enrolled as the speaker."""
    enrolled_s: float
    created_at: dt.datetime
    net_speech_s: float | None = None
    """Speech in those; None where nobody looked."""
    snr_db: float | None = None
    """Mean of theirs."""
    likeness: Likeness | None = None
    """How much it sounds like the others, where that was asked for and can be told."""


class SpeakerRecords:
    """What is said of the speakers of one gallery."""

    def __init__(self, session: Session, gallery_id: GalleryId) -> None:
        self._session = session
        self._gallery_id = gallery_id

    def create(self, name: str, *, labels: Sequence[str] = (), consent: Consent | None = None) -> SpeakerId:
        """Add a speaker without any enrollment.

        Raises
        ------
        AlreadyExists
            If the name is taken.
        """
        statement = insert_if_absent(self._session, Speaker).returning(Speaker.id)
        values = {"gallery_id": self._gallery_id, "name": require_name("speaker", name)}
        number = self._session.scalars(statement, values).one_or_none()
        if number is None:
            raise AlreadyExists(f"speaker {name!r} is there already; change it, or choose another name")
        speaker_id = SpeakerId(number)
        self.label(speaker_id, labels)
        if consent is not None:
            self.set_consent(speaker_id, consent)
        Changes(self._session).speakers_changed(self._gallery_id, [speaker_id])
        return speaker_id

    def rename(self, speaker_id: SpeakerId, name: str) -> None:
        """Give a speaker another name.

        Raises
        ------
        AlreadyExists
            If another speaker has it.
        """
        name = require_name("speaker", name)
        taken = Speakers(self._session).find(self._gallery_id, name)
        if taken is not None and taken.id != speaker_id:
            raise AlreadyExists(f"speaker {name!r} is there already; merge the two, or choose another name")
        self._session.execute(update(Speaker).where(Speaker.id == speaker_id).values(name=name))
        self._session.expire_all()
        Changes(self._session).speakers_changed(self._gallery_id, [speaker_id])

    def label(self, speaker_id: SpeakerId, labels: Iterable[str]) -> None:
        """Replace the labels of a speaker."""
        wanted = sorted({require_name("label", label) for label in labels})
        if len(wanted) > LABELS_LIMIT:
            raise InvalidRequest(f"{len(wanted)} labels for one speaker: {LABELS_LIMIT} are the most")
        self._session.execute(delete(SpeakerLabel).where(SpeakerLabel.speaker_id == speaker_id))
        if wanted:
            rows = [{"speaker_id": speaker_id, "label": label} for label in wanted]
            self._session.execute(insert(SpeakerLabel), rows)
        Changes(self._session).speakers_changed(self._gallery_id, [speaker_id])

    def set_consent(self, speaker_id: SpeakerId, consent: Consent | None) -> None:
        """State where a speaker's consent is kept, or that there is none.

        Raises
        ------
        ConsentRequired
            If consent is taken back where the gallery requires it and the speaker is enrolled: erase the voice first.
        """
        if consent is None and self._is_enrolled(speaker_id) and self._requires_consent():
            raise ConsentRequired(
                "the speaker is enrolled and this gallery keeps nobody without consent: delete the enrollments first"
            )
        values: dict[str, str | dt.datetime | None] = {"consent_reference": None, "consented_at": None}
        if consent is not None:
            reference = require_text("consent reference", consent.reference)
            if not reference.strip() or len(reference) > REFERENCE_LIMIT:
                raise InvalidRequest(f"a consent reference has 1 to {REFERENCE_LIMIT} characters, not {len(reference)}")
            values = {"consent_reference": reference, "consented_at": consent.given_at or utc_now()}
        self._session.execute(update(Speaker).where(Speaker.id == speaker_id).values(**values))
        self._session.expire_all()

    def require_consent(self, name: str, given: str | None = None) -> None:
        """Refuse to enroll a speaker whose consent is neither on record nor given now, where the gallery asks for it.

        Raises
        ------
        ConsentRequired
            If it is missing.
        """
        if not self._requires_consent() or (given is not None and given.strip()):
            return
        if name not in Speakers(self._session).consenting(self._gallery_id, [name]):
            raise ConsentRequired(
                f"no consent of speaker {name!r} is recorded and this gallery enrolls nobody without: "
                "send consent_reference"
            )

    def merge(self, speaker_id: SpeakerId, into: SpeakerId) -> None:
        """Make two speakers one: enrollments and labels go over, consent where the other has none, and one name stays.

        Raises
        ------
        InvalidRequest
            If it is one speaker.
        ConsentRequired
            If the gallery requires consent and neither has given it.
        """
        if speaker_id == into:
            raise InvalidRequest("a speaker cannot be merged into itself; name another one")
        both = Speakers(self._session).lock([speaker_id, into])
        missing = next((number for number in (speaker_id, into) if number not in both), None)
        if missing is not None:
            raise NotFound(f"no speaker with id {missing}: it may have been deleted already")
        gone, stays = both[speaker_id], both[into]
        if stays.consent_reference is None and gone.consent_reference is not None:
            self.set_consent(into, Consent(gone.consent_reference, gone.consented_at))
        elif stays.consent_reference is None and self._is_enrolled(speaker_id) and self._requires_consent():
            raise ConsentRequired(f"no consent of speaker {stays.name!r} is recorded: record it first")
        query = select(Enrollment.utterance_id).where(Enrollment.speaker_id == speaker_id).order_by(Enrollment.id)
        Speakers(self._session).enroll(into, list(self._session.scalars(query)))
        labels = Speakers(self._session).labels([speaker_id, into])
        self.label(into, {*labels.get(speaker_id, ()), *labels.get(into, ())})
        self._session.execute(delete(Speaker).where(Speaker.id == speaker_id))
        self._session.expire_all()
        Changes(self._session).speakers_changed(self._gallery_id, [speaker_id])

    def withdraw(self, speaker_id: SpeakerId, recording_id: RecordingId) -> int:
        """Take back the statement that the voice in a recording is the speaker's; return of how many utterances.

        Raises
        ------
        NotFound
            If nobody said so.
        """
        inside = select(Utterance.id).where(Utterance.recording_id == recording_id)
        query = select(Enrollment.id).where(Enrollment.speaker_id == speaker_id, Enrollment.utterance_id.in_(inside))
        numbers = list(self._session.scalars(query))
        if not numbers:
            raise NotFound(f"recording {recording_id} is not enrolled as this speaker: list their enrollments first")
        for some in batches(numbers):
            self._session.execute(delete(Enrollment).where(Enrollment.id.in_(some)))
        Changes(self._session).speakers_changed(self._gallery_id, [speaker_id])
        return len(numbers)

    def enrollments(self, speaker_id: SpeakerId, after: int = 0, limit: int = PAGE_LIMIT) -> list[EnrolledRecording]:
        """List the recordings that a speaker is enrolled with, in id order above `after`."""
        query = (
            select(
                Utterance.recording_id,
                Recording.uri,
                func.count(Utterance.id),
                func.sum(Utterance.end_s - Utterance.start_s),
                func.min(Enrollment.created_at),
                func.sum(Utterance.net_speech_s),
                func.avg(Utterance.snr_db),
            )
            .join(Enrollment, Enrollment.utterance_id == Utterance.id)
            .join(Recording, Recording.id == Utterance.recording_id)
            .where(Enrollment.speaker_id == speaker_id, Utterance.recording_id > after)
            .group_by(Utterance.recording_id, Recording.uri)
            .order_by(Utterance.recording_id)
            .limit(limit)
        )
        return [
            EnrolledRecording(RecordingId(number), uri, utterances, float(enrolled_s), created_at, net_speech_s, snr_db)
            for number, uri, utterances, enrolled_s, created_at, net_speech_s, snr_db in self._session.execute(query)
        ]

    def _is_enrolled(self, speaker_id: SpeakerId) -> bool:
        query = select(Enrollment.id).where(Enrollment.speaker_id == speaker_id).limit(1)
        return self._session.scalars(query).first() is not None

    def _requires_consent(self) -> bool:
        return bool(self._session.scalar(select(Gallery.consent_required).where(Gallery.id == self._gallery_id)))
