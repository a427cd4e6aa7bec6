"""What a job says of itself is true: of a source that holds nothing, and of the time that all its runs took."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest

from indexer.db.jobs import JobProgress, Jobs
from indexer.db.models import Job, JobState
from indexer.db.session import Database
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.planning import Planner
from indexer.jobs.source import Cursor, Listed
from indexer.settings import JobSettings
from indexer.types import JobId
from tests.job_kit import ListQueue, job_of, submit, work_off, write_archive


def progress(database: Database, job_id: JobId) -> JobProgress:
    with database.read_scope() as session:
        return Jobs(session).progress(job_id)


@pytest.mark.parametrize(
    ("others", "said"), [(0, "nothing at all"), (1, "only 1 other file;"), (3, "only 3 other files;")]
)
def test_a_source_without_a_recording_fails_the_job_and_a_retry_sees_what_was_mounted_since(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path, others: int, said: str
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for number in range(others):
        (source / f"note-{number}.txt").write_text("no audio")
    job_id = submit(bulk, source)
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.found) == (JobState.FAILED, 0)
    assert job.error is not None
    assert job.error.startswith(f"{source}: holds no recording, ")
    assert said in job.error
    assert "retry the job" in job.error

    write_archive(source, 2)  # Their names come before those that were passed over.
    bulk.retry_failed(job_id)
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.found, job.done, job.error) == (JobState.SUCCEEDED, 2, 2, None)


class Notes:
    """A source of four files that are no recordings."""

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        for number in range(after["n"] + 1 if after else 0, 4):
            yield Listed(None, {"n": number})


def test_files_that_are_no_recordings_are_counted_over_all_calls(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id = submit(bulk, tmp_path)
    planner = Planner(database, JobSettings(), queue, lambda _: Notes(), call_s=0.0)
    for _ in range(6):
        planner.plan(job_id)
    job = job_of(database, job_id)
    assert job.state == JobState.FAILED
    assert "only 4 other files;" in (job.error or "")


def test_a_manifest_without_a_row_fails_the_job(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("uri,speaker\n")
    job_id = submit(bulk, manifest)
    work_off(bulk, queue)
    assert job_of(database, job_id).state == JobState.FAILED


def test_a_retry_keeps_when_a_job_began_and_adds_to_the_time_it_took(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 3, seconds=1.0)
    broken = tmp_path / "in" / "broken.wav"
    broken.write_bytes(b"no audio")
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    with database.session_scope() as session:  # As if it had begun 300 s ago, and ended 200 s ago.
        job = session.get(Job, job_id)
        assert job is not None
        assert job.started_at is not None
        assert job.finished_at is not None
        job.started_at = job.finished_at - dt.timedelta(seconds=300)
        job.finished_at -= dt.timedelta(seconds=200)
        began = job.started_at
    assert progress(database, job_id).elapsed_s == pytest.approx(100.0)

    write_archive(tmp_path / "new", 1, seconds=1.0, first=9)[0].replace(broken)
    bulk.retry_failed(job_id)
    work_off(bulk, queue)
    after = progress(database, job_id)
    assert (after.state, after.done) == (JobState.SUCCEEDED, 4)
    assert job_of(database, job_id).started_at == began
    assert 100.0 <= after.elapsed_s < 160.0
    assert after.times_real_time == pytest.approx(after.audio_s / after.elapsed_s)
    assert after.audio_s == pytest.approx(4.0)
