"""What asks for an erasure or the end of a job does not hear of a deadlock: it is done again; on both databases."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api.catalog import Catalog
from indexer.archive import parse_speaker_rule
from indexer.db.galleries import Galleries
from indexer.db.jobs import Jobs
from indexer.db.models import Job, JobState
from indexer.db.session import Database
from indexer.jobs.bulk import BulkIngest
from indexer.jobs.folders import FolderSource
from indexer.jobs.planning import Planner
from indexer.jobs.source import Cursor, Listed
from indexer.media import MediaStore
from indexer.settings import JobSettings, Settings
from indexer.types import GalleryId, JobId
from tests.fakes import SpectrumEncoder
from tests.job_kit import ListQueue, counts, items_of, job_of, make_bulk, make_gallery, submit, work_off, write_archive


class _DeadlockError(Exception):
    """As the driver of Postgres reports it."""

    sqlstate = "40P01"


class Contended(Database):
    """A record whose next transactions are each chosen as the victim of a deadlock, right before their commit."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self.victims = 0

    @contextmanager
    def session_scope(self) -> Iterator[Session]:
        with super().session_scope() as session:
            yield session
            if self.victims:
                self.victims -= 1
                raise OperationalError("UPDATE", {}, _DeadlockError())


@pytest.fixture
def contended(database: Database) -> Contended:
    make_gallery(database, SpectrumEncoder())
    return Contended(database)


@pytest.fixture
def queue() -> ListQueue:
    return ListQueue()


@pytest.fixture
def bulk(contended: Contended, record_settings: Settings, queue: ListQueue) -> BulkIngest:
    return make_bulk(contended, record_settings, queue)


@pytest.fixture
def catalog(contended: Contended, tmp_path: Path) -> Catalog:
    def nothing(gallery_id: GalleryId) -> None:
        """No index is open."""

    return Catalog(contended, refresh_index=nothing, drop_index=nothing, media=MediaStore(tmp_path / "media"))


@pytest.mark.parametrize(
    ("erase", "left"),
    [
        (lambda catalog, number: catalog.delete_recording("archive", number), 1),
        (lambda catalog, _: catalog.delete_speaker("archive", "ann", keep_recordings=False), 1),
        (lambda catalog, number: catalog.delete_enrollment("archive", "ann", number, erase=True), 1),
        (lambda catalog, _: catalog.merge_speakers("archive", "ann", "bob"), 2),
        (lambda catalog, _: catalog.delete_gallery("archive"), 0),
    ],
    ids=["recording", "speaker", "enrollment", "merge", "gallery"],
)
def test_an_erasure_that_met_a_deadlock_is_done_again(
    contended: Contended,
    bulk: BulkIngest,
    queue: ListQueue,
    catalog: Catalog,
    tmp_path: Path,
    erase: Callable[[Catalog, int], object],
    left: int,
) -> None:
    for number, name in enumerate(("ann", "bob")):
        write_archive(tmp_path / "in" / name, 1, first=number)
    job_id = submit(bulk, tmp_path / "in", speaker_from="parent")
    work_off(bulk, queue)
    contended.victims = 2
    erase(catalog, items_of(contended, job_id)["00000.wav"].recording_id or 0)
    assert contended.victims == 0
    assert counts(contended)["recordings"] == left


def test_a_job_is_stopped_and_taken_up_again_though_others_are_in_the_way(
    contended: Contended, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "broken.wav").write_bytes(b"no audio")
    job_id = submit(bulk, tmp_path / "in")
    work_off(bulk, queue)
    contended.victims = 2
    assert bulk.retry_failed(job_id) == 1
    contended.victims = 2
    bulk.cancel(job_id)
    assert (contended.victims, job_of(contended, job_id).state) == (0, JobState.CANCELED)


def test_planning_ends_though_others_are_in_the_way(
    contended: Contended, bulk: BulkIngest, queue: ListQueue, tmp_path: Path
) -> None:
    class Contending(FolderSource):
        """Its reader brings others into the way of what is written next."""

        def read(self, after: Cursor | None) -> Iterator[Listed]:
            contended.victims = 2
            return super().read(after)

    def plan(job_id: JobId, folder: Path) -> None:
        source = Contending(folder, parse_speaker_rule("none"))
        Planner(contended, JobSettings(), queue, lambda _: source).plan(job_id)

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    closed, failed = submit(bulk, tmp_path / "in"), submit(bulk, tmp_path / "gone")
    plan(closed, tmp_path / "in")
    plan(failed, tmp_path / "gone")
    assert contended.victims == 0
    assert job_of(contended, closed).finished_at is not None
    assert job_of(contended, failed).state == JobState.FAILED


@pytest.mark.postgres
def test_jobs_of_a_gallery_are_held_while_it_is_erased(contended: Contended, bulk: BulkIngest, tmp_path: Path) -> None:
    if contended.engine.dialect.name != "postgresql":
        pytest.skip("one writer at a time")
    job_id = submit(bulk, tmp_path)
    with contended.session_scope() as session:
        Jobs(session).lock_all(GalleryId(Galleries(session).by_name("archive").id))
        with contended.session_scope() as other:
            free = select(Job.id).where(Job.id == job_id).with_for_update(skip_locked=True)
            assert other.scalars(free).all() == []
