"""Who is heard again and again without a name: listed, put right by people, given a name."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy.orm import Session

from indexer.db.embeddings import Embeddings
from indexer.db.galleries import Galleries
from indexer.db.rows import SpeakerSummary
from indexer.db.session import Database
from indexer.db.speaker_records import Consent, SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.db.transactions import in_transaction
from indexer.db.unknown_voices import LastRun, UnknownStretch, UnknownVoices, UnknownVoiceSummary
from indexer.db.voice_runs import VoiceRuns
from indexer.types import GalleryId, SpeakerId, UnknownVoiceId, UtteranceId
from search.unknown_voices import halves

Result = TypeVar("Result")


class UnknownCatalog:
    """The unknown voices of all galleries, as the API and the command line see them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def page(self, gallery: str, *, after: int, limit: int) -> list[UnknownVoiceSummary]:
        """List the unknown voices of a gallery in the order they were found, those with an id above `after`."""
        return self._read(gallery, lambda session, voices: voices.page(after, limit))

    def last_run(self, gallery: str) -> LastRun | None:
        """Say what the last run over a gallery was; None where none has ended."""
        return self._read(gallery, lambda session, voices: voices.last_run())

    def show(self, gallery: str, name: str) -> UnknownVoiceSummary:
        """Return one voice, or raise NotFound."""
        return self._read(gallery, lambda session, voices: voices.summary(voices.by_name(name)))

    def stretches(self, gallery: str, name: str, *, after: int, limit: int) -> list[UnknownStretch]:
        """List where a voice is heard, those with an utterance above `after`; or raise NotFound."""
        return self._read(gallery, lambda session, voices: voices.stretches(voices.by_name(name), after, limit))

    def promote(self, gallery: str, name: str, speaker: str, consent: Consent | None = None) -> SpeakerSummary:
        """Enroll every utterance of a voice as a speaker, who is added if new; the voice is unknown no more.

        Raises
        ------
        NotFound
            If there is no such voice, or nothing of it is left.
        ConsentRequired
            If the gallery requires consent, and none is given or on record.
        InvalidRequest
            If the speaker's name cannot be one.
        """

        def work(session: Session, gallery_id: GalleryId) -> SpeakerSummary:
            records = SpeakerRecords(session, gallery_id)
            records.require_consent(speaker, consent.reference if consent else None)
            # First the speaker, then the voices: in the order of whoever enrolls.
            [speaker_id] = Speakers(session).get_or_create(gallery_id, [speaker]).values()
            voices = UnknownVoices(session, gallery_id)
            voices.lock()
            voice_id = voices.by_name(name)
            voices.summary(voice_id)
            if consent is not None:
                records.set_consent(speaker_id, consent)
            Speakers(session).enroll(speaker_id, voices.utterances(voice_id))
            voices.delete(voice_id)
            return Speakers(session).summary(SpeakerId(speaker_id))

        return self._write(gallery, work)

    def merge(self, gallery: str, name: str, into: str) -> UnknownVoiceSummary:
        """Make two voices one and return the one that stays; raises what `UnknownVoices.merge` raises."""

        def work(session: Session, gallery_id: GalleryId) -> UnknownVoiceSummary:
            voices = self._changeable(session, gallery_id)
            stays = voices.by_name(into)
            voices.merge(voices.by_name(name), stays)
            return voices.summary(stays)

        return self._write(gallery, work)

    def split(
        self, gallery: str, name: str, utterance_ids: Sequence[int] | None = None
    ) -> tuple[UnknownVoiceSummary, UnknownVoiceSummary]:
        """Make a new voice of some of a voice's utterances; return what is left and what was made.

        Parameters
        ----------
        utterance_ids
            Which; None: those that are least like the others, by the vectors.

        Raises
        ------
        NotFound
            If there is no such voice, or an utterance is not of it.
        Conflict
            If that would leave nothing on one side.
        InvalidRequest
            If it is to be parted by its vectors and fewer than two utterances have one.
        """

        def work(session: Session, gallery_id: GalleryId) -> tuple[UnknownVoiceSummary, UnknownVoiceSummary]:
            voices = self._changeable(session, gallery_id)
            voice_id = voices.by_name(name)
            chosen = utterance_ids if utterance_ids is not None else _unlike(session, gallery_id, voice_id)
            made = voices.split(voice_id, chosen)
            return voices.summary(voice_id), voices.summary(made)

        return self._write(gallery, work)

    def take_out(self, gallery: str, name: str, utterance_ids: Sequence[int]) -> UnknownVoiceSummary:
        """State that utterances are not of a voice, and return what is left of it."""

        def work(session: Session, gallery_id: GalleryId) -> UnknownVoiceSummary:
            voices = self._changeable(session, gallery_id)
            voice_id = voices.by_name(name)
            voices.take_out(voice_id, utterance_ids)
            return voices.summary(voice_id)

        return self._write(gallery, work)

    def delete(self, gallery: str, name: str) -> int:
        """Forget a voice and what was said of it; return how many utterances are in no voice now."""

        def work(session: Session, gallery_id: GalleryId) -> int:
            voices = self._locked(session, gallery_id)
            voice_id = voices.by_name(name)
            utterances = len(voices.utterances(voice_id))
            voices.delete(voice_id)
            return utterances

        return self._write(gallery, work)

    def delete_all(self, gallery: str) -> int:
        """Forget every unknown voice of a gallery; return how many there were."""
        return self._write(gallery, lambda session, gallery_id: self._locked(session, gallery_id).delete_all())

    def _locked(self, session: Session, gallery_id: GalleryId) -> UnknownVoices:
        voices = UnknownVoices(session, gallery_id)
        voices.lock()
        return voices

    def _changeable(self, session: Session, gallery_id: GalleryId) -> UnknownVoices:
        """Return the voices for a change that makes groups, which a gallery that requires consent has none of."""
        voices = self._locked(session, gallery_id)
        voices.require_allowed()
        return voices

    def _read(self, gallery: str, question: Callable[[Session, UnknownVoices], Result]) -> Result:
        with self._database.read_scope() as session:
            return question(session, UnknownVoices(session, GalleryId(Galleries(session).by_name(gallery).id)))

    def _write(self, gallery: str, work: Callable[[Session, GalleryId], Result]) -> Result:
        def written(session: Session) -> Result:
            return work(session, GalleryId(Galleries(session).by_name(gallery).id))

        return in_transaction(self._database, written, refusals=True)


def _unlike(session: Session, gallery_id: GalleryId, voice_id: UnknownVoiceId) -> list[UtteranceId]:
    encoder_id = Galleries(session).get(gallery_id).encoder_id
    members = UnknownVoices(session, gallery_id).utterances(voice_id)
    found = VoiceRuns(session, gallery_id).vectors_of(members, encoder_id)
    vectors = Embeddings(session).vectors([embedding_id for _, embedding_id in found])
    return [number for (number, _), apart in zip(found, halves(vectors).tolist(), strict=True) if apart]
