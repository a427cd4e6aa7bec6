"""Jobs in tests: a gallery, an archive of short recordings, and a queue that is a list."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from sqlalchemy import func, select

from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.models import Embedding, Enrollment, Job, JobItem, JobItemState, JobShard, Recording, Utterance
from indexer.db.rows import NewEncoder
from indexer.db.session import Database
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.source import JobOptions
from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, GalleryId, JobId, ShardId
from tests.fakes import SpectrumEncoder


class ListQueue:
    """A queue that somebody works off by hand."""

    def __init__(self) -> None:
        self.plans: list[JobId] = []
        self.shards: list[ShardId] = []
        self.clusterings: list[JobId] = []

    def send_planning(self, job_id: JobId) -> None:
        self.plans.append(job_id)

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        self.shards += shard_ids

    def send_clustering(self, job_id: JobId) -> None:
        self.clusterings.append(job_id)

    def waiting(self) -> int:
        return len(self.plans) + len(self.shards)

    def waiting_plans(self) -> int | None:
        return len(self.plans)

    def waiting_shards(self) -> int | None:
        return len(self.shards)


def make_gallery(database: Database, encoder: Encoder, name: str = "archive") -> GalleryId:
    with database.session_scope() as session:
        row = Encoders(session).register(
            NewEncoder(encoder.id, encoder.name, "speechbrain", "0" * 64, "spectrum", encoder.dim)
        )
        return GalleryId(Galleries(session).get_or_create(name, row).id)


def write_archive(folder: Path, count: int, *, seconds: float = 0.3, first: int = 0) -> list[Path]:
    """Write recordings of different contents: cheap colored noise."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(first, first + count):
        path = folder / f"{number:05d}.wav"
        noise = np.random.default_rng(number).standard_normal(round(seconds * SAMPLE_RATE_HZ))
        soundfile.write(path, 0.1 * np.convolve(noise, [0.25, 0.5, 0.25], mode="same"), SAMPLE_RATE_HZ)
        paths.append(path)
    return paths


def make_bulk(
    database: Database,
    settings: Settings,
    queue: ListQueue,
    encoder: Encoder | None = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> BulkIngest:
    made = encoder or SpectrumEncoder()
    return BulkIngest(database, settings, queue=queue, encoders_for=lambda _: EncoderSet(made), stopping=stopping)


def submit(bulk: BulkIngest, source: Path, **options: object) -> JobId:
    on_duplicate = options.pop("on_duplicate", None)
    kind = "manifest" if source.suffix in (".csv", ".jsonl") else "folder"
    keywords = {} if on_duplicate is None else {"on_duplicate": on_duplicate}
    return bulk.submit("archive", str(source), options=JobOptions(kind, **options), trusted=True, **keywords)  # type: ignore[arg-type]


def work_off(bulk: BulkIngest, queue: ListQueue) -> None:
    """Do what is in the queue, and what that puts there, until it is empty."""
    while queue.plans or queue.shards:
        if queue.plans:
            bulk.plan(queue.plans.pop(0))
        else:
            bulk.work(queue.shards.pop(0))


def counts(database: Database) -> dict[str, int]:
    with database.read_scope() as session:
        tables = (Recording, Utterance, Embedding, Enrollment)
        return {table.__tablename__: session.scalar(select(func.count(table.id))) or 0 for table in tables}


def job_of(database: Database, job_id: JobId) -> Job:
    with database.read_scope() as session:
        job = session.get(Job, job_id)
        assert job is not None
        return job


def items_of(database: Database, job_id: JobId) -> dict[str, JobItem]:
    with database.read_scope() as session:
        rows = session.scalars(select(JobItem).where(JobItem.job_id == job_id)).all()
        return {Path(row.uri).name: row for row in rows}


def shards_of(database: Database, job_id: JobId) -> list[JobShard]:
    with database.read_scope() as session:
        return list(session.scalars(select(JobShard).where(JobShard.job_id == job_id).order_by(JobShard.id)))


def require_counters_equal_items(database: Database, job_id: JobId) -> None:
    """The law of a job: its counters are the counts of its items, at every moment."""
    with database.read_scope() as session:
        job = session.get(Job, job_id)
        assert job is not None
        grouped = session.execute(
            select(JobItem.state, func.count(JobItem.id)).where(JobItem.job_id == job_id).group_by(JobItem.state)
        )
        items = {state: int(number) for state, number in grouped}
        stated = {
            JobItemState.DONE: job.done,
            JobItemState.DUPLICATE: job.duplicate,
            JobItemState.FAILED: job.failed,
        }
        assert {state: items.get(state, 0) for state in stated} == stated
        assert sum(items.values()) == job.found
