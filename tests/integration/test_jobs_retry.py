"""An ended job is taken up with what failed and with nothing else, whatever its size; on both databases."""

import hashlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

import indexer.db.retries
from indexer.db.galleries import Galleries
from indexer.db.models import ErasedFile, Job, JobItemState, JobState
from indexer.db.recordings import Recordings
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.db.traces import Traces
from indexer.errors import Conflict, InvalidRequest
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.planning import Planner
from indexer.jobs.source import Cursor, Listed, SourceEntry
from indexer.settings import JobSettings
from indexer.types import GalleryId, JobId, RecordingId, SpeakerId
from tests.job_kit import (
    ListQueue,
    counts,
    items_of,
    job_of,
    require_counters_equal_items,
    shards_of,
    submit,
    work_off,
    write_archive,
)


class Gone:
    """A source that nobody may read again."""

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        raise AssertionError("the source was read again")


def broken_job(database: Database, bulk: BulkIngest, queue: ListQueue, folder: Path, files: int) -> JobId:
    """A job that has ended, and of which every file failed."""
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:03d}.wav").write_bytes(b"no audio")
    job_id = submit(bulk, folder)
    work_off(bulk, queue)
    assert job_of(database, job_id).failed == files
    return job_id


def test_single_files_are_tried_again_and_the_others_stay_failed(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id = broken_job(database, bulk, queue, tmp_path / "in", 5)
    first, *others = sorted(item.id for item in items_of(database, job_id).values())
    for number, path in enumerate(write_archive(tmp_path / "good", 2)):
        path.replace(tmp_path / "in" / f"{number:03d}.wav")
    with pytest.raises(Conflict, match=f"item {others[-1] + 1} is no file of job {job_id} that failed"):
        bulk.retry_failed(job_id, [first, others[-1] + 1])
    assert bulk.retry_failed(job_id, [first]) == 1
    work_off(bulk, queue)
    states = {item.id: item.state for item in items_of(database, job_id).values()}
    assert states == {first: JobItemState.DONE, **dict.fromkeys(others, JobItemState.FAILED)}
    assert job_of(database, job_id).state == JobState.SUCCEEDED_WITH_ERRORS
    require_counters_equal_items(database, job_id)
    with pytest.raises(Conflict, match=f"item {first} is no file"):
        bulk.retry_failed(job_id, [first])
    with pytest.raises(InvalidRequest, match="limit is 200"):
        bulk.retry_failed(job_id, range(1, 202))
    assert bulk.retry_failed(job_id) == 4
    work_off(bulk, queue)
    assert (job_of(database, job_id).done, job_of(database, job_id).failed) == (2, 3)


def test_a_request_to_try_again_only_marks_the_job_and_planning_cuts_it_in_parts(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = broken_job(database, bulk, queue, tmp_path / "in", 23)
    before = len(shards_of(database, job_id))
    assert bulk.retry_failed(job_id) == 23
    assert (queue.plans, queue.shards) == ([job_id], [])
    assert len(shards_of(database, job_id)) == before
    require_counters_equal_items(database, job_id)

    monkeypatch.setattr(indexer.db.retries, "PART_FILES", 5)
    planner = Planner(database, JobSettings(shard_files=3), queue, lambda _: Gone(), call_s=0.0)
    for left in (18, 13, 8, 3):
        planner.plan(job_id)
        assert job_of(database, job_id).failed == left
        require_counters_equal_items(database, job_id)
    planner.plan(job_id)
    job = job_of(database, job_id)
    assert (job.state, job.found, job.failed) == (JobState.RUNNING, 23, 0)
    assert job.planned_at is not None
    added = shards_of(database, job_id)[before:]
    assert [shard.items for shard in added] == [3, 2, 3, 2, 3, 2, 3, 2, 3]
    assert queue.shards == [shard.id for shard in added]
    queue.plans.clear()
    work_off(bulk, queue)
    # What fails again is not tried again.
    assert (job_of(database, job_id).state, job_of(database, job_id).failed) == (JobState.SUCCEEDED_WITH_ERRORS, 23)
    require_counters_equal_items(database, job_id)


def test_a_retry_that_ended_halfway_is_taken_up_where_it_was(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = broken_job(database, bulk, queue, tmp_path / "in", 8)
    bulk.retry_failed(job_id)
    monkeypatch.setattr(indexer.db.retries, "PART_FILES", 3)
    planner = Planner(database, JobSettings(), queue, lambda _: Gone(), call_s=0.0)
    planner.plan(job_id)
    with database.session_scope() as session:
        session.execute(update(Job).where(Job.id == job_id).values(state=JobState.FAILED))
    assert bulk.retry_failed(job_id) == 8
    for _ in range(4):
        planner.plan(job_id)
    assert {item.state for item in items_of(database, job_id).values()} == {JobItemState.QUEUED}
    assert job_of(database, job_id).planned_at is not None
    require_counters_equal_items(database, job_id)


def test_a_refusal_to_try_again_comes_at_once(
    bulk: BulkIngest, queue: ListQueue, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = submit(bulk, tmp_path)
    with caplog.at_level(logging.INFO, logger="indexer.db.transactions"), pytest.raises(Conflict):
        bulk.retry_failed(job_id)
    assert caplog.messages == []  # As where the transaction is repeated, with pauses between.


def test_a_job_that_is_read_again_passes_over_what_was_erased_and_keeps_its_counts(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 4)
    manifest = tmp_path / "list.csv"
    rows = "uri,speaker,recorded_at\nin/00000.wav,,\nin/00001.wav,ann lee,\nin/00002.wav,bob,\n"
    manifest.write_text(rows + "in/00003.wav,,never\n")
    job_id = submit(bulk, manifest)
    work_off(bulk, queue)
    items = items_of(database, job_id)
    with database.session_scope() as session:
        gallery_id = GalleryId(Galleries(session).by_name("archive").id)
        Recordings(session).delete(RecordingId(items["00000.wav"].recording_id or 0))
        speakers = Speakers(session)
        speakers.delete(SpeakerId(speakers.by_name(gallery_id, "ann lee").id))
    # Another row names a file of each again: a changed manifest is read from its first row.
    manifest.write_text(rows + "in/00003.wav,,2026-03-01\nin/00001.wav,carl,\nin/00000.wav,,\n")
    assert bulk.retry_failed(job_id) == 1
    work_off(bulk, queue)
    assert set(items_of(database, job_id)) == {"00002.wav", "00003.wav"}
    assert counts(database)["recordings"] == 2
    job = job_of(database, job_id)
    assert (job.state, job.found, job.done, job.failed) == (JobState.SUCCEEDED, 4, 4, 0)
    with database.read_scope() as session:
        kept = session.scalars(select(ErasedFile.uri_sha256)).all()
        assert len(kept) == 2
        # The checksum is of no use to whoever has a list of paths and not the job.
        assert hashlib.sha256(str(tmp_path / "in" / "00000.wav").encode()).hexdigest() not in kept


def test_no_trace_of_an_erased_file_stays_with_a_job_that_cannot_be_read_again(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 2)
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    with database.session_scope() as session:
        Recordings(session).delete(RecordingId(items_of(database, job_id)["00000.wav"].recording_id or 0))
    with database.read_scope() as session:
        assert session.scalars(select(ErasedFile.id)).all() == []


def test_a_row_that_names_an_erased_speaker_is_no_contradiction_when_it_is_read_again(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 2)
    manifest = tmp_path / "list.csv"
    manifest.write_text("uri,speaker,recorded_at\nin/00000.wav,ann lee,\nin/00001.wav,,never\n")
    job_id = submit(bulk, manifest)
    work_off(bulk, queue)
    with database.session_scope() as session:
        Traces(session, GalleryId(Galleries(session).by_name("archive").id)).forget_name("ann lee")
    bulk.retry_failed(job_id)
    work_off(bulk, queue)
    items = items_of(database, job_id)
    assert set(items) == {"00000.wav", "list.csv:3"}
    assert not [item.uri for item in items.values() if "ann lee" in (item.error_message or "")]
    require_counters_equal_items(database, job_id)


def test_the_way_to_where_the_last_call_stopped_is_none_of_a_calls_time(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    class FarAway:
        """An archive whose reader takes longer than a call to get anywhere."""

        def read(self, after: Cursor | None) -> Iterator[Listed]:
            time.sleep(1.6)
            for number in range(after["n"] + 1 if after else 0, 50):
                yield Listed(SourceEntry(f"/archive/{number}.wav"), {"n": number})

    job_id = submit(bulk, tmp_path)
    Planner(database, JobSettings(), queue, lambda _: FarAway(), call_s=1.5).plan(job_id)
    assert job_of(database, job_id).found == 50
