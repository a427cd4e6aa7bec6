"""A planner whose lease cannot be renewed stops, and another one goes on where it was."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from indexer.db.models import JobState
from indexer.db.session import Database
from indexer.jobs.planning import Planner
from indexer.jobs.source import Cursor, Listed, SourceEntry
from indexer.settings import JobSettings, Settings
from tests.fakes import SpectrumEncoder
from tests.job_kit import ListQueue, job_of, make_bulk, make_gallery, submit, work_off, write_archive


class NoRenewal(Database):
    """A record that breaks whatever thread renews a lease, in a way that nobody foresaw."""

    @contextmanager
    def session_scope(self) -> Iterator[Session]:
        if threading.current_thread().name == "lease":
            raise ZeroDivisionError("unforeseen")
        with super().session_scope() as session:
            yield session


class Endless:
    """A source that takes its time and never ends."""

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        for number in range(10_000):
            time.sleep(0.02)
            yield Listed(SourceEntry(f"/archive/{number}.wav"), {"n": number})


def test_a_planner_that_cannot_keep_its_lease_stops_and_the_job_goes_on(
    database: Database, record_settings: Settings, tmp_path: Path
) -> None:
    make_gallery(database, SpectrumEncoder())
    queue = ListQueue()
    bulk = make_bulk(database, record_settings, queue)
    write_archive(tmp_path / "in", 2)
    job_id = submit(bulk, tmp_path / "in")
    # Nothing is written meanwhile, which would renew the lease as well.
    settings = JobSettings(lease_s=2, shard_files=1024)
    began = time.monotonic()
    Planner(NoRenewal(database.engine), settings, queue, lambda _: Endless(), call_s=60).plan(job_id)
    assert time.monotonic() - began < 150  # The source takes 200 s.
    assert job_of(database, job_id).state == JobState.PLANNING
    assert job_of(database, job_id).found == 0
    time.sleep(2.1)
    work_off(bulk, queue)
    assert (job_of(database, job_id).state, job_of(database, job_id).found) == (JobState.SUCCEEDED, 2)
