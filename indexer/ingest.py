"""The use case that writes: recordings into a gallery, each exactly once, whatever happens on the way.

A recording, its utterances, vectors and enrollments, and the job's note of it are one transaction. A process killed
between two of them loses nothing that was committed; the next run finds every committed recording by its content.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from indexer.archive import ArchiveFile, as_text
from indexer.audio.decode import ChannelPolicy
from indexer.db.jobs import Jobs
from indexer.db.models import JobItemState, JobState, Recording, RecordingState
from indexer.db.recordings import Recordings
from indexer.db.repositories import Speakers
from indexer.db.rows import NewRecording, NewUtterance
from indexer.db.session import Database
from indexer.embedding.encoder import Encoder
from indexer.errors import AlreadyExists, Conflict, InvalidRequest, VoxdexError, one_line
from indexer.interrupts import interrupts_deferred
from indexer.pipeline import EmbeddedFile, EmbeddingPipeline
from indexer.settings import AudioSettings
from indexer.types import GalleryId, JobId, RecordingId, SpeakerId

logger = logging.getLogger(__name__)

Naming = Literal["may", "must"]
"""A recording that is enrolled to somebody else already: `may` keeps that and says so, `must` fails the file."""


@dataclass(slots=True)
class Tally:
    """Counts of a run so far."""

    found: int = 0
    ingested: int = 0
    partial: int = 0
    duplicate: int = 0
    failed: int = 0
    utterances: int = 0
    enrolled: int = 0
    audio_s: float = 0.0
    started: float = field(default_factory=time.monotonic)
    elapsed_s: float = 0.0

    @property
    def processed(self) -> int:
        """Files that are done with."""
        return self.ingested + self.duplicate + self.failed

    @property
    def files_per_s(self) -> float:
        """Files done with in a second."""
        return self.processed / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def times_real_time(self) -> float:
        """Seconds of audio embedded in a second."""
        return self.audio_s / self.elapsed_s if self.elapsed_s else 0.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A file that could not be used, and why."""

    path: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What became of every file."""

    job_id: JobId
    tally: Tally
    failures: tuple[Failure, ...]
    notices: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Ingest:
    """Embeds recordings into one gallery, whose encoder `encoder` is."""

    database: Database
    gallery_id: GalleryId
    encoder: Encoder
    limits: AudioSettings
    channels: ChannelPolicy
    decode_threads: int

    def run(
        self,
        files: Sequence[ArchiveFile],
        *,
        source: str,
        naming: Naming = "may",
        on_file: Callable[[Tally], None] | None = None,
    ) -> IngestReport:
        """Ingest files; one that cannot be used is recorded with its reason and stops nothing.

        Parameters
        ----------
        source
            What the user pointed at; kept with the job.
        on_file
            Called after every file.

        Raises
        ------
        Unavailable
            If the record cannot be written; what was committed stays.
        """
        with self.database.session_scope() as session:
            job_id = Jobs(session).start(self.gallery_id, kind="ingest", source=source, found=len(files))
        run = _Run(self, job_id, naming, Tally(found=len(files)))
        pipeline = EmbeddingPipeline(
            self.encoder,
            channels=self.channels,
            limits=self.limits,
            decode_threads=self.decode_threads,
            is_known=run.is_known,
        )
        done = pipeline.run(files)
        try:
            for result in done:
                with interrupts_deferred():
                    run.commit(result)
                if on_file:
                    on_file(run.tally)
        except BaseException as error:
            state = JobState.CANCELED if isinstance(error, KeyboardInterrupt) else JobState.FAILED
            # The note must not hide why it is written: what stopped the job (a full disk) may refuse it too.
            try:
                run.finish(state, error=str(error) or type(error).__name__)
            except VoxdexError as unwritten:
                logger.warning("job %s: its end was not written: %s", job_id, unwritten)
            raise
        finally:
            done.close()
        run.finish(JobState.SUCCEEDED_WITH_ERRORS if run.failures else JobState.SUCCEEDED)
        return IngestReport(job_id, run.tally, tuple(run.failures), tuple(run.notices))


@dataclass
class _Run:
    """One job under way."""

    ingest: Ingest
    job_id: JobId
    naming: Naming
    tally: Tally
    failures: list[Failure] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def is_known(self, content_sha256: str) -> bool:
        """Tell whether a recording with this content is in the gallery and usable; called from decoding threads."""
        with self.ingest.database.read_scope() as session:
            recording = Recordings(session).by_content(self.ingest.gallery_id, content_sha256)
            return recording is not None and recording.state != RecordingState.FAILED

    def commit(self, result: EmbeddedFile) -> None:
        """Write what became of a file, in one transaction."""
        try:
            if result.error is not None:
                self._fail(result, result.error)
            elif result.known:
                self._recognize(result)
            else:
                self._add(result)
        except AlreadyExists:
            # Another run committed the same content between our look and our write: first come, first kept.
            self._recognize(result)
        except (Conflict, InvalidRequest) as error:  # A name that cannot be kept is one file's failure too.
            self._fail(result, error)
        self.tally.elapsed_s = time.monotonic() - self.tally.started

    def finish(self, state: JobState, *, error: str | None = None) -> None:
        """End the job."""
        with self.ingest.database.session_scope() as session:
            Jobs(session).finish(self.job_id, state, error=error)

    def _add(self, result: EmbeddedFile) -> None:
        with self.ingest.database.session_scope() as session:
            recordings, speaker = Recordings(session), self._speaker(Speakers(session), result)
            recording = self._recording(result, speaker)
            failed_before = recordings.by_content(self.ingest.gallery_id, recording.content_sha256)
            if failed_before is not None and failed_before.state == RecordingState.FAILED:
                added, _ = recordings.replace(RecordingId(failed_before.id), self.ingest.encoder.id, recording)
            else:
                added = recordings.add(self.ingest.gallery_id, self.ingest.encoder.id, recording)
            self._note(Jobs(session), result, JobItemState.DONE, added.recording_id)
        self.tally.ingested += 1
        self.tally.partial += bool(result.issues)
        self.tally.utterances += len(result.utterances)
        self.tally.enrolled += len(result.utterances) if speaker is not None else 0
        self.tally.audio_s += result.duration_s
        self.notices += [f"{result.file.recorded_uri}: partial: {issue}" for issue in result.issues]

    def _recognize(self, result: EmbeddedFile) -> None:
        """Take note of a recording that is there already; give it its speaker where it has none."""
        enrolled = 0
        with self.ingest.database.session_scope() as session:
            assert result.content_sha256 is not None
            recordings, speakers = Recordings(session), Speakers(session)
            recording = recordings.by_content(self.ingest.gallery_id, result.content_sha256)
            assert recording is not None
            recording_id = RecordingId(recording.id)
            if result.file.speaker is not None:
                names = recordings.summary(recording_id).speakers
                if not names:
                    speaker = self._speaker(speakers, result)
                    assert speaker is not None
                    utterances = recordings.utterance_ids(recording_id)
                    speakers.enroll(speaker, utterances)
                    enrolled = len(utterances)
                elif result.file.speaker not in names:
                    self._keep_name(result, recording, names)
            self._note(Jobs(session), result, JobItemState.DUPLICATE, recording_id)
        self.tally.duplicate += 1
        self.tally.enrolled += enrolled

    def _keep_name(self, result: EmbeddedFile, recording: Recording, names: Sequence[str]) -> None:
        message = (
            f"{result.file.recorded_uri}: recording {recording.id} is enrolled as {', '.join(names)}, "
            f"not as {result.file.speaker}; to rename it, erase it first: voxdex recordings delete {recording.id}"
        )
        if self.naming == "must":
            raise Conflict(message)
        self.notices.append(message)

    def _fail(self, result: EmbeddedFile, error: VoxdexError) -> None:
        message = as_text(one_line(error))
        with self.ingest.database.session_scope() as session:
            recording_id = None
            if result.content_sha256 is not None and not result.known:
                recording_id = self._record_failed(Recordings(session), result, error.code, message)
            uri = result.file.recorded_uri
            jobs = Jobs(session)
            jobs.record(
                self.job_id,
                uri,
                JobItemState.FAILED,
                recording_id=recording_id,
                error_code=error.code,
                error_message=message,
            )
        self.tally.failed += 1
        self.failures.append(Failure(uri, error.code, message))
        logger.info("job %s: file refused: %s", self.job_id, error.code)

    def _record_failed(
        self, recordings: Recordings, result: EmbeddedFile, code: str, message: str
    ) -> RecordingId | None:
        recording = self._recording(result, None, failure=(code, message))
        known = recordings.by_content(self.ingest.gallery_id, recording.content_sha256)
        if known is None:
            return recordings.add(self.ingest.gallery_id, self.ingest.encoder.id, recording).recording_id
        if known.state == RecordingState.FAILED:
            recordings.replace(RecordingId(known.id), self.ingest.encoder.id, recording)
        return RecordingId(known.id)

    def _recording(
        self, result: EmbeddedFile, speaker: SpeakerId | None, *, failure: tuple[str, str] | None = None
    ) -> NewRecording:
        assert result.content_sha256 is not None
        info = result.info
        state = RecordingState.FAILED if failure else RecordingState.PARTIAL if result.issues else RecordingState.READY
        apart = self.ingest.channels.kind == "each"
        return NewRecording(
            content_sha256=result.content_sha256,
            uri=result.file.recorded_uri,
            state=state,
            duration_s=None if failure else result.duration_s,
            sample_rate_hz=info.sample_rate_hz if info else None,
            channels=info.channels if info else None,
            container=info.container if info else None,
            codec=info.codec if info else None,
            size_bytes=result.file.size_bytes,
            error_code=failure[0] if failure else "partial" if result.issues else None,
            error_message=failure[1] if failure else "; ".join(result.issues) or None,
            session=result.file.session,
            recorded_at=result.file.recorded_at,
            labels=result.file.labels,
            speech_s=None if failure else result.speech_s,
            media_key=result.file.media_key,
            utterances=[]
            if failure
            else [
                NewUtterance(
                    channel=utterance.track
                    if apart
                    else self.ingest.channels.channel
                    if self.ingest.channels.kind == "one"
                    else None,
                    start_s=utterance.start_s,
                    end_s=utterance.end_s,
                    vector=utterance.vector,
                    speaker_id=speaker,
                )
                # Decoding threads of one file never overtake each other, but channels of a block do.
                for utterance in sorted(result.utterances, key=lambda u: (u.track, u.start_s))
            ],
        )

    def _speaker(self, speakers: Speakers, result: EmbeddedFile) -> SpeakerId | None:
        if result.file.speaker is None:
            return None
        return speakers.get_or_create(self.ingest.gallery_id, [result.file.speaker])[result.file.speaker]

    def _note(self, jobs: Jobs, result: EmbeddedFile, state: JobItemState, recording_id: RecordingId) -> None:
        jobs.record(self.job_id, result.file.recorded_uri, state, recording_id=recording_id)
