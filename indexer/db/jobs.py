"""Named queries about jobs: what was asked for, and what became of each file."""

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.orm import Session

from indexer.db.models import Job, JobItem, JobItemState, JobState, utc_now
from indexer.db.repositories import require_text
from indexer.errors import NotFound
from indexer.types import GalleryId, JobId, RecordingId


class Jobs:
    """Jobs and their items."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def start(self, gallery_id: GalleryId, *, kind: str, source: str, found: int) -> JobId:
        """Add a job that runs from now on."""
        values = {
            "gallery_id": gallery_id,
            "kind": kind,
            "source": require_text("path", source),
            "state": JobState.RUNNING,
            "found": found,
            "started_at": utc_now(),
        }
        return JobId(self._session.scalars(insert(Job).returning(Job.id), values).one())

    def record(
        self,
        job_id: JobId,
        uri: str,
        state: JobItemState,
        *,
        recording_id: RecordingId | None = None,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> None:
        """State what became of a file, and count it; call it once for each."""
        values = {
            "job_id": job_id,
            "uri": uri,
            "state": state,
            "recording_id": recording_id,
            "error_code": error_code,
            "error_message": error_message,
        }
        self._session.execute(insert(JobItem), values)
        counter = {JobItemState.DONE: Job.done, JobItemState.DUPLICATE: Job.duplicate, JobItemState.FAILED: Job.failed}[
            state
        ]
        self._session.execute(update(Job).where(Job.id == job_id).values({counter: counter + 1}))

    def finish(self, job_id: JobId, state: JobState, *, error: str | None = None) -> None:
        """End a job."""
        self._session.execute(
            update(Job).where(Job.id == job_id).values(state=state, error=error, finished_at=utc_now())
        )

    def forget_emptied(self, gallery_id: GalleryId) -> None:
        """Delete the jobs whose every file was erased: where they were read from may name a person."""
        emptied = (
            Job.gallery_id == gallery_id,
            Job.finished_at.is_not(None),
            Job.found > 0,
            ~exists().where(JobItem.job_id == Job.id),
        )
        self._session.execute(delete(Job).where(*emptied))

    def get(self, job_id: JobId) -> Job:
        """Return a job, or raise NotFound."""
        row = self._session.get(Job, job_id)
        if row is None:
            raise NotFound(f"no job with id {job_id}")
        return row

    def items(self, job_id: JobId, *, state: JobItemState | None = None) -> list[JobItem]:
        """Items of a job in the order they ended."""
        query = select(JobItem).where(JobItem.job_id == job_id).order_by(JobItem.id)
        if state is not None:
            query = query.where(JobItem.state == state)
        return list(self._session.scalars(query))
