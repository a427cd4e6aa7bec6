"""What came out of files -> rows of the record: the one place where it is decided what a file becomes.

Ingest in the process and shards of jobs write some files a transaction; both come through here.
"""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy.orm import Session

from indexer.archive import as_text
from indexer.audio.channels import ChannelPolicy
from indexer.audio.remarks import remarks
from indexer.db.galleries import Galleries
from indexer.db.models import JobItemState, OnDuplicate, RecordingState
from indexer.db.names import require_name, require_text
from indexer.db.recordings import Recordings
from indexer.db.rows import NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.db.transactions import in_transaction
from indexer.embedded_files import EmbeddedFile
from indexer.errors import (
    AlreadyExists,
    Conflict,
    ConsentRequired,
    EncoderChanged,
    InvalidRequest,
    Unavailable,
    VoxdexError,
    one_line,
)
from indexer.listening import speech_by_voice
from indexer.observability import AUDIO_SECONDS, COMMIT_SECONDS, FILES, SPEECH_SECONDS, counting_seconds
from indexer.types import EncoderId, GalleryId, RecordingId, SpeakerId, UtteranceId

Naming = Literal["may", "must"]
"""A recording that is enrolled to somebody else already: `may` keeps that and says so, `must` fails the file."""

SESSION_LIMIT = 200
"""Most characters of a session's name."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a file."""

    result: EmbeddedFile
    state: JobItemState
    recording_id: RecordingId | None = None
    error: VoxdexError | None = None
    notices: tuple[str, ...] = ()
    """What a person should know of a file that was not refused."""
    enrolled: int = 0
    """Utterances that were enrolled."""

    @property
    def error_code(self) -> str | None:
        """Stable name of the reason it was refused for."""
        return self.error.code if self.error else None

    @property
    def error_message(self) -> str | None:
        """The reason it was refused for, on one line."""
        return as_text(one_line(self.error)) if self.error else None


Note = Callable[[Session, Sequence[Outcome]], None]
"""Writes what the outcomes mean to whoever asked for the files, in the transaction that writes the rows."""


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Writes results into one gallery, whose encoders made them."""

    database: Database
    gallery_id: GalleryId
    encoder_ids: tuple[EncoderId, ...]
    """Of the encoders that made the vectors, the gallery's own first."""
    channels: ChannelPolicy
    on_duplicate: OnDuplicate = OnDuplicate.SKIP
    naming: Naming = "may"
    one_voice: bool = False
    """Whether somebody says that recordings hold one voice, whatever was heard in them before."""
    enough_s: float = 0.0
    """Net speech below which an enrollment is taken with a warning."""

    def is_known(self, content_sha256: str) -> bool:
        """Tell whether a recording with this content is in the gallery and usable; safe to call from any thread."""
        with self.database.read_scope() as session:
            known = Recordings(session).known_contents(self.gallery_id, [content_sha256]).get(content_sha256)
            return known is not None and known[1] != RecordingState.FAILED

    def commit(
        self, results: Sequence[EmbeddedFile], *, note: Note, fence: Callable[[Session], None] | None = None
    ) -> list[Outcome]:
        """Write results, and what `note` makes of them, in one transaction.

        Where one of them contradicts the record again and again, each is written by itself and that one is refused.

        Parameters
        ----------
        fence
            Called first in the transaction; raises where nothing may be written any more.

        Raises
        ------
        Unavailable
            If the record cannot be written; nothing was.
        EncoderChanged
            If the gallery is searched under another encoder by now; nothing was written.
        """

        def work(session: Session) -> list[Outcome]:
            if fence is not None:
                fence(session)
            outcomes = self.write(session, results)
            note(session, outcomes)
            return outcomes

        try:
            with counting_seconds(COMMIT_SECONDS):
                outcomes = in_transaction(self.database, work)
        except (Unavailable, EncoderChanged):
            raise
        except VoxdexError as error:
            if len(results) > 1:
                return [outcome for one in results for outcome in self.commit([one], note=note, fence=fence)]
            if results[0].error is not None and results[0].content_sha256 is None:
                raise
            # Refused with its recording's row first; where even that cannot be kept, without one.
            content = None if results[0].error is not None else results[0].content_sha256
            refused = replace(results[0], error=results[0].error or error, content_sha256=content)
            return self.commit([refused], note=note, fence=fence)
        for outcome in outcomes:
            FILES.labels(outcome=outcome.state.value).inc()
            if outcome.state == JobItemState.DONE:
                AUDIO_SECONDS.inc(outcome.result.duration_s)
                SPEECH_SECONDS.inc(outcome.result.speech_s)
        return outcomes

    def write(self, session: Session, results: Sequence[EmbeddedFile]) -> list[Outcome]:
        """Write results in the session's transaction, and return what became of each, in their order."""
        return _Batch(self, session).write(results)


class _Batch:
    """One transaction's worth of results."""

    def __init__(self, recorder: Recorder, session: Session) -> None:
        self._recorder = recorder
        self._session = session
        self._recordings = Recordings(session)
        self._speakers = Speakers(session)

    def write(self, results: Sequence[EmbeddedFile]) -> list[Outcome]:
        outcomes: dict[int, Outcome] = {}
        pending = list(enumerate(results))
        while pending:
            # The same content twice in a batch: the second finds the first in the record, as it would later.
            contents: set[str] = set()
            now: list[tuple[int, EmbeddedFile]] = []
            later: list[tuple[int, EmbeddedFile]] = []
            for place, result in pending:
                repeated = result.content_sha256 is not None and result.content_sha256 in contents
                (later if repeated else now).append((place, result))
                contents.update([result.content_sha256] if result.content_sha256 else [])
            places = [place for place, _ in now]
            outcomes.update(zip(places, self._write_distinct([result for _, result in now]), strict=True))
            pending = later
        return [outcomes[place] for place in range(len(results))]

    def _write_distinct(self, given: Sequence[EmbeddedFile]) -> list[Outcome]:
        """Write results of different contents."""
        known = self._recordings.known_contents(
            self._recorder.gallery_id, [result.content_sha256 for result in given if result.content_sha256]
        )
        usable = {content: number for content, (number, state) in known.items() if state != RecordingState.FAILED}
        owners = self._owners(list(usable.values()))
        refused = self._refused(given, usable)
        wanted = {
            result.file.speaker
            for result in given
            if result.file.speaker is not None
            and id(result) not in refused
            and self._enrolls(result, owners.get(usable.get(result.content_sha256 or "", RecordingId(0)), ()))
        }
        without_consent = self._without_consent(wanted)
        for result in given:
            if result.file.speaker in without_consent and id(result) not in refused:
                refused[id(result)] = ConsentRequired(
                    f"{result.file.recorded_uri}: no consent of {result.file.speaker} is recorded, and this gallery "
                    "enrolls nobody without: give --consent-reference, or record it with the speaker first"
                )
        speakers = self._speakers.get_or_create(self._recorder.gallery_id, wanted - without_consent)
        written = self._write_rows(given, refused, known, speakers)
        return [self._outcome(result, refused.get(id(result)), written, usable, owners, speakers) for result in given]

    def _refused(self, given: Sequence[EmbeddedFile], usable: dict[str, RecordingId]) -> dict[int, VoxdexError]:
        """Tell which results cannot be kept, and why."""
        refused: dict[int, VoxdexError] = {}
        for result in given:
            error = result.error or _impossible(result)
            if error is None and result.content_sha256 in usable and self._recorder.on_duplicate == OnDuplicate.ERROR:
                error = AlreadyExists(
                    f"{result.file.recorded_uri}: the gallery has this content already, as recording "
                    f"{usable[result.content_sha256]}; skip or relabel duplicates to accept it"
                )
            if error is None and result.known and result.content_sha256 not in usable:
                error = Conflict(
                    f"{result.file.recorded_uri}: its recording was erased while it was looked at; ingest it again"
                )
            if error is not None:
                refused[id(result)] = error
        return refused

    def _owners(self, recording_ids: Sequence[RecordingId]) -> dict[int, tuple[str, ...]]:
        """Tell whom each recording is enrolled as; of several voices the main one counts, whoever the others are."""
        owners = self._recordings.speakers_of(recording_ids)
        for number in list(owners):
            utterances, voices_s = self._main_voice(RecordingId(number))
            if len(voices_s) > 1:
                owners[number] = self._recordings.speakers_of_utterances(utterances)
        return owners

    def _main_voice(self, recording_id: RecordingId) -> tuple[list[UtteranceId], dict[int, float]]:
        """Return the utterances that naming a stored recording enrolls, and the speech of each of its voices."""
        stored = self._recordings.utterances(recording_id)
        voices_s = {} if self._recorder.one_voice else speech_by_voice((one.voice, one.speech_s) for one in stored)
        return [one.utterance_id for one in stored if is_of_main_voice(one.voice, voices_s)], voices_s

    def _enrolls(self, result: EmbeddedFile, owners: Collection[str]) -> bool:
        """Tell whether a result makes somebody's enrollment: a new one, one without owner, one that is relabeled."""
        return not owners or (
            self._recorder.on_duplicate == OnDuplicate.RELABEL and set(owners) != {result.file.speaker}
        )

    def _without_consent(self, names: Collection[str]) -> set[str]:
        if not names or not Galleries(self._session).get(self._recorder.gallery_id).consent_required:
            return set()
        return set(names) - self._speakers.consenting(self._recorder.gallery_id, names)

    def _write_rows(
        self,
        given: Sequence[EmbeddedFile],
        refused: dict[int, VoxdexError],
        known: dict[str, tuple[RecordingId, RecordingState]],
        speakers: dict[str, SpeakerId],
    ) -> dict[str, RecordingId]:
        """Write the recordings that are new, and anew those that failed before; return their ids by content."""
        gallery_id, encoder_id = self._recorder.gallery_id, self._recorder.encoder_ids[0]
        fresh: list[NewRecording] = []
        written: dict[str, RecordingId] = {}
        for result in sorted(given, key=lambda result: result.content_sha256 or ""):
            if result.content_sha256 is None or result.known:
                continue
            before, state = known.get(result.content_sha256, (None, None))
            if before is not None and state != RecordingState.FAILED:
                continue
            recording = self._recording(result, speakers, refused.get(id(result)))
            if before is None:
                fresh.append(recording)
            else:
                self._recordings.replace(before, encoder_id, recording)
                written[result.content_sha256] = before
        added = self._recordings.add_many(gallery_id, encoder_id, fresh)
        written.update((one.content_sha256, ids.recording_id) for one, ids in zip(fresh, added, strict=True))
        return written

    def _outcome(
        self,
        result: EmbeddedFile,
        error: VoxdexError | None,
        written: dict[str, RecordingId],
        usable: dict[str, RecordingId],
        owners: dict[int, tuple[str, ...]],
        speakers: dict[str, SpeakerId],
    ) -> Outcome:
        content = result.content_sha256 or ""
        if error is not None:
            return Outcome(result, JobItemState.FAILED, written.get(content) or usable.get(content), error)
        if content in written:
            enrolled = 0
            notices = remarks(result.info, result.issues)
            if result.file.speaker is not None:
                enrolled = sum(is_of_main_voice(one.voice, result.voices_s) for one in result.utterances)
                notices += several_voices(result.voices_s, result.file.speaker)
                notices += perhaps_second_voice(result)
                notices += self._little_speech(result)
            return Outcome(result, JobItemState.DONE, written[content], notices=notices, enrolled=enrolled)
        return self._recognize(result, usable[content], owners.get(usable[content], ()), speakers)

    def _little_speech(self, result: EmbeddedFile) -> tuple[str, ...]:
        """Warn of an enrollment that requests would be refused for; commands and jobs take any."""
        enough_s = self._recorder.enough_s
        speech_s = sum(one.speech_s for one in result.utterances if is_of_main_voice(one.voice, result.voices_s))
        if speech_s >= enough_s:
            return ()
        return (
            f"only {speech_s:.2g} s of speech is enrolled as {result.file.speaker}, wanted are {enough_s:g} s "
            "(VOXDEX_DECISION__MIN_ENROLLMENT_S); add longer recordings, best 10 s or more",
        )

    def _recognize(
        self, result: EmbeddedFile, recording_id: RecordingId, owners: Sequence[str], speakers: dict[str, SpeakerId]
    ) -> Outcome:
        """Take note of a recording that is there already, and name it as the policy says."""
        relabels = self._recorder.on_duplicate == OnDuplicate.RELABEL
        notices: tuple[str, ...] = ()
        enrolled = 0
        wanted = result.file.speaker
        if wanted is not None and self._enrolls(result, owners):
            utterances, voices_s = self._main_voice(recording_id)
            if owners:
                self._speakers.withdraw(self._recorder.gallery_id, utterances)
                notices = (f"recording {recording_id} was enrolled as {', '.join(owners)} and is now {wanted}",)
            self._speakers.enroll(speakers[wanted], utterances)
            notices += several_voices(voices_s, wanted)
            enrolled = len(utterances)
        elif wanted is not None and wanted not in owners:
            message = self._owned(recording_id, owners, wanted)
            if self._recorder.naming == "must":
                error = Conflict(f"{result.file.recorded_uri}: {message}")
                return Outcome(result, JobItemState.FAILED, recording_id, error)
            notices = (message,)
        if relabels:
            file = result.file
            self._recordings.relabel(
                recording_id, session=file.session, recorded_at=file.recorded_at, labels=file.labels
            )
        return Outcome(result, JobItemState.DUPLICATE, recording_id, notices=notices, enrolled=enrolled)

    def _owned(self, recording_id: RecordingId, owners: Sequence[str], wanted: str) -> str:
        """Say that a recording is somebody else's, and what to do where both are one person, and where they are not."""
        place = ["--gallery", Galleries(self._session).get(self._recorder.gallery_id).name]
        merge = shlex.join(["voxdex", "speakers", "merge", wanted, owners[0], *place])
        erase = shlex.join(["voxdex", "recordings", "delete", str(recording_id), *place])
        return (
            f"recording {recording_id} is enrolled as {', '.join(owners)}, not as {wanted}; if that is one person, "
            f"keep to {owners[0]}, and merge {wanted} into it where both are enrolled: `{merge}`, or Merge on the page "
            f"of {wanted}; if it is {wanted} alone, erase it first: `{erase}`"
        )

    def _recording(
        self, result: EmbeddedFile, speakers: dict[str, SpeakerId], error: VoxdexError | None
    ) -> NewRecording:
        assert result.content_sha256 is not None
        file, info = result.file, result.info
        state = RecordingState.FAILED if error else RecordingState.PARTIAL if result.issues else RecordingState.READY
        keeps = not isinstance(error, InvalidRequest)  # What the file is said to be may be why it was refused.
        return NewRecording(
            content_sha256=result.content_sha256,
            uri=file.recorded_uri,
            state=state,
            duration_s=None if error else result.duration_s,
            sample_rate_hz=info.sample_rate_hz if info else None,
            channels=info.channels if info else None,
            container=info.container if info else None,
            codec=info.codec if info else None,
            size_bytes=file.size_bytes if result.size_bytes is None else result.size_bytes,
            error_code=error.code if error else "partial" if result.issues else None,
            error_message=as_text(one_line(error)) if error else "; ".join(result.issues) or None,
            session=file.session if keeps else None,
            recorded_at=file.recorded_at,
            labels=file.labels if keeps else (),
            speech_s=None if error else result.speech_s,
            media_key=file.media_key,
            voices=len(result.voices_s) or None,
            audio_track=info.track if info else None,
            audio_tracks=info.audio_tracks if info else None,
            utterances=() if error else self._utterances(result, speakers),
        )

    def _utterances(self, result: EmbeddedFile, speakers: dict[str, SpeakerId]) -> list[NewUtterance]:
        channels = self._recorder.channels
        first_id, *second_ids = self._recorder.encoder_ids
        return [
            NewUtterance(
                channel=utterance.track
                if channels.kind == "each"
                else channels.channel
                if channels.kind == "one"
                else None,
                start_s=utterance.start_s,
                end_s=utterance.end_s,
                vector=utterance.vectors[first_id],
                beside={second_id: utterance.vectors[second_id] for second_id in second_ids},
                speaker_id=speakers[result.file.speaker]
                if result.file.speaker is not None and is_of_main_voice(utterance.voice, result.voices_s)
                else None,
                voice=utterance.voice,
                quality=utterance.quality,
            )
            # Decoding threads of one file never overtake each other, but channels of a block do.
            for utterance in sorted(result.utterances, key=lambda u: (u.track, u.start_s))
        ]


def is_of_main_voice(voice: int | None, voices_s: Mapping[int, float]) -> bool:
    """Tell whether speech is of the voice that a recording holds most of; of several, no other is enrolled."""
    return len(voices_s) < 2 or voice == next(iter(voices_s))


def several_voices(voices_s: Mapping[int, float], speaker: str) -> tuple[str, ...]:
    """Warn that a recording that is said to be of one speaker holds several voices; nothing where it does not."""
    if len(voices_s) < 2:
        return ()
    total_s = sum(voices_s.values())
    shares = [f"{100 * seconds / total_s:.0f} %" for seconds in voices_s.values()] if total_s else []
    return (
        f"{len(voices_s)} voices were heard ({', '.join(shares)} of {total_s:.3g} s of speech): only the first of them "
        f"is enrolled as {speaker}; where all are one person, delete the recording and take it in with speakers = one",
    )


def perhaps_second_voice(result: EmbeddedFile) -> tuple[str, ...]:
    """Ask somebody to listen where all was taken for one voice, and a stretch is not much like the rest."""
    if result.unlike is None or len(result.voices_s) > 1:
        return ()
    start_s, end_s, cosine = result.unlike
    return (
        f"may hold a second voice: listen to {start_s:.1f} to {end_s:.1f} s, cosine {cosine:.2f} with the rest; where "
        f"it is not {result.file.speaker}, delete the recording and enroll one of {result.file.speaker} alone",
    )


def _impossible(result: EmbeddedFile) -> InvalidRequest | None:
    """Tell why what a file is said to be cannot be kept."""
    file = result.file
    try:
        if file.speaker is not None:
            require_name("speaker", file.speaker)
        for label in file.labels:
            require_text("label", label)
        if file.session is not None and len(require_text("session", file.session)) > SESSION_LIMIT:
            raise InvalidRequest(f"session has {len(file.session)} characters, the limit is {SESSION_LIMIT}")
    except InvalidRequest as error:
        return InvalidRequest(f"{file.recorded_uri}: {error}")
    return None
