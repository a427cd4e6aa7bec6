"""How the API and the command line show a job: its row, its progress and its gallery's name in one."""

from dataclasses import asdict

from sqlalchemy.orm import Session

from api.schemas.jobs import Job
from indexer.db import models
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.types import GalleryId, JobId


def job_view(session: Session, row: models.Job) -> Job:
    """Show a job as it is in this session's view of the record."""
    return Job(
        id=row.id,
        gallery=Galleries(session).get(GalleryId(row.gallery_id)).name,
        kind=row.kind,
        source=row.source,
        speaker_from=row.options.get("speaker_from", "none"),
        channels=row.options.get("channels"),
        speakers=row.options.get("speakers"),
        speech=row.options.get("speech"),
        on_duplicate=row.on_duplicate,
        error=row.error,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        **asdict(Jobs(session).progress(JobId(row.id))),
    )
