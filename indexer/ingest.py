"""The use case that writes: recordings into a gallery, each exactly once, whatever happens on the way.

A recording, its utterances, vectors and enrollments, and the job's note of it are one transaction, with a few other
recordings that were done at the time. A process killed between two of them loses nothing that was committed; the
next run finds every committed recording by its content.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from indexer.archive import ArchiveFile, RefusedRow, as_text
from indexer.audio.decode import ChannelPolicy
from indexer.db.jobs import IN_PROCESS, RUN_LEASE_S, FileOutcome, Jobs
from indexer.db.lost_work import LostWork
from indexer.db.models import JobItemState, JobState
from indexer.db.session import Database
from indexer.embedded_files import EmbeddedFile
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import EncoderChanged, VoxdexError, one_line
from indexer.interrupts import interrupts_deferred
from indexer.jobs.leases import kept_lease
from indexer.jobs.recorder import Naming, Outcome, Recorder
from indexer.listening import Listening
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import AudioSettings
from indexer.types import GalleryId, JobId

logger = logging.getLogger(__name__)

COMMIT_FILES = 32
COMMIT_S = 1.0
"""A transaction holds this many files, or those that were done in this time, which is what a process that is killed
loses. Written 32 at a time a file costs the processor a third less than 8 at a time: 0.31 ms."""


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
    speech_s: float = 0.0
    started: float = field(default_factory=time.monotonic)
    elapsed_s: float = 0.0

    def add(self, more: "Tally") -> None:
        """Count what another run did as well; this one began when it began."""
        self.found += more.found
        self.ingested += more.ingested
        self.partial += more.partial
        self.duplicate += more.duplicate
        self.failed += more.failed
        self.utterances += more.utterances
        self.enrolled += more.enrolled
        self.audio_s += more.audio_s
        self.speech_s += more.speech_s
        self.elapsed_s += more.elapsed_s

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
    """Embeds recordings into one gallery.

    Attributes
    ----------
    encoders_for
        The gallery's encoders of now; asked again where the gallery goes to others while files are ingested.
    listening
        Finds speech and tells voices apart; None: all that sounds is embedded, and nobody asks whose it is.
    enough_s
        Net speech below which an enrollment is taken with a notice.
    """

    database: Database
    gallery_id: GalleryId
    encoders_for: Callable[[GalleryId], EncoderSet]
    limits: AudioSettings
    channels: ChannelPolicy
    decode_threads: int
    listening: Listening | None = None
    enough_s: float = 0.0

    def run(
        self,
        files: Sequence[ArchiveFile],
        *,
        source: str,
        naming: Naming = "may",
        refused: Sequence[RefusedRow] = (),
        on_file: Callable[[Tally], None] | None = None,
    ) -> IngestReport:
        """Ingest files; one that cannot be used is recorded with its reason and stops nothing.

        Where there is nothing to ingest, the job has failed: an empty folder is a mount that is missing more often
        than an archive.

        Parameters
        ----------
        source
            What the user pointed at; kept with the job.
        refused
            Rows of manifests that are failures already.
        on_file
            Called after every file.

        Raises
        ------
        Unavailable
            If the record cannot be written; what was committed stays.
        """
        with self.database.session_scope() as session:
            LostWork(session).fail_dead_runs()  # Where no service runs, nobody else looks for them.
            found = len(files) + len(refused)
            job_id = Jobs(session).start(self.gallery_id, kind=IN_PROCESS, source=source, found=found)
        run = IngestRun(job_id, self.database, Tally(found=found))
        undone = {id(file): file for file in files}
        try:
            run.refuse(refused)
            with kept_lease(run.renew, RUN_LEASE_S):
                while undone:
                    try:
                        self._embed(run, undone, naming, on_file)
                    except EncoderChanged:
                        logger.info("job %s goes on under the gallery's new encoders", job_id)
        except BaseException as error:
            state = JobState.CANCELED if isinstance(error, KeyboardInterrupt) else JobState.FAILED
            # The note must not hide why it is written: what stopped the job (a full disk) may refuse it too.
            try:
                run.finish(state, error=str(error) or type(error).__name__)
            except VoxdexError as unwritten:
                logger.warning("job %s: its end was not written: %s", job_id, unwritten.code, exc_info=unwritten)
            raise
        if not found:
            run.finish(JobState.FAILED, error=f"{source}: no recording was found there; check path and mounts")
        else:
            run.finish(JobState.SUCCEEDED_WITH_ERRORS if run.failures else JobState.SUCCEEDED)
        return IngestReport(job_id, run.tally, tuple(run.failures), tuple(run.notices))

    def _embed(
        self, run: "IngestRun", undone: dict[int, ArchiveFile], naming: Naming, on_file: Callable[[Tally], None] | None
    ) -> None:
        """Embed and write what is not done yet, under the encoders that the gallery has now; take out what is done."""
        encoders = self.encoders_for(self.gallery_id)
        recorder = Recorder(
            database=self.database,
            gallery_id=self.gallery_id,
            encoder_ids=encoders.ids,
            channels=self.channels if self.listening is None else self.listening.channels(self.channels),
            naming=naming,
            one_voice=self.listening is not None and self.listening.speakers == "one",
            enough_s=self.enough_s,
        )
        pipeline = EmbeddingPipeline(
            encoders,
            channels=self.channels,
            limits=self.limits,
            decode_threads=self.decode_threads,
            is_known=recorder.is_known,
            listening=self.listening,
        )
        done = pipeline.run_batches(list(undone.values()), most=COMMIT_FILES, within_s=COMMIT_S)
        with closing(done) as batches:
            for batch in batches:
                with interrupts_deferred():
                    outcomes = run.commit(recorder, batch)
                    for result in batch:
                        del undone[id(result.file)]
                for outcome in outcomes:
                    run.count(outcome)
                    if on_file:
                        on_file(run.tally)


@dataclass
class IngestRun:
    """One job under way."""

    job_id: JobId
    database: Database
    tally: Tally
    failures: list[Failure] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    def refuse(self, rows: Sequence[RefusedRow]) -> None:
        """Write rows of which nothing can be made, in one transaction."""
        with self.database.session_scope() as session:
            for row in rows:
                failure = Failure(as_text(row.place), row.error.code, as_text(one_line(row.error)))
                Jobs(session).record(
                    self.job_id,
                    failure.path,
                    JobItemState.FAILED,
                    error_code=failure.code,
                    error_message=failure.message,
                )
                self.failures.append(failure)
                self.tally.failed += 1

    def commit(self, recorder: Recorder, results: Sequence[EmbeddedFile]) -> list[Outcome]:
        """Write what became of some files, in one transaction."""
        return recorder.commit(results, note=self._note)

    def renew(self) -> bool:
        """State that this process is alive."""
        with self.database.session_scope() as session:
            return Jobs(session).renew_run(self.job_id)

    def finish(self, state: JobState, *, error: str | None = None) -> None:
        """End the job."""
        with self.database.session_scope() as session:
            Jobs(session).finish(self.job_id, state, error=error)

    def _note(self, session: Session, outcomes: Sequence[Outcome]) -> None:
        files = [
            FileOutcome(
                outcome.result.file.recorded_uri,
                outcome.state,
                outcome.recording_id,
                outcome.error_code,
                outcome.error_message,
            )
            for outcome in outcomes
        ]
        Jobs(session).record_all(self.job_id, files)

    def count(self, outcome: Outcome) -> None:
        """Count a file that was written."""
        result, tally = outcome.result, self.tally
        tally.elapsed_s = time.monotonic() - tally.started
        uri = result.file.recorded_uri
        tally.enrolled += outcome.enrolled
        self.notices += [f"{uri}: {notice}" for notice in outcome.notices]
        if outcome.error is not None:
            tally.failed += 1
            self.failures.append(Failure(uri, outcome.error.code, outcome.error_message or ""))
            logger.info("job %s: file refused: %s", self.job_id, outcome.error.code)
        elif outcome.state == JobItemState.DUPLICATE:
            tally.duplicate += 1
        else:
            tally.ingested += 1
            tally.partial += bool(result.issues)
            tally.utterances += len(result.utterances)
            tally.audio_s += result.duration_s
            tally.speech_s += result.speech_s
