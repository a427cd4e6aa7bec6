"""One Celery worker process, as `voxdex worker` starts it: `python -m worker.process QUEUES POOL`."""

import logging
import os
import socket
import sys
import threading
import warnings
from typing import Any

from celery import Celery, signals
from celery.exceptions import SecurityWarning

from indexer.errors import InvalidRequest, UnsafeFork, VoxdexError, one_line
from indexer.observability import serve_metrics, setup_logging
from indexer.openmp import share_cores
from indexer.settings import Settings, load_settings
from worker import lifecycle
from worker.app import INGEST, MAINTENANCE, PLANNING, PROBES, make_app
from worker.beat import keep_logging
from worker.stopping import StopFlag, stop_with_parent
from worker.supervisor import MISUSED

logger = logging.getLogger(__name__)

QUEUES = {"ingest": [MAINTENANCE, PLANNING, INGEST], "probes": [PROBES]}
"""What a worker listens to, by what it is started for."""
POOLS = ("prefork", "threads")


def main(queues: str, pool: str) -> int:
    """Run a Celery worker until it is told to stop; return its exit status."""
    parent = os.getppid()
    share_cores()
    try:
        settings = load_settings()
        app = make_app(settings)
    except InvalidRequest as error:
        sys.stderr.write(f"voxdex: {error.code}: {one_line(error)}\n")
        return MISUSED
    setup_logging(settings, service="worker")
    stop_with_parent(parent)
    stopping = StopFlag()
    lifecycle.configure(settings, stopping)
    _connect_signals(settings, stopping, sweeps=queues == "ingest", pool=pool)
    return _run(app, queues, pool)


def _run(app: Celery, queues: str, pool: str) -> int:
    # Celery warns of root because other serializers let a message run code; JSON does not.
    warnings.simplefilter("ignore", SecurityWarning)
    from worker import tasks  # noqa: F401 - registers them with the application that is made here

    worker = app.Worker(
        hostname=f"{queues}-{os.getpid()}@{socket.gethostname()}",
        pool_cls=pool,
        concurrency=1,
        queues=QUEUES[queues],
        loglevel=logging.getLogger("worker").getEffectiveLevel(),
        quiet=True,
        # What workers tell each other would have to survive the broker's restarts, and nobody listens.
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


def _connect_signals(settings: Settings, stopping: StopFlag, *, sweeps: bool, pool: str) -> None:
    def stop(**_: Any) -> None:
        stopping.set()

    def check_fork(**_: Any) -> None:
        try:
            lifecycle.require_safe_fork()
        except UnsafeFork as error:
            logger.critical("%s", one_line(error))
            raise SystemExit(MISUSED) from error  # Celery swallows every other kind of exception here.

    def begin(**_: Any) -> None:
        """Set up the process that does the work."""
        serve_metrics(settings)
        parts = lifecycle.services()
        if sweeps:
            parts.start_sweeping()
        else:
            # Beside: Celery kills a child that takes long to report for work.
            threading.Thread(target=_preload, args=[parts], name="preload", daemon=True).start()

    def end(**_: Any) -> None:
        lifecycle.close_services()

    # Celery holds receivers weakly unless it is told otherwise.
    signals.setup_logging.connect(keep_logging, weak=False)
    signals.worker_shutting_down.connect(stop, weak=False)
    signals.worker_before_create_process.connect(check_fork, weak=False)
    if pool == "prefork":
        signals.worker_process_init.connect(begin, weak=False)
        signals.worker_process_shutdown.connect(end, weak=False)
    else:
        signals.worker_ready.connect(begin, weak=False)
        signals.worker_shutdown.connect(end, weak=False)


def _preload(parts: lifecycle.WorkerServices) -> None:
    """Load the encoder of the settings before the first probe waits for it."""
    try:
        parts.encoders.load()
    except VoxdexError as error:
        logger.warning("the encoder is not loaded yet: %s", error.code, exc_info=error)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
