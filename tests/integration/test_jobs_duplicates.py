"""The same content again: skipped, relabeled or refused, as the job says; within a batch, across jobs, and at once."""

import datetime as dt
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import select, update

from indexer.db.models import Gallery, JobItemState, JobState, OnDuplicate, Recording, RecordingState, Speaker
from indexer.db.recordings import Recordings
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.settings import Settings
from indexer.types import GalleryId, RecordingId, Vectors, Waveform
from tests.fakes import SpectrumEncoder
from tests.job_kit import (
    ListQueue,
    counts,
    items_of,
    job_of,
    make_bulk,
    make_gallery,
    require_counters_equal_items,
    submit,
    work_off,
    write_archive,
)


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    return make_gallery(database, SpectrumEncoder())


@pytest.fixture
def queue(gallery_id: GalleryId) -> ListQueue:
    return ListQueue()


def states(database: Database, job_id: int) -> list[tuple[str, JobItemState]]:
    return sorted((name, item.state) for name, item in items_of(database, job_id).items())  # type: ignore[arg-type]


def owners(database: Database, gallery_id: GalleryId) -> list[tuple[str, ...]]:
    with database.read_scope() as session:
        return [recording.speakers for recording in Recordings(session).page(gallery_id)]


def test_one_content_under_many_names_in_one_batch_is_one_recording(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    (original,) = write_archive(tmp_path / "in", 1)
    for number in range(5):
        shutil.copy(original, tmp_path / "in" / f"copy{number}.wav")
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.done, job.duplicate) == (JobState.SUCCEEDED, 1, 5)
    assert counts(database)["recordings"] == 1
    assert len({item.recording_id for item in items_of(database, job_id).values()}) == 1
    require_counters_equal_items(database, job_id)


def test_a_job_posted_twice_adds_nothing_and_embeds_nothing(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 5)
    bulk = make_bulk(database, record_settings, queue)
    submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    before = counts(database)
    idle = SpectrumEncoder()
    bulk = make_bulk(database, record_settings, queue, idle)
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.duplicate, job.done, job.audio_s) == (JobState.SUCCEEDED, 5, 0, 0.0)
    assert counts(database) == before
    assert idle.embedded == 0


def test_skip_names_only_who_has_no_name(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "ann", 1)
    bulk = make_bulk(database, record_settings, queue)
    submit(bulk, tmp_path / "ann")
    work_off(bulk, queue)
    assert owners(database, gallery_id) == [()]
    submit(bulk, tmp_path / "ann", speaker_from="parent")
    work_off(bulk, queue)
    assert owners(database, gallery_id) == [("ann",)]
    (tmp_path / "ann").rename(tmp_path / "bob")
    job_id = submit(bulk, tmp_path / "bob", speaker_from="parent")
    work_off(bulk, queue)
    assert owners(database, gallery_id) == [("ann",)]
    (item,) = items_of(database, job_id).values()
    assert item.notice is not None
    assert "is enrolled as ann, not as bob" in item.notice
    with database.read_scope() as session:
        assert session.scalars(select(Speaker.name)).all() == ["ann"]  # Nobody is made whom nothing is enrolled to.


def test_relabel_makes_the_recording_the_jobs_speakers_and_takes_over_what_the_job_says(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    (path,) = write_archive(tmp_path / "ann", 1)
    bulk = make_bulk(database, record_settings, queue)
    submit(bulk, tmp_path / "ann", speaker_from="parent")
    work_off(bulk, queue)
    manifest = tmp_path / "calls.csv"
    manifest.write_text(
        f"uri,speaker,session,recorded_at,labels\n{path},bob,call-7,2026-03-01T12:00:00+00:00,radio;late\n"
    )
    job_id = submit(bulk, manifest, on_duplicate=OnDuplicate.RELABEL)
    work_off(bulk, queue)
    assert owners(database, gallery_id) == [("bob",)]
    with database.read_scope() as session:
        row = session.scalars(select(Recording)).one()
        assert (row.session, row.recorded_at) == ("call-7", dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC))
        assert set(row.labels) == {"radio", "late"}
    (item,) = items_of(database, job_id).values()
    assert (item.state, item.recording_id) == (JobItemState.DUPLICATE, row.id)
    assert item.notice == f"recording {row.id} was enrolled as ann and is now bob"
    submit(bulk, tmp_path / "ann", on_duplicate=OnDuplicate.RELABEL)  # Says nothing: takes nothing away.
    work_off(bulk, queue)
    assert owners(database, gallery_id) == [("bob",)]
    with database.read_scope() as session:
        assert session.scalars(select(Recording.session)).one() == "call-7"


def test_error_fails_what_is_there_already_within_a_batch_and_across_jobs(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    (original,) = write_archive(tmp_path / "in", 1)
    shutil.copy(original, tmp_path / "in" / "copy.wav")
    bulk = make_bulk(database, record_settings, queue)
    first = submit(bulk, tmp_path / "in", on_duplicate=OnDuplicate.ERROR)
    work_off(bulk, queue)
    assert sorted(state for _, state in states(database, first)) == [JobItemState.DONE, JobItemState.FAILED]
    second = submit(bulk, tmp_path / "in", on_duplicate=OnDuplicate.ERROR)
    work_off(bulk, queue)
    job = job_of(database, second)
    assert (job.state, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 2)
    assert {item.error_code for item in items_of(database, second).values()} == {"already-exists"}
    with database.read_scope() as session:
        assert session.scalars(select(Recording.state)).all() == [RecordingState.READY]
    require_counters_equal_items(database, second)


class MeetingEncoder(SpectrumEncoder):
    """Lets two workers embed the same contents at the same time, neither having seen the other's rows."""

    def __init__(self, barrier: threading.Barrier) -> None:
        super().__init__()
        self._barrier: threading.Barrier | None = barrier

    def embed(self, waveforms: Sequence[Waveform]) -> Vectors:
        barrier, self._barrier = self._barrier, None
        if barrier is not None:
            barrier.wait()
        return super().embed(waveforms)


def test_two_workers_that_commit_the_same_contents_at_once_make_one_recording_of_each(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    for name in ("one", "two"):
        write_archive(tmp_path / name, 12)
    barrier = threading.Barrier(2, timeout=120)
    jobs, threads = [], []
    for name in ("one", "two"):
        bulk = make_bulk(database, record_settings, queue, MeetingEncoder(barrier))
        jobs.append(submit(bulk, tmp_path / name, speaker_from="parent"))
        bulk.plan(queue.plans.pop())
        threads.append(threading.Thread(target=bulk.work, args=[queue.shards.pop()]))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert counts(database) == {"recordings": 12, "utterances": 12, "embeddings": 12, "enrollments": 12}
    done = [job_of(database, job_id).done for job_id in jobs]
    duplicate = [job_of(database, job_id).duplicate for job_id in jobs]
    assert (sum(done), sum(duplicate)) == (12, 12)
    for job_id in jobs:
        assert job_of(database, job_id).state == JobState.SUCCEEDED
        require_counters_equal_items(database, job_id)


def test_a_recording_that_failed_before_is_tried_again(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 3)
    bulk = make_bulk(database, record_settings, queue, SpectrumEncoder(refuses_above=0.0))
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    assert (job_of(database, job_id).state, job_of(database, job_id).failed) == (JobState.SUCCEEDED_WITH_ERRORS, 3)
    assert counts(database) == {"recordings": 3, "utterances": 0, "embeddings": 0, "enrollments": 0}
    bulk = make_bulk(database, record_settings, queue)
    assert bulk.retry_failed(job_id) == 3
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.done, job.failed) == (JobState.SUCCEEDED, 3, 0)
    assert counts(database)["embeddings"] == 3
    require_counters_equal_items(database, job_id)


def test_nobody_is_enrolled_without_consent_where_the_gallery_asks_for_it(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in" / "ann", 1)
    write_archive(tmp_path / "in" / "bob", 1, first=1)
    with database.session_scope() as session:
        session.execute(update(Gallery).values(consent_required=True))
        Speakers(session).get_or_create(gallery_id, ["ann", "bob"])
        session.execute(update(Speaker).where(Speaker.name == "ann").values(consent_reference="form 7"))
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in", speaker_from="parent")
    work_off(bulk, queue)
    items = items_of(database, job_id)
    assert (items["00000.wav"].state, items["00001.wav"].error_code) == (JobItemState.DONE, "consent-required")
    assert counts(database)["enrollments"] == 1


def test_a_file_whose_name_cannot_be_kept_costs_nobody_else(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in" / "ann", 2)
    write_archive(tmp_path / "in" / "  ", 1, first=5)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in", speaker_from="parent")
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.done, job.failed) == (2, 1)
    require_counters_equal_items(database, job_id)


def test_what_a_manifest_says_of_a_file_is_kept_with_its_recording(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    (path,) = write_archive(tmp_path / "in", 1)
    manifest = tmp_path / "calls.jsonl"
    manifest.write_text(f'{{"uri": "{path}", "speaker": "ann", "session": "call-7", "labels": ["radio"]}}\n')
    bulk = make_bulk(database, record_settings, queue)
    submit(bulk, manifest)
    work_off(bulk, queue)
    with database.read_scope() as session:
        row = session.scalars(select(Recording)).one()
        assert (row.uri, row.session, row.labels, row.size_bytes) == (
            str(path),
            "call-7",
            ["radio"],
            path.stat().st_size,
        )
        assert row.speech_s == pytest.approx(0.3)
        assert Recordings(session).summary(RecordingId(row.id)).speakers == ("ann",)
