"""Worker processes that can be killed: forked from the test, each with a database connection of its own."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import event, select

from indexer.db.models import JobShard, ShardState
from indexer.db.session import open_database
from indexer.errors import VoxdexError
from indexer.settings import Settings
from indexer.types import ShardId, Vectors, Waveform
from tests.fakes import SpectrumEncoder
from tests.job_kit import ListQueue, make_bulk

_fork = multiprocessing.get_context("fork")

Process = Any  # multiprocessing's classes of a context have no public type


class DeadlyEncoder(SpectrumEncoder):
    """Kills its process, as a fault in a library does, when it meets a sound above a peak; may be slow, too."""

    def __init__(self, *, kills_above: float = np.inf, pause_s: float = 0.0) -> None:
        super().__init__()
        self._kills_above = kills_above
        self._pause_s = pause_s

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        time.sleep(self._pause_s * len(waveforms))
        if any(np.abs(waveform).max() > self._kills_above for waveform in waveforms):
            die()
        return super().embed(waveforms)


class BlockedEncoder(SpectrumEncoder):
    """Waits in its first call until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        self.entered.set()
        assert self.let_go.wait(120)
        return super().embed(waveforms)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def start_worker(settings: Settings, encoder: SpectrumEncoder, *, dies_at: int | None = None) -> Process:
    """Start a process that works off whatever shards wait, until none does.

    Parameters
    ----------
    dies_at
        Number of the statement or commit at which it kills itself.
    """
    process = _fork.Process(target=_work, args=[settings, encoder, dies_at], daemon=True)
    process.start()
    return process


def _work(settings: Settings, encoder: SpectrumEncoder, dies_at: int | None) -> None:
    database = open_database(settings)
    if dies_at is not None:
        left = [dies_at]

        def count(*_: object) -> None:
            left[0] -= 1
            if left[0] == 0:
                die()

        event.listen(database.engine, "before_cursor_execute", count)
        event.listen(database.engine, "commit", count)
    bulk = make_bulk(database, settings, ListQueue(), encoder)
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + 2 * settings.jobs.lease_s:
        try:
            bulk.sweep()
            with database.read_scope() as session:
                waiting = session.scalars(select(JobShard.id).where(JobShard.state == ShardState.QUEUED)).all()
                busy = session.scalar(select(JobShard.id).where(JobShard.state == ShardState.RUNNING).limit(1))
            for number in waiting:
                bulk.work(ShardId(number))
                idle_since = time.monotonic()
            if not waiting and busy is None:
                break
            time.sleep(0.05)
        except VoxdexError:
            time.sleep(0.05)
    # As a worker does that is killed: nothing that a fork inherited is torn down.
    os._exit(0)
