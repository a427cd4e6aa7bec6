"""Named queries about shards: who works on one, what became of its files, and what is left when a worker dies."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import exists, func, insert, select, update
from sqlalchemy.orm import Session

from indexer.db.leases import clock
from indexer.db.models import Job, JobItem, JobItemState, JobShard, OnDuplicate, ShardState, utc_now
from indexer.db.webhooks import ENDED
from indexer.errors import LeaseLost, WorkerLost
from indexer.types import GalleryId, JobId, RecordingId, ShardId

_OPEN = (JobItemState.QUEUED, JobItemState.RUNNING)


@dataclass(frozen=True, slots=True)
class ClaimedShard:
    """A shard that this worker alone may write results of, while its lease lasts."""

    id: ShardId
    token: str
    job_id: JobId
    gallery_id: GalleryId
    options: dict[str, Any]
    on_duplicate: OnDuplicate
    solo: bool
    failures: int
    """How often workers failed at it, by no file's fault, since a file of it was last done with."""


@dataclass(frozen=True, slots=True)
class OpenItem:
    """A file that is still to be worked on."""

    id: int
    uri: str
    speaker: str | None
    session: str | None
    recorded_at: dt.datetime | None
    labels: tuple[str, ...]
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class ItemResult:
    """What became of a file of a shard."""

    item_id: int
    state: JobItemState
    recording_id: RecordingId | None = None
    error_code: str | None = None
    error_message: str | None = None
    notice: str | None = None
    audio_s: float = 0.0
    speech_s: float = 0.0


class Shards:
    """Shards of jobs and the items in them."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def claim(
        self, shard_id: ShardId, token: str, *, lease_s: float, tries: int
    ) -> tuple[ClaimedShard | None, list[ShardId]]:
        """Take a shard up, if nobody works on it and its job goes on.

        Returns
        -------
        ClaimedShard or None
            What is to be done.
        list of ShardId
            To be sent after the commit: files that were under way when an earlier worker died; see `recover`.
        """
        apart = [number for number in self.recover(shard_id, tries=tries) if number != shard_id]
        now = clock(self._session)
        taken = self._session.scalars(
            update(JobShard)
            .where(JobShard.id == shard_id, JobShard.state == ShardState.QUEUED, _job_goes_on())
            .values(
                state=ShardState.RUNNING,
                lease_token=token,
                lease_until=now + dt.timedelta(seconds=lease_s),
            )
            .returning(JobShard.id)
        ).one_or_none()
        if taken is None:
            return None, apart
        query = (
            select(Job, JobShard.solo, JobShard.attempts)
            .join(JobShard, JobShard.job_id == Job.id)
            .where(JobShard.id == shard_id)
        )
        job, solo, failures = self._session.execute(query).one()
        return (
            ClaimedShard(
                id=shard_id,
                token=token,
                job_id=JobId(job.id),
                gallery_id=GalleryId(job.gallery_id),
                options=job.options,
                on_duplicate=job.on_duplicate,
                solo=solo,
                failures=failures,
            ),
            apart,
        )

    def renew(self, shard: ClaimedShard, lease_s: float) -> bool:
        """Keep a shard, and lock its row until the commit; False where it is another's, or the job has ended."""
        until = clock(self._session) + dt.timedelta(seconds=lease_s)
        kept = self._session.execute(
            update(JobShard).where(*_held_by(shard), _job_goes_on()).values(lease_until=until).returning(JobShard.id)
        )
        return kept.one_or_none() is not None

    def fence(self, shard: ClaimedShard, lease_s: float) -> None:
        """Keep a shard, or raise LeaseLost: call it first in whatever writes results of it.

        The job cannot end before the commit: whoever is told of its end is told of all that was written.
        """
        # Workers on other shards of it are in nobody's way: only ending it wants the row for itself.
        job = select(Job.id).where(Job.id == shard.job_id, Job.state.not_in(ENDED))
        goes_on = self._session.scalar(job.with_for_update(read=True, key_share=True))
        if goes_on is None or not self.renew(shard, lease_s):
            raise LeaseLost(f"shard {shard.id}: another worker has taken it over, or its job has ended")

    def open_items(self, shard_id: ShardId) -> list[OpenItem]:
        """List the files that are still to be worked on, in the order they were planned."""
        query = select(JobItem).where(JobItem.shard_id == shard_id, JobItem.state.in_(_OPEN)).order_by(JobItem.id)
        return [
            OpenItem(
                id=item.id,
                uri=item.uri,
                speaker=item.speaker,
                session=item.session,
                recorded_at=item.recorded_at,
                labels=tuple(item.labels or ()),
                size_bytes=item.size_bytes,
            )
            for item in self._session.scalars(query)
        ]

    def mark_running(self, shard_id: ShardId, item_ids: Sequence[int]) -> None:
        """State that files of a shard are about to be touched; whoever finds them so knows what a worker died of."""
        self._session.execute(
            update(JobItem)
            .where(JobItem.id.in_(item_ids), JobItem.shard_id == shard_id, JobItem.state == JobItemState.QUEUED)
            .values(state=JobItemState.RUNNING)
            .execution_options(synchronize_session=False)
        )

    def record(self, shard_id: ShardId, job_id: JobId, results: Sequence[ItemResult]) -> None:
        """State what became of files, and count them; what was stated before stays and is not counted again."""
        numbers = [result.item_id for result in results]
        under_way = select(JobItem.id).where(
            JobItem.id.in_(numbers), JobItem.shard_id == shard_id, JobItem.state.in_(_OPEN)
        )
        still_open = set(self._session.scalars(under_way))
        rows = [
            {
                "id": result.item_id,
                "state": result.state,
                "recording_id": result.recording_id,
                "error_code": result.error_code,
                "error_message": result.error_message,
                "notice": result.notice,
                "finished_at": utc_now(),
            }
            for result in results
            if result.item_id in still_open
        ]
        if not rows:
            return
        self._session.execute(update(JobItem), rows)
        counted = [result for result in results if result.item_id in still_open]
        states = [result.state for result in counted]
        self._count(
            job_id,
            done=states.count(JobItemState.DONE),
            duplicate=states.count(JobItemState.DUPLICATE),
            failed=states.count(JobItemState.FAILED),
            audio_s=sum(result.audio_s for result in counted),
            speech_s=sum(result.speech_s for result in counted),
        )

    def finish(self, shard: ClaimedShard) -> bool:
        """End a shard whose every file is done with; False where one is not, or the shard is another's."""
        left = exists().where(JobItem.shard_id == shard.id, JobItem.state.in_(_OPEN))
        ended = self._session.execute(
            update(JobShard)
            .where(*_held_by(shard), ~left)
            .values(state=ShardState.DONE, finished_at=utc_now(), lease_token=None, lease_until=None)
            .returning(JobShard.id)
        )
        return ended.one_or_none() is not None

    def give_back(self, shard: ClaimedShard, *, failed: bool = False) -> int | None:
        """Put a shard back as if it had not been taken, but for what is done.

        Parameters
        ----------
        failed
            Whether that is because the worker failed at it, which is counted.

        Returns
        -------
        int or None
            How often workers failed at it since a file of it was last done with; None where it is another's.
        """
        failures = self._session.scalar(
            update(JobShard)
            .where(*_held_by(shard))
            .values(**self._waiting(), attempts=JobShard.attempts + int(failed))
            .returning(JobShard.attempts)
        )
        if failures is not None:
            self._requeue(shard.id)
        return failures

    def drop_lease(self, shard: ClaimedShard) -> int | None:
        """Let a shard's lease end now, so that `recover` sees to what was under way.

        Returns
        -------
        int or None
            How often workers failed at it since a file of it was last done with, this time included; None where a
            file was under way, which is then counted as what they failed at, and where the shard is another's.
        """
        past = clock(self._session) - dt.timedelta(seconds=1)
        running = exists().where(JobItem.shard_id == shard.id, JobItem.state == JobItemState.RUNNING)
        touched = bool(self._session.scalar(select(running)))
        failures = self._session.scalar(
            update(JobShard)
            .where(*_held_by(shard))
            .values(lease_until=past, attempts=JobShard.attempts + int(not touched))
            .returning(JobShard.attempts)
        )
        return None if touched else failures

    def forget_failures(self, shard: ClaimedShard) -> None:
        """State that workers get on with a shard again."""
        self._session.execute(update(JobShard).where(JobShard.id == shard.id).values(attempts=0))

    def recover(self, shard_id: ShardId, *, tries: int) -> list[ShardId]:
        """Put a shard back whose worker has fallen silent; nothing happens to one whose lease is alive.

        One of the files under way may be what the worker died of. Each gets a shard of its own, so that the others
        are not lost with it; a file that has one already is given up after `tries` dead workers.

        Returns
        -------
        list of ShardId
            To be sent after the commit.
        """
        dead = self._session.execute(
            update(JobShard)
            .where(
                JobShard.id == shard_id,
                JobShard.state == ShardState.RUNNING,
                JobShard.lease_until < clock(self._session),
            )
            .values(**self._waiting())
            .returning(JobShard.job_id, JobShard.solo)
        ).one_or_none()
        if dead is None:
            return []
        running = self._session.execute(
            select(JobItem.id, JobItem.uri, JobItem.attempts).where(
                JobItem.shard_id == shard_id, JobItem.state == JobItemState.RUNNING
            )
        ).all()
        freed: list[ShardId] = []
        if dead.solo:
            for item in running:
                self._count_death(shard_id, JobId(dead.job_id), item.id, item.uri, item.attempts + 1, tries)
        elif running:
            freed = self._isolate(JobId(dead.job_id), [item.id for item in running])
        self._requeue(shard_id)
        left = self._session.scalar(
            select(func.count(JobItem.id)).where(JobItem.shard_id == shard_id, JobItem.state.in_(_OPEN))
        )
        goes_on = self._session.scalar(select(Job.id).where(Job.id == dead.job_id, Job.state.not_in(ENDED)))
        if left and goes_on is not None:
            freed.append(shard_id)
        # A job that was canceled under the worker: nobody will take these up.
        ended = ([] if left else [shard_id]) if goes_on is not None else [shard_id, *freed]
        if ended:
            self._session.execute(
                update(JobShard).where(JobShard.id.in_(ended)).values(state=ShardState.DONE, finished_at=utc_now())
            )
        return freed if goes_on is not None else []

    def _isolate(self, job_id: JobId, item_ids: Sequence[int]) -> list[ShardId]:
        """Give each of these files a shard of its own."""
        row = {"job_id": job_id, "items": 1, "estimated_s": 0.0, "solo": True, "sent_at": clock(self._session)}
        numbers = self._session.scalars(insert(JobShard).returning(JobShard.id), [row] * len(item_ids)).all()
        self._session.execute(
            update(JobItem),
            [
                {"id": item_id, "shard_id": number, "state": JobItemState.QUEUED}
                for item_id, number in zip(item_ids, numbers, strict=True)
            ],
        )
        return [ShardId(number) for number in numbers]

    def _count_death(self, shard_id: ShardId, job_id: JobId, item_id: int, uri: str, deaths: int, tries: int) -> None:
        self._session.execute(update(JobItem).where(JobItem.id == item_id).values(attempts=deaths))
        if deaths >= tries:
            message = (
                f"{uri}: {deaths} workers died or got stuck while they worked on this file alone, the limit is "
                f"{tries}; it may need more memory than they have, or crash a codec: convert it with ffmpeg"
            )
            failure = ItemResult(item_id, JobItemState.FAILED, error_code=WorkerLost.code, error_message=message)
            self.record(shard_id, job_id, [failure])

    def _waiting(self) -> dict[str, Any]:
        now = clock(self._session)
        return {"state": ShardState.QUEUED, "lease_token": None, "lease_until": None, "sent_at": now}

    def _requeue(self, shard_id: ShardId) -> None:
        self._session.execute(
            update(JobItem)
            .where(JobItem.shard_id == shard_id, JobItem.state == JobItemState.RUNNING)
            .values(state=JobItemState.QUEUED)
            .execution_options(synchronize_session=False)
        )

    def _count(self, job_id: JobId, **counts: float) -> None:
        values = {name: getattr(Job, name) + count for name, count in counts.items() if count}
        if values:
            self._session.execute(update(Job).where(Job.id == job_id).values(**values))


def _held_by(shard: ClaimedShard) -> tuple[Any, ...]:
    return (JobShard.id == shard.id, JobShard.state == ShardState.RUNNING, JobShard.lease_token == shard.token)


def _job_goes_on() -> Any:
    return exists().where(Job.id == JobShard.job_id, Job.state.not_in(ENDED))
