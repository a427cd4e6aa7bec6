"""Named queries about jobs: what was asked for, how far it got, and what became of each file."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from indexer.db.leases import clock
from indexer.db.models import Job, JobItem, JobItemState, JobShard, JobState, OnDuplicate, ShardState, utc_now
from indexer.db.names import require_text
from indexer.db.rows import PAGE_LIMIT
from indexer.db.statements import table_of
from indexer.db.webhooks import ENDED, Deliveries
from indexer.errors import Conflict, NotFound
from indexer.types import GalleryId, JobId, RecordingId

IN_PROCESS = "ingest"
"""Kind of the jobs that one process works through by itself; no planner, worker or sweep may touch them."""

CLUSTER = "cluster"
"""Kind of the jobs that group unnamed utterances into unknown voices: they have no files, and count voices instead."""

NOT_DONE = (ShardState.QUEUED, ShardState.RUNNING)
"""Named one by one, so that an index finds the few shards that are left among the many that are done."""

RUN_LEASE_S = 60.0
"""Silence after which the process that runs such a job is taken for dead."""

RESUMED = "resumed_from"
"""Key of `Job.options`: when a job was taken up again, the files done with and the seconds worked by then."""


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is, and how fast it goes."""

    state: JobState
    found: int
    done: int
    duplicate: int
    failed: int
    audio_s: float
    speech_s: float
    elapsed_s: float
    """Since the job was begun until now or its end, without the time between an end and its being taken up again."""
    times_real_time: float
    """Seconds of audio that were done in a second of `elapsed_s`."""
    eta_s: float | None
    """Seconds until the end at this speed; None while files are still being listed, before the first one is done, and
    at the end."""
    planned: bool
    """Whether every file has been listed: `found` is final."""


class FileOutcome(NamedTuple):
    """What became of a file of a job."""

    uri: str
    state: JobItemState
    recording_id: RecordingId | None = None
    error_code: str | None = None
    error_message: str | None = None


_COUNTERS = {JobItemState.DONE: Job.done, JobItemState.DUPLICATE: Job.duplicate, JobItemState.FAILED: Job.failed}

# Made once: to put them together for each file took longer than to write it.
_ADD_ITEMS = insert(table_of(JobItem))
_COUNT = (
    update(table_of(Job))
    .where(Job.id == bindparam("job"))
    .values({counter.name: counter + bindparam(f"more_{state.value}") for state, counter in _COUNTERS.items()})
)


class Jobs:
    """Jobs and their items."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def create(
        self,
        gallery_id: GalleryId,
        *,
        kind: str,
        source: str,
        options: dict[str, Any],
        on_duplicate: OnDuplicate = OnDuplicate.SKIP,
        webhook_url: str | None = None,
    ) -> JobId:
        """Add a job that waits to be planned; its message is to be sent right after the commit."""
        values = {
            "gallery_id": gallery_id,
            "kind": kind,
            "source": require_text("source", source),
            "state": JobState.QUEUED,
            "options": options,
            "on_duplicate": on_duplicate,
            "webhook_url": webhook_url,
            "sent_at": clock(self._session),
        }
        return JobId(self._session.scalars(insert(Job).returning(Job.id), values).one())

    def start(self, gallery_id: GalleryId, *, kind: str, source: str, found: int) -> JobId:
        """Add a job that this process runs from now on, all of whose files are known; it keeps it by `renew_run`."""
        now = utc_now()
        values = {
            "gallery_id": gallery_id,
            "kind": kind,
            "source": require_text("path", source),
            "state": JobState.RUNNING,
            "found": found,
            "planned_at": now,
            "started_at": now,
            "lease_until": clock(self._session) + dt.timedelta(seconds=RUN_LEASE_S),
        }
        return JobId(self._session.scalars(insert(Job).returning(Job.id), values).one())

    def renew_run(self, job_id: JobId) -> bool:
        """State that the process which runs a job is alive; False where the job has ended."""
        until = clock(self._session) + dt.timedelta(seconds=RUN_LEASE_S)
        alive = update(Job).where(Job.id == job_id, Job.state == JobState.RUNNING).values(lease_until=until)
        return self._session.scalars(alive.returning(Job.id)).one_or_none() is not None

    def record(
        self,
        job_id: JobId,
        uri: str,
        state: JobItemState,
        *,
        recording_id: RecordingId | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> None:
        """State what became of a file, and count it; call it once for each."""
        self.record_all(job_id, [FileOutcome(uri, state, recording_id, error_code, error_message)])

    def record_all(self, job_id: JobId, files: Sequence[FileOutcome]) -> None:
        """State what became of some files, and count them; call it once for each."""
        if not files:
            return
        connection = self._session.connection()
        connection.execute(_ADD_ITEMS, [{"job_id": job_id, **file._asdict()} for file in files])
        counts = Counter(file.state for file in files)
        connection.execute(_COUNT, {"job": job_id, **{f"more_{state.value}": counts[state] for state in _COUNTERS}})

    def finish(self, job_id: JobId, state: JobState, *, error: str | None = None) -> None:
        """End a job."""
        self._session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(state=state, error=error, finished_at=utc_now(), lease_until=None)
        )

    def forget_emptied(self, gallery_id: GalleryId) -> None:
        """Delete the jobs whose every file was erased: where they were read from may name a person."""
        emptied = (
            Job.gallery_id == gallery_id,
            Job.finished_at.is_not(None),
            Job.found > 0,
            Job.kind != CLUSTER,
            ~exists().where(JobItem.job_id == Job.id),
        )
        self._session.execute(delete(Job).where(*emptied))

    def get(self, job_id: JobId) -> Job:
        """Return a job, or raise NotFound."""
        row = self._session.get(Job, job_id)
        if row is None:
            raise NotFound(f"no job with id {job_id}")
        return row

    def page(
        self,
        gallery_id: GalleryId | None = None,
        *,
        state: JobState | None = None,
        before: int | None = None,
        limit: int = PAGE_LIMIT,
    ) -> list[Job]:
        """List jobs of a gallery (None: of all) the newest first, those with an id below `before`."""
        query = select(Job).order_by(Job.id.desc()).limit(limit)
        if before is not None:
            query = query.where(Job.id < before)
        if gallery_id is not None:
            query = query.where(Job.gallery_id == gallery_id)
        if state is not None:
            query = query.where(Job.state == state)
        return list(self._session.scalars(query))

    def not_ended(self, gallery_id: GalleryId, kind: str) -> JobId | None:
        """Return the oldest job of this kind in a gallery that has not ended; None where all have."""
        query = select(Job.id).where(Job.gallery_id == gallery_id, Job.kind == kind, Job.state.not_in(ENDED))
        found = self._session.scalars(query.order_by(Job.id).limit(1)).one_or_none()
        return None if found is None else JobId(found)

    def count_by_state(self, gallery_id: GalleryId | None = None) -> dict[JobState, int]:
        """Count the jobs of a gallery (None: of all) in each state that has any."""
        query = select(Job.state, func.count()).group_by(Job.state)
        if gallery_id is not None:
            query = query.where(Job.gallery_id == gallery_id)
        return {row[0]: row[1] for row in self._session.execute(query)}

    def shards_under_way(self, gallery_id: GalleryId | None = None) -> list[tuple[str, JobId, int]]:
        """List the shards that somebody works on now: whoever holds them, of which job, and how many files."""
        query = (
            select(JobShard.lease_token, JobShard.job_id, JobShard.items)
            .join(Job, Job.id == JobShard.job_id)
            .where(JobShard.state == ShardState.RUNNING, JobShard.lease_until >= clock(self._session))
            .order_by(JobShard.id)
        )
        if gallery_id is not None:
            query = query.where(Job.gallery_id == gallery_id)
        return [(token or "", JobId(job_id), items) for token, job_id, items in self._session.execute(query)]

    def items_page(
        self,
        job_id: JobId,
        *,
        state: JobItemState | None = None,
        noticed: bool = False,
        after: int = 0,
        limit: int = PAGE_LIMIT,
    ) -> list[JobItem]:
        """List items of a job in id order, those with an id above `after`; where `noticed`, those with a notice."""
        query = select(JobItem).where(JobItem.job_id == job_id, JobItem.id > after).order_by(JobItem.id).limit(limit)
        if state is not None:
            query = query.where(JobItem.state == state)
        if noticed:
            query = query.where(JobItem.notice.is_not(None))
        return list(self._session.scalars(query))

    def speakers(self, job_id: JobId, *, limit: int) -> list[str]:
        """Name whom the files of a job that could be used are said to be of, in the order of their names."""
        used = (JobItemState.DONE, JobItemState.DUPLICATE)
        query = (
            select(JobItem.speaker)
            .where(JobItem.job_id == job_id, JobItem.state.in_(used), JobItem.speaker.is_not(None))
            .distinct()
            .order_by(JobItem.speaker)
            .limit(limit)
        )
        return [name for name in self._session.scalars(query) if name is not None]

    def progress(self, job_id: JobId) -> JobProgress:
        """Tell how far a job is, or raise NotFound."""
        job = self.get(job_id)
        before = job.options.get(RESUMED, {})
        begun_at = dt.datetime.fromisoformat(before["at"]) if before else job.started_at
        run_s = 0.0
        if begun_at is not None:
            run_s = max(0.0, ((job.finished_at or utc_now()) - begun_at).total_seconds())
        # To the millisecond: the last digits of a sum of many say nothing. What follows from them is of what is shown.
        audio_s, speech_s = round(job.audio_s, 3), round(job.speech_s, 3)
        elapsed_s = round(before.get("worked_s", 0.0) + run_s, 3)
        processed = job.done + job.duplicate + job.failed
        in_this_run = processed - before.get("processed", 0)
        eta_s = None
        if job.state not in ENDED and job.planned_at is not None and in_this_run > 0 and run_s:
            eta_s = (job.found - processed) * run_s / in_this_run
        return JobProgress(
            state=job.state,
            found=job.found,
            done=job.done,
            duplicate=job.duplicate,
            failed=job.failed,
            audio_s=audio_s,
            speech_s=speech_s,
            elapsed_s=elapsed_s,
            times_real_time=audio_s / elapsed_s if elapsed_s else 0.0,
            eta_s=None if eta_s is None else round(eta_s, 3),
            planned=job.planned_at is not None,
        )

    def cancel(self, job_id: JobId) -> None:
        """Stop a job: nothing of it is begun any more, and what is under way may not commit; again is no error.

        Raises
        ------
        NotFound
            If there is no such job.
        Conflict
            If it ended in another way, or runs in a process of its own.
        """
        job = self.locked(job_id)
        if job.state == JobState.CANCELED:
            return
        if job.state in ENDED:
            raise Conflict(f"job {job_id} is {job.state.value}: there is nothing left to cancel")
        if job.kind == IN_PROCESS:
            raise Conflict(f"job {job_id} runs in the process that began it: interrupt that with Ctrl-C")
        self.end(job_id, JobState.CANCELED)

    def fail(self, job_id: JobId, error: str) -> None:
        """End a job whose source cannot be read, with the reason; a job that has ended stays as it is."""
        if self.locked(job_id).state not in ENDED:
            self.end(job_id, JobState.FAILED, error=error)

    def finish_if_done(self, job_id: JobId) -> JobState | None:
        """End a job of which every file is listed and every shard done; return its final state, None if it goes on."""
        job = self.locked(job_id)
        if job.state in ENDED or job.kind == IN_PROCESS or job.planned_at is None:
            return None
        if self._session.scalar(
            select(JobShard.id).where(JobShard.job_id == job_id, JobShard.state.in_(NOT_DONE)).limit(1)
        ):
            return None
        state = JobState.SUCCEEDED_WITH_ERRORS if job.failed else JobState.SUCCEEDED
        self.end(job_id, state)
        return state

    def end(self, job_id: JobId, state: JobState, *, error: str | None = None) -> None:
        """End a planned job and note the message about it, all in this transaction.

        What nobody has begun is dropped, and what is under way is taken from its workers: none of them may go on with
        it, even if the job is taken up again.
        """
        now = utc_now()
        self._session.execute(
            update(Job)
            .where(Job.id == job_id)
            .values(state=state, error=error, finished_at=now, lease_token=None, lease_until=None)
        )
        self._session.execute(
            update(JobShard)
            .where(JobShard.job_id == job_id, JobShard.state.in_(NOT_DONE))
            .values(state=ShardState.DONE, finished_at=now, lease_token=None, lease_until=None)
        )
        self._session.execute(
            update(JobItem)
            .where(JobItem.job_id == job_id, JobItem.state == JobItemState.RUNNING)
            .values(state=JobItemState.QUEUED)
            .execution_options(synchronize_session=False)
        )
        Deliveries(self._session).add(self.get(job_id))

    def locked(self, job_id: JobId) -> Job:
        """Return a job that nobody else changes until this transaction ends."""
        query = (
            select(Job)
            .where(Job.id == job_id)
            .with_for_update(key_share=True)
            .execution_options(populate_existing=True)
        )
        row = self._session.scalars(query).one_or_none()
        if row is None:
            raise NotFound(f"no job with id {job_id}")
        return row

    def lock_all(self, gallery_id: GalleryId) -> None:
        """Keep the jobs of a gallery from being changed by anybody else until this transaction ends."""
        self._session.execute(select(Job.id).where(Job.gallery_id == gallery_id).order_by(Job.id).with_for_update())
