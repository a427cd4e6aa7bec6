"""Workers that are killed, overtaken or cut off lose nothing and write nothing twice, on both databases."""

import datetime as dt
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sqlalchemy import select, text, update

from indexer.db.jobs import Jobs
from indexer.db.models import Job, JobItem, JobItemState, JobShard, JobState, ShardState, utc_now
from indexer.db.session import Database
from indexer.db.shards import Shards
from indexer.db.transactions import in_transaction
from indexer.errors import Conflict, LeaseLost
from indexer.settings import Settings
from indexer.types import SAMPLE_RATE_HZ, JobId, ShardId
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
from tests.job_workers import BlockedEncoder, DeadlyEncoder, start_worker
from tests.waiting import eventually


def hasty(settings: Settings, **changes: object) -> Settings:
    """Settings under which dead workers are found within two seconds."""
    jobs = settings.jobs.model_copy(update={"lease_s": 2.0, "sweep_s": 0.5, "tries": 20, **changes})
    return settings.model_copy(update={"jobs": jobs})


def patient(settings: Settings, **changes: object) -> Settings:
    """Settings under which nobody who lives is taken for dead; for tests that end the leases of the dead themselves."""
    return hasty(settings, lease_s=60.0, **changes)


def silence_all(database: Database) -> None:
    """End the lease of everybody, as time would."""
    with database.session_scope() as session:
        past = utc_now() - dt.timedelta(seconds=1)
        session.execute(update(JobShard).where(JobShard.state == ShardState.RUNNING).values(lease_until=past))


def plan(database: Database, settings: Settings, queue: ListQueue, folder: Path) -> JobId:
    bulk = make_bulk(database, settings, queue)
    job_id = submit(bulk, folder)
    while queue.plans:
        bulk.plan(queue.plans.pop())
    return job_id


def in_background(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def require_all_done(database: Database, job_id: JobId, count: int) -> None:
    job = job_of(database, job_id)
    assert (job.state, job.found, job.failed) == (JobState.SUCCEEDED, count, 0)
    made = counts(database)
    assert (made["recordings"], made["utterances"], made["embeddings"]) == (count, count, count)
    assert {shard.state for shard in shards_of(database, job_id)} == {ShardState.DONE}
    require_counters_equal_items(database, job_id)


def test_a_worker_killed_at_any_statement_or_commit_leaves_the_record_whole(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 40, seconds=0.2)
    settings = patient(record_settings)
    job_id = plan(database, settings, queue, tmp_path / "in")
    deaths = 0
    for dies_at in (14, 21, 29, 38, 48, 59, 71):
        worker = start_worker(settings, SpectrumEncoder(), dies_at=dies_at)
        worker.join(120)
        deaths += worker.exitcode == -9
        silence_all(database)
        require_counters_equal_items(database, job_id)
        made = counts(database)
        assert made["recordings"] == made["utterances"] == made["embeddings"] == job_of(database, job_id).done
    assert deaths >= 5
    start_worker(settings, SpectrumEncoder()).join(120)
    require_all_done(database, job_id, 40)


def test_two_workers_that_are_killed_at_random_finish_a_job_exactly_once(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 120, seconds=0.2)
    settings = hasty(record_settings, shard_files=30)
    job_id = plan(database, settings, queue, tmp_path / "in")
    encoder = DeadlyEncoder(pause_s=0.01)
    dice = random.Random(7)
    workers = [start_worker(settings, encoder) for _ in range(2)]
    for _ in range(6):
        time.sleep(dice.uniform(0.2, 0.6))
        victim = dice.randrange(2)
        workers[victim].kill()
        workers[victim].join()
        require_counters_equal_items(database, job_id)
        workers[victim] = start_worker(settings, encoder)
    eventually(lambda: job_of(database, job_id).finished_at is not None)
    for worker in workers:
        worker.join(120)
    require_all_done(database, job_id, 120)


def test_a_file_that_kills_its_workers_is_given_up_and_the_rest_of_its_shard_is_done(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 12)
    deadly = np.full(SAMPLE_RATE_HZ // 2, 0.95) * np.sign(np.sin(np.arange(SAMPLE_RATE_HZ // 2)))
    soundfile.write(tmp_path / "in" / "00005x.wav", deadly, SAMPLE_RATE_HZ)
    settings = patient(record_settings, tries=3)
    job_id = plan(database, settings, queue, tmp_path / "in")
    died = 0
    for _ in range(8):
        worker = start_worker(settings, DeadlyEncoder(kills_above=0.9))
        worker.join(120)
        require_counters_equal_items(database, job_id)
        if worker.exitcode == 0:
            break
        died += 1
        silence_all(database)
    assert died == 4  # Once with others beside it, and three times alone.
    job = job_of(database, job_id)
    assert (job.state, job.done, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 12, 1)
    failed = [item for item in items_of(database, job_id).values() if item.state == JobItemState.FAILED]
    assert [(Path(item.uri).name, item.error_code) for item in failed] == [("00005x.wav", "worker-lost")]
    assert counts(database)["recordings"] == 12


def test_a_worker_that_was_taken_for_dead_and_lives_writes_nothing_any_more(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 6)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    shard_id = queue.shards.pop()
    slow, quick = BlockedEncoder(), BlockedEncoder()
    first = in_background(lambda: make_bulk(database, record_settings, queue, slow).work(shard_id))
    assert slow.entered.wait(120)
    silence_all(database)
    second = in_background(lambda: make_bulk(database, record_settings, queue, quick).work(shard_id))
    eventually(lambda: any(shard.solo for shard in shards_of(database, job_id)))
    slow.let_go.set()
    first.join(120)
    # It had vectors of every file in its hands before anybody else had written one.
    assert slow.embedded > 0
    assert counts(database)["recordings"] == 0
    quick.let_go.set()
    second.join(120)
    work_off(make_bulk(database, record_settings, queue), queue)
    require_all_done(database, job_id, 6)


def test_two_deliveries_of_a_shard_are_one_piece_of_work(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 4)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    shard_id = queue.shards.pop()
    blocked, idle = BlockedEncoder(), SpectrumEncoder()
    first = in_background(lambda: make_bulk(database, record_settings, queue, blocked).work(shard_id))
    assert blocked.entered.wait(120)
    make_bulk(database, record_settings, queue, idle).work(shard_id)
    assert idle.embedded == 0
    blocked.let_go.set()
    first.join(120)
    make_bulk(database, record_settings, queue, idle).work(shard_id)
    assert idle.embedded == 0
    require_all_done(database, job_id, 4)


def test_a_canceled_job_commits_nothing_more(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 4)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    blocked = BlockedEncoder()
    bulk = make_bulk(database, record_settings, queue, blocked)
    worker = in_background(lambda: bulk.work(queue.shards.pop()))
    assert blocked.entered.wait(120)
    bulk.cancel(job_id)
    blocked.let_go.set()
    worker.join(120)
    assert counts(database)["recordings"] == 0
    assert job_of(database, job_id).state == JobState.CANCELED
    require_counters_equal_items(database, job_id)


def test_a_commit_under_way_is_over_before_its_job_is_canceled(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 1)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    with database.session_scope() as session:
        shard, _ = Shards(session).claim(queue.shards.pop(), "mine", lease_s=30.0, tries=3)
        assert shard is not None
    bulk = make_bulk(database, record_settings, queue)
    with database.session_scope() as session:
        Shards(session).fence(shard, 30.0)
        cancel = in_background(lambda: bulk.cancel(job_id))
        cancel.join(0.5)
        assert cancel.is_alive()
        with database.read_scope() as reading:  # To whoever looks, it is not canceled yet.
            states = reading.scalars(select(Job.state)).all()
    cancel.join(120)
    assert states == [JobState.RUNNING]
    assert job_of(database, job_id).state == JobState.CANCELED
    with database.session_scope() as session, pytest.raises(LeaseLost):
        Shards(session).fence(shard, 30.0)


def test_a_worker_of_a_job_that_ended_stays_out_of_it_when_it_is_taken_up_again(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 2)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    with database.session_scope() as session:
        shard, _ = Shards(session).claim(queue.shards.pop(), "mine", lease_s=30.0, tries=3)
        assert shard is not None
        items = [item.id for item in Shards(session).open_items(shard.id)]
        Shards(session).mark_running(shard.id, items)
        Jobs(session).fail(job_id, "the source is away")
    assert {item.state for item in items_of(database, job_id).values()} == {JobItemState.QUEUED}
    assert {each.state for each in shards_of(database, job_id)} == {ShardState.DONE}
    with database.session_scope() as session:
        session.execute(update(Job).values(state=JobState.RUNNING))
        assert not Shards(session).renew(shard, 30.0)
        session.execute(update(JobItem).values(shard_id=None))  # They are in other shards by now.
        Shards(session).mark_running(shard.id, items)
    assert {item.state for item in items_of(database, job_id).values()} == {JobItemState.QUEUED}


def test_a_worker_that_is_told_to_stop_gives_its_shard_back_at_once(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    write_archive(tmp_path / "in", 60)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    encoder = BlockedEncoder()
    stopping = threading.Event()
    bulk = make_bulk(database, record_settings, queue, encoder, stopping=stopping.is_set)
    worker = in_background(lambda: bulk.work(queue.shards.pop()))
    assert encoder.entered.wait(120)  # In its first pass, of several.
    stopping.set()
    encoder.let_go.set()
    worker.join(120)
    assert not worker.is_alive()
    (shard,) = shards_of(database, job_id)
    assert (shard.state, shard.lease_token) == (ShardState.QUEUED, None)
    states = {item.state for item in items_of(database, job_id).values()}
    assert JobItemState.QUEUED in states
    assert JobItemState.RUNNING not in states
    assert queue.shards == [shard.id]
    require_counters_equal_items(database, job_id)
    work_off(make_bulk(database, record_settings, queue), queue)
    require_all_done(database, job_id, 60)


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgres"], indirect=True)
def test_a_database_that_drops_every_connection_fails_no_file(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    files = 160  # A few transactions' worth, however fast they are written.
    write_archive(tmp_path / "in", files)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    encoder = DeadlyEncoder(pause_s=0.02)
    worker = in_background(lambda: make_bulk(database, record_settings, queue, encoder).work(queue.shards.pop()))
    eventually(lambda: encoder.embedded > 0)  # Taking a shard up is tried once: it is found again by a sweep.
    drop = text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    dropped = 0
    while worker.is_alive():
        with database.engine.connect() as connection:
            dropped += len(connection.execute(drop).all())
        # A transaction is tried a few times: the next connections go when it has come through.
        before = job_of(database, job_id).done
        eventually(lambda before=before: not worker.is_alive() or job_of(database, job_id).done > before)  # type: ignore[misc]
    assert dropped >= 3
    work_off(make_bulk(database, record_settings, queue), queue)
    require_all_done(database, job_id, files)


@pytest.mark.postgres
@pytest.mark.parametrize("record_settings", ["postgres"], indirect=True)
def test_a_connection_that_is_lost_while_a_job_is_ended_leaves_no_job_running(
    tmp_path: Path, database: Database, record_settings: Settings, queue: ListQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_archive(tmp_path / "in", 3)
    job_id = plan(database, record_settings, queue, tmp_path / "in")
    finish, lost = Jobs.finish_if_done, 0

    def loses(jobs: Jobs, done: JobId) -> JobState | None:
        nonlocal lost
        lost += 1
        if lost <= 2:
            jobs._session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
        return finish(jobs, done)

    monkeypatch.setattr(Jobs, "finish_if_done", loses)
    work_off(make_bulk(database, record_settings, queue), queue)
    require_all_done(database, job_id, 3)
    assert lost == 3


@pytest.mark.postgres  # SQLite has one writer at a time, and nothing to wait for in a circle.
@pytest.mark.parametrize("record_settings", ["postgres"], indirect=True)
def test_transactions_that_wait_for_each_other_are_repeated(database: Database) -> None:
    with database.session_scope() as session:
        session.execute(text("CREATE TABLE pairs (id int PRIMARY KEY, n int NOT NULL)"))
        session.execute(text("INSERT INTO pairs VALUES (1, 0), (2, 0)"))
    barrier = threading.Barrier(2, timeout=120)
    tries = {1: 0, 2: 0}

    def add(first: int, second: int) -> None:
        def work(session: object) -> None:
            tries[first] += 1
            for number in (first, second):
                session.execute(text(f"UPDATE pairs SET n = n + 1 WHERE id = {number}"))  # type: ignore[attr-defined]
                if number == first and tries[first] == 1:
                    barrier.wait()

        in_transaction(database, work)

    other = in_background(lambda: add(2, 1))
    add(1, 2)
    other.join(120)
    assert sorted(tries.values()) == [1, 2]
    with database.read_scope() as session:
        assert session.execute(text("SELECT n FROM pairs ORDER BY id")).all() == [(2,), (2,)]


def test_what_is_contradicted_every_time_is_told(database: Database) -> None:
    tries = []

    def work(session: object) -> None:
        tries.append(session)
        raise Conflict("always")

    with pytest.raises(Conflict, match="always"):
        in_transaction(database, work)
    assert len(tries) == 5


def test_a_worker_waits_for_nobody_when_there_is_nothing_to_do(
    database: Database, record_settings: Settings, queue: ListQueue
) -> None:
    make_bulk(database, record_settings, queue).work(ShardId(12345))
    with database.read_scope() as session:
        assert session.scalars(select(JobShard.id)).all() == []
