"""The tasks: ids in, a use case called, nothing out. What a task did is in the record."""

from typing import Any

from celery import shared_task

from indexer.types import JobId, ShardId
from worker.app import CLUSTER_VOICES, EMBED_PROBES, INGEST_SHARD, PLAN_JOB, SWEEP
from worker.lifecycle import services


@shared_task(name=PLAN_JOB, bind=True)
def plan_job(task: Any, job_id: int) -> None:
    """Plan a part of a job; returns at once where another worker does."""
    parts = services()
    parts.perform(task.request.id, lambda: parts.bulk.plan(JobId(job_id)))


@shared_task(name=INGEST_SHARD, bind=True)
def ingest_shard(task: Any, shard_id: int) -> None:
    """Work through a shard; returns at once where it is done, canceled, or in another worker's hands."""
    parts = services()
    parts.perform(task.request.id, lambda: parts.bulk.work(ShardId(shard_id)))


@shared_task(name=CLUSTER_VOICES, bind=True)
def cluster_voices(task: Any, job_id: int) -> None:
    """Find the unknown voices of a gallery; returns at once where another worker does."""
    parts = services()
    parts.perform(task.request.id, lambda: parts.clusterings.perform(JobId(job_id)))


@shared_task(name=SWEEP, bind=True)
def sweep(task: Any) -> None:
    """Look for lost work, unless somebody just did."""
    parts = services()
    parts.perform(task.request.id, parts.sweep)


# Taken off the queue when it begins: nobody waits any more for the vectors of a worker that died.
@shared_task(name=EMBED_PROBES, bind=True, acks_late=False)
def embed_probes(task: Any, request_id: str) -> None:
    """Embed the voices of a request; does nothing where it has gone."""
    parts = services()
    parts.perform(task.request.id, lambda: parts.probes.answer(request_id))
