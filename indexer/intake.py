"""The use case behind an upload: one recording, kept with its audio and found from now on, or refused and gone."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from indexer.archive import ArchiveFile
from indexer.audio.channels import ChannelPolicy
from indexer.audio.gates import SpeechGate
from indexer.audio.meter import Levels
from indexer.audio.quality import LEAST_LEVEL_DBFS, Quality, pooled_quality
from indexer.audio.remarks import beside
from indexer.db.models import JobItemState, RecordingState
from indexer.db.names import require_name
from indexer.db.recordings import Recordings
from indexer.db.rows import UtteranceSummary
from indexer.db.session import Database
from indexer.db.speaker_records import Consent, SpeakerRecords
from indexer.db.speakers import Speakers
from indexer.embedded_files import EmbeddedFile, EmbeddedUtterance
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import Conflict, EncoderChanged, InvalidAudio, InvalidRequest, SilentAudio, VoxdexError
from indexer.jobs.recorder import Outcome, Recorder, is_of_main_voice
from indexer.listening import Listening, UnlikeStretch, speech_by_voice
from indexer.listening_choices import listening_as_asked
from indexer.media import MediaStore
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import Settings
from indexer.types import GalleryId, RecordingId

UPLOAD_PREFIX = "upload:"
"""Begins the URI of a recording that came in a request: its audio is in the media folder or nowhere."""


@dataclass(frozen=True)
class Sent:
    """A recording that somebody sent, and what they say of it.

    Attributes
    ----------
    path
        Where it lies for now.
    name
        What they call it; None where they do not say.
    sha256
        Of its content, as hex.
    """

    path: Path
    name: str | None
    size_bytes: int
    sha256: str
    speaker: str | None = None
    session: str | None = None
    recorded_at: dt.datetime | None = None
    labels: Sequence[str] = ()
    consent: Consent | None = None

    @property
    def uri(self) -> str:
        """What the record calls it."""
        return UPLOAD_PREFIX + (self.name or self.sha256[:16])


@dataclass(frozen=True)
class Taken:
    """What became of it.

    Attributes
    ----------
    created
        False where the gallery had this content already.
    warnings
        What a person should know of it, as that several voices were heard.
    unlike
        What of it may be a second voice, though it was enrolled as one; None where nothing may.
    levels
        How loud it is; None where it was not decoded, because it was known.
    """

    recording_id: RecordingId
    created: bool
    enrolled: int
    levels: Levels | None
    warnings: tuple[str, ...] = ()
    unlike: UnlikeStretch | None = None


@dataclass(frozen=True)
class _Wanted:
    """How a recording is to be taken in."""

    channels: ChannelPolicy
    asked_channels: ChannelPolicy | None
    """None where nobody asked for any."""
    listening: Listening | None
    gate: SpeechGate


class _Refused(Exception):
    """Carries the reason out of a transaction that is not to be tried again, and that nobody is to take for a file's.

    Never leaves this module.
    """

    def __init__(self, reason: VoxdexError) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Intake:
    """Takes single recordings into galleries.

    Parameters
    ----------
    media
        Keeps their audio.
    encoders_for
        The encoders of a gallery.
    listening
        Finds speech and tells voices apart, unless somebody asks otherwise; None: all that sounds is embedded.
    committed
        Called with a gallery after something was written into it.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        media: MediaStore,
        encoders_for: Callable[[GalleryId], EncoderSet],
        listening: Listening | None = None,
        committed: Callable[[GalleryId], None],
    ) -> None:
        self._database = database
        self._settings = settings
        self._media = media
        self._encoders_for = encoders_for
        self._listening = listening
        self._committed = committed

    def take(
        self,
        gallery_id: GalleryId,
        sent: Sent,
        *,
        channels: str | None = None,
        speakers: str | None = None,
        speech: Literal["auto", "off"] | None = None,
        min_speech_s: float | None = None,
    ) -> Taken:
        """Embed a recording, keep its audio, and enroll it as its speaker where one is named.

        Nothing is left of one that cannot be used: whoever sent it is told why, and can send another.

        Parameters
        ----------
        channels
            Channel policy; None means the setting's, or for what the gallery has already the one it is kept with.
        speakers, speech
            See `indexer.hearing.listening_as_asked`; None means the setting's.
        min_speech_s
            Least net speech that a voice is enrolled with; None means the setting's.

        Raises
        ------
        InvalidAudio
            If it cannot be used, or holds less speech than a speaker is enrolled with.
        InvalidRequest
            If consent is noted of nobody.
        ConsentRequired
            If its speaker is to be enrolled, the gallery requires consent and there is none.
        Conflict
            If the gallery has it already, enrolled as somebody else or with other channels.
        NotFound
            If the gallery is gone.
        """
        if sent.consent is not None and sent.speaker is None:
            raise InvalidRequest("consent_reference without a speaker; say whose consent it is")
        policy = ChannelPolicy.parse(channels or self._settings.audio.channels)
        listening = self._listening
        if listening is not None:
            listening = listening_as_asked(listening, self._settings.speech, speakers=speakers, speech=speech)
            policy = listening.channels(policy)
        needed_s = self._settings.decision.min_enrollment_s if min_speech_s is None else min_speech_s
        setting = "VOXDEX_DECISION__MIN_ENROLLMENT_S" if min_speech_s is None else "min_speech_s"
        gate = SpeechGate(needed_s, setting, self._settings.speech.min_snr_db)
        wanted = _Wanted(policy, policy if channels else None, listening, gate)
        if sent.speaker is not None:
            self._require_consent(gallery_id, require_name("speaker", sent.speaker), sent.consent)
        try:
            taken = self._take(gallery_id, sent, wanted)
        except EncoderChanged:  # Right now; it will not be once more.
            taken = self._take(gallery_id, sent, wanted)
        self._committed(gallery_id)
        return taken

    def _take(self, gallery_id: GalleryId, sent: Sent, wanted: _Wanted) -> Taken:
        """Embed it under the gallery's encoders of now, and keep it."""
        encoders = self._encoders_for(gallery_id)
        recorder = Recorder(
            database=self._database,
            gallery_id=gallery_id,
            encoder_ids=encoders.ids,
            channels=wanted.channels,
            naming="must",
            one_voice=wanted.listening is not None and wanted.listening.speakers == "one",
        )
        result = self._embedded(encoders, wanted, recorder, sent)
        outcome = self._keep(recorder, result, sent, wanted)
        assert outcome.recording_id is not None
        created = outcome.state == JobItemState.DONE
        unlike = result.unlike if created else None
        return Taken(outcome.recording_id, created, outcome.enrolled, result.levels, outcome.notices, unlike)

    def _embedded(self, encoders: EncoderSet, wanted: _Wanted, recorder: Recorder, sent: Sent) -> EmbeddedFile:
        file = ArchiveFile(
            sent.path,
            sent.speaker,
            sent.size_bytes,
            uri=sent.uri,
            session=sent.session,
            recorded_at=sent.recorded_at,
            labels=tuple(sent.labels),
        )
        pipeline = EmbeddingPipeline(
            encoders,
            channels=wanted.channels,
            limits=self._settings.audio,
            decode_threads=1,
            is_known=recorder.is_known,
            listening=wanted.listening,
        )
        with closing(pipeline.run([file])) as results:
            result = next(results)
        if result.error is not None:
            raise result.error
        if not result.known and not result.utterances:
            raise SilentAudio(f"{sent.uri}: no stretch of it holds sound; check the recording's level")
        tracks = {utterance.track for utterance in result.utterances}
        if sent.speaker is not None and wanted.channels.kind == "each" and len(tracks) > 1:
            raise InvalidRequest(
                f"{sent.uri}: {len(tracks)} channels hold sound and channels = each keeps them apart; one speaker is "
                "enrolled from one of them: name it (channels=0, channels=1, ...), or mix them (channels=mix)"
            )
        if sent.speaker is not None and not result.known:
            unread = "" if result.info is None else beside(result.info)
            wanted.gate.require(_main_quality(result.utterances, result.voices_s), sent.uri, beside=unread)
        return result

    def _keep(self, recorder: Recorder, result: EmbeddedFile, sent: Sent, wanted: _Wanted) -> Outcome:
        """Write it, with its audio in its place before the commit and gone again where there was none."""
        key = None if result.known else self._media.keep(sent.path, recorder.gallery_id)
        kept = False
        try:
            placed = replace(result, file=replace(result.file, media_key=key))
            outcome = self._write(recorder, placed, sent, wanted)
            kept = outcome.state == JobItemState.DONE
            return outcome
        except EncoderChanged:
            if key is not None:  # Whoever embeds it again finds it where it was.
                self._media.take_back(key, sent.path)
                key = None
            raise
        finally:
            if key is not None and not kept:
                self._media.delete([key])

    def _write(self, recorder: Recorder, result: EmbeddedFile, sent: Sent, wanted: _Wanted) -> Outcome:
        def before(session: Session) -> None:
            if result.content_sha256 is not None:
                self._compare_with_stored(session, recorder.gallery_id, result.content_sha256, sent, wanted)
            if sent.consent is not None and sent.speaker is not None:
                speaker_id = Speakers(session).get_or_create(recorder.gallery_id, [sent.speaker])[sent.speaker]
                SpeakerRecords(session, recorder.gallery_id).set_consent(speaker_id, sent.consent)

        def refuse(session: Session, outcomes: Sequence[Outcome]) -> None:
            if outcomes[0].error is not None:
                raise _Refused(outcomes[0].error)

        try:
            return recorder.commit([result], note=refuse, fence=before)[0]
        except _Refused as refused:
            raise refused.reason from None

    def _compare_with_stored(
        self, session: Session, gallery_id: GalleryId, content_sha256: str, sent: Sent, wanted: _Wanted
    ) -> None:
        """Refuse what a recording that is there already cannot be: one voice, of other channels, long enough."""
        recordings = Recordings(session)
        row = recordings.by_content(gallery_id, content_sha256)
        if row is None or row.state == RecordingState.FAILED:
            return
        number = RecordingId(row.id)
        utterances = recordings.utterances(number)
        stored = {utterance.channel for utterance in utterances}
        asked = wanted.asked_channels
        if asked is not None and stored and row.channels != 1 and not _is_kept_as(asked, stored):
            raise _Refused(
                Conflict(
                    f"{sent.uri}: it is recording {number} already, kept with {_channels(stored)}, and channels = "
                    f"{asked} was asked for; delete recording {number} first, or leave channels out"
                )
            )
        if sent.speaker is None:
            return
        if len(stored) > 1:
            raise _Refused(
                Conflict(
                    f"{sent.uri}: it is recording {number} already, with {len(stored)} channels kept apart; "
                    f"send a recording of the speaker alone, or delete recording {number} first"
                )
            )
        if sent.speaker not in recordings.speakers_of([number]).get(number, ()):
            voices_s = speech_by_voice((utterance.voice, utterance.speech_s) for utterance in utterances)
            try:
                wanted.gate.require(_main_quality(utterances, voices_s), sent.uri)
            except InvalidAudio as error:
                raise _Refused(error) from None

    def _require_consent(self, gallery_id: GalleryId, speaker: str, consent: Consent | None) -> None:
        with self._database.read_scope() as session:
            given = consent.reference if consent is not None else None
            SpeakerRecords(session, gallery_id).require_consent(speaker, given)


def _main_quality(utterances: Sequence[EmbeddedUtterance | UtteranceSummary], voices_s: Mapping[int, float]) -> Quality:
    """Return the quality of what is enrolled of a recording; where nobody looked, only how much it is."""
    main = [utterance for utterance in utterances if is_of_main_voice(utterance.voice, voices_s)]
    known = [utterance.quality for utterance in main if utterance.quality is not None]
    if known and len(known) == len(main):
        return pooled_quality(known)
    speech_s = sum(utterance.speech_s for utterance in main)
    return Quality(speech_s, snr_db=None, clipped_share=0.0, bandwidth_hz=0.0, level_dbfs=LEAST_LEVEL_DBFS)


def _is_kept_as(policy: ChannelPolicy, stored: set[int | None]) -> bool:
    """Tell whether utterances of these channels (None: the mix) are what a policy makes of a recording."""
    if policy.kind == "each":
        return None not in stored
    return stored == {policy.channel if policy.kind == "one" else None}


def _channels(stored: set[int | None]) -> str:
    if stored == {None}:
        return "its channels mixed"
    numbers = sorted(channel for channel in stored if channel is not None)
    return f"channel {numbers[0]} alone" if len(numbers) == 1 else f"channels {', '.join(map(str, numbers))} apart"
