"""A shard's files become recordings, each exactly once, on both databases."""

from pathlib import Path

import pytest

from indexer.db.models import JobItemState, JobState, ShardState
from indexer.db.session import Database
from indexer.settings import Settings
from tests.fakes import SpectrumEncoder
from tests.job_kit import (
    ListQueue,
    counts,
    items_of,
    job_of,
    make_bulk,
    make_gallery,
    require_counters_equal_items,
    shards_of,
    submit,
    work_off,
    write_archive,
)


@pytest.fixture
def queue(database: Database) -> ListQueue:
    make_gallery(database, SpectrumEncoder())
    return ListQueue()


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
