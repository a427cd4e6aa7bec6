"""What became of several files of a job, written at once."""

from indexer.db.jobs import IN_PROCESS, FileOutcome, Jobs
from indexer.db.models import JobItemState
from indexer.db.session import Database
from tests.fakes import SpectrumEncoder
from tests.job_kit import make_gallery


def test_files_that_are_written_at_once_are_counted_once_each(database: Database) -> None:
    gallery_id = make_gallery(database, SpectrumEncoder(), "calls")
    with database.session_scope() as session:
        jobs = Jobs(session)
        job_id = jobs.start(gallery_id, kind=IN_PROCESS, source="/archive", found=6)
        states = [JobItemState.DONE, JobItemState.FAILED, JobItemState.DONE, JobItemState.DUPLICATE]
        jobs.record_all(job_id, [FileOutcome(f"/archive/{n}.wav", state) for n, state in enumerate(states)])
        jobs.record_all(job_id, [])
        jobs.record(job_id, "/archive/4.wav", JobItemState.DONE)
    with database.read_scope() as session:
        job = Jobs(session).get(job_id)
        assert (job.done, job.duplicate, job.failed) == (3, 1, 1)
