"""Named queries of trying again: an ended job is taken up with what failed, part by part, whatever its size.

Somebody asks for it in a request, which only marks the job; its planner then puts the files into new shards, in
transactions of `PART_FILES` files, before it reads the source.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, update
from sqlalchemy.orm import Session

from indexer.audio.durations import guess_duration_s
from indexer.db.jobs import IN_PROCESS, RESUMED, Jobs
from indexer.db.leases import clock
from indexer.db.models import Job, JobItem, JobItemState, JobShard, JobState
from indexer.db.plans import RETRY, Plans, reached
from indexer.db.webhooks import ENDED
from indexer.errors import Conflict, InvalidRequest
from indexer.types import JobId, ShardId

PART_FILES = 2000
"""Files that one transaction puts into shards: a fraction of a second, on either database."""

MOST_ITEMS = 200
"""Files that may be named one by one; all that failed are tried again without naming them."""

_UNFINISHED = (JobItemState.FAILED, JobItemState.QUEUED, JobItemState.RUNNING)

_File = Row[int, str, int | None, JobItemState, int | None]


@dataclass(frozen=True, slots=True)
class Retry:
    """How far the files that a job tries again were put into shards."""

    after: int
    """Id of the last item that was looked at: nothing is looked at twice, so what fails again is not tried again."""
    listed: bool
    """Whether the source had been read to its end."""
    refused: bool
    """Whether planning had refused rows or folders, so that the source has to be read from its beginning."""
    only: Sequence[int] | None = None
    """Ids of the items that are tried again; None: all that failed or were not done with."""

    @classmethod
    def of(cls, cursor: dict[str, Any] | None) -> Self | None:
        """Read it from a job's cursor; None where nothing is tried again, or all of it is in shards."""
        document = (cursor or {}).get(RETRY)
        return None if document is None else cls(**document)


@dataclass(frozen=True, slots=True)
class RetriedPart:
    """What a part of the files became."""

    shard_ids: tuple[ShardId, ...]
    """To be sent after the commit."""
    cursor: dict[str, Any] | None
    """The job's cursor now; without a `Retry`, the source is read on from there."""
    complete: bool
    """Whether nothing is left to do for planning, the source included."""


class Retries:
    """Jobs that are taken up again."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def request(self, job_id: JobId, only: Collection[int] | None = None) -> int | None:
        """Mark an ended job to be taken up again with its failed files; its planning is to be sent after the commit.

        Rows and folders that planning refused will be forgotten, and the source read again from its beginning: files
        that the job knows or that were erased are passed over, so only what was refused (and what has come since) is
        added. A job whose source failed goes on where it stopped.

        Parameters
        ----------
        only
            Ids of failed items, at most `MOST_ITEMS`: nothing else is tried again, and the source is not read.

        Returns
        -------
        int or None
            How many files will be tried again, refused rows and folders included; None where there is nothing to do.

        Raises
        ------
        NotFound
            If there is no such job.
        Conflict
            If it has not ended, was canceled, or ran in a process of its own; with `only`, if one of these is no file
            of the job that failed, or its files were not all listed.
        InvalidRequest
            If more than `MOST_ITEMS` are named.
        """
        job = Jobs(self._session).locked(job_id)
        if job.kind == IN_PROCESS:
            raise Conflict(f"job {job_id} ran in a process of its own: run voxdex ingest again, it tries failed files")
        if job.state == JobState.CANCELED:
            raise Conflict(f"job {job_id} was canceled: post it again, what is in already is passed over")
        if job.state not in ENDED:
            raise Conflict(f"job {job_id} is {job.state.value}: wait for its end, and retry then")
        if only is not None:
            self._require_failed(job, only)
        query = select(JobItem.state, func.count(JobItem.id)).where(JobItem.job_id == job_id, *_tried_again(only))
        unfinished = {state: int(number) for state, number in self._session.execute(query.group_by(JobItem.state))}
        if not unfinished and job.planned_at is not None:
            return None
        # An earlier retry may have been interrupted before all was in shards.
        earlier = Retry.of(job.cursor)
        retry = Retry(
            after=0,
            listed=job.planned_at is not None or (earlier is not None and earlier.listed),
            refused=earlier is not None and earlier.refused,
            only=None if only is None else sorted(only),
        )
        now = clock(self._session)
        processed = job.done + job.duplicate + job.failed - unfinished.get(JobItemState.FAILED, 0)
        worked_s = Jobs(self._session).progress(job_id).elapsed_s
        resumed = {"processed": processed, "worked_s": worked_s, "at": now.isoformat()}
        job.options = {**job.options, RESUMED: resumed}
        job.cursor = {**(reached(job) or {}), RETRY: asdict(retry)}
        job.state, job.error, job.planned_at = JobState.QUEUED, None, None
        job.finished_at, job.sent_at = None, now
        self._session.flush()
        return sum(unfinished.values())

    def _require_failed(self, job: Job, only: Collection[int]) -> None:
        if len(only) > MOST_ITEMS:
            raise InvalidRequest(
                f"{len(only)} files are named, the limit is {MOST_ITEMS}: name fewer, or retry the job"
            )
        if job.planned_at is None:
            raise Conflict(f"job {job.id} ended before all of its files were listed: retry all of it")
        failed = select(JobItem.id).where(
            JobItem.job_id == job.id,
            JobItem.id.in_(only),
            JobItem.state == JobItemState.FAILED,
            JobItem.shard_id.is_not(None),  # Without one it was refused when the source was listed.
        )
        others = set(only) - set(self._session.scalars(failed))
        if others:
            raise Conflict(
                f"item {min(others)} is no file of job {job.id} that failed: list those that did, and name them; rows "
                "and folders that could not be listed are tried again with the whole job"
            )

    def cut_part(
        self, job: Job, plans: Plans, *, shard_audio_s: float, shard_files: int, lease_s: float
    ) -> RetriedPart:
        """Put the next files that are tried again into shards of their own; LeaseLost where somebody else plans.

        `job` is read by its id and cursor only, as they were when the lease was taken or the last part was cut.
        """
        retry = Retry.of(job.cursor)
        assert retry is not None
        files = self._next_files(JobId(job.id), retry)
        # Where no shard is named, planning refused it and there is no file to try.
        refused = [file.id for file in files if file.state == JobItemState.FAILED and file.shard_id is None]
        cut = _cut([file for file in files if file.id not in set(refused)], shard_audio_s, shard_files)
        place = reached(job) or {}
        retry = replace(retry, after=files[-1].id if files else retry.after, refused=retry.refused or bool(refused))
        over = len(files) < PART_FILES
        complete = over and retry.listed and not retry.refused
        cursor = {**place, RETRY: asdict(retry)}
        if over and not complete:  # Otherwise it stays, so that a call that comes again has nothing to read either.
            cursor = {} if retry.refused else place
        plans.advance(cursor, lease_s)
        shard_ids = self._add_shards(JobId(job.id), cut)
        self._session.execute(
            delete(JobItem).where(JobItem.id.in_(refused)).execution_options(synchronize_session=False)
        )
        failed = sum(file.state == JobItemState.FAILED for file in files)
        counted: dict[Any, Any] = {Job.failed: Job.failed - failed, Job.found: Job.found - len(refused)}
        if shard_ids:
            counted[Job.state] = JobState.RUNNING
        self._session.execute(
            update(Job).where(Job.id == job.id).values(counted).execution_options(synchronize_session=False)
        )
        return RetriedPart(tuple(shard_ids), cursor or None, complete)

    def _next_files(self, job_id: JobId, retry: Retry) -> Sequence[_File]:
        query = (
            select(JobItem.id, JobItem.uri, JobItem.size_bytes, JobItem.state, JobItem.shard_id)
            .where(JobItem.job_id == job_id, JobItem.id > retry.after, *_tried_again(retry.only))
            .order_by(JobItem.id)
            .limit(PART_FILES)
        )
        return self._session.execute(query).all()

    def _add_shards(self, job_id: JobId, cut: Sequence[tuple[list[int], float]]) -> list[ShardId]:
        if not cut:
            return []
        now = clock(self._session)
        rows = [
            {"job_id": job_id, "items": len(item_ids), "estimated_s": estimated_s, "sent_at": now}
            for item_ids, estimated_s in cut
        ]
        statement = insert(JobShard).returning(JobShard.id, sort_by_parameter_order=True)
        shard_ids = [ShardId(number) for number in self._session.scalars(statement, rows)]
        for shard_id, (item_ids, _) in zip(shard_ids, cut, strict=True):
            self._session.execute(
                update(JobItem)
                .where(JobItem.id.in_(item_ids))
                .values(
                    shard_id=shard_id,
                    state=JobItemState.QUEUED,
                    attempts=0,
                    recording_id=None,
                    error_code=None,
                    error_message=None,
                    notice=None,
                    finished_at=None,
                )
                .execution_options(synchronize_session=False)
            )
        return shard_ids


def _tried_again(only: Collection[int] | None) -> tuple[ColumnElement[bool], ...]:
    unfinished = JobItem.state.in_(_UNFINISHED)
    return (unfinished,) if only is None else (unfinished, JobItem.id.in_(only))


def _cut(files: Sequence[_File], shard_audio_s: float, shard_files: int) -> list[tuple[list[int], float]]:
    """Put files into shards, as (ids of the items, guessed seconds of audio)."""
    cut: list[tuple[list[int], float]] = []
    for file in files:
        guess_s = guess_duration_s(file.uri, file.size_bytes)
        if not cut or cut[-1][1] + guess_s > shard_audio_s or len(cut[-1][0]) >= shard_files:
            cut.append(([], 0.0))
        item_ids, estimated_s = cut[-1]
        cut[-1] = ([*item_ids, file.id], estimated_s + guess_s)
    return cut
