"""Jobs without a broker, in a thread of the process that they were posted to."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from indexer.db.models import JobState, ShardState
from indexer.db.session import Database
from indexer.embedding.encoder_set import EncoderSet
from indexer.jobs.bulk import BulkIngest
from indexer.settings import Settings
from indexer.types import Vectors, Waveform
from tests.fakes import SpectrumEncoder
from tests.job_kit import counts, job_of, make_gallery, shards_of, submit, write_archive
from tests.waiting import eventually
from worker.clustering import Clusterings
from worker.local_queue import LocalQueue

pytestmark = pytest.mark.parametrize("record_settings", ["sqlite"], indirect=True)

FILES = 12


@pytest.fixture
def settings(record_settings: Settings) -> Settings:
    jobs = record_settings.jobs.model_validate({"shard_files": 3, "sweep_s": 0.5, "lease_s": 2})
    return record_settings.model_copy(update={"jobs": jobs})


def bulk_over(database: Database, settings: Settings, queue: LocalQueue, encoder: SpectrumEncoder) -> BulkIngest:
    return BulkIngest(
        database, settings, queue=queue, encoders_for=lambda _: EncoderSet(encoder), stopping=queue.is_stopping
    )


def clusterings_over(database: Database, settings: Settings, queue: LocalQueue) -> Clusterings:
    return Clusterings(database, settings, queue=queue, stopping=queue.is_stopping)


class GatedEncoder(SpectrumEncoder):
    """An encoder that waits in its first call until it is let through."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = threading.Event()
        self.gate = threading.Event()

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        self.reached.set()
        assert self.gate.wait(120)
        return super().embed(waveforms)


def test_a_job_runs_to_its_end_in_the_process_itself(tmp_path: Path, database: Database, settings: Settings) -> None:
    encoder = SpectrumEncoder()
    make_gallery(database, encoder)
    write_archive(tmp_path / "in", FILES)
    queue = LocalQueue(settings.jobs)
    bulk = bulk_over(database, settings, queue, encoder)
    queue.start(bulk, clusterings_over(database, settings, queue))
    try:
        job_id = submit(bulk, tmp_path / "in")
        eventually(lambda: job_of(database, job_id).state is JobState.SUCCEEDED)
        eventually(lambda: queue.waiting() == 0)  # The job has ended a moment before its message has.
    finally:
        queue.close()
    assert counts(database)["recordings"] == FILES
    assert not any(thread.name.startswith("jobs") for thread in threading.enumerate())


def test_closing_gives_the_shard_back_and_the_next_start_takes_the_job_up_again(
    tmp_path: Path, database: Database, settings: Settings
) -> None:
    encoder = GatedEncoder()
    make_gallery(database, encoder)
    write_archive(tmp_path / "in", FILES)
    first = LocalQueue(settings.jobs)
    bulk = bulk_over(database, settings, first, encoder)
    first.start(bulk, clusterings_over(database, settings, first))
    job_id = submit(bulk, tmp_path / "in")
    assert encoder.reached.wait(120)
    closing = threading.Thread(target=first.close)
    closing.start()
    eventually(first.is_stopping)
    encoder.gate.set()
    closing.join(120)
    assert not closing.is_alive()
    assert job_of(database, job_id).state is JobState.RUNNING
    assert {shard.state for shard in shards_of(database, job_id)} <= {ShardState.QUEUED, ShardState.DONE}
    assert counts(database)["recordings"] < FILES

    second = LocalQueue(settings.jobs)
    second.start(bulk_over(database, settings, second, encoder), clusterings_over(database, settings, second))
    try:
        eventually(lambda: job_of(database, job_id).state is JobState.SUCCEEDED)
    finally:
        second.close()
    assert counts(database)["recordings"] == FILES


def test_a_failure_does_not_end_the_thread(settings: Settings) -> None:
    work = FailingWork()
    queue = LocalQueue(settings.jobs)
    queue.send_shards([1, 2])  # type: ignore[list-item]
    queue.start(work, work)
    eventually(lambda: work.seen == [1, 2])
    queue.close()
    assert work.sweeps >= 1


class FailingWork:
    """Work in which everything fails."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.sweeps = 0

    def plan(self, job_id: int) -> None:
        raise AssertionError("nothing is planned here")

    def work(self, shard_id: int) -> None:
        self.seen.append(shard_id)
        raise ValueError("a defect")

    def perform(self, job_id: int) -> None:
        raise AssertionError("no voices are looked for here")

    def sweep(self) -> None:
        self.sweeps += 1
        raise ValueError("a defect")
