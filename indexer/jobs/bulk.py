"""Bulk ingest as the API, the command line and the workers see it."""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from indexer.db.galleries import Galleries
from indexer.db.jobs import CLUSTER, Jobs
from indexer.db.models import Job, OnDuplicate
from indexer.db.retries import Retries
from indexer.db.session import Database
from indexer.db.transactions import in_transaction
from indexer.jobs.planning import Planner, send
from indexer.jobs.queue import JobQueue
from indexer.jobs.source import JobOptions, Source, require_allowed
from indexer.jobs.sources import open_source
from indexer.jobs.sweep import Sweeper, SweepReport
from indexer.jobs.webhooks import require_receiver
from indexer.settings import Settings
from indexer.types import GalleryId, JobId, ShardId

if TYPE_CHECKING:  # Loads torch, which processes that only hand work over must not.
    from indexer.embedding.encoder_set import EncoderSet
    from indexer.listening import Listening


class BulkIngest:
    """Jobs over archives of any size: posted, planned, worked through, stopped and taken up again.

    The record says what is to be done and the queue only wakes whoever does it, so every method may be called again,
    by any process, after any crash.

    Parameters
    ----------
    queue
        Told after each commit what there is to do.
    encoders_for
        Gives the encoders of a gallery; asked by `work` only.
    listening
        What `work` finds speech with and tells voices apart by; None: all that sounds is embedded.
    stopping
        Tells whether this process is to end; `work` then gives back soon what it has not begun.
    when_stuck
        Called by `work` where a file holds it up for good: see `indexer.jobs.shards.work_shard`.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        queue: JobQueue,
        encoders_for: Callable[[GalleryId], "EncoderSet"],
        listening: "Listening | None" = None,
        stopping: Callable[[], bool] = lambda: False,
        when_stuck: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._queue = queue
        self._encoders_for = encoders_for
        self._listening = listening
        self._stopping = stopping
        self._when_stuck = when_stuck
        self._sweeper = Sweeper(database, settings, queue)

    def submit(
        self,
        gallery: str,
        source: str,
        *,
        options: JobOptions,
        on_duplicate: OnDuplicate = OnDuplicate.SKIP,
        webhook_url: str | None = None,
        trusted: bool,
    ) -> JobId:
        """Accept a job; whether the source can be read is found by planning, where the workers are.

        Parameters
        ----------
        trusted
            Whether an administrator asks (or anybody, on a server that runs open): see `require_allowed`.

        Raises
        ------
        NotFound
            If there is no such gallery.
        InvalidRequest
            If source or webhook URL are not of a kind that is used.
        AccessDenied
            If jobs may not read the source.
        """
        uri = require_allowed(source, self._settings.jobs, trusted=trusted)
        if webhook_url is not None:
            require_receiver(webhook_url, self._settings.webhooks)
        with self._database.session_scope() as session:
            job_id = Jobs(session).create(
                GalleryId(Galleries(session).by_name(gallery).id),
                kind=options.kind,
                source=uri,
                options={**options.as_document(), "trusted": trusted},
                on_duplicate=on_duplicate,
                webhook_url=webhook_url,
            )
        send(lambda: self._queue.send_planning(job_id))
        return job_id

    def plan(self, job_id: JobId) -> None:
        """Cut the next part of a job into shards: see `Planner.plan`. One without files is handed on to who does it."""
        with self._database.read_scope() as session:
            job = session.get(Job, job_id)
            has_no_files = job is not None and job.kind == CLUSTER
        if has_no_files:
            send(lambda: self._queue.send_clustering(job_id))
            return
        Planner(self._database, self._settings.jobs, self._queue, self._source_of).plan(job_id)

    def work(self, shard_id: ShardId) -> None:
        """Work through a shard: see `indexer.jobs.shards.work_shard`."""
        from indexer.jobs.shards import work_shard  # Loads the decoders, which only workers need.

        work_shard(
            shard_id,
            database=self._database,
            settings=self._settings,
            queue=self._queue,
            encoders_for=self._encoders_for,
            listening=self._listening,
            stopping=self._stopping,
            when_stuck=self._when_stuck,
        )

    def sweep(self) -> SweepReport:
        """Look after what nobody holds: see `indexer.jobs.sweep.Sweeper`."""
        return self._sweeper.sweep()

    def cancel(self, job_id: JobId) -> None:
        """Stop a job; what it has done stays. Raises NotFound, or Conflict where it has ended in another way."""
        in_transaction(self._database, lambda session: Jobs(session).cancel(job_id), refusals=True)

    def retry_failed(self, job_id: JobId, only: Collection[int] | None = None) -> int:
        """Take an ended job up again with its failed files, or these; return how many. See `Retries.request`."""
        files = in_transaction(self._database, lambda session: Retries(session).request(job_id, only), refusals=True)
        if files is None:
            return 0
        send(lambda: self._queue.send_planning(job_id))
        return files

    def _source_of(self, job: Job) -> Source:
        return open_source(job, self._settings)
