"""A shard's files become recordings, each exactly once, on both databases."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select

from indexer.db.models import JobItemState, JobState, Recording, ShardState
from indexer.db.session import Database
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import EncoderMismatch, Unavailable
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.shards import work_shard
from indexer.settings import Settings
from indexer.types import GalleryId, JobId, ShardId, Vectors, Waveform
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
    work_off,
    write_archive,
)
from tests.loopback_server import Server, running


def test_three_hundred_small_files_go_in_exactly_once(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 300, seconds=0.2)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.found, job.done, job.failed) == (JobState.SUCCEEDED, 300, 300, 0)
    assert job.audio_s == pytest.approx(60.0)
    assert counts(database) == {"recordings": 300, "utterances": 300, "embeddings": 300, "enrollments": 0}
    assert {shard.state for shard in shards_of(database, job_id)} == {ShardState.DONE}
    assert {item.state for item in items_of(database, job_id).values()} == {JobItemState.DONE}
    require_counters_equal_items(database, job_id)


def test_a_file_elsewhere_that_is_out_of_reach_for_a_moment_is_tried_again(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    (recording,) = write_archive(tmp_path, 1)
    with running(Server()) as server:
        server.behavior.content = recording.read_bytes()
        server.behavior.status = 503
        address = f"{server.url}/calls/a.wav"
        job_id, shard_id = plan_one_web_file(tmp_path, database, record_settings, queue, address)
        healed = threading.Timer(0.5, lambda: setattr(server.behavior, "status", 200))
        healed.start()
        work(database, allowing(record_settings, server.url), queue, shard_id, pauses_s=(0.2,) * 20)
        healed.join()
        assert len(server.behavior.requests) >= 2
    job = job_of(database, job_id)
    assert (job.state, job.done) == (JobState.SUCCEEDED, 1)
    with database.read_scope() as session:
        assert session.scalars(select(Recording.uri)).one() == address


def test_a_file_elsewhere_that_stays_out_of_reach_fails_by_name_and_can_be_retried(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    with running(Server()) as server:
        server.behavior.status = 503
        address = f"{server.url}/calls/a.wav"
        job_id, shard_id = plan_one_web_file(tmp_path, database, record_settings, queue, address)
        work(database, allowing(record_settings, server.url), queue, shard_id, pauses_s=(0.01, 0.01))
        assert len(server.behavior.requests) == 3
    job = job_of(database, job_id)
    assert (job.state, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 1)
    (item,) = items_of(database, job_id).values()
    assert item.error_code == "unavailable"
    assert item.error_message is not None
    assert address in item.error_message


def test_an_encoder_that_cannot_be_had_fails_the_job_after_some_tries_and_no_file(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 2)
    job_id = submit(make_bulk(database, record_settings, queue), tmp_path / "in")

    def refuse(_: GalleryId) -> EncoderSet:
        raise EncoderMismatch("this worker has another encoder")

    bulk = BulkIngest(database, record_settings, queue=queue, encoders_for=refuse)
    bulk.plan(queue.plans.pop())
    shard_id = queue.shards.pop()
    for _ in range(record_settings.jobs.tries):
        assert job_of(database, job_id).state == JobState.RUNNING
        with pytest.raises(EncoderMismatch):
            bulk.work(shard_id)
    job = job_of(database, job_id)
    assert (job.state, job.error, job.failed) == (JobState.FAILED, "this worker has another encoder", 0)
    assert {item.state for item in items_of(database, job_id).values()} == {JobItemState.QUEUED}


def test_a_shard_that_was_given_back_often_survives_one_failure(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 2)
    job_id = submit(make_bulk(database, record_settings, queue), tmp_path / "in")
    make_bulk(database, record_settings, queue).plan(queue.plans.pop())
    deployed = make_bulk(database, record_settings, queue, stopping=lambda: True)
    for _ in range(record_settings.jobs.tries + 1):
        deployed.work(queue.shards.pop())
    shard_id = queue.shards.pop()

    def refuse(_: GalleryId) -> EncoderSet:
        raise EncoderMismatch("this worker has another encoder")

    with pytest.raises(EncoderMismatch):
        BulkIngest(database, record_settings, queue=queue, encoders_for=refuse).work(shard_id)
    assert job_of(database, job_id).state == JobState.RUNNING
    make_bulk(database, record_settings, queue).work(shard_id)
    assert (job_of(database, job_id).state, job_of(database, job_id).done) == (JobState.SUCCEEDED, 2)


def test_a_failure_that_nobody_foresaw_before_any_file_ends_the_job_after_many_tries(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 2)
    job_id = submit(make_bulk(database, record_settings, queue), tmp_path / "in")

    def fail(_: GalleryId) -> EncoderSet:
        raise RuntimeError("an unknown device")

    bulk = BulkIngest(database, record_settings, queue=queue, encoders_for=fail)
    bulk.plan(queue.plans.pop())
    shard_id = queue.shards.pop()
    for _ in range(5 * record_settings.jobs.tries):
        assert job_of(database, job_id).state == JobState.RUNNING
        with pytest.raises(RuntimeError):
            bulk.work(shard_id)
    job = job_of(database, job_id)
    assert (job.state, job.failed) == (JobState.FAILED, 0)
    assert job.error is not None
    assert "RuntimeError" in job.error
    assert {shard.state for shard in shards_of(database, job_id)} == {ShardState.DONE}


class NanEncoder(SpectrumEncoder):
    """Gives no numbers for the third recording it meets."""

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        before = self.embedded
        vectors = super().embed(waveforms)
        if before <= 2 < self.embedded:
            vectors[2 - before] = np.nan
        return vectors


def test_a_vector_that_the_record_refuses_fails_its_file_and_no_other(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 6)
    bulk = make_bulk(database, record_settings, queue, NanEncoder())
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.done, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 5, 1)
    require_counters_equal_items(database, job_id)


def test_a_device_that_is_out_of_reach_fails_no_file(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 3)
    job_id = submit(make_bulk(database, record_settings, queue), tmp_path / "in")
    bulk = make_bulk(database, record_settings, queue, AbsentDevice())
    bulk.plan(queue.plans.pop())
    shard_id = queue.shards.pop()
    with pytest.raises(Unavailable):
        bulk.work(shard_id)
    assert {item.state for item in items_of(database, job_id).values()} == {JobItemState.QUEUED}
    make_bulk(database, record_settings, queue).work(shard_id)
    assert job_of(database, job_id).done == 3


class AbsentDevice(SpectrumEncoder):
    """An encoder whose device does not answer."""

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        raise Unavailable("the device does not answer")


def allowing(settings: Settings, prefix: str) -> Settings:
    return settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"sources": (f"{prefix}/", "/")})})


def plan_one_web_file(
    folder: Path, database: Database, settings: Settings, queue: ListQueue, address: str
) -> tuple[JobId, ShardId]:
    manifest = folder / "files.csv"
    manifest.write_text(f"uri\n{address}\n")
    bulk = make_bulk(database, allowing(settings, address.rpartition("/calls/")[0]), queue)
    job_id = submit(bulk, manifest)
    bulk.plan(queue.plans.pop())
    return job_id, queue.shards.pop()


def work(
    database: Database, settings: Settings, queue: ListQueue, shard_id: ShardId, *, pauses_s: tuple[float, ...]
) -> None:
    work_shard(
        shard_id,
        database=database,
        settings=settings,
        queue=queue,
        encoders_for=lambda _: EncoderSet(SpectrumEncoder()),
        stopping=lambda: False,
        fetch_pauses_s=pauses_s,
    )
