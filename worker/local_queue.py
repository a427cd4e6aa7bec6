"""Jobs without a broker: one thread of this process does what workers do elsewhere."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from indexer.errors import LeaseLost, VoxdexError, one_line
from indexer.observability import log_context
from indexer.settings import JobSettings
from indexer.types import JobId, ShardId
from worker.stopping import Periodically

logger = logging.getLogger(__name__)


class JobWork(Protocol):
    """What the thread calls: `indexer.jobs.bulk.BulkIngest`."""

    def plan(self, job_id: JobId) -> None:
        """Plan a part of a job."""

    def work(self, shard_id: ShardId) -> None:
        """Work through a shard."""

    def sweep(self) -> object:
        """Look for work that nobody holds."""


class ClusteringWork(Protocol):
    """What the thread calls beside: `worker.clustering.Clusterings`."""

    def perform(self, job_id: JobId) -> None:
        """Find the unknown voices of a gallery."""


class LocalQueue:
    """The `JobQueue` of one process, which works through it in a thread of its own once it is started.

    Nothing is kept but numbers: after a restart the first sweep finds unfinished jobs in the record and sends them
    again.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._sweep_s = settings.sweep_s
        self._plans: deque[JobId] = deque()
        self._shards: deque[ShardId] = deque()
        self._clusterings: deque[JobId] = deque()
        self._changed = threading.Condition()
        self._planned_last = False
        self._stopping = threading.Event()
        self._worker: threading.Thread | None = None
        self._sweeper: Periodically | None = None

    def send_planning(self, job_id: JobId) -> None:
        """Have this job planned."""
        with self._changed:
            self._plans.append(job_id)
            self._changed.notify()

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        """Have these shards worked through."""
        with self._changed:
            self._shards.extend(shard_ids)
            self._changed.notify()

    def send_clustering(self, job_id: JobId) -> None:
        """Have the unknown voices of this job found, once nothing else waits: it may take long, and is in no hurry."""
        with self._changed:
            self._clusterings.append(job_id)
            self._changed.notify()

    def waiting(self) -> int | None:
        """Count what the thread has not taken up yet."""
        return len(self._plans) + len(self._shards) + len(self._clusterings)

    def waiting_plans(self) -> int | None:
        """Count the jobs that wait to be planned, or for their unknown voices."""
        return len(self._plans) + len(self._clusterings)

    def waiting_shards(self) -> int | None:
        """Count the shards that wait."""
        return len(self._shards)

    def is_stopping(self) -> bool:
        """Tell whether `close` was called; work then gives back soon what it has not begun."""
        return self._stopping.is_set()

    def start(self, bulk: JobWork, clusterings: ClusteringWork) -> None:
        """Begin to work, with a sweep: jobs of an earlier run are taken up again."""
        self._worker = threading.Thread(target=self._run, args=[bulk, clusterings], name="jobs", daemon=True)
        self._sweeper = Periodically(lambda: _perform(bulk.sweep), self._sweep_s, name="jobs-sweep")
        self._worker.start()
        self._sweeper.start()

    def close(self) -> None:
        """Stop; a shard that is under way is given back, and its files that are done stay done."""
        with self._changed:
            self._stopping.set()
            self._changed.notify()
        if self._sweeper is not None:
            self._sweeper.close()
        if self._worker is not None:
            self._worker.join()

    def _run(self, bulk: JobWork, clusterings: ClusteringWork) -> None:
        while (call := self._next(bulk, clusterings)) is not None:
            _perform(call)

    def _next(self, bulk: JobWork, clusterings: ClusteringWork) -> Callable[[], object] | None:
        """Wait for the next call; None says that it is time to stop.

        Planning and shards take turns: neither do shards wait until the last file of a huge job is listed, nor does
        the planning of one job wait for the shards of another.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopping.is_set() or self.waiting())
            if self._stopping.is_set():
                return None
            if not self._plans and not self._shards:
                return partial(clusterings.perform, self._clusterings.popleft())
            self._planned_last = bool(self._plans) and not (self._planned_last and self._shards)
            if self._planned_last:
                return partial(bulk.plan, self._plans.popleft())
            return partial(bulk.work, self._shards.popleft())


def _perform(call: Callable[[], object]) -> None:
    """Do something whose failure must not end the thread; the record knows what is undone, and a sweep sends it."""
    with log_context():
        try:
            call()
        except LeaseLost as lost:
            logger.info("somebody else has taken over: %s", one_line(lost))
        except VoxdexError as error:
            logger.warning("a job's work failed: %s", error.code, exc_info=error)
        except Exception:
            logger.exception("a job's work failed unexpectedly")
