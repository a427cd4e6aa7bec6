"""Keep open indexes in step with the record while other processes write, and keep their files tidy.

The follower asks the record a few times a second how far each gallery has got and applies what is new. What takes
longer than a change may wait has threads of its own: one loads what answers need beside vectors (who is enrolled), one
writes files, soon after a deletion, because an erased voice must not stay in them, and now and then after additions, so
that the next start is quick.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from indexer.db.repositories import Galleries
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.errors import VoxdexError
from indexer.index.base import VectorIndex
from indexer.index.feed import Adjustment, IndexFeed
from indexer.types import GalleryId

logger = logging.getLogger(__name__)

POLL_S = 0.25
"""How often the record is asked for changes."""

ERASURE_DELAY_S = 1.0
"""How long deletions are collected before the files are written without them."""

SAVE_INTERVAL_S = 60.0
"""Shortest time between two snapshots that are written because of additions."""

SAVE_SHARE = 0.1
"""Share of the vectors that must be new before a snapshot is worth writing."""

SAVE_AT_LEAST = 1000
"""Vectors that must be new before a snapshot is worth writing; fewer are read from the record in no time."""

_WRITING_SHARE = 0.2
"""Most of the time that rewriting the files of an index takes, when deletions never end."""

_REPEAT_S = 60.0
"""The same trouble of the same gallery is logged as often as this."""


class FollowedIndex:
    """An open index of one gallery, and what of it is not in its files yet."""

    def __init__(self, feed: IndexFeed, gallery_id: GalleryId) -> None:
        self.gallery_id = gallery_id
        self.index: VectorIndex = feed.open()
        self._feed = feed
        self._guard = threading.Lock()
        self._erased_at: float | None = None
        self._unsaved = 0
        self._saved_at = time.monotonic()
        self._write_s = 0.0

    @property
    def position(self) -> int:
        """Number of the last change that is applied."""
        return self._feed.position

    def follow(self) -> None:
        """Apply what was committed until now; see `IndexFeed.follow`."""
        self._feed.follow(self.index, self._note)

    def _note(self, adjustment: Adjustment) -> None:
        with self._guard:
            self._unsaved += adjustment.added + adjustment.removed + adjustment.replaced
            if (adjustment.removed or adjustment.replaced) and self._erased_at is None:
                self._erased_at = time.monotonic()

    def keep(self, *, closing: bool = False) -> None:
        """Write the files if it is time to.

        Raises
        ------
        Unavailable
            If a file cannot be written, or SQLite's log not be emptied; the next call tries again.
        """
        now = time.monotonic()
        with self._guard:
            erased_at, unsaved = self._erased_at, self._unsaved
            pause = max(ERASURE_DELAY_S, self._write_s / _WRITING_SHARE)
            erase = erased_at is not None and (
                closing or (now - erased_at >= ERASURE_DELAY_S and now - self._saved_at >= pause)
            )
            enough = unsaved >= max(SAVE_AT_LEAST, SAVE_SHARE * self.index.count)
            save = (closing and unsaved > 0) or (enough and now - self._saved_at >= SAVE_INTERVAL_S)
            if not (erase or save):
                return
            # Taken back before the work: what comes in meanwhile counts for the next time.
            self._erased_at, self._unsaved = None, 0
        try:
            if erase:
                self._feed.erase_files(self.index)
            else:
                self._feed.save_copy(self.index)
        except BaseException:
            with self._guard:
                self._erased_at = erased_at if self._erased_at is None else self._erased_at
                self._unsaved += unsaved
            raise
        finally:
            self._saved_at = time.monotonic()
            self._write_s = self._saved_at - now


class Follower(Protocol):
    """Something of a gallery that moves with the record."""

    gallery_id: GalleryId

    def follow(self, head: GalleryHead) -> None:
        """Come into step with the record; `head` says where it is."""
        ...

    def refresh(self) -> None:
        """Load again what else of the record is kept in memory, if it has changed."""
        ...

    def keep(self) -> None:
        """Write the files if it is time to."""
        ...

    def forsake(self) -> None:
        """Stop: the gallery is gone, or is of another encoder now."""
        ...


class FeedWatch:
    """The threads; add followers at any time.

    Parameters
    ----------
    database : Database
        The record.
    poll_s : float
        Seconds between two looks at it.
    """

    def __init__(self, database: Database, *, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._guard = threading.Lock()
        self._followers: dict[GalleryId, Follower] = {}
        self._stop = threading.Event()
        self._complained: dict[tuple[str, GalleryId | None], float] = {}
        self._threads = [
            threading.Thread(target=self._every, args=(work,), name=name, daemon=True)
            for name, work in (
                ("index-follower", self.poll),
                ("index-refresher", self._refresh),
                ("index-keeper", self._keep),
            )
        ]
        for thread in self._threads:
            thread.start()

    def add(self, follower: Follower) -> None:
        """Keep something in step from now on."""
        with self._guard:
            self._followers[follower.gallery_id] = follower

    def poll(self) -> None:
        """Look at the record once, and bring into step what is not; trouble with one gallery stops no other."""
        followers = self._all()
        if not followers:
            return
        with self._database.read_scope() as session:
            heads = Galleries(session).heads([follower.gallery_id for follower in followers])
        for follower in followers:
            head = heads.get(follower.gallery_id)
            if head is None:
                self._remove(follower)
                self._guarded(follower.gallery_id, "close", follower.forsake)
            else:
                self._guarded(follower.gallery_id, "follow", partial(follower.follow, head))

    def close(self) -> None:
        """End the threads; what they are doing is finished first."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _every(self, work: Callable[[], None]) -> None:
        while not self._stop.wait(self._poll_s):
            self._guarded(None, "look at the record", work)

    def _refresh(self) -> None:
        for follower in self._all():
            self._guarded(follower.gallery_id, "load who is enrolled", follower.refresh)

    def _keep(self) -> None:
        for follower in self._all():
            self._guarded(follower.gallery_id, "write the files", follower.keep)

    def _all(self) -> Sequence[Follower]:
        with self._guard:
            return list(self._followers.values())

    def _remove(self, follower: Follower) -> None:
        with self._guard:
            if self._followers.get(follower.gallery_id) is follower:
                del self._followers[follower.gallery_id]

    def _guarded(self, gallery_id: GalleryId | None, what: str, work: Callable[[], None]) -> None:
        """Do something that may fail today and work tomorrow; these threads run as long as the process does."""
        try:
            work()
        except Exception as error:
            now = time.monotonic()
            if now - self._complained.get((what, gallery_id), -_REPEAT_S) < _REPEAT_S:
                return
            self._complained[what, gallery_id] = now
            logger.warning(
                "gallery %s: could not %s: %s; trying again",
                "-" if gallery_id is None else gallery_id,
                what,
                error.code if isinstance(error, VoxdexError) else type(error).__name__,
                exc_info=error,
            )
        else:
            self._complained.pop((what, gallery_id), None)
