"""Looking after what nobody holds: dead workers, lost messages, jobs left without an end, rows whose time is over.

Any number of processes may sweep at once, and as often as they like: everything is taken by an atomic UPDATE, once.
"""

import datetime as dt
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from indexer.db.changes import Changes
from indexer.db.jobs import Jobs
from indexer.db.leases import clock
from indexer.db.lost_work import LostWork
from indexer.db.models import JobState
from indexer.db.recordings import Recordings
from indexer.db.session import Database
from indexer.db.shards import Shards
from indexer.db.traces import Traces
from indexer.db.transactions import in_transaction
from indexer.db.turns import chores_turn
from indexer.errors import NotFound, Unavailable
from indexer.jobs.planning import send
from indexer.jobs.queue import JobQueue
from indexer.jobs.webhooks import deliver_due
from indexer.media import MediaStore, sweep_media
from indexer.settings import Settings
from indexer.types import GalleryId, JobId, RecordingId, ShardId

logger = logging.getLogger(__name__)

AT_ONCE = 1000
"""Rows that one sweep takes of each kind; the next one goes on."""

LATE_S = 600.0
"""Silence after which a shard whose message may be lost is sent again though the broker still has others."""

AT_LEAST = 20
"""Such shards that one sweep sends again even where the broker seems to hold a message for each."""

CHORES_S = 600.0
"""How often a process looks for what is in no hurry, unless another one does: rows and files whose time is over."""

CHANGES_KEPT_S = 86_400.0
"""How long changes are kept for processes that follow a gallery; one that slept longer compares the whole index."""


@dataclass(frozen=True)
class SweepReport:
    """What a sweep found."""

    recovered: int = 0
    """Shards of dead workers."""
    resent: int = 0
    """Shards and plans whose messages were lost."""
    ended: int = 0
    """Jobs that had no end."""
    erased: int = 0
    """Recordings that had been kept as long as their gallery says."""


class Sweeper:
    """Sweeps for one process."""

    def __init__(self, database: Database, settings: Settings, queue: JobQueue) -> None:
        self._database = database
        self._settings = settings
        self._queue = queue
        self._chores_at = 0.0

    def sweep(self) -> SweepReport:
        """Look once for everything; what is found is sent, ended or erased.

        Raises
        ------
        Unavailable
            If the record is out of reach; the next sweep finds the same.
        """
        recovered = self._recover()
        resent = self._resend()
        ended = self._end_jobs()
        deliver_due(self._database, self._settings)
        erased = 0
        if time.monotonic() >= self._chores_at:
            with chores_turn(self._database) as mine:
                erased = self._do_chores() if mine else 0
            self._chores_at = time.monotonic() + CHORES_S
        report = SweepReport(recovered, resent, ended, erased)
        if report != SweepReport():
            logger.info("swept: %s", report)
        return report

    def _recover(self) -> int:
        with self._database.read_scope() as session:
            expired = LostWork(session).expired_shards(AT_ONCE)
        freed: list[ShardId] = []
        try:
            for shard_id in expired:
                freed += in_transaction(self._database, partial(_recover, shard_id, self._settings.jobs.tries))
        finally:
            self._send(freed, [])  # All at once: a broker that is away costs seconds for each try.
        return len(expired)

    def _resend(self) -> int:
        """Send again what the broker seems to have lost.

        An empty queue has lost whatever waits. One that holds fewer messages than there are shards has lost some of
        them, or they are just being taken up: only shards that were sent long ago are sent again then, and no more of
        them than are missing, so that a long queue is not sent twice. It may also hold messages that stand for nothing
        any more (of canceled jobs, or sent twice), behind which a loss does not show: a few are sent in any case.
        Jobs that wait to be planned are few, and a message too many finds them in somebody's hands.
        """
        try:
            held_plans, held = self._queue.waiting_plans(), self._queue.waiting_shards()
        except Unavailable as error:
            logger.warning("lost messages are looked for when the broker is back: %s", error.code, exc_info=error)
            return 0

        sweep_s = self._settings.jobs.sweep_s

        def take(session: Session) -> tuple[list[ShardId], list[JobId]]:
            work = LostWork(session)
            now = clock(session)
            soon, late = (now - dt.timedelta(seconds=silence_s) for silence_s in (2 * sweep_s, LATE_S))
            plans = work.resend_plans(soon if held_plans == 0 else late, AT_ONCE)
            missing = work.waiting_shards() - held if held else AT_ONCE
            most = min(missing, AT_ONCE) if missing > 0 else AT_LEAST
            return work.resend_shards(soon if held == 0 else late, most), plans

        shard_ids, job_ids = in_transaction(self._database, take)
        self._send(shard_ids, job_ids)
        return len(shard_ids) + len(job_ids)

    def _end_jobs(self) -> int:
        with self._database.read_scope() as session:
            finished = LostWork(session).finished_jobs(AT_ONCE)
        ended = sum(in_transaction(self._database, partial(_finish, job_id)) is not None for job_id in finished)
        return ended + in_transaction(self._database, _fail_dead_runs)

    def _do_chores(self) -> int:
        with self._database.session_scope() as session:
            now = clock(session)
            LostWork(session).forget_requests(now - dt.timedelta(hours=self._settings.api.idempotency_hours))
        with self._database.session_scope() as session:
            Changes(session).prune(now - dt.timedelta(seconds=CHANGES_KEPT_S))
        media = MediaStore(self._settings.media_path)
        erased = self._erase_outlived(media, now)
        sweep_media(self._database, media)
        self._scrub()
        return erased

    def _erase_outlived(self, media: MediaStore, now: dt.datetime) -> int:
        """Erase recordings that their galleries keep no longer; indexes hear of it by the feed of changes."""
        with self._database.read_scope() as session:
            galleries = LostWork(session).galleries_with_retention()
        erased = 0
        for gallery_id, days in galleries:
            before = now - dt.timedelta(days=days)
            while True:
                with self._database.read_scope() as session:
                    outlived = LostWork(session).outlived(gallery_id, before, _ERASED_AT_ONCE)
                if not outlived:
                    break
                keys = in_transaction(self._database, partial(_erase, gallery_id, outlived))
                media.delete(keys)
                erased += len(outlived)
        return erased

    def _scrub(self) -> None:
        """Finish erasures, those of other processes too, that found SQLite's log in use."""
        try:
            self._database.scrub()
        except Unavailable as error:
            logger.info("erased rows are taken out of the log later: %s", error.code)

    def _send(self, shard_ids: Sequence[ShardId], job_ids: Sequence[JobId]) -> None:
        if shard_ids:
            send(lambda: self._queue.send_shards(shard_ids))
        for job_id in job_ids:
            send(partial(self._queue.send_planning, job_id))


_ERASED_AT_ONCE = 50


def _recover(shard_id: ShardId, tries: int, session: Session) -> list[ShardId]:
    return Shards(session).recover(shard_id, tries=tries)


def _finish(job_id: JobId, session: Session) -> JobState | None:
    return Jobs(session).finish_if_done(job_id)


def _fail_dead_runs(session: Session) -> int:
    return LostWork(session).fail_dead_runs()


def _erase(gallery_id: GalleryId, recording_ids: Sequence[RecordingId], session: Session) -> list[str]:
    recordings = Recordings(session)
    keys: list[str] = []
    for recording_id in recording_ids:
        with suppress(NotFound):  # Somebody erased it meanwhile.
            keys += recordings.delete(recording_id).media_keys
    Traces(session, gallery_id).forget_erased()
    return keys
