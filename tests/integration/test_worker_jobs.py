"""Jobs in real worker processes, over a real Redis and a real PostgreSQL: nothing that dies on the way loses a file."""

import csv
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Select, func, select

from api.cli.local_servers import LocalRedis
from api.dependencies import Services
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.jobs import JobProgress, Jobs
from indexer.db.models import Embedding, JobShard, JobState, Recording, ShardState, Utterance
from indexer.encoders_in_use import as_row
from indexer.jobs.source import JobOptions
from indexer.settings import Settings
from indexer.types import JobId, ShardId
from tests.waiting import eventually
from tests.worker_kit import environment_of, running_worker
from worker.supervisor import python

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.real_weights,
    pytest.mark.real_speech,
    pytest.mark.parametrize("record_settings", ["postgres"], indirect=True),
]

FILES = 20
SHARD_FILES = 4


@pytest.fixture
def settings(record_settings: Settings, redis_server: LocalRedis, default_weights: Path) -> Settings:
    return record_settings.model_copy(
        update={
            "broker": record_settings.broker.model_validate({"url": redis_server.url}),
            "jobs": record_settings.jobs.model_validate({"lease_s": 2, "sweep_s": 0.5, "shard_files": SHARD_FILES}),
        }
    )


@pytest.fixture
def services(settings: Settings) -> Iterator[Services]:
    made = Services(settings)
    yield made
    made.close()


@pytest.fixture
def archive(tmp_path: Path, speech_dir: Path) -> Path:
    with (speech_dir / "manifest.csv").open(newline="") as manifest:
        rows = sorted(csv.DictReader(manifest), key=lambda row: float(row["seconds"]))
    folder = tmp_path / "archive"
    folder.mkdir()
    short = [row for row in rows if row["speaker"] and float(row["seconds"]) > 3][:FILES]
    for number, row in enumerate(short):
        shutil.copy(speech_dir / row["path"], folder / f"{number:02}-{Path(row['path']).name}")
    assert len(short) == FILES
    return folder


@pytest.fixture
def job(services: Services, archive: Path) -> JobId:
    """A job that was posted and that nobody works on yet."""
    loaded, spec = services.encoders.load()
    with services.database.session_scope() as session:
        Galleries(session).get_or_create("calls", Encoders(session).register(as_row(loaded, spec)))
    return services.bulk.submit("calls", str(archive), options=JobOptions("folder"), trusted=True)


def progress(services: Services, job: JobId) -> JobProgress:
    with services.database.read_scope() as session:
        return Jobs(session).progress(job)


def ended(services: Services, job: JobId) -> JobProgress:
    """Wait for a job's end."""
    under_way = (JobState.QUEUED, JobState.PLANNING, JobState.RUNNING)
    eventually(lambda: progress(services, job).state not in under_way)
    return progress(services, job)


def count(services: Services, statement: Select[tuple[int]]) -> int:
    with services.database.read_scope() as session:
        return session.execute(statement).scalar_one()


def shards_in(services: Services, state: ShardState) -> int:
    return count(services, select(func.count()).select_from(JobShard).where(JobShard.state == state))


def assert_every_file_is_in_exactly_once(services: Services, job: JobId) -> None:
    found = progress(services, job)
    assert (found.state, found.done, found.duplicate, found.failed) == (JobState.SUCCEEDED, FILES, 0, 0)
    assert count(services, select(func.count()).select_from(Recording)) == FILES
    embedded = select(func.count(Utterance.recording_id.distinct())).join(Embedding)
    assert count(services, embedded) == FILES
    assert shards_in(services, ShardState.DONE) == count(services, select(func.count()).select_from(JobShard))


def test_a_killed_worker_loses_nothing_and_the_next_one_finishes(
    services: Services, settings: Settings, job: JobId, tmp_path: Path
) -> None:
    with running_worker(environment_of(settings), tmp_path / "first.log") as first:
        first.kill_while(lambda: shards_in(services, ShardState.RUNNING))
    assert shards_in(services, ShardState.RUNNING)
    with running_worker(environment_of(settings), tmp_path / "second.log") as second:
        second.kill_while(lambda: progress(services, job).done)
    assert progress(services, job).done < FILES, "the worker had finished before it was killed"
    with running_worker(environment_of(settings), tmp_path / "third.log"):
        ended(services, job)
    assert_every_file_is_in_exactly_once(services, job)


def test_a_worker_replaces_its_processes_that_are_killed(
    services: Services, settings: Settings, job: JobId, tmp_path: Path
) -> None:
    with running_worker(environment_of(settings), tmp_path / "log") as worker:
        eventually(lambda: shards_in(services, ShardState.RUNNING), told=worker.told)
        celery, child = worker.family()
        child.kill()
        replaced = eventually(lambda: [one for one in worker.family() if one not in (celery, child)])
        assert celery.is_running()
        assert replaced
        celery.kill()
        eventually(lambda: not replaced[0].is_running(), told=lambda: "the child outlived Celery")
        ended(services, job)
        assert "died of SIGKILL" in worker.told()
    assert_every_file_is_in_exactly_once(services, job)


def test_work_goes_on_when_redis_comes_back_without_its_memory(
    services: Services, settings: Settings, job: JobId, redis_server: LocalRedis, tmp_path: Path
) -> None:
    with running_worker(environment_of(settings), tmp_path / "log") as worker:
        eventually(lambda: shards_in(services, ShardState.RUNNING), told=worker.told)
        before = worker.family()
        with worker.paused():
            assert shards_in(services, ShardState.QUEUED), "nothing was waiting in Redis when it lost its memory"
            redis_server.restart()
        ended(services, job)
        assert worker.family() == before, "the worker had to be restarted"
    assert_every_file_is_in_exactly_once(services, job)


def test_messages_that_arrive_twice_do_their_work_once(
    services: Services, settings: Settings, job: JobId, tmp_path: Path
) -> None:
    services.bulk.plan(job)
    with services.database.read_scope() as session:
        shards = [ShardId(number) for number in session.scalars(select(JobShard.id))]
    assert len(shards) == FILES // SHARD_FILES
    services.queue.send_planning(job)
    services.queue.send_shards(shards + shards)
    with running_worker(environment_of(settings), tmp_path / "log"):
        ended(services, job)
        assert eventually(lambda: services.queue.waiting() == 0)
    assert_every_file_is_in_exactly_once(services, job)


def test_a_worker_that_is_told_to_stop_gives_its_shard_back_within_seconds(
    services: Services, settings: Settings, job: JobId, tmp_path: Path
) -> None:
    with running_worker(environment_of(settings), tmp_path / "log") as worker:
        eventually(lambda: progress(services, job).done, told=worker.told)
        worker.process.terminate()
        assert worker.process.wait(120) == 0
        assert "is killed" not in worker.told()
    assert shards_in(services, ShardState.RUNNING) == 0
    assert shards_in(services, ShardState.QUEUED), "the worker had finished before it was told to stop"
    assert progress(services, job).state is JobState.RUNNING


def test_the_process_for_devices_that_never_forks_does_the_same_work(
    services: Services, settings: Settings, job: JobId, tmp_path: Path
) -> None:
    command = python("worker.process", "ingest", "threads")
    with running_worker(environment_of(settings), tmp_path / "first.log", command=command) as worker:
        eventually(lambda: shards_in(services, ShardState.RUNNING), told=worker.told)
        assert worker.family() == []
        worker.process.terminate()
        assert worker.process.wait(120) == 0
    assert shards_in(services, ShardState.RUNNING) == 0
    assert progress(services, job).done < FILES, "the worker had finished before it was told to stop"
    with running_worker(environment_of(settings), tmp_path / "second.log", command=command):
        ended(services, job)
    assert_every_file_is_in_exactly_once(services, job)


def test_a_job_is_accepted_while_redis_is_away_and_sent_when_it_is_back(
    services: Services, redis_server: LocalRedis, archive: Path, job: JobId
) -> None:
    services.bulk.cancel(job)
    redis_server.stop()
    later = services.bulk.submit("calls", str(archive), options=JobOptions("folder"), trusted=True)
    assert progress(services, later).state is JobState.QUEUED
    assert services.queue.waiting() is None
    redis_server.start()
    assert services.queue.waiting() == 0
    assert eventually(lambda: services.bulk.sweep() and services.queue.waiting()) == 1
