"""What the threads that follow the record promise each gallery, whatever becomes of the others."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from indexer.db.repositories import Encoders, Galleries
from indexer.db.rows import GalleryHead, NewEncoder
from indexer.db.session import Database
from indexer.errors import CorruptArtifact, Unavailable
from indexer.index.follower import FeedWatch
from indexer.types import EncoderId, GalleryId


class Watched:
    """A gallery that is always behind, and counts what it is asked to do."""

    def __init__(self, gallery_id: GalleryId) -> None:
        self.gallery_id = gallery_id
        self.followed = self.refreshed = self.forsaken = 0
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.corrupt = False
        self.undeletable = 0

    def look(self, head: GalleryHead) -> bool:
        return True

    def follow(self, head: GalleryHead) -> None:
        self.followed += 1
        assert self.may_go_on.wait(10)
        if self.corrupt:
            raise CorruptArtifact("a vector is damaged")

    def outdated(self) -> bool:
        return True

    def refresh(self) -> None:
        self.refreshed += 1
        assert self.may_go_on.wait(10)

    def keep(self) -> None:
        pass

    def forsake(self) -> None:
        self.forsaken += 1
        assert self.may_go_on.wait(10)
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


def soon(happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + 5
    while not happened():
        assert time.monotonic() < limit, "it did not happen in time"
        time.sleep(0.005)


def test_a_gallery_that_takes_long_holds_up_no_other_and_is_begun_only_once(
    watch: FeedWatch, galleries: list[GalleryId]
) -> None:
    slow, quick = Watched(galleries[0]), Watched(galleries[1])
    slow.may_go_on.clear()
    watch.add(slow)
    soon(lambda: slow.followed == slow.refreshed == 1)
    watch.add(quick)
    soon(lambda: quick.followed >= 3 and quick.refreshed >= 3)
    assert slow.followed == slow.refreshed == 1
    slow.may_go_on.set()
    soon(lambda: slow.followed > 1 and slow.refreshed > 1)


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
    soon(lambda: deleted.forsaken == 1)
    before = other.followed
    soon(lambda: other.followed > before)
    deleted.may_go_on.set()
    soon(lambda: deleted.forsaken == 3)
    before = other.followed
    soon(lambda: other.followed > before + 5)
    assert deleted.forsaken == 3  # and is let go once it is done


def test_what_fails_again_and_again_is_tried_more_and_more_rarely(
    watch: FeedWatch, galleries: list[GalleryId], caplog: pytest.LogCaptureFixture
) -> None:
    sound, corrupt = Watched(galleries[0]), Watched(galleries[1])
    corrupt.corrupt = True
    watch.add(sound)
    watch.add(corrupt)
    soon(lambda: sound.followed > 40)
    assert 2 <= corrupt.followed <= 12
    corrupt.corrupt = False
    soon(lambda: corrupt.followed > 20)
    assert len([record for record in caplog.records if "could not follow" in record.message]) == 1
