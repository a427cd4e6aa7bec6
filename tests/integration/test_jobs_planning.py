"""A job's files are listed into shards, each once, whatever happens to the planner; on both databases."""

import hashlib
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from indexer.db.jobs import Jobs
from indexer.db.models import Job, JobItem, JobItemState, JobState, ShardState, WebhookDelivery, utc_now
from indexer.db.session import Database
from indexer.errors import AccessDenied, Conflict, InvalidRequest, NotFound, Unavailable
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.planning import MAX_STALLS, Planner
from indexer.jobs.source import Cursor, JobOptions, Listed, Source, SourceEntry, UnusableEntry
from indexer.settings import JobSettings, Settings
from indexer.types import JobId, ShardId
from tests.fakes import SpectrumEncoder
from tests.job_kit import (
    ListQueue,
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
from tests.waiting import eventually


class Killed(BaseException):
    """The process ends here."""


@dataclass
class FakeArchive:
    """So many files of so many seconds; the steps at `dies_at` kill whoever reads, the first time."""

    files: int
    seconds: float = 10.0
    dies_at: set[int] = field(default_factory=set)

    def read(self, after: Cursor | None) -> Iterator[Listed]:
        for number in range(after["n"] + 1 if after else 0, self.files):
            if number in self.dies_at:
                self.dies_at.remove(number)
                raise Killed
            yield Listed(SourceEntry(f"/archive/{number:07d}.wav", estimated_s=self.seconds), {"n": number})


class DeadlyQueue(ListQueue):
    """A queue of which every second message kills whoever sends it, before or after it is on its way."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
        self.sent += 1
        if self.sent % 4 == 1:
            raise Killed
        super().send_shards(shard_ids)
        if self.sent % 4 == 3:
            raise Killed


def plan(database: Database, job_id: JobId, source: Source, queue: ListQueue, **settings: float) -> None:
    # Everything is written as soon as it is read, so that there is as much as possible between two commits.
    Planner(database, JobSettings(**settings), queue, lambda _: source, write_s=0.0).plan(job_id)  # type: ignore[arg-type]


def forget_lease(database: Database, job_id: JobId) -> None:
    """Let the lease of a planner that died end now."""
    with database.session_scope() as session:
        session.execute(update(Job).where(Job.id == job_id).values(lease_until=None))


def uris_of(database: Database, job_id: JobId) -> list[str]:
    with database.read_scope() as session:
        return list(session.scalars(select(JobItem.uri).where(JobItem.job_id == job_id).order_by(JobItem.id)))


@pytest.mark.parametrize("seed", range(3))
def test_a_planner_that_is_killed_anywhere_lists_every_file_once(
    database: Database, bulk: BulkIngest, tmp_path: Path, seed: int
) -> None:
    archive = FakeArchive(101, dies_at=set(range(seed, 101, 7)))
    queue, deaths = DeadlyQueue(), 0
    job_id = submit(bulk, tmp_path)
    for _ in range(200):
        try:
            plan(database, job_id, archive, queue, shard_files=4)
            break
        except Killed:
            deaths += 1
            forget_lease(database, job_id)
    assert deaths > 15
    assert uris_of(database, job_id) == [f"/archive/{number:07d}.wav" for number in range(101)]
    assert job_of(database, job_id).found == 101
    per_shard = Counter(item.shard_id for item in items_of(database, job_id).values())
    shards = shards_of(database, job_id)
    assert {shard.id: shard.items for shard in shards} == per_shard
    assert all(shard.items <= 4 and shard.estimated_s == 10.0 * shard.items for shard in shards)
    # What was committed and not sent is the sweep's to find.
    assert set(queue.shards) < {shard.id for shard in shards}


PLANNING_PROCESS = """
import sys
from indexer.db.session import open_database
from indexer.jobs.bulk import BulkIngest
from indexer.settings import load_settings
from indexer.types import JobId

class Nowhere:  # Nobody works here; the fakes of other tests would load an encoder's libraries.
    def send_planning(self, job_id): ...
    def send_shards(self, shard_ids): ...

settings = load_settings(
    home=sys.argv[1], database={"url": sys.argv[2]} if sys.argv[2] else {}, jobs={"shard_files": 1}
)
database = open_database(settings)
bulk = BulkIngest(database, settings, queue=Nowhere(), encoders_for=None)
print("ready", flush=True)
bulk.plan(JobId(int(sys.argv[3])))
database.close()
"""


def test_a_planning_process_that_is_really_killed_lists_every_file_once(
    database: Database, bulk: BulkIngest, record_settings: Settings, tmp_path: Path
) -> None:
    files = [tmp_path / "in" / f"{number % 7}" / f"{number:04d}.wav" for number in range(1500)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    job_id = submit(bulk, tmp_path / "in")
    url = record_settings.database.url
    arguments = [str(record_settings.home), url.get_secret_value() if url else "", str(job_id)]
    reached = []
    for pause_s in (0.03, 0.1, 0.25, None):
        with subprocess.Popen(
            [sys.executable, "-c", PLANNING_PROCESS, *arguments], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            if pause_s is not None:
                time.sleep(pause_s)
                process.send_signal(signal.SIGKILL)
        forget_lease(database, job_id)
        reached.append(job_of(database, job_id).found)
    assert process.returncode == 0
    assert reached[0] < len(files), "no kill hit the planning; make it longer"
    assert sorted(uris_of(database, job_id)) == sorted(str(file) for file in files)
    assert job_of(database, job_id).found == len(files)
    assert job_of(database, job_id).planned_at is not None


def test_shards_hold_so_much_audio_or_so_many_files_and_a_long_file_is_alone(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    lengths = [300.0, 400.0, 100.0, 5000.0, 10.0, 10.0, 10.0, 740.0, 20.0]

    class Archive:
        def read(self, after: Cursor | None) -> Iterator[Listed]:
            for number, seconds in enumerate(lengths):
                yield Listed(SourceEntry(f"/a/{number}.wav", estimated_s=seconds), {"n": number})

    job_id = submit(bulk, tmp_path)
    plan(database, job_id, Archive(), queue, shard_files=3)
    cut = [(shard.items, shard.estimated_s) for shard in shards_of(database, job_id)]
    assert cut == [(2, 700.0), (1, 100.0), (1, 5000.0), (3, 30.0), (1, 740.0), (1, 20.0)]
    assert queue.shards == [shard.id for shard in shards_of(database, job_id)]
    assert job_of(database, job_id).state == JobState.RUNNING


def test_a_call_that_takes_long_asks_for_the_next_one(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id = submit(bulk, tmp_path)
    queue.plans.clear()
    planner = Planner(database, JobSettings(), queue, lambda _: FakeArchive(3), call_s=0.0)
    for found in (1, 2, 3):
        planner.plan(job_id)
        assert (job_of(database, job_id).found, queue.plans) == (found, [job_id])
        queue.plans.clear()
    planner.plan(job_id)
    assert job_of(database, job_id).planned_at is not None
    assert queue.plans == []


def test_of_two_planners_only_the_one_with_the_lease_writes(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id = submit(bulk, tmp_path)

    class Overtaken:
        """An archive whose reader is taken for dead halfway."""

        def read(self, after: Cursor | None) -> Iterator[Listed]:
            for step in FakeArchive(40).read(after):
                if step.cursor["n"] == 21:
                    plan(database, job_id, FakeArchive(40), queue, shard_files=4)  # Finds the lease alive.
                    assert job_of(database, job_id).found == 20
                    forget_lease(database, job_id)
                    plan(database, job_id, FakeArchive(40), queue, shard_files=4)
                    assert job_of(database, job_id).found == 40
                yield step

    plan(database, job_id, Overtaken(), queue, shard_files=4)
    assert len(uris_of(database, job_id)) == 40
    assert len(shards_of(database, job_id)) == 10


def test_a_lease_is_kept_while_a_source_takes_its_time(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id = submit(bulk, tmp_path)

    class Slow:
        def read(self, after: Cursor | None) -> Iterator[Listed]:
            before = job_of(database, job_id).lease_until
            assert before is not None
            eventually(lambda: (job_of(database, job_id).lease_until or before) > before)
            yield from FakeArchive(1).read(after)

    plan(database, job_id, Slow(), queue, lease_s=2.0)
    assert job_of(database, job_id).planned_at is not None


def test_a_canceled_job_is_planned_no_further(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id = submit(bulk, tmp_path)

    class Canceled:
        def read(self, after: Cursor | None) -> Iterator[Listed]:
            for step in FakeArchive(40).read(after):
                if step.cursor["n"] == 21:
                    bulk.cancel(job_id)
                yield step

    plan(database, job_id, Canceled(), queue, shard_files=4)
    job = job_of(database, job_id)
    assert (job.state, job.found, job.lease_token) == (JobState.CANCELED, 20, None)
    assert {shard.state for shard in shards_of(database, job_id)} == {ShardState.DONE}
    bulk.cancel(job_id)
    plan(database, job_id, FakeArchive(40), queue)
    assert job_of(database, job_id).found == 20
    with pytest.raises(Conflict, match="canceled"):
        bulk.retry_failed(job_id)


def test_a_source_out_of_reach_is_tried_again_and_given_up_in_the_end(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id = submit(bulk, tmp_path)

    class Flaky:
        """Fails once at every tenth file, and for good at file 50."""

        failed_at: ClassVar[set[int]] = set()

        def read(self, after: Cursor | None) -> Iterator[Listed]:
            for step in FakeArchive(100).read(after):
                number = step.cursor["n"]
                if number == 50 or (number % 10 == 5 and number not in self.failed_at):
                    self.failed_at.add(number)
                    raise Unavailable("s3://calls: out of reach")
                yield step

    attempts = 0
    while job_of(database, job_id).state != JobState.FAILED:
        with pytest.raises(Unavailable):
            plan(database, job_id, Flaky(), queue)
        attempts += 1
        assert attempts < 100
    job = job_of(database, job_id)
    # Each step forward begins the count anew: a call that got somewhere before it failed is none of the row.
    assert attempts == 6 + MAX_STALLS
    assert job.error is not None
    assert f"({MAX_STALLS} tries in a row)" in job.error
    assert job.found == 50

    assert bulk.retry_failed(job_id) == 50
    plan(database, job_id, FakeArchive(100), queue)
    assert uris_of(database, job_id) == [f"/archive/{number:07d}.wav" for number in range(100)]


class FlakyRecord(Database):
    """A record that every third transaction cannot reach: before it begins, or so that nobody knows whether it was."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self.begun = 0

    @contextmanager
    def session_scope(self) -> Iterator[Session]:
        self.begun += 1
        if self.begun % 6 == 3:
            raise Unavailable("the record is away")
        with super().session_scope() as session:
            yield session
        if self.begun % 6 == 0:
            raise Unavailable("the connection was lost; was it committed?")


def test_a_record_that_comes_and_goes_loses_no_file_and_fails_no_job(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    job_id, calls = submit(bulk, tmp_path), 0
    flaky = FlakyRecord(database)
    while job_of(database, job_id).planned_at is None:
        calls += 1
        assert calls < 100
        forget_lease(database, job_id)
        with suppress(Unavailable):
            plan(flaky, job_id, FakeArchive(150), queue, shard_files=2)
    assert calls > 10
    assert uris_of(database, job_id) == [f"/archive/{number:07d}.wav" for number in range(150)]
    assert sum(shard.items for shard in shards_of(database, job_id)) == job_of(database, job_id).found == 150


def test_a_planner_that_dies_at_the_same_place_again_and_again_is_not_tried_for_ever(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    class Deadly:
        """Kills whoever reads the sixth file."""

        def read(self, after: Cursor | None) -> Iterator[Listed]:
            return FakeArchive(10, dies_at={5}).read(after)

    job_id, deaths = submit(bulk, tmp_path), 0
    while job_of(database, job_id).state != JobState.FAILED:
        forget_lease(database, job_id)
        try:
            plan(database, job_id, Deadly(), queue, shard_files=1)
        except Killed:
            deaths += 1
        assert deaths < 100
    job = job_of(database, job_id)
    assert deaths == MAX_STALLS + 1  # The first one had got somewhere.
    assert job.error is not None
    assert "killed, or hung" in job.error

    assert bulk.retry_failed(job_id)
    plan(database, job_id, FakeArchive(10), queue)
    assert uris_of(database, job_id) == [f"/archive/{number:07d}.wav" for number in range(10)]


def test_a_failure_that_nobody_foresaw_is_not_tried_for_ever(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    class Broken:
        def read(self, after: Cursor | None) -> Iterator[Listed]:
            raise ZeroDivisionError("unforeseen")

    job_id = submit(bulk, tmp_path)
    for _ in range(MAX_STALLS):
        assert job_of(database, job_id).state != JobState.FAILED
        with pytest.raises(ZeroDivisionError):
            plan(database, job_id, Broken(), queue)
    assert job_of(database, job_id).state == JobState.FAILED
    assert "unforeseen" in (job_of(database, job_id).error or "")


@pytest.mark.parametrize(
    ("source", "kind", "reason"),
    [
        ("gone", "folder", "no such file or folder"),
        ("gone.csv", "manifest", "No such file"),
        ("list.csv", "manifest", "one must be named uri"),
        ("list.csv/x.csv", "manifest", "Not a directory"),
    ],
)
def test_a_source_that_cannot_be_used_fails_the_job_with_the_reason(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path, source: str, kind: str, reason: str
) -> None:
    (tmp_path / "list.csv").write_text("name\nx\n")
    job_id = bulk.submit("archive", str(tmp_path / source), options=JobOptions(kind), trusted=True)  # type: ignore[arg-type]
    bulk.plan(job_id)
    job = job_of(database, job_id)
    assert job.state == JobState.FAILED
    assert job.finished_at is not None
    assert job.error is not None
    assert reason in job.error


def test_what_cannot_be_accepted_makes_no_job(
    database: Database, record_settings: Settings, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    options = JobOptions("folder")
    with pytest.raises(NotFound):
        bulk.submit("nobody's", str(tmp_path), options=options, trusted=True)
    with pytest.raises(AccessDenied):
        bulk.submit("archive", str(tmp_path), options=options, trusted=False)
    with pytest.raises(InvalidRequest, match="relative"):
        bulk.submit("archive", "in", options=options, trusted=True)
    with pytest.raises(InvalidRequest, match="SECRET"):
        bulk.submit("archive", str(tmp_path), options=options, trusted=True, webhook_url="https://example.org/hook")
    with database.read_scope() as session:
        assert Jobs(session).page() == []
    assert queue.plans == []


def test_a_job_outlives_a_broker_that_is_away(database: Database, record_settings: Settings, tmp_path: Path) -> None:
    class NoBroker(ListQueue):
        def send_planning(self, job_id: JobId) -> None:
            raise Unavailable("the broker is away")

        def send_shards(self, shard_ids: Sequence[ShardId]) -> None:
            raise Unavailable("the broker is away")

    make_gallery(database, SpectrumEncoder())
    write_archive(tmp_path / "in", 3)
    bulk = make_bulk(database, record_settings, NoBroker())
    job_id = submit(bulk, tmp_path / "in")
    bulk.plan(job_id)
    job = job_of(database, job_id)
    assert (job.state, job.found, len(shards_of(database, job_id))) == (JobState.RUNNING, 3, 1)


def test_a_manifest_gives_each_row_its_fate(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 3)
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "uri;speaker;session;recorded_at;labels\n"
        'in/00000.wav;ann;s1;2026-03-01T10:00:00+01:00;"news;night"\n'
        "in/00001.wav;bob;;someday;\n"
        "in/00001.wav;bob;;;\n"
        "in/00001.wav;bob;;;\n"
        "in/00001.wav;carl;;;\n"
        "in/00002.wav; d\u00a0 ;;;\n"
        "in/00002.wav\0;;;;\n"
        "in/gone.wav;;;;\n"
    )
    job_id = submit(bulk, manifest)
    work_off(bulk, queue)
    items = items_of(database, job_id)
    assert {name: item.state for name, item in items.items()} == {
        "00000.wav": JobItemState.DONE,
        "00001.wav": JobItemState.DONE,
        "00002.wav": JobItemState.DONE,
        "gone.wav": JobItemState.FAILED,
        "list.csv:3": JobItemState.FAILED,
        "list.csv:6": JobItemState.FAILED,
        "list.csv:8": JobItemState.FAILED,
    }
    assert items["00000.wav"].labels == ["news", "night"]
    assert items["00001.wav"].speaker == "bob"
    assert items["list.csv:6"].error_code == "conflict"
    assert items["list.csv:6"].error_message == (
        f"line 6: {tmp_path}/in/00001.wav is 'carl' here and 'bob' in an earlier line; name one speaker a file"
    )
    assert job_of(database, job_id).state == JobState.SUCCEEDED_WITH_ERRORS
    require_counters_equal_items(database, job_id)


def test_failed_files_and_refused_rows_are_retried_and_nothing_else(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 2)
    (tmp_path / "in" / "broken.wav").write_bytes(b"no audio")
    manifest = tmp_path / "list.csv"
    manifest.write_text("uri,recorded_at\nin/00000.wav\nin/broken.wav\nin/00001.wav,never\n")
    job_id = submit(bulk, manifest)
    with pytest.raises(Conflict, match="queued"):
        bulk.retry_failed(job_id)
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.found, job.done, job.failed) == (JobState.SUCCEEDED_WITH_ERRORS, 3, 1, 2)

    write_archive(tmp_path / "mended", 1, first=7)
    (tmp_path / "mended" / "00007.wav").rename(tmp_path / "in" / "broken.wav")
    manifest.write_text("uri,recorded_at\nin/00000.wav\nin/broken.wav\nin/00001.wav,2026-03-01\n")
    assert bulk.retry_failed(job_id) == 2
    job = job_of(database, job_id)
    assert (job.state, job.found, job.done, job.failed, job.finished_at) == (JobState.QUEUED, 3, 1, 2, None)
    work_off(bulk, queue)
    job = job_of(database, job_id)
    assert (job.state, job.found, job.done, job.failed) == (JobState.SUCCEEDED, 3, 3, 0)
    require_counters_equal_items(database, job_id)

    assert bulk.retry_failed(job_id) == 0
    assert job_of(database, job_id).state == JobState.SUCCEEDED
    with pytest.raises(NotFound):
        bulk.retry_failed(JobId(job_id + 1))


def test_the_same_folder_posted_twice_is_one_set_of_recordings(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 5)
    first, second = submit(bulk, tmp_path / "in"), submit(bulk, tmp_path / "in")
    for job_id in (first, second, first, second):
        bulk.plan(job_id)
    work_off(bulk, queue)
    outcomes = {(job.done, job.duplicate, job.failed) for job in (job_of(database, first), job_of(database, second))}
    assert outcomes == {(5, 0, 0), (0, 5, 0)}


def test_unreadable_folders_and_names_that_are_no_text_become_failed_items(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    class Archive:
        def read(self, after: Cursor | None) -> Iterator[Listed]:
            yield Listed(UnusableEntry("/a/locked\udcff", AccessDenied("locked\0")), {"n": 0})
            yield Listed(SourceEntry("/a/lone\ud800.wav"), {"n": 1})
            yield Listed(SourceEntry("/a/x.wav", speaker=" padded"), {"n": 2})
            for digit in "12":
                # As random as text gets: Postgres would pack anything simpler into its index.
                name = "".join(hashlib.sha256(f"{digit}{n}".encode()).hexdigest() for n in range(45)) + digit
                yield Listed(SourceEntry(f"/a/{name}"), {"n": 3})

    job_id = submit(bulk, tmp_path)
    plan(database, job_id, Archive(), queue)
    job = job_of(database, job_id)
    assert (job.state, job.found, job.failed, job.cursor) == (JobState.SUCCEEDED_WITH_ERRORS, 5, 5, {"n": 3})
    assert [item.error_code for item in items_of(database, job_id).values()] == [
        "forbidden",
        *["invalid-request"] * 4,
    ]


def test_progress_tells_the_speed_of_all_runs_and_the_rest_of_this_one(
    database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    write_archive(tmp_path / "in", 4, seconds=0.5)
    job_id = submit(bulk, tmp_path / "in")

    def progress() -> object:
        with database.read_scope() as session:
            return Jobs(session).progress(job_id)

    waiting = progress()
    assert (waiting.state, waiting.elapsed_s, waiting.eta_s, waiting.planned) == (JobState.QUEUED, 0.0, None, False)
    bulk.plan(queue.plans.pop())
    with database.session_scope() as session:
        job = session.get(Job, job_id)
        job.done, job.audio_s = 1, 29.9 + 0.1 + 1e-12
        job.started_at = job.started_at.replace(year=job.started_at.year - 1)
    halfway = progress()
    assert halfway.planned
    assert halfway.audio_s == 30.0
    assert halfway.times_real_time == pytest.approx(30.0 / halfway.elapsed_s)
    assert halfway.eta_s == pytest.approx(3 * halfway.elapsed_s)
    with database.session_scope() as session:
        resumed = {"processed": 1, "worked_s": 70.0, "at": utc_now().isoformat()}
        session.get(Job, job_id).options = {"resumed_from": resumed}
    assert 70.0 <= progress().elapsed_s < 100.0
    assert progress().times_real_time == pytest.approx(30.0 / 70.0, rel=0.5)
    assert progress().eta_s is None


def test_jobs_and_items_come_in_pages(database: Database, bulk: BulkIngest, queue: ListQueue, tmp_path: Path) -> None:
    write_archive(tmp_path / "in", 5)
    ids = [submit(bulk, tmp_path / "in") for _ in range(3)]
    bulk.plan(ids[1])
    other = make_gallery(database, SpectrumEncoder(), "other")
    with database.read_scope() as session:
        jobs = Jobs(session)
        assert [job.id for job in jobs.page(limit=2)] == [ids[2], ids[1]]
        assert [job.id for job in jobs.page(before=ids[1])] == ids[:1]
        assert [job.id for job in jobs.page(state=JobState.RUNNING)] == [ids[1]]
        assert jobs.page(other) == []
        first = jobs.items_page(ids[1], limit=2)
        rest = jobs.items_page(ids[1], after=first[-1].id)
        assert [Path(item.uri).name for item in first + rest] == [f"{number:05d}.wav" for number in range(5)]
        assert jobs.items_page(ids[1], state=JobItemState.FAILED) == []


def test_every_end_of_a_job_is_reported_once_where_that_was_asked_for(
    database: Database, record_settings: Settings, queue: ListQueue, tmp_path: Path
) -> None:
    webhooks = record_settings.webhooks.model_copy(update={"secret": SecretStr("whsec_" + "A" * 32)})
    bulk = make_bulk(database, record_settings.model_copy(update={"webhooks": webhooks}), queue)
    options, hook = JobOptions("folder"), "https://example.org/hook"
    failed = bulk.submit("archive", "/gone/for/good", options=options, trusted=True, webhook_url=hook)
    canceled = bulk.submit("archive", str(tmp_path), options=options, trusted=True, webhook_url=hook)
    silent = bulk.submit("archive", str(tmp_path), options=options, trusted=True)
    bulk.cancel(canceled)
    bulk.cancel(canceled)
    bulk.cancel(silent)
    bulk.plan(failed)
    bulk.plan(failed)
    with database.read_scope() as session:
        assert sorted(session.scalars(select(WebhookDelivery.job_id))) == sorted([failed, canceled])


MEASURED_PROCESS = """
import sys
import tracemalloc
from indexer.db.session import open_database
from indexer.settings import load_settings
from tests.reports.planning import plan_made_up

settings = load_settings(home=sys.argv[1], database={"url": sys.argv[2]} if sys.argv[2] else {})
database = open_database(settings)
tracemalloc.start()
planned = plan_made_up(
    database, settings, 10_000, page_keys=200, memory_mb=lambda: tracemalloc.get_traced_memory()[0] / 1e6
)
database.close()
print(planned.shards, len(planned.memory_mb), planned.growth_mb)
"""


def test_planning_thousands_of_files_takes_no_memory(database: Database, record_settings: Settings) -> None:
    # In a process of its own, and what Python holds there: threads of other tests take some of this one, and its table
    # of interned strings, which is all tests', takes 8 MB at once when it grows.
    url = record_settings.database.url
    arguments = [str(record_settings.home), url.get_secret_value() if url else ""]
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED_PROCESS, *arguments], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    shards, measured, growth_mb = ran.stdout.split()
    assert (int(shards), int(measured)) == (400, 10)
    # 9,000 names that are held are 0.8 MB, and rows or objects several times that.
    assert float(growth_mb) < 0.5
