"""Working through a shard: claimed, embedded, committed in batches, and given back or taken over whatever happens.

A worker may die, lose its lease to another one, or lose the record for a while. Everything it writes is fenced by its
lease in the same transaction, so nothing is written twice, and whatever was not written is found by whoever comes next.
"""

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy.orm import Session

from indexer.archive import ArchiveFile, as_text
from indexer.audio.channels import ChannelPolicy
from indexer.db.jobs import Jobs
from indexer.db.models import JobItemState, JobState
from indexer.db.session import Database
from indexer.db.shards import ClaimedShard, ItemResult, OpenItem, Shards
from indexer.db.statements import batches
from indexer.db.transactions import in_transaction
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import EncoderChanged, LeaseLost, Unavailable, VoxdexError, one_line
from indexer.jobs.leases import kept_lease
from indexer.jobs.planning import send
from indexer.jobs.queue import JobQueue
from indexer.jobs.recorder import Outcome, Recorder
from indexer.jobs.remote import FETCH_PAUSES_S, fetched, opened_patiently
from indexer.jobs.source import JobOptions
from indexer.jobs.webhooks import deliver_due
from indexer.listening import Listening
from indexer.listening_choices import listening_as_asked
from indexer.observability import log_context
from indexer.pipeline import EmbeddingPipeline
from indexer.settings import Settings
from indexer.types import GalleryId, ShardId

logger = logging.getLogger(__name__)

BATCH_FILES = 32
BATCH_S = 2.0
"""A transaction holds this many files, or those that were done in this time."""

WINDOW_FILES = 8
"""Files that are marked as under way at once: what a dead worker leaves to be looked at one by one."""

_RECORD_PAUSE_S = 0.5

_UNFORESEEN = 5
"""Times `tries`: failures that nobody foresaw, before any file was touched, after which a job is given up."""

Result = TypeVar("Result")


def _nothing() -> None:
    pass


def work_shard(
    shard_id: ShardId,
    *,
    database: Database,
    settings: Settings,
    queue: JobQueue,
    encoders_for: Callable[[GalleryId], EncoderSet],
    listening: Listening | None = None,
    stopping: Callable[[], bool],
    when_stuck: Callable[[], None] = _nothing,
    fetch_pauses_s: Sequence[float] = FETCH_PAUSES_S,
) -> None:
    """Work through a shard; returns at once where it is done, canceled, or in another worker's hands.

    Parameters
    ----------
    listening
        Finds speech and tells voices apart, unless the job asks otherwise; None: all that sounds is embedded.

    stopping
        Asked several times a second: once it says so, the shard is given back, but for what is done by then.

    when_stuck
        Called, perhaps from another thread, once a file has made no progress for `JobSettings.hang_s`: a codec or a
        disk holds a thread, and only the end of the process gets rid of it. The lease ends as if a worker had died.

    fetch_pauses_s
        Waits between tries to reach a file elsewhere.

    Raises
    ------
    Unavailable
        If the record or the encoder is out of reach; the shard is given back, or found when its lease ends.
    VoxdexError
        If the gallery's encoders cannot be had at all; after several tries of that the job fails.
    """
    lease_s, tries = settings.jobs.lease_s, settings.jobs.tries

    def claim(session: Session) -> tuple[ClaimedShard | None, list[ShardId]]:
        return Shards(session).claim(shard_id, uuid.uuid4().hex, lease_s=lease_s, tries=tries)

    shard, apart = in_transaction(database, claim)
    if apart:
        send(lambda: queue.send_shards(apart))
    if shard is None:
        return
    with log_context(job_id=shard.job_id):
        _Worker(shard, database, settings, queue, encoders_for, listening, stopping, when_stuck, fetch_pauses_s).run()


@dataclass
class _Worker:
    """One shard in one worker's hands."""

    shard: ClaimedShard
    database: Database
    settings: Settings
    queue: JobQueue
    encoders_for: Callable[[GalleryId], EncoderSet]
    listening: Listening | None
    asked_to_stop: Callable[[], bool]
    when_stuck: Callable[[], None]
    fetch_pauses_s: Sequence[float]
    lost: threading.Event = field(default_factory=threading.Event)
    stuck: threading.Event = field(default_factory=threading.Event)
    progress_at: float = math.inf
    """When some of a file was last read, decoded, embedded or committed, by the monotonic clock; files are not looked
    at before the encoder is there."""

    def run(self) -> None:
        try:
            with kept_lease(self._renew, self.settings.jobs.lease_s, lost=self.lost):
                self._process()
                if self.stuck.is_set():
                    self._give_up()
                    return
                ended = self._written(self._finish)
        except LeaseLost as lost:
            logger.info("%s", lost)
        except EncoderChanged:
            logger.info("shard %d goes on under the gallery's new encoders", self.shard.id)
            self._give_back(resend=True)
        except Unavailable:
            self._give_back(resend=False)
            raise
        except VoxdexError as error:
            failures = self._give_back(resend=False, failed=True)
            self._fail_job(failures, self.settings.jobs.tries, as_text(one_line(error)))
            raise
        except Exception as error:
            # Nobody foresaw this, so it may be what a file does to workers: treated as if this one had died of it.
            failures = in_transaction(self.database, lambda session: Shards(session).drop_lease(self.shard))
            reason = (
                f"workers failed {failures} times before they came to a file ({type(error).__name__}): see their logs"
            )
            self._fail_job(failures, _UNFORESEEN * self.settings.jobs.tries, reason)
            raise
        else:
            if ended:
                self._end_job()
            else:
                self._give_back(resend=True)

    def _process(self) -> None:
        shard, settings = self.shard, self.settings
        with self.database.read_scope() as session:
            items = Shards(session).open_items(shard.id)
        if not items:
            return
        encoders = self.encoders_for(shard.gallery_id)
        options = JobOptions.from_document(shard.options)
        channels = ChannelPolicy.parse(options.channels or settings.audio.channels)
        listening = self.listening
        if listening is not None:
            listening = listening_as_asked(listening, settings.speech, speakers=options.speakers, speech=options.speech)
            channels = listening.channels(channels)
        recorder = Recorder(
            database=self.database,
            gallery_id=shard.gallery_id,
            encoder_ids=encoders.ids,
            channels=channels,
            on_duplicate=shard.on_duplicate,
            one_voice=listening is not None and listening.speakers == "one",
            enough_s=settings.decision.min_enrollment_s,
        )
        pipeline = EmbeddingPipeline(
            encoders,
            channels=channels,
            limits=settings.audio,
            decode_threads=settings.ingest.decode_threads,
            is_known=lambda content: self._patiently(lambda: recorder.is_known(content)),
            fetch=self._fetched,
            listening=listening,
            stopping=self._stops,
            progressed=self._progressed,
            abandoning=self.stuck.is_set,
        )
        numbers = {item.uri: item.id for item in items}

        def note(session: Session, outcomes: Sequence[Outcome]) -> None:
            results = [_item_result(numbers[outcome.result.file.recorded_uri], outcome) for outcome in outcomes]
            shards = Shards(session)
            shards.record(shard.id, shard.job_id, results)
            if shard.failures:
                shards.forget_failures(shard)

        self.progress_at = time.monotonic()
        with closing(pipeline.run_batches(self._files(items), most=BATCH_FILES, within_s=BATCH_S)) as done:
            for batch in done:
                # A commit of which nobody knows whether it happened is repeated: `record` counts a file once.
                self._patiently(partial(recorder.commit, batch, note=note, fence=self._fence))
        self.progress_at = math.inf  # The files are done with.

    def _files(self, items: Sequence[OpenItem]) -> Iterator[ArchiveFile]:
        """Hand files out in small windows, each marked as under way before it is touched; runs in decoding threads."""
        for some in batches(items, 1 if self.shard.solo else WINDOW_FILES):
            if self._stops():
                return
            numbers = [item.id for item in some]
            self._written(self._marking(numbers))
            for item in some:
                yield ArchiveFile(
                    path=Path(item.uri),
                    speaker=item.speaker,
                    size_bytes=item.size_bytes or 0,
                    uri=item.uri,
                    session=item.session,
                    recorded_at=item.recorded_at,
                    labels=item.labels,
                )

    def _marking(self, item_ids: Sequence[int]) -> Callable[[Session], None]:
        def mark(session: Session) -> None:
            self._fence(session)
            Shards(session).mark_running(self.shard.id, item_ids)

        return mark

    def _fetched(self, file: ArchiveFile) -> AbstractContextManager[Path]:
        uri = file.recorded_uri
        return opened_patiently(
            lambda: fetched(uri, self.settings, progressed=self._progressed), self._waits, self.fetch_pauses_s
        )

    def _progressed(self) -> None:
        if self.progress_at != math.inf:
            self.progress_at = time.monotonic()

    def _stops(self) -> bool:
        return self.lost.is_set() or self.asked_to_stop()

    def _waits(self, pause_s: float) -> bool:
        """Wait; True where this worker is to stop instead."""
        until = time.monotonic() + pause_s
        while time.monotonic() < until:
            if self._stops():
                return True
            time.sleep(min(0.1, pause_s))
        return False

    def _patiently(self, call: Callable[[], Result]) -> Result:
        """Do something with the record; while that is out of reach, try again for as long as the lease would last."""
        until = time.monotonic() + self.settings.jobs.lease_s
        while True:
            self._progressed()
            try:
                return call()
            except LeaseLost:
                raise
            except Unavailable:
                if time.monotonic() > until or self._waits(_RECORD_PAUSE_S):
                    raise
            finally:
                self._progressed()

    def _written(self, work: Callable[[Session], Result]) -> Result:
        """Do something in a transaction of its own, as patiently."""
        return self._patiently(partial(in_transaction, self.database, work))

    def _renew(self) -> bool:
        if self.stuck.is_set():
            self.when_stuck()  # Whoever waits for the encoder does not even notice that it is to stop.
            return False
        if time.monotonic() - self.progress_at > self.settings.jobs.hang_s:
            self.stuck.set()
            self.lost.set()
            return True  # Not renewed, but asked once more: the working thread may see to it meanwhile.
        with self.database.session_scope() as session:
            return Shards(session).renew(self.shard, self.settings.jobs.lease_s)

    def _fence(self, session: Session) -> None:
        Shards(session).fence(self.shard, self.settings.jobs.lease_s)

    def _finish(self, session: Session) -> bool:
        self._fence(session)
        return Shards(session).finish(self.shard)

    def _give_up(self) -> None:
        """Do as if this worker had died: `recover` finds the file that is stuck, and tries the others again."""
        logger.error("shard %d: no file made progress for %g s", self.shard.id, self.settings.jobs.hang_s)
        try:
            in_transaction(self.database, lambda session: Shards(session).drop_lease(self.shard))
        except Unavailable as error:
            logger.warning("the lease of shard %d ends by itself: %s", self.shard.id, error.code)
        self.when_stuck()

    def _fail_job(self, failures: int | None, limit: int, reason: str) -> None:
        """Fail the job where workers failed at this shard so often that the next one will not do better."""
        if failures is not None and failures >= limit:
            in_transaction(self.database, lambda session: Jobs(session).fail(self.shard.job_id, reason))

    def _give_back(self, *, resend: bool, failed: bool = False) -> int | None:
        """Put the shard back, and return what `Shards.give_back` does.

        Where the record cannot be reached, None: its lease ends by itself.
        """

        def give_back(session: Session) -> int | None:
            return Shards(session).give_back(self.shard, failed=failed)

        try:
            failures = self._written(give_back)
        except Unavailable as error:
            logger.warning("shard %d was not given back: %s", self.shard.id, error.code, exc_info=error)
            return None
        if failures is not None and resend:
            send(lambda: self.queue.send_shards([self.shard.id]))
        return failures

    def _end_job(self) -> None:
        """End the job where this was the rest of it."""

        # In a transaction of its own, after the shard's end is committed: of two workers that end the last two shards
        # at once, the later one sees both.
        def end(session: Session) -> JobState | None:
            return Jobs(session).finish_if_done(self.shard.job_id)

        # Else a connection that is lost just here would leave a job that is done running until the next sweep.
        ended = self._written(end)
        if ended is not None:
            deliver_due(self.database, self.settings)


def _item_result(item_id: int, outcome: Outcome) -> ItemResult:
    done = outcome.state == JobItemState.DONE
    return ItemResult(
        item_id,
        outcome.state,
        recording_id=outcome.recording_id,
        error_code=outcome.error_code,
        error_message=outcome.error_message,
        notice="; ".join(outcome.notices) or None,
        audio_s=outcome.result.duration_s if done else 0.0,
        speech_s=outcome.result.speech_s if done else 0.0,
    )
