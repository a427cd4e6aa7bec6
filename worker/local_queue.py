"""Jobs without a broker: one thread of this process does what workers do elsewhere."""

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Protocol

from indexer.errors import LeaseLost, VoxdexError, one_line
from indexer.observability import log_context
from indexer.settings import JobSettings
from indexer.types import JobId, ShardId
from worker.stopping import Periodically

logger = logging.getLogger(__name__)


class _What(IntEnum):
    """Kinds of messages, the most pressing first: planning takes moments, and tells how long the rest will take."""

    STOP = 0
    PLAN = 1
    WORK = 2


class JobWork(Protocol):
    """What the thread calls: `indexer.jobs.bulk.BulkIngest`."""

    def plan(self, job_id: JobId) -> None:
        """Plan a part of a job."""

    def work(self, shard_id: ShardId) -> None:
        """Work through a shard."""

    def sweep(self) -> object:
        """Look for work that nobody holds."""


class LocalQueue:
    """The `JobQueue` of one process, which works through it in a thread of its own once it is started.

    Nothing is kept but numbers: after a restart the first sweep finds unfinished jobs in the record and sends them
    again.
    """

    def __init__(self, settings: JobSettings) -> None:
        self._sweep_s = settings.sweep_s
        self._messages: queue.PriorityQueue[tuple[_What, int, int]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._stopping = threading.Event()
        self._worker: threading.Thread | None = None
        self._sweeper: Periodically | None = None

    def send_planning(self, job_id: JobId) -> None:
        """Have this job planned."""
        self._put(_What.PLAN, job_id)

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        """Have these shards worked through."""
        for shard_id in shard_ids:
            self._put(_What.WORK, shard_id)

    def waiting(self) -> int | None:
        """Count what the thread has not taken up yet."""
        return self._messages.qsize()

    def is_stopping(self) -> bool:
        """Tell whether `close` was called; work then gives back soon what it has not begun."""
        return self._stopping.is_set()

    def start(self, bulk: JobWork) -> None:
        """Begin to work, with a sweep: jobs of an earlier run are taken up again."""
        self._worker = threading.Thread(target=self._run, args=[bulk], name="jobs", daemon=True)
        self._sweeper = Periodically(lambda: _perform(bulk.sweep), self._sweep_s, name="jobs-sweep")
        self._worker.start()
        self._sweeper.start()

    def close(self) -> None:
        """Stop; a shard that is under way is given back, and its files that are done stay done."""
        self._stopping.set()
        self._put(_What.STOP, 0)
        if self._sweeper is not None:
            self._sweeper.close()
        if self._worker is not None:
            self._worker.join()

    def _put(self, what: _What, number: int) -> None:
        self._messages.put((what, next(self._order), number))

    def _run(self, bulk: JobWork) -> None:
        while not self._stopping.is_set():
            what, _, number = self._messages.get()
            if what is _What.PLAN:
                _perform(partial(bulk.plan, JobId(number)))
            elif what is _What.WORK:
                _perform(partial(bulk.work, ShardId(number)))


def _perform(call: Callable[[], object]) -> None:
    """Do something whose failure must not end the thread; the record knows what is undone, and a sweep sends it."""
    with log_context():
        try:
            call()
        except LeaseLost as lost:
            logger.info("somebody else has taken over: %s", one_line(lost))
        except VoxdexError as error:
            logger.warning("%s: %s", error.code, one_line(error))
        except Exception:
            logger.exception("a job's work failed unexpectedly")
