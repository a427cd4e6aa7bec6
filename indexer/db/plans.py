"""Named queries of planning: who plans a job, and the shards that its files are cut into."""

import datetime as dt
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.orm import Session

from indexer.db.erased_files import any_erased, erased_among
from indexer.db.leases import clock
from indexer.db.models import Job, JobItem, JobItemState, JobShard, JobState, utc_now
from indexer.db.statements import batches, insert_if_absent
from indexer.errors import LeaseLost
from indexer.types import JobId, ShardId

_STALLS = "stalls"
"""Key of `Job.cursor`: calls in a row that got nowhere, the one under way included."""

_PASSED_OVER = "passed_over"
"""Key of `Job.cursor`: files up to that place that are no recordings, counted until the first recording."""

RETRY = "retry"
"""Key of `Job.cursor`: how far the files that are tried again were put into shards; see `indexer.db.retries`."""

_NO_PLACE = (_STALLS, _PASSED_OVER, RETRY)

_PLANNED_IN = (JobState.QUEUED, JobState.PLANNING, JobState.RUNNING)


def reached(job: Job) -> dict[str, Any] | None:
    """Return the place up to which a job's source was read; None for the beginning."""
    return {key: value for key, value in (job.cursor or {}).items() if key not in _NO_PLACE} or None


def behind(place: dict[str, Any], passed_over: int) -> dict[str, Any]:
    """Return the cursor of a place in the source behind which no recording was found so far, but other files were."""
    return {**place, _PASSED_OVER: passed_over} if passed_over else place


def passed_over(job: Job) -> int:
    """Count the files of a job's source that are no recordings, where no recording has been found."""
    return int((job.cursor or {}).get(_PASSED_OVER, 0))


def stalls(job: Job) -> int:
    """Count the calls in a row that planned this job and got nowhere, the one under way included."""
    return int((job.cursor or {}).get(_STALLS, 0))


@dataclass(frozen=True, slots=True)
class NewItem:
    """A file of a job: to be worked on, or refused already."""

    uri: str
    speaker: str | None = None
    session: str | None = None
    recorded_at: dt.datetime | None = None
    labels: tuple[str, ...] | None = None
    size_bytes: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    line: int | None = None
    """Line of the manifest that names it; not stored."""


@dataclass(slots=True)
class NewShard:
    """Files that are read behind one another and will be worked on together."""

    items: list[NewItem] = field(default_factory=list)
    estimated_s: float = 0.0

    @property
    def to_do(self) -> int:
        """How many of them were not refused already."""
        return sum(item.error_code is None for item in self.items)


class Plans:
    """The planning of one job by whoever holds its lease."""

    def __init__(self, session: Session, job_id: JobId, token: str) -> None:
        self._session = session
        self._job_id = job_id
        self._token = token

    @staticmethod
    def new_token() -> str:
        """Make a name for one holder of a lease."""
        return uuid.uuid4().hex

    def claim(self, lease_s: float) -> Job | None:
        """Take the lease, and return the job; None where it is planned, has ended, is gone, or somebody else plans.

        The call is counted before it does anything, so that one that hangs or is killed counts too; `advance` writes
        the cursor without the count, for progress ends the row.
        """
        now = clock(self._session)
        taken = self._session.scalar(
            update(Job)
            .where(
                Job.id == self._job_id,
                Job.state.in_(_PLANNED_IN),
                Job.planned_at.is_(None),
                or_(Job.lease_until.is_(None), Job.lease_until < now),
            )
            .values(lease_token=self._token, lease_until=now + dt.timedelta(seconds=lease_s))
            .returning(Job.id)
        )
        if taken is None:
            return None
        job = self._session.get(Job, self._job_id)
        assert job is not None
        if job.state == JobState.QUEUED:
            job.state = JobState.PLANNING
        job.started_at = job.started_at or now
        job.cursor = {**(job.cursor or {}), _STALLS: stalls(job) + 1}
        return job

    def renew(self, lease_s: float) -> bool:
        """Keep the lease; False where it is lost."""
        return self._update(lease_until=clock(self._session) + dt.timedelta(seconds=lease_s))

    def advance(self, cursor: dict[str, Any], lease_s: float) -> None:
        """Note how far the source was read; LeaseLost where somebody else plans, or the job was canceled."""
        if not self._update(cursor=cursor, lease_until=clock(self._session) + dt.timedelta(seconds=lease_s)):
            raise LeaseLost(f"job {self._job_id}: another worker plans it, or it was canceled")

    def add(self, shards: Sequence[NewShard]) -> tuple[list[ShardId], list[NewItem]]:
        """Add files that were never in the job, in these shards, and those refused already as failed items.

        Call it after `advance` in the same transaction: that is what keeps a planner who lost the lease from writing.

        Returns
        -------
        list of ShardId
            The shards that hold anything to work on.
        list of NewItem
            What was in the job already, or was erased from it.
        """
        now = clock(self._session)
        values = [
            {"job_id": self._job_id, "items": shard.to_do, "estimated_s": shard.estimated_s, "sent_at": now}
            for shard in shards
        ]
        statement = insert(JobShard).returning(JobShard.id, sort_by_parameter_order=True)
        shard_ids = list(self._session.scalars(statement, values))
        first: dict[str, NewItem] = {}
        rows = []
        for shard_id, shard in zip(shard_ids, shards, strict=True):
            for item in shard.items:
                if first.setdefault(item.uri, item) is item:
                    rows.append(_row(self._job_id, shard_id, item))
        added: dict[str, int | None] = {}
        for some in batches(rows, 1000):
            absent = insert_if_absent(self._session, JobItem).returning(JobItem.uri, JobItem.shard_id)
            added.update((row.uri, row.shard_id) for row in self._session.execute(absent, list(some)))
        self._leave_out_erased(added)
        in_shards = Counter(added.values())
        for shard_id, shard in zip(shard_ids, shards, strict=True):
            if not in_shards[shard_id]:
                self._session.execute(delete(JobShard).where(JobShard.id == shard_id))
            elif in_shards[shard_id] != shard.to_do:
                self._session.execute(update(JobShard).where(JobShard.id == shard_id).values(items=in_shards[shard_id]))
        counted: dict[Any, Any] = {Job.found: Job.found + len(added), Job.failed: Job.failed + in_shards[None]}
        kept = [ShardId(shard_id) for shard_id in shard_ids if in_shards[shard_id]]
        if kept:
            counted[Job.state] = JobState.RUNNING
        self._session.execute(update(Job).where(Job.id == self._job_id).values(counted))
        given = (item for shard in shards for item in shard.items)
        return kept, [item for item in given if item.uri not in added or first[item.uri] is not item]

    def _leave_out_erased(self, added: dict[str, int | None]) -> None:
        """Take out again what the job knew before it was erased.

        That is asked after the rows were written: an erasure that was under way is over by then, for it held them.
        """
        if not added or not any_erased(self._session, self._job_id):
            return
        for some in batches(list(added), 1000):
            for uri in erased_among(self._session, self._job_id, some):
                self._session.execute(
                    delete(JobItem)
                    .where(JobItem.job_id == self._job_id, JobItem.uri == uri)
                    .execution_options(synchronize_session=False)
                )
                del added[uri]

    def speakers_of(self, uris: Sequence[str]) -> dict[str, str | None]:
        """Return the speaker that each of these files of the job was planned with."""
        found: dict[str, str | None] = {}
        for some in batches(uris):
            query = select(JobItem.uri, JobItem.speaker).where(JobItem.job_id == self._job_id, JobItem.uri.in_(some))
            found.update((uri, speaker) for uri, speaker in self._session.execute(query))
        return found

    def count(self, found: int, done: int) -> bool:
        """Say how far work is that has no files; False where the lease was lost."""
        return self._update(state=JobState.RUNNING, found=found, done=done)

    def pause(self) -> bool:
        """Give the lease back, for planning to be sent again; False where it was lost."""
        return self._update(lease_token=None, lease_until=None, sent_at=clock(self._session))

    def stall(self) -> int | None:
        """Give the lease back because nothing can be read; return how often in a row, None where it was lost."""
        if not self.pause():
            return None
        job = self._session.get(Job, self._job_id, populate_existing=True)
        return None if job is None else stalls(job)

    def start_over(self) -> bool:
        """Forget how far the source was read; False where the lease was lost."""
        return self._update(cursor=None)

    def complete(self) -> bool:
        """State that every file is listed, and give the lease back; False where it was lost."""
        return self._update(planned_at=clock(self._session), lease_token=None, lease_until=None)

    def _update(self, **values: Any) -> bool:
        mine = (Job.id == self._job_id, Job.lease_token == self._token, Job.state.in_(_PLANNED_IN))
        return self._session.scalar(update(Job).where(*mine).values(**values).returning(Job.id)) is not None


def _row(job_id: JobId, shard_id: int, item: NewItem) -> dict[str, Any]:
    failed = item.error_code is not None
    return {
        "job_id": job_id,
        "shard_id": None if failed else shard_id,
        "uri": item.uri,
        "speaker": item.speaker,
        "session": item.session,
        "recorded_at": item.recorded_at,
        "labels": None if item.labels is None else list(item.labels),
        "size_bytes": item.size_bytes,
        "state": JobItemState.FAILED if failed else JobItemState.QUEUED,
        "error_code": item.error_code,
        "error_message": item.error_message,
        "finished_at": utc_now() if failed else None,
    }
