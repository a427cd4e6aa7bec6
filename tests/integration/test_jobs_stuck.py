"""A file that neither gets done nor fails holds up its worker for a while, and nobody for ever."""

import threading
import time
from pathlib import Path

from indexer.db.models import JobItemState, JobState, ShardState
from indexer.db.session import Database
from indexer.embedding.encoder import Encoder
from indexer.embedding.encoder_set import EncoderSet
from indexer.jobs.bulk import BulkIngest
from indexer.settings import Settings
from tests.fakes import SpectrumEncoder
from tests.job_kit import (
    ListQueue,
    counts,
    items_of,
    job_of,
    make_bulk,
    require_counters_equal_items,
    shards_of,
    submit,
    write_archive,
)
from tests.job_workers import BlockedEncoder, DeadlyEncoder
from tests.loopback_server import Server, running
from tests.waiting import eventually


def impatient(settings: Settings, **changes: object) -> Settings:
    """Settings under which a file that is stuck is noticed soon, and one that a busy machine is slow with is not."""
    jobs = settings.jobs.model_copy(update={"lease_s": 4.0, "hang_s": 3.0, "sweep_s": 0.5, **changes})
    return settings.model_copy(update={"jobs": jobs})


def bulk_of(
    database: Database, settings: Settings, queue: ListQueue, encoder: Encoder, stuck: threading.Event
) -> BulkIngest:
    return BulkIngest(database, settings, queue=queue, encoders_for=lambda _: EncoderSet(encoder), when_stuck=stuck.set)


def test_a_file_that_never_arrives_is_isolated_and_given_up_and_the_others_are_done(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    paths = write_archive(tmp_path, 4)
    with running(Server()) as server:
        server.behavior.silent = True
        settings = impatient(record_settings, tries=1, sources=(f"{server.url}/", "/"))
        manifest = tmp_path / "files.csv"
        address = f"{server.url}/calls/never.wav"
        manifest.write_text("uri\n" + "\n".join([*map(str, paths[:2]), address, *map(str, paths[2:])]) + "\n")
        stuck = threading.Event()
        bulk = bulk_of(database, settings, queue, SpectrumEncoder(), stuck)
        job_id = submit(bulk, manifest)
        bulk.plan(queue.plans.pop())
        began = time.monotonic()
        while job_of(database, job_id).finished_at is None:
            assert time.monotonic() - began < 120
            while queue.shards:
                bulk.work(queue.shards.pop(0))
            bulk.sweep()
            require_counters_equal_items(database, job_id)
        assert stuck.is_set()
    eventually(lambda: not any(thread.name.startswith("decode-") for thread in threading.enumerate()))
    job = job_of(database, job_id)
    assert (job.state, job.done, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 4, 1)
    assert items_of(database, job_id)["never.wav"].error_code == "worker-lost"
    assert {shard.state for shard in shards_of(database, job_id)} == {ShardState.DONE}


def test_a_worker_stuck_in_its_device_is_told_and_keeps_its_shard_no_longer(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 2)
    settings = impatient(record_settings)
    blocked, stuck = BlockedEncoder(), threading.Event()
    bulk = bulk_of(database, settings, queue, blocked, stuck)
    job_id = submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    shard_id = queue.shards.pop()
    worker = threading.Thread(target=bulk.work, args=[shard_id])
    worker.start()
    try:
        assert stuck.wait(120)  # Where it would end its process; here it lives on.
        other = make_bulk(database, settings, queue)
        eventually(lambda: other.sweep().recovered > 0)
    finally:
        blocked.let_go.set()
        worker.join(120)
    assert counts(database)["recordings"] == 0
    while queue.shards:
        other.work(queue.shards.pop())
    assert job_of(database, job_id).state == JobState.SUCCEEDED
    assert {item.state for item in items_of(database, job_id).values()} == {JobItemState.DONE}


def test_a_worker_that_is_slow_but_moves_on_keeps_its_shard(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 120)
    stuck = threading.Event()
    # 0.8 s a pass of 16, and longer in all than a file may take; a busy machine may add seconds to a pass.
    patient = impatient(record_settings, lease_s=4.0, hang_s=4.0)
    bulk = bulk_of(database, patient, queue, DeadlyEncoder(pause_s=0.05), stuck)
    job_id = submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    bulk.work(queue.shards.pop())
    assert not stuck.is_set()
    assert (job_of(database, job_id).state, job_of(database, job_id).done) == (JobState.SUCCEEDED, 120)
