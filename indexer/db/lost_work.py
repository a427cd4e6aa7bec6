"""Named queries of the sweep: work that nobody holds, messages that were lost, rows whose time is over."""

import datetime as dt
from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, delete, exists, func, or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from indexer.db.jobs import IN_PROCESS, NOT_DONE, Jobs
from indexer.db.leases import clock
from indexer.db.models import Gallery, IdempotentRequest, Job, JobShard, JobState, Recording, ShardState, utc_now
from indexer.db.webhooks import ENDED
from indexer.types import GalleryId, JobId, RecordingId, ShardId

_UNDER_WAY = (JobState.QUEUED, JobState.PLANNING, JobState.RUNNING)

OLDER_RELEASE_S = 86_400.0
"""Age of a job without any lease, as an earlier release began it, from which nobody works on it any more."""


class LostWork:
    """What a sweep looks for."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def expired_shards(self, limit: int) -> list[ShardId]:
        """List shards whose worker has fallen silent, longest first."""
        query = (
            select(JobShard.id)
            .where(JobShard.state == ShardState.RUNNING, JobShard.lease_until < clock(self._session))
            .order_by(JobShard.lease_until)
            .limit(limit)
        )
        return [ShardId(number) for number in self._session.scalars(query)]

    def waiting_shards(self) -> int:
        """Count the shards that wait for a worker."""
        return self._session.scalar(select(func.count(JobShard.id)).where(JobShard.state == ShardState.QUEUED)) or 0

    def resend_shards(self, sent_before: dt.datetime, limit: int) -> list[ShardId]:
        """Take shards that wait and were handed to the broker before a moment; they are to be sent after the commit.

        The longest ago come first: a broker works in that order, so it is their messages that are missing.
        """
        query = (
            select(JobShard.id)
            .where(JobShard.state == ShardState.QUEUED, _sent_before(JobShard.sent_at, sent_before))
            .order_by(JobShard.sent_at, JobShard.id)
            .limit(limit)
            .with_for_update(skip_locked=True)  # Nothing on SQLite, where only one transaction writes at a time.
        )
        chosen = list(self._session.scalars(query))
        # A job that ended while its shard was on its way back into the queue: nobody will take it up.
        gone = exists().where(Job.id == JobShard.job_id, Job.state.in_(ENDED))
        self._session.execute(
            update(JobShard).where(JobShard.id.in_(chosen), gone).values(state=ShardState.DONE, finished_at=utc_now())
        )
        again = self._session.scalars(
            update(JobShard)
            .where(JobShard.id.in_(chosen), JobShard.state == ShardState.QUEUED)
            .values(sent_at=clock(self._session))
            .returning(JobShard.id)
        )
        return [ShardId(number) for number in again]

    def resend_plans(self, sent_before: dt.datetime, limit: int) -> list[JobId]:
        """Take jobs that nobody plans and whose planning was handed over before a moment, or whose planner died."""
        now = clock(self._session)
        query = (
            select(Job.id)
            .where(
                *_unplanned(),
                or_(
                    Job.lease_until < now,
                    and_(Job.lease_until.is_(None), _sent_before(Job.sent_at, sent_before)),
                ),
            )
            .order_by(Job.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        chosen = list(self._session.scalars(query))
        self._session.execute(
            update(Job)
            .where(Job.id.in_(chosen))
            .values(sent_at=now, lease_token=None, lease_until=None)
            .execution_options(synchronize_session=False)
        )
        return [JobId(number) for number in chosen]

    def finished_jobs(self, limit: int) -> list[JobId]:
        """List jobs that were not ended though every file of theirs is listed and every shard done."""
        left = exists().where(JobShard.job_id == Job.id, JobShard.state.in_(NOT_DONE))
        query = (
            select(Job.id)
            .where(Job.state.in_(_UNDER_WAY), Job.kind != IN_PROCESS, Job.planned_at.is_not(None), ~left)
            .order_by(Job.id)
            .limit(limit)
        )
        return [JobId(number) for number in self._session.scalars(query)]

    def fail_dead_runs(self) -> int:
        """End the jobs that one process worked through by itself, where that cannot be alive; return how many."""
        now = clock(self._session)
        dead = or_(
            Job.lease_until < now,
            and_(Job.lease_until.is_(None), Job.created_at < now - dt.timedelta(seconds=OLDER_RELEASE_S)),
        )
        query = select(Job.id).where(Job.state == JobState.RUNNING, Job.kind == IN_PROCESS, dead)
        numbers = self._session.scalars(query).all()
        for number in numbers:
            Jobs(self._session).fail(
                JobId(number), "the process that ran it ended without a word; run it again, what it did is passed over"
            )
        return len(numbers)

    def galleries_with_retention(self) -> list[tuple[GalleryId, int]]:
        """List galleries that erase recordings after some days, with the days."""
        query = select(Gallery.id, Gallery.retention_days).where(Gallery.retention_days.is_not(None))
        return [(GalleryId(number), days) for number, days in self._session.execute(query) if days is not None]

    def outlived(self, gallery_id: GalleryId, before: dt.datetime, limit: int) -> list[RecordingId]:
        """List recordings that came into a gallery before a moment, among its `limit` oldest."""
        # Ids rise with time, so the oldest are found by the index on (gallery, id), without one on the time.
        oldest = (
            select(Recording.id, Recording.created_at)
            .where(Recording.gallery_id == gallery_id)
            .order_by(Recording.id)
            .limit(limit)
        )
        return [RecordingId(number) for number, created_at in self._session.execute(oldest) if created_at < before]

    def forget_requests(self, before: dt.datetime) -> None:
        """Forget the answers of requests with an `Idempotency-Key` that came before a moment."""
        self._session.execute(
            delete(IdempotentRequest)
            .where(IdempotentRequest.created_at < before)
            .execution_options(synchronize_session=False)
        )


def _unplanned() -> Sequence[ColumnElement[bool]]:
    return (Job.state.in_(_UNDER_WAY), Job.kind != IN_PROCESS, Job.planned_at.is_(None))


def _sent_before(column: InstrumentedAttribute[dt.datetime | None], moment: dt.datetime) -> ColumnElement[bool]:
    return or_(column.is_(None), column < moment)
