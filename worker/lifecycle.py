"""What one worker process has: its record, its encoders, its way out. Made after the fork, when first asked for."""

import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import cached_property
from typing import NoReturn

from indexer.audio.speech import make_detector
from indexer.db.session import Database, open_database
from indexer.embedding.registry import make_registry
from indexer.encoders_in_use import EncodersInUse
from indexer.errors import LeaseLost, Unavailable, UnsafeFork, VoxdexError, one_line
from indexer.jobs.bulk import BulkIngest
from indexer.observability import log_context
from indexer.settings import Settings
from search.listening import make_listening
from search.second_voice import asking_for_second_voices
from worker.client import CeleryQueue
from worker.clustering import Clusterings
from worker.probes import ProbeDesk
from worker.stopping import Periodically, StopFlag
from worker.sweeping import SharedTurn

logger = logging.getLogger(__name__)

PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Pauses after tasks in a row that found something out of reach: a database that starts must not cost a queue."""

BROKEN_DEVICE = 70
"""Exit status of a process whose CUDA context is beyond repair; whoever supervises it starts another."""

STUCK = 71
"""Exit status of a process in which a codec, a disk or a device holds a thread for good; another is started too."""


class _Failures(threading.local):
    """Counted for each thread: the sweep beside the work says nothing about the work."""

    in_a_row = 0


class WorkerServices:
    """The parts of one worker process.

    Parameters
    ----------
    settings : Settings
        Of the worker.
    stopping : StopFlag
        Raised when the worker is to stop; work then gives back what it has not begun.
    """

    def __init__(self, settings: Settings, stopping: StopFlag) -> None:
        self.settings = settings
        self.stopping = stopping
        self.pid = os.getpid()
        self.encoders = EncodersInUse(make_registry(settings), settings.embedding)
        self.queue = CeleryQueue(settings)
        self.probes = ProbeDesk(settings, self.encoders)
        self._opening = threading.Lock()
        self._database: Database | None = None
        self._failures = _Failures()
        self._sweeper: Periodically | None = None

    @property
    def database(self) -> Database:
        """The record, opened when it is first asked for."""
        with self._opening:
            if self._database is None:
                self._database = open_database(self.settings)
            return self._database

    @cached_property
    def bulk(self) -> BulkIngest:
        """The use cases of jobs."""
        return BulkIngest(
            self.database,
            self.settings,
            queue=self.queue,
            encoders_for=lambda gallery_id: self.encoders.all_of_gallery(self.database, gallery_id),
            listening=asking_for_second_voices(
                make_listening(self.settings.speech, make_detector(self.settings.speech))
            ),
            stopping=self.stopping.is_set,
            when_stuck=lambda: end_process(STUCK, "a file holds up the work"),
        )

    @cached_property
    def clusterings(self) -> Clusterings:
        """The use cases of unknown voices."""
        return Clusterings(self.database, self.settings, queue=self.queue, stopping=self.stopping.is_set)

    def perform(self, task_id: str | None, call: Callable[[], object]) -> None:
        """Do a task's work; what fails is logged here, and found again by the sweep.

        Nothing is raised: a message that failed would be sent again by nobody, and the record knows what is undone.
        """
        with log_context(task_id=task_id):
            try:
                call()
            except LeaseLost as lost:
                logger.info("another worker has taken over: %s", one_line(lost))
            except Unavailable as error:
                pause_s = PAUSES_S[min(self._failures.in_a_row, len(PAUSES_S) - 1)]
                self._failures.in_a_row += 1
                logger.warning("%s; the next task begins in %g s", error.code, pause_s, exc_info=error)
                self.stopping.wait(pause_s)
                return
            except VoxdexError as error:
                logger.error("a task failed: %s", error.code, exc_info=error)
            except Exception as error:
                logger.exception("a task failed unexpectedly")
                if is_device_broken(error):
                    end_process(BROKEN_DEVICE, "the device is unusable from this process")
            self._failures.in_a_row = 0

    def sweep(self) -> None:
        """Sweep where no other process did lately."""
        if SharedTurn(self.queue.redis, self.settings.jobs.sweep_s).take():
            self.bulk.sweep()

    def start_sweeping(self) -> None:
        """Sweep beside the work, so that lost work is found even while beat is down or every worker is busy."""
        self._sweeper = Periodically(
            lambda: self.perform(None, self.sweep), self.settings.jobs.sweep_s, name="worker-sweep"
        )
        self._sweeper.start()

    def close(self) -> None:
        """Close what was opened."""
        if self._sweeper is not None:
            self._sweeper.close()
        self.queue.close()
        self.probes.close()
        if self._database is not None:
            self._database.close()


class _Process:
    """What `configure` was told in this process or the one it was forked from, and what was made of it here."""

    settings: Settings | None = None
    stopping: StopFlag | None = None
    services: WorkerServices | None = None


def configure(settings: Settings, stopping: StopFlag) -> None:
    """Say once, before any fork, what the worker's processes are made from."""
    _Process.settings, _Process.stopping, _Process.services = settings, stopping, None


def services() -> WorkerServices:
    """Return the parts of this process; a forked process makes its own and leaves its parent's connections alone."""
    if _Process.settings is None or _Process.stopping is None:
        raise Unavailable("this process was not set up as a worker: start it by `voxdex worker`")
    if _Process.services is None or _Process.services.pid != os.getpid():
        _Process.services = WorkerServices(_Process.settings, _Process.stopping)
    return _Process.services


def close_services() -> None:
    """Close the parts of this process, where it made any."""
    if _Process.services is not None and _Process.services.pid == os.getpid():
        _Process.services.close()
        _Process.services = None


def is_cuda_touched() -> bool:
    """Tell whether this process has a CUDA context; torch is not loaded to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def require_safe_fork(cuda_touched: Callable[[], bool] = is_cuda_touched) -> None:
    """Refuse to fork a process that has touched CUDA: the child's calls would fail or hang.

    Raises
    ------
    UnsafeFork
        If it has.
    """
    if cuda_touched():
        raise UnsafeFork(
            f"process {os.getpid()} has touched CUDA and was about to fork: "
            "a worker that forks needs VOXDEX_EMBEDDING__DEVICE=cpu"
        )


def end_process(status: int, reason: str) -> NoReturn:
    """End this process at once, for another to be started: threads that may never end are not waited for."""
    logger.critical("%s: this process ends, for another to be started", reason)
    logging.shutdown()
    os._exit(status)


def is_device_broken(error: BaseException) -> bool:
    """Tell whether an error leaves every later call to the device failing, as a fault in a kernel does."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.AcceleratorError)
