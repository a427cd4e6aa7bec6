"""How planning takes an archive of a million files: `python -m tests.reports.planning [--files N] [--postgres]`.

The listing is made up, in the pages and the order in which a bucket would be listed; all behind it is the real code:
source, cutting, transactions, record. Printed are seconds and the memory of the process on the way, which must not grow
with the archive.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psutil
from sqlalchemy import func, select

from api.cli.local_servers import LocalPostgres
from indexer.archive import parse_speaker_rule
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.migrate import upgrade
from indexer.db.models import Job, JobItem, JobShard
from indexer.db.rows import NewEncoder
from indexer.db.session import Database, open_database
from indexer.jobs.buckets import BucketSource, Page
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.planning import Planner
from indexer.jobs.source import JobOptions
from indexer.settings import Settings, load_settings
from indexer.types import EMBEDDING_DIM, EncoderId, JobId, ShardId

FILE_BYTES = 480_000
"""Of each file: half a minute of 8 kHz speech, as it is guessed."""


@dataclass(frozen=True)
class Planned:
    """What a plan took."""

    files: int
    shards: int
    calls: int
    seconds: float
    memory_mb: tuple[float, ...]
    """At each tenth of the files."""

    @property
    def growth_mb(self) -> float:
        """Memory at the end, above that at the first tenth, by when everything is warm."""
        return self.memory_mb[-1] - self.memory_mb[0]


class CountingQueue:
    """A queue that nobody works off."""

    def __init__(self) -> None:
        self.calls = self.shards = 0

    def send_planning(self, job_id: JobId) -> None:
        self.calls += 1

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        self.shards += len(shard_ids)

    def send_clustering(self, job_id: JobId) -> None:
        self.calls += 1

    def waiting_plans(self) -> int | None:
        return None

    def waiting_shards(self) -> int | None:
        return None


def resident_mb() -> float:
    """Memory that the system has given to this process."""
    return psutil.Process().memory_info().rss / 1e6


def plan_made_up(
    database: Database,
    settings: Settings,
    files: int,
    *,
    page_keys: int = 1000,
    memory_mb: Callable[[], float] = resident_mb,
) -> Planned:
    """Plan a job over so many objects that nobody has."""
    memory: list[float] = []

    def page(bucket: str, prefix: str, after: str) -> Page:
        first = int(after.rpartition("/")[2].removesuffix(".wav")) + 1 if after else 0
        last = min(files, first + page_keys)
        if first * 10 // files != last * 10 // files:
            memory.append(memory_mb())
        return [(f"{prefix}{number // 1000:06d}/{number:09d}.wav", FILE_BYTES) for number in range(first, last)], (
            last < files
        )

    with database.session_scope() as session:
        encoder = NewEncoder(EncoderId("0123456789abcdef-none"), "none", "none", "0" * 64, "none", EMBEDDING_DIM)
        Galleries(session).get_or_create("archive", Encoders(session).register(encoder))
    queue = CountingQueue()
    bulk = BulkIngest(database, settings, queue=queue, encoders_for=lambda _: _nobody())
    job_id = bulk.submit("archive", "s3://archive/in/", options=JobOptions("url"), trusted=True)
    source = BucketSource("s3://archive/in/", parse_speaker_rule("parent"), page)
    planner = Planner(database, settings.jobs, queue, lambda _: source)
    began, asked = time.perf_counter(), 0
    while asked < queue.calls:
        asked += 1
        planner.plan(job_id)
    seconds = time.perf_counter() - began
    with database.read_scope() as session:
        job = session.get(Job, job_id)
        assert job is not None
        assert job.planned_at is not None
        assert job.found == session.scalar(select(func.count(JobItem.id)).where(JobItem.job_id == job_id)) == files
        shards = session.scalar(select(func.count(JobShard.id)).where(JobShard.job_id == job_id))
    assert shards == queue.shards
    return Planned(files, queue.shards, asked, seconds, tuple(memory))


def _nobody() -> NoReturn:
    raise AssertionError("planning embeds nothing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the report; 1 where memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--postgres", action="store_true", help="a throw-away server instead of SQLite")
    given = parser.parse_args(arguments)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = load_settings(home=home, database={})
        if given.postgres:
            url = stack.enter_context(LocalPostgres()).url.format("postgres")
            upgrade(url)
            settings = load_settings(home=home, database={"url": url})
        database = open_database(settings)
        stack.callback(database.close)
        planned = plan_made_up(database, settings, given.files)
    name = "Postgres" if given.postgres else "SQLite"
    resident = " ".join(f"{size:.0f}" for size in planned.memory_mb)
    sys.stdout.write(
        f"{name}: {planned.files} files in {planned.shards} shards, {planned.calls} calls, {planned.seconds:.0f} s, "
        f"{planned.files / planned.seconds:.0f} files/s\nresident MB at each tenth: {resident}\n"
    )
    return int(planned.growth_mb > 50)


if __name__ == "__main__":
    sys.exit(main())
