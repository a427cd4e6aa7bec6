"""Jobs over many files."""

from collections.abc import Sequence
from types import NoneType

from voxdex_client import models
from voxdex_client.requests import Sent, route


@route("POST", "/v1/galleries/{gallery}/jobs", models.Job, keyed=True)
def create_job(
    gallery: str,
    source: str,
    *,
    kind: models.SourceKind | None = None,
    speaker_from: str = "none",
    channels: str | None = None,
    speakers: str | None = None,
    speech: str | None = None,
    on_duplicate: models.OnDuplicate = "skip",
    webhook_url: str | None = None,
    idempotency_key: str | None = None,
) -> Sent:
    """Have workers ingest a folder, a manifest or a URL, as they see it."""
    fields = {
        "source": source,
        "kind": kind,
        "speaker_from": speaker_from,
        "channels": channels,
        "speakers": speakers,
        "speech": speech,
        "on_duplicate": on_duplicate,
        "webhook_url": webhook_url,
    }
    return Sent(path={"gallery": gallery}, json=fields, key=idempotency_key)


@route("GET", "/v1/jobs", models.Page[models.Job])
def list_jobs(
    *,
    gallery: str | None = None,
    state: models.JobState | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Sent:
    """List jobs, the newest first."""
    return Sent(query={"gallery": gallery, "state": state, "limit": limit, "cursor": cursor})


@route("GET", "/v1/jobs/{job_id}", models.Job)
def get_job(job_id: int) -> Sent:
    """Show a job and how far it got."""
    return Sent(path={"job_id": job_id})


@route("GET", "/v1/jobs/{job_id}/items", models.Page[models.JobItem])
def list_job_items(
    job_id: int,
    *,
    state: models.JobItemState | None = None,
    status: models.JobItemState | None = None,
    noticed: bool | None = None,
    limit: int | None = None,
    cursor: str | None = None,
) -> Sent:
    """List the files of a job, or those in one state (or `status`): with `failed`, each has its reason.

    Where `noticed`, those with a notice, as that several voices were heard.
    """
    asked = {"state": state, "status": status, "noticed": noticed, "limit": limit, "cursor": cursor}
    return Sent(path={"job_id": job_id}, query=asked)


@route("GET", "/v1/jobs/{job_id}/same-voices", models.SameVoices)
def same_voices_of_job(job_id: int) -> Sent:
    """Tell which speakers of a job sound like others of its gallery: one voice that may have two names."""
    return Sent(path={"job_id": job_id})


@route("GET", "/v1/jobs/{job_id}/events", NoneType)
def job_events(job_id: int) -> Sent:
    """Follow a job."""
    return Sent(path={"job_id": job_id})


@route("POST", "/v1/jobs/{job_id}/cancel", models.Job, keyed=True)
def cancel_job(job_id: int, *, idempotency_key: str | None = None) -> Sent:
    """End a job; what is ingested stays."""
    return Sent(path={"job_id": job_id}, key=idempotency_key)


@route("POST", "/v1/jobs/{job_id}/retry-failed", models.Requeued, keyed=True)
def retry_failed(job_id: int, *, item: Sequence[int] | None = None, idempotency_key: str | None = None) -> Sent:
    """Try the failed files of a job again, or only those whose ids are given."""
    return Sent(path={"job_id": job_id}, query={"item": item}, key=idempotency_key)
