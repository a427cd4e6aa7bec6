"""Bulk ingest as jobs: posted, watched, stopped, taken up again."""

from collections.abc import AsyncIterable, AsyncIterator
from functools import partial
from time import monotonic
from typing import Annotated, Any

from anyio import sleep
from fastapi import APIRouter, Depends, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from api.idempotency import Answer, Idempotent
from api.job_views import job_view
from api.openapi import problems
from api.pagination import after_of, page_of
from api.runtime import Parts, Runtime
from api.schemas.common import PAGE_ROWS, Cursor, GalleryName, Limit, Name, RowNumber
from api.schemas.jobs import ItemNumber, Job, JobItem, JobItemPage, JobPage, NewJob, Requeued, SameVoices
from api.security import Principal, Reader, Writer
from indexer.db import models
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.retries import MOST_ITEMS
from indexer.db.webhooks import ENDED
from indexer.errors import InvalidRequest, NotFound
from indexer.jobs.source import JobOptions, guess_kind
from indexer.types import GalleryId, JobId

router = APIRouter(tags=["jobs"])

EVENT_STEP_S = 0.5
"""How often a watched job is looked at; a step that changed nothing sends nothing."""

KEY_STEP_S = 60.0
"""How often a watcher's key is looked at again: one that was revoked does not go on watching."""


async def _watching(parts: Parts) -> AsyncIterator[None]:
    """Count a watcher until its stream ends, or refuse it before the stream begins."""
    with parts.watching_threads.admitted():
        yield


def _readable(parts: Parts, principal: Reader, job_id: RowNumber) -> JobId:
    return _visible(parts, principal, job_id)


def _writable(parts: Parts, principal: Writer, job_id: RowNumber) -> JobId:
    return _visible(parts, principal, job_id)


_EVENTS: dict[str, Any] = {
    "content": {
        "text/event-stream": {
            "example": 'event: progress\ndata: {"id":42,"state":"running","done":250,...}\nid: 250-running\n\n'
        }
    }
}

ReadableJob = Annotated[JobId, Depends(_readable)]
WritableJob = Annotated[JobId, Depends(_writable)]


@router.post("/galleries/{gallery}/jobs", status_code=202, response_model=Job, responses=problems(404, 409, 413))
def post_job(gallery: GalleryName, body: NewJob, principal: Writer, parts: Parts, once: Idempotent) -> Response:
    """Take an archive into a gallery: accepted at once, listed and worked through by the workers."""

    def work() -> Answer:
        job_id = parts.bulk.submit(
            gallery,
            body.source,
            options=JobOptions(
                body.kind or guess_kind(body.source), body.speaker_from, body.channels, body.speakers, body.speech
            ),
            on_duplicate=body.on_duplicate,
            webhook_url=body.webhook_url,
            trusted=principal.may("admin"),
        )
        return Answer(_job(parts, job_id), 202, location=f"/v1/jobs/{job_id}")

    return once(principal, body, work)


@router.get("/jobs", responses=problems(404))
def list_jobs(
    principal: Reader,
    parts: Parts,
    gallery: Annotated[Name | None, Query(description="Only jobs of this gallery.")] = None,
    state: Annotated[models.JobState | None, Query(description="Only jobs in this state.")] = None,
    cursor: Cursor = None,
    limit: Limit = PAGE_ROWS,
) -> JobPage:
    """List jobs, the newest first."""
    if gallery is not None:
        principal.require_gallery(gallery)
    with parts.database.read_scope() as session:
        only = principal.gallery_id if gallery is None else GalleryId(Galleries(session).by_name(gallery).id)
        rows = Jobs(session).page(only, state=state, before=after_of(cursor, "jobs") or None, limit=limit + 1)
        return page_of(rows, limit, lambda row: job_view(session, row), "jobs")


@router.get("/jobs/{job_id}", responses=problems(404))
def get_job(job_id: ReadableJob, parts: Parts) -> Job:
    """Show a job: its counts, its speed, and when it will be done."""
    return _job(parts, job_id)


@router.get("/jobs/{job_id}/items", responses=problems(404))
def list_items(
    job_id: ReadableJob,
    parts: Parts,
    state: Annotated[models.JobItemState | None, Query(description="Only files in this state.")] = None,
    status: Annotated[models.JobItemState | None, Query(description="Another name of `state`.")] = None,
    noticed: Annotated[
        bool, Query(description="Only files with a notice, as that several voices were heard, or may be.")
    ] = False,
    cursor: Cursor = None,
    limit: Limit = PAGE_ROWS,
) -> JobItemPage:
    """List a job's files; those that failed have the reason."""
    if state is not None and status is not None and state != status:
        raise InvalidRequest(f"state={state.value} and status={status.value} mean the same: give one of them")
    with parts.database.read_scope() as session:
        rows = Jobs(session).items_page(
            job_id,
            state=state or status,
            noticed=noticed,
            after=after_of(cursor, "items", job_id),
            limit=limit + 1,
        )
        return page_of(rows, limit, JobItem.model_validate, "items", job_id)


@router.get("/jobs/{job_id}/same-voices", responses=problems(404))
async def get_same_voices(job_id: ReadableJob, parts: Parts) -> SameVoices:
    """Tell which speakers of a job sound like others of its gallery: one voice that may have two names.

    Compared is what is enrolled now: two that were merged are told no more. The first thousand speakers of a job are
    compared, for ten seconds at most. A job that one command ran by itself told so itself.
    """

    def work() -> SameVoices:
        return parts.reports.same_voices(_job(parts, job_id).gallery, job_id)

    with parts.report_threads.admitted():
        return await parts.report_threads.run(work)


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    responses={200: _EVENTS, **problems(404)},
    dependencies=[Depends(_watching)],
)
async def watch_job(job_id: ReadableJob, principal: Reader, parts: Parts) -> AsyncIterable[ServerSentEvent]:
    """Watch a job: an event `progress` with the whole job at once and at every change, and `end` with its final state.

    A comment is sent every 15 seconds in which nothing changes. Each event says all there is to know, so a client that
    comes again has missed nothing. The stream also ends, without `end`, when the service stops: come again; and within
    about a minute after the key was revoked.
    """
    told: Job | None = None
    key_asked_at = monotonic()
    while not parts.stopping.is_set():
        if monotonic() - key_asked_at >= KEY_STEP_S:
            key_asked_at = monotonic()
            if not await parts.watching_threads.run(partial(parts.gate.still_admits, principal)):
                return
        try:
            job = await parts.watching_threads.run(partial(_job, parts, job_id))
        except NotFound:  # Erased with its gallery or its recordings while it was watched.
            return
        if told is None or _changed(told, job):
            told = job
            event = "end" if job.state in ENDED else "progress"
            yield ServerSentEvent(event=event, data=job, id=f"{job.done + job.duplicate + job.failed}-{job.state}")
        if job.state in ENDED:
            return
        await sleep(EVENT_STEP_S)


@router.post("/jobs/{job_id}/cancel", response_model=Job, responses=problems(404, 409))
def cancel_job(job_id: WritableJob, principal: Writer, parts: Parts, once: Idempotent) -> Response:
    """Stop a job; what it has done stays. A job that was canceled before is left as it is."""

    def work() -> Answer:
        parts.bulk.cancel(job_id)
        job = _job(parts, job_id)
        return Answer(job, 200, gallery=job.gallery)

    return once(principal, "", work)


@router.post("/jobs/{job_id}/retry-failed", response_model=Requeued, responses=problems(404, 409))
def retry_failed(
    job_id: WritableJob,
    principal: Writer,
    parts: Parts,
    once: Idempotent,
    item: Annotated[
        list[ItemNumber] | None,
        Query(description="Ids of failed files: only these are tried again.", max_length=MOST_ITEMS),
    ] = None,
) -> Response:
    """Try the failed files of a job again, or only some of them; the job runs again until they are done."""
    return once(principal, "", lambda: Answer(Requeued(requeued=parts.bulk.retry_failed(job_id, item)), 200))


def _visible(parts: Runtime, principal: Principal, job_id: int) -> JobId:
    with parts.database.read_scope() as session:
        if not principal.sees(Jobs(session).get(JobId(job_id)).gallery_id):
            raise NotFound(f"no job with id {job_id}")
    return JobId(job_id)


def _job(parts: Runtime, job_id: JobId) -> Job:
    with parts.database.read_scope() as session:
        return job_view(session, Jobs(session).get(job_id))


def _changed(before: Job, now: Job) -> bool:
    """Tell whether anything but the clock has moved."""
    clock = {"elapsed_s", "times_real_time", "eta_s"}
    return before.model_dump(exclude=clock) != now.model_dump(exclude=clock)
