"""What nobody holds is found: dead workers, lost messages, jobs without an end, rows whose time is over."""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from indexer.archive import list_archive, nobody
from indexer.audio.channels import ChannelPolicy
from indexer.db.changes import Changes
from indexer.db.jobs import RUN_LEASE_S, Jobs
from indexer.db.models import (
    Gallery,
    IdempotentRequest,
    IndexChange,
    Job,
    JobItem,
    JobItemState,
    JobShard,
    JobState,
    Recording,
    ShardState,
    utc_now,
)
from indexer.db.session import Database
from indexer.db.shards import Shards
from indexer.db.turns import chores_turn
from indexer.embedding.encoder_set import EncoderSet
from indexer.ingest import Ingest
from indexer.jobs.sweep import CHANGES_KEPT_S, LATE_S, SweepReport
from indexer.media import MediaStore
from indexer.settings import Settings
from indexer.types import GalleryId, JobId, ShardId
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
def queue() -> ListQueue:
    return ListQueue()


@pytest.fixture
def gallery_id(database: Database) -> GalleryId:
    return make_gallery(database, SpectrumEncoder())


def age(database: Database, seconds: float) -> None:
    """Let everything have been sent longer ago."""
    moment = utc_now() - dt.timedelta(seconds=seconds)
    with database.session_scope() as session:
        session.execute(update(JobShard).values(sent_at=moment))
        session.execute(update(Job).values(sent_at=moment))


def take_up(database: Database, shard_id: ShardId, *, running: int) -> None:
    """Do what a worker does before it dies: claim a shard, mark some files, and fall silent."""
    with database.session_scope() as session:
        shards = Shards(session)
        shard, _ = shards.claim(shard_id, "dead", lease_s=30.0, tries=3)
        assert shard is not None
        shards.mark_running(shard_id, [item.id for item in shards.open_items(shard_id)][:running])
    silence(database, shard_id)


def silence(database: Database, shard_id: ShardId) -> None:
    with database.session_scope() as session:
        past = utc_now() - dt.timedelta(seconds=1)
        session.execute(update(JobShard).where(JobShard.id == shard_id).values(lease_until=past))


def test_files_that_were_under_way_when_a_worker_died_are_looked_at_one_by_one(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 6)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    (shard_id,) = queue.shards
    queue.shards.clear()
    take_up(database, shard_id, running=2)
    assert bulk.sweep().recovered == 1
    assert [(shard.solo, shard.state) for shard in shards_of(database, job_id)] == [
        (False, ShardState.QUEUED),
        (True, ShardState.QUEUED),
        (True, ShardState.QUEUED),
    ]
    assert sorted(queue.shards) == [shard.id for shard in shards_of(database, job_id)]
    assert {item.attempts for item in items_of(database, job_id).values()} == {0}
    assert bulk.sweep() == SweepReport()
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.done) == (JobState.SUCCEEDED, 6)
    require_counters_equal_items(database, job_id)


def test_a_file_that_kills_every_worker_is_given_up_by_name_and_no_other_with_it(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    paths = write_archive(tmp_path / "in", 3)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    take_up(database, queue.shards.pop(), running=1)
    bulk.sweep()
    poisoned = next(shard for shard in shards_of(database, job_id) if shard.solo)
    for deaths in (1, 2, 3):
        queue.shards.remove(ShardId(poisoned.id))
        take_up(database, ShardId(poisoned.id), running=1)
        bulk.sweep()
        assert items_of(database, job_id)[paths[0].name].attempts == deaths
        require_counters_equal_items(database, job_id)
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.done, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 2, 1)
    failed = items_of(database, job_id)[paths[0].name]
    assert (failed.state, failed.error_code) == (JobItemState.FAILED, "worker-lost")
    assert failed.error_message is not None
    assert "3 workers died" in failed.error_message
    require_counters_equal_items(database, job_id)


def test_a_worker_whose_lease_is_alive_is_left_alone(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 2)
    bulk = make_bulk(database, record_settings, queue)
    submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    shard_id = queue.shards.pop()
    with database.session_scope() as session:
        assert Shards(session).claim(shard_id, "alive", lease_s=30.0, tries=3)[0] is not None
        assert Shards(session).claim(shard_id, "second", lease_s=30.0, tries=3) == (None, [])
    age(database, 2 * LATE_S)
    assert bulk.sweep() == SweepReport()
    assert queue.waiting() == 0


def test_what_an_empty_broker_lost_is_sent_again_after_two_sweeps(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 3)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    queue.plans.clear()  # The broker lost its memory.
    assert bulk.sweep().resent == 0
    age(database, 3 * record_settings.jobs.sweep_s)
    assert bulk.sweep().resent == 1
    bulk.plan(queue.plans.pop())
    queue.shards.clear()
    age(database, 3 * record_settings.jobs.sweep_s)
    assert bulk.sweep().resent == 1
    work_off(bulk, queue)
    assert job_of(database, job_id).state == JobState.SUCCEEDED


def test_of_a_long_queue_only_what_is_missing_is_sent_again_and_only_when_it_is_late(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 6)
    settings = record_settings.model_copy(update={"jobs": record_settings.jobs.model_copy(update={"shard_files": 1})})
    bulk = make_bulk(database, settings, queue)
    submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    assert len(queue.shards) == 6
    lost = queue.shards.pop(0)
    age(database, 3 * settings.jobs.sweep_s)
    assert bulk.sweep().resent == 0
    age(database, LATE_S + 1)
    assert bulk.sweep().resent == 1
    assert queue.shards.count(lost) == 1


def test_what_is_lost_behind_messages_that_stand_for_nothing_is_sent_again(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 3)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    canceled = [ShardId(1000 + number) for number in range(50)]
    queue.shards += canceled
    queue.plans[:] = [JobId(1000)]
    age(database, LATE_S + 1)
    assert bulk.sweep().resent == 1
    assert queue.plans == [JobId(1000), job_id]
    bulk.plan(queue.plans.pop())
    assert bulk.sweep().resent == 0
    (lost,) = queue.shards[len(canceled) :]
    queue.shards[:] = canceled
    age(database, LATE_S + 1)
    assert bulk.sweep().resent == 1
    assert queue.shards == [*canceled, lost]
    assert bulk.sweep().resent == 0


def test_a_planner_that_died_is_followed_by_another_however_much_waits(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 1)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    queue.plans[:] = [JobId(1000 + number) for number in range(50)]
    queue.shards += [ShardId(1000 + number) for number in range(50)]
    with database.session_scope() as session:
        past = utc_now() - dt.timedelta(seconds=1)
        session.execute(update(Job).values(state=JobState.PLANNING, lease_token="dead", lease_until=past))
    assert bulk.sweep().resent == 1
    assert queue.plans[50:] == [job_id]


class CountingQueue(ListQueue):
    """A queue that knows how often it was asked to send."""

    sent = 0

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        self.sent += 1
        super().send_shards(shard_ids)


def test_the_shards_of_many_dead_workers_are_sent_at_once(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 5)
    settings = record_settings.model_copy(update={"jobs": record_settings.jobs.model_copy(update={"shard_files": 1})})
    counting = CountingQueue()
    bulk = make_bulk(database, settings, counting)
    submit(bulk, tmp_path / "in")
    bulk.plan(counting.plans.pop())
    for shard_id in counting.shards:
        take_up(database, shard_id, running=0)
    counting.shards.clear()
    counting.sent = 0
    assert bulk.sweep().recovered == 5
    assert (counting.sent, len(counting.shards)) == (1, 5)


def test_a_planner_that_died_is_followed_by_another(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 2)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    queue.plans.clear()
    with database.session_scope() as session:
        past = utc_now() - dt.timedelta(seconds=1)
        session.execute(update(Job).values(state=JobState.PLANNING, lease_token="dead", lease_until=past))
    bulk.sweep()
    work_off(bulk, queue)
    assert (job_of(database, job_id).state, job_of(database, job_id).done) == (JobState.SUCCEEDED, 2)


def test_a_job_left_without_an_end_gets_one(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 2)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    with database.session_scope() as session:  # As if the last worker had died between its shard's end and the job's.
        session.execute(update(Job).values(state=JobState.RUNNING, finished_at=None))
    assert bulk.sweep().ended == 1
    assert job_of(database, job_id).state == JobState.SUCCEEDED


def test_a_shard_of_a_canceled_job_comes_to_rest(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 3)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    bulk.plan(queue.plans.pop())
    shard_id = queue.shards.pop()
    take_up(database, shard_id, running=1)
    bulk.cancel(job_id)
    bulk.sweep()
    assert queue.waiting() == 0
    assert {shard.state for shard in shards_of(database, job_id)} == {ShardState.DONE}
    assert counts(database)["recordings"] == 0
    require_counters_equal_items(database, job_id)


def test_a_run_whose_process_was_killed_is_marked_failed_and_a_live_one_is_not(
    database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    bulk = make_bulk(database, record_settings, queue)
    with database.session_scope() as session:
        job_id = Jobs(session).start(gallery_id, kind="ingest", source="/calls", found=3)
    assert bulk.sweep().ended == 0
    with database.session_scope() as session:
        assert Jobs(session).renew_run(job_id)
        past = utc_now() - dt.timedelta(seconds=RUN_LEASE_S + 1)
        session.execute(update(Job).values(lease_until=past))
    assert bulk.sweep().ended == 1
    job = job_of(database, job_id)
    assert job.state == JobState.FAILED
    assert job.error is not None
    assert "without a word" in job.error


def test_a_run_ends_those_before_it_that_were_killed(
    tmp_path: Path, database: Database, record_settings: Settings, gallery_id: GalleryId
) -> None:
    with database.session_scope() as session:
        killed = Jobs(session).start(gallery_id, kind="ingest", source="/calls", found=3)
        alive = Jobs(session).start(gallery_id, kind="ingest", source="/more", found=3)
        past = utc_now() - dt.timedelta(seconds=1)
        session.execute(update(Job).where(Job.id == killed).values(lease_until=past))
    ingest = Ingest(
        database=database,
        gallery_id=gallery_id,
        encoders_for=lambda _: EncoderSet(SpectrumEncoder()),
        limits=record_settings.audio,
        channels=ChannelPolicy.parse("mix"),
        decode_threads=1,
    )
    report = ingest.run(list_archive(write_archive(tmp_path, 1), nobody).files, source="in")
    ended = [job_of(database, number).state for number in (killed, alive, report.job_id)]
    assert ended == [JobState.FAILED, JobState.RUNNING, JobState.SUCCEEDED]


def test_recordings_go_when_their_gallery_has_kept_them_long_enough(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    write_archive(tmp_path / "in", 4)
    bulk = make_bulk(database, record_settings, queue)
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    media = MediaStore(record_settings.media_path)
    upload = media.new_incoming()
    upload.write_bytes(b"voice")
    key = media.keep(upload, gallery_id)
    with database.session_scope() as session:
        oldest = session.scalars(select(Recording.id).order_by(Recording.id).limit(3)).all()
        long_ago = utc_now() - dt.timedelta(days=31)
        session.execute(update(Recording).where(Recording.id.in_(oldest)).values(created_at=long_ago, media_key=key))
    assert make_bulk(database, record_settings, queue).sweep().erased == 0
    with database.session_scope() as session:
        session.execute(update(Gallery).values(retention_days=30))
        before = Changes(session).position(gallery_id).vectors
    assert make_bulk(database, record_settings, queue).sweep().erased == 3
    assert counts(database) == {"recordings": 1, "utterances": 1, "embeddings": 1, "enrollments": 0}
    assert not media.path_of(key).exists()
    assert len(items_of(database, job_id)) == 1
    with database.read_scope() as session:
        assert [change.removed for change in Changes(session).since(gallery_id, before)] == [True]


@pytest.mark.postgres  # A record that is a file has one process that sweeps.
@pytest.mark.parametrize("record_settings", ["postgres"], indirect=True)
def test_what_is_in_no_hurry_is_done_by_one_process_at_a_time(
    database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    with database.session_scope() as session:
        long_ago = utc_now() - dt.timedelta(hours=25)
        session.add(
            IdempotentRequest(owner="open", key="old", request_sha256="0" * 64, token="0" * 32, created_at=long_ago)
        )
    with chores_turn(database) as mine:
        assert mine
        make_bulk(database, record_settings, queue).sweep()
        with database.read_scope() as session:
            assert session.scalars(select(IdempotentRequest.key)).all() == ["old"]
    make_bulk(database, record_settings, queue).sweep()
    with database.read_scope() as session:
        assert session.scalars(select(IdempotentRequest.key)).all() == []


def test_old_answers_and_old_changes_are_forgotten(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, gallery_id: GalleryId
) -> None:
    bulk = make_bulk(database, record_settings, queue)
    for name in ("first", "second"):
        write_archive(tmp_path / name, 1, first=len(name))
        submit(bulk, tmp_path / name)
        work_off(bulk, queue)
    now = utc_now()
    with database.session_scope() as session:
        for key, hours in (("old", 25), ("young", 1)):
            created_at = now - dt.timedelta(hours=hours)
            session.add(
                IdempotentRequest(owner="open", key=key, request_sha256="0" * 64, token="0" * 32, created_at=created_at)
            )
    make_bulk(database, record_settings, queue).sweep()
    with database.session_scope() as session:
        assert session.scalars(select(IdempotentRequest.key)).all() == ["young"]
        assert session.scalars(select(IndexChange.seq).order_by(IndexChange.seq)).all() == [1, 2]
        session.execute(update(IndexChange).values(created_at=now - dt.timedelta(seconds=CHANGES_KEPT_S + 1)))
    make_bulk(database, record_settings, queue).sweep()
    with database.read_scope() as session:
        # The newest one stays: it tells snapshots that were written in step with it from those of another record.
        assert session.scalars(select(IndexChange.seq)).all() == [2]
        assert session.scalar(select(func.count(JobItem.id))) == 2
