"""Jobs, wherever they are kept: in a running service, or in the record of this machine."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from indexer.types import JobId
from voxdex_client.models import ENDED, Job, JobItem, JobItemState, JobState, SameVoices

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from api.dependencies import Services
    from indexer.db import models
    from voxdex_client import Client

_PAGE = 500
_LOOK_EVERY_S = 0.5
_PATIENCE_S = 600.0
"""How long a service that answered before may be gone while one of its jobs is watched."""


class JobDesk(Protocol):
    """What can be asked of jobs."""

    def jobs(self, gallery: str | None, state: JobState | None) -> Iterable[Job]:
        """List jobs, the newest first."""

    def job(self, job_id: int) -> Job:
        """Show a job; raises NotFound."""

    def items(self, job_id: int, state: JobItemState | None, *, noticed: bool = False) -> Iterable[JobItem]:
        """List the files of a job, or those with a notice, in the order of its source; raises NotFound."""

    def same_voices(self, job_id: int) -> SameVoices:
        """Tell which speakers of a job sound like others of its gallery; raises NotFound."""

    def follow(self, job_id: int) -> Iterator[Job]:
        """Show a job whenever it changed, until it has ended; raises NotFound."""

    def cancel(self, job_id: int) -> Job:
        """Stop a job; raises NotFound, or Conflict where it has ended."""

    def retry_failed(self, job_id: int, items: Sequence[int] | None = None) -> int:
        """Try the failed files of an ended job again, or only these, and return how many that are."""


@contextmanager
def open_desk(url: str | None, key: str | None, home: Path | None) -> Iterator[JobDesk]:
    """Open the jobs of the service at `url`, or of the record of this machine where that is None."""
    if url is not None:
        from api.cli.remote import connected

        with connected(url, key) as client:
            yield RemoteJobs(client)
        return
    from api.dependencies import open_services

    with open_services(home=home) as services:
        services.record()
        yield RecordedJobs(services)


class RemoteJobs:
    """The jobs of a running service."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def jobs(self, gallery: str | None, state: JobState | None) -> Iterable[Job]:
        """List jobs, the newest first."""
        return self._client.jobs.list(gallery=gallery, state=state, limit=_PAGE)

    def job(self, job_id: int) -> Job:
        """Show a job."""
        return self._client.jobs.get(job_id)

    def items(self, job_id: int, state: JobItemState | None, *, noticed: bool = False) -> Iterable[JobItem]:
        """List the files of a job."""
        return self._client.jobs.items(job_id, state=state, noticed=noticed or None, limit=_PAGE)

    def same_voices(self, job_id: int) -> SameVoices:
        """Tell which speakers of a job sound like others of its gallery."""
        return self._client.jobs.same_voices(job_id)

    def follow(self, job_id: int) -> Iterator[Job]:
        """Show a job whenever it changed; a service that is being restarted is waited for."""
        from voxdex_client import errors

        heard_at: float | None = None
        while True:
            try:
                for job in self._client.jobs.events(job_id):
                    heard_at = time.monotonic()
                    yield job
                return
            except (errors.ConnectionFailed, errors.Unavailable):
                if heard_at is None or time.monotonic() - heard_at > _PATIENCE_S:
                    raise
                time.sleep(_LOOK_EVERY_S)

    def cancel(self, job_id: int) -> Job:
        """Stop a job."""
        return self._client.jobs.cancel(job_id)

    def retry_failed(self, job_id: int, items: Sequence[int] | None = None) -> int:
        """Try the failed files again."""
        return self._client.jobs.retry_failed(job_id, item=items).requeued


class RecordedJobs:
    """The jobs in the record of this machine, whether a service runs on it or not."""

    def __init__(self, services: "Services") -> None:
        self._services = services

    def jobs(self, gallery: str | None, state: JobState | None) -> Iterable[Job]:
        """List jobs, the newest first."""
        from indexer.db import models
        from indexer.db.galleries import Galleries
        from indexer.db.jobs import Jobs
        from indexer.types import GalleryId

        wanted = None if state is None else models.JobState(state)
        before: int | None = None
        while True:
            with self._services.record().read_scope() as session:
                gallery_id = None if gallery is None else GalleryId(Galleries(session).by_name(gallery).id)
                rows = Jobs(session).page(gallery_id, state=wanted, before=before, limit=_PAGE)
                found = [_shown(session, row) for row in rows]
            if not found:
                return
            yield from found
            before = found[-1].id

    def job(self, job_id: int) -> Job:
        """Show a job."""
        from indexer.db.jobs import Jobs

        with self._services.record().read_scope() as session:
            return _shown(session, Jobs(session).get(JobId(job_id)))

    def items(self, job_id: int, state: JobItemState | None, *, noticed: bool = False) -> Iterable[JobItem]:
        """List the files of a job."""
        from api.schemas import jobs as schemas
        from indexer.db import models
        from indexer.db.jobs import Jobs

        self.job(job_id)
        wanted, after = None if state is None else models.JobItemState(state), 0
        while True:
            with self._services.record().read_scope() as session:
                page = Jobs(session).items_page
                rows = page(JobId(job_id), state=wanted, noticed=noticed, after=after, limit=_PAGE)
                views = [schemas.JobItem.model_validate(row, from_attributes=True) for row in rows]
            if not views:
                return
            yield from (JobItem.model_validate(view.model_dump(mode="json")) for view in views)
            after = views[-1].id

    def same_voices(self, job_id: int) -> SameVoices:
        """Tell which speakers of a job sound like others of its gallery; the encoder is loaded where it has any."""
        from api.gallery_reports import same_voices_of_job, two_names_of

        gallery = self.job(job_id).gallery
        found = same_voices_of_job(
            self._services.record(),
            JobId(job_id),
            lambda speakers: two_names_of(self._services.voices(gallery), speakers),
        )
        return SameVoices.model_validate(found.model_dump(mode="json"))

    def follow(self, job_id: int) -> Iterator[Job]:
        """Show a job about twice a second."""
        while (job := self.job(job_id)).state not in ENDED:
            yield job
            time.sleep(_LOOK_EVERY_S)
        yield job

    def cancel(self, job_id: int) -> Job:
        """Stop a job."""
        self._services.bulk.cancel(JobId(job_id))
        return self.job(job_id)

    def retry_failed(self, job_id: int, items: Sequence[int] | None = None) -> int:
        """Try the failed files again; without a broker, the next sweep of `voxdex serve` begins with it."""
        return self._services.bulk.retry_failed(JobId(job_id), items)


def _shown(session: "Session", row: "models.Job") -> Job:
    from api.job_views import job_view

    return Job.model_validate(job_view(session, row).model_dump(mode="json"))
