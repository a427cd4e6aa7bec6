"""Named queries about files that a job knew and that were erased since: a job that is read again passes them over.

Erasing a recording erases its rows in `job_items`, for a path can name a person. What stays is a checksum, by which
nobody finds the path, but by which planning tells it when it comes by again.

Erased files stay counted. A job's counters say what the job did, and at every moment each of them is the number of
its items in that state and of the erased ones that were in it.
"""

import hashlib
from collections.abc import Collection, Sequence

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from indexer.db.models import ErasedFile, Job, JobItem, JobState
from indexer.types import JobId

_NEVER_READ_AGAIN = (JobState.SUCCEEDED, JobState.CANCELED)


def remember_erased(session: Session, recording_ids: Sequence[int]) -> None:
    """Keep the checksums of the files of these recordings in the jobs that may be read again.

    Call it where recordings are deleted, before they are, with as many as one statement takes.
    """
    query = (
        select(JobItem.job_id, JobItem.uri)
        .join(Job, Job.id == JobItem.job_id)
        .where(
            JobItem.recording_id.in_(recording_ids),
            JobItem.shard_id.is_not(None),  # Files that were never planned have none: their jobs cannot be read again.
            Job.state.not_in(_NEVER_READ_AGAIN),
        )
        .order_by(JobItem.id)
    )
    rows = [{"job_id": job_id, "uri_sha256": _checksum(job_id, uri)} for job_id, uri in session.execute(query)]
    if rows:
        session.execute(insert(ErasedFile), rows)


def any_erased(session: Session, job_id: JobId) -> bool:
    """Tell whether a file of a job was erased."""
    return session.scalar(select(ErasedFile.id).where(ErasedFile.job_id == job_id).limit(1)) is not None


def erased_among(session: Session, job_id: JobId, uris: Collection[str]) -> list[str]:
    """Return those of these files of a job that were erased; give as many as one statement takes."""
    checksums = {_checksum(job_id, uri): uri for uri in uris}
    query = select(ErasedFile.uri_sha256).where(ErasedFile.job_id == job_id, ErasedFile.uri_sha256.in_(list(checksums)))
    return [checksums[checksum] for checksum in session.scalars(query)]


def _checksum(job_id: int, uri: str) -> str:
    return hashlib.sha256(f"{job_id}:{uri}".encode()).hexdigest()
