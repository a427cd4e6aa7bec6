"""What the threads that follow the record promise each gallery, whatever becomes of the others."""

import threading
import time
import weakref
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from indexer.db.changes import Changes
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.rows import GalleryHead, NewEncoder
from indexer.db.session import Database
from indexer.errors import CorruptArtifact, Unavailable
from indexer.index.follower import FeedWatch
from indexer.types import EncoderId, GalleryId
from tests.waiting import eventually


class Watched:
    """A gallery that is always behind, and counts what it is asked to do."""

    def __init__(self, gallery_id: GalleryId) -> None:
        self.gallery_id = gallery_id
        self.followed = self.refreshed = self.forsaken = self.kept = self.checked = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.corrupt = False
        self.undeletable = 0

    def look(self, head: GalleryHead) -> bool:
        return True

    def follow(self, head: GalleryHead) -> None:
        self.followed += 1
        assert self.may_go_on.wait(120)
        if self.corrupt:
            raise CorruptArtifact("a vector is damaged")

    def outdated(self) -> bool:
        return True

    def refresh(self) -> None:
        self.refreshed += 1
        assert self.may_go_on.wait(120)

    def untidy(self) -> bool:
        return True

    def keep(self) -> None:
        self.kept += 1
        assert self.may_go_on.wait(120)

    def check(self) -> None:
        self.checked += 1

    def forsake(self) -> None:
        self.forsaken += 1
        assert self.may_go_on.wait(120)
        if self.forsaken <= self.undeletable:
            raise Unavailable("cannot delete the index: Directory not empty")


@pytest.fixture
def watch(database: Database) -> Iterator[FeedWatch]:
    started = FeedWatch(database, poll_s=0.01)
    yield started
    started.close()


@pytest.fixture
def galleries(database: Database) -> list[GalleryId]:
    with database.session_scope() as session:
        encoder = Encoders(session).register(
            NewEncoder(EncoderId("0575cb64/legacy"), "ecapa", "speechbrain", "0" * 64, "legacy", 192)
        )
        return [GalleryId(Galleries(session).get_or_create(name, encoder).id) for name in ("one", "two")]


def test_a_gallery_that_takes_long_holds_up_no_other_and_is_begun_only_once(
    watch: FeedWatch, galleries: list[GalleryId]
) -> None:
    slow, quick = Watched(galleries[0]), Watched(galleries[1])
    slow.may_go_on.clear()
    watch.add(slow)
    eventually(lambda: slow.followed == slow.refreshed == slow.kept == 1)
    watch.add(quick)
    eventually(lambda: min(quick.followed, quick.refreshed, quick.kept) >= 3)
    assert slow.followed == slow.refreshed == slow.kept == 1
    slow.may_go_on.set()
    eventually(lambda: min(slow.followed, slow.refreshed, slow.kept) > 1)


def test_every_index_is_compared_with_the_record_now_and_then(database: Database, galleries: list[GalleryId]) -> None:
    watched = [Watched(number) for number in galleries]
    watch = FeedWatch(database, poll_s=0.01, check_s=0.05)
    try:
        for each in watched:
            watch.add(each)
        eventually(lambda: all(each.checked >= 3 for each in watched))
    finally:
        watch.close()


@pytest.fixture
def told(database: Database, galleries: list[GalleryId]) -> Iterator[Watched]:
    """A gallery whose watch asks once a minute, and must be told."""
    if database.engine.dialect.name != "postgresql":
        pytest.skip("SQLite tells of nothing and is asked instead")
    watched = Watched(galleries[0])
    watch = FeedWatch(database, poll_s=60)
    watch.add(watched)
    eventually(lambda: listeners(database) != [])
    yield watched
    watch.close()


def listeners(database: Database) -> list[int]:
    with database.engine.connect() as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        return list(connection.execute(text(query)).scalars())


def change(database: Database, watched: Watched) -> None:
    with database.session_scope() as session:
        Changes(session).vectors_added(watched.gallery_id, EncoderId("0575cb64/legacy"), [1])


@pytest.mark.postgres
def test_postgres_tells_of_a_commit_before_anybody_asks(database: Database, told: Watched) -> None:
    for _ in range(3):
        time.sleep(0.1)  # so that nothing of before is under way
        before = told.followed
        change(database, told)
        eventually(lambda before=before: told.followed > before)


@pytest.mark.postgres
def test_a_listener_whose_connection_is_lost_listens_again_and_looks_for_what_it_missed(
    database: Database, told: Watched
) -> None:
    (lost,) = listeners(database)
    time.sleep(0.1)
    before = told.followed
    with database.engine.connect() as connection:
        assert connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": lost}).scalar_one()
    change(database, told)
    eventually(lambda: told.followed > before)
    eventually(lambda: listeners(database) not in ([], [lost]))
    time.sleep(0.1)
    before = told.followed
    change(database, told)
    eventually(lambda: told.followed > before)


def test_a_deleted_gallery_whose_files_cannot_be_deleted_is_tried_again_and_holds_up_no_other(
    watch: FeedWatch, database: Database, galleries: list[GalleryId]
) -> None:
    deleted, other = Watched(galleries[0]), Watched(galleries[1])
    deleted.undeletable = 2
    deleted.may_go_on.clear()
    watch.add(deleted)
    watch.add(other)
    with database.session_scope() as session:
        Galleries(session).delete(deleted.gallery_id)
    eventually(lambda: deleted.forsaken == 1)
    before = other.followed
    eventually(lambda: other.followed > before)
    deleted.may_go_on.set()
    eventually(lambda: deleted.forsaken == 3)
    before = other.followed
    eventually(lambda: other.followed > before + 5)
    assert deleted.forsaken == 3  # and is let go once it is done


def test_what_is_let_go_of_is_asked_nothing_more_and_leaves_nothing_behind(
    watch: FeedWatch, galleries: list[GalleryId]
) -> None:
    left, other = Watched(galleries[0]), Watched(galleries[1])
    left.corrupt = True
    left.may_go_on.clear()
    watch.add(left)
    watch.add(other)
    eventually(lambda: left.followed == left.refreshed == left.kept == 1)
    watch.remove(left)
    left.may_go_on.set()  # what fails from here on is not remembered either
    before = other.followed
    eventually(lambda: other.followed > before + 5)
    assert left.followed == left.refreshed == left.kept == 1
    assert left.gallery_id not in watch._check_at
    assert [key for key in watch._trouble if key[1] == left.gallery_id] == []
    anew = Watched(left.gallery_id)
    watch.add(anew)
    watch.remove(left)  # takes away nobody else of the same gallery
    eventually(lambda: anew.followed > 1)


def test_what_is_let_go_of_is_held_by_no_thread_that_waits(watch: FeedWatch, galleries: list[GalleryId]) -> None:
    def come_and_go() -> "weakref.ref[Watched]":
        passing = Watched(galleries[0])
        watch.add(passing)
        eventually(lambda: min(passing.followed, passing.kept) > 1)
        watch.remove(passing)
        return weakref.ref(passing)

    held = come_and_go()
    eventually(lambda: held() is None)


def test_what_fails_again_and_again_is_tried_more_and_more_rarely(
    watch: FeedWatch, galleries: list[GalleryId], caplog: pytest.LogCaptureFixture
) -> None:
    sound, corrupt = Watched(galleries[0]), Watched(galleries[1])
    corrupt.corrupt = True
    watch.add(sound)
    watch.add(corrupt)
    eventually(lambda: sound.followed > 40)
    assert 2 <= corrupt.followed <= 12
    corrupt.corrupt = False
    eventually(lambda: corrupt.followed > 20)
    assert len([record for record in caplog.records if "could not follow" in record.message]) == 1
