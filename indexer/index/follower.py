"""Keep open indexes in step with the record while other processes write, and keep their files tidy.

One thread asks the record a few times a second how far each gallery has got, and hands what is new to others, so that
no gallery waits for the long work of another (a comparison with the whole record, loading who is enrolled, deleting
files). One more writes files, soon after a deletion, because an erased voice must not stay in them, and now and then
after additions, so that the next start is quick.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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

_WORKERS = 8
"""Galleries that come into step at the same time."""

_LONGEST_PAUSE_S = 30.0
"""What fails again and again is tried as rarely as this: it may compare a whole gallery each time."""

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

    def look(self, head: GalleryHead) -> bool:
        """Take note of where the record is, and tell at once whether there is something to follow."""
        ...

    def follow(self, head: GalleryHead) -> None:
        """Come into step with the record; `head` says where it is."""
        ...

    def outdated(self) -> bool:
        """Tell at once whether it is time to refresh."""
        ...

    def refresh(self) -> None:
        """Load again what else of the record is kept in memory."""
        ...

    def keep(self) -> None:
        """Write the files if it is time to."""
        ...

    def forsake(self) -> None:
        """Stop: the gallery is gone, or is of another encoder now."""
        ...


@dataclass
class _Trouble:
    """Work on a gallery that failed when it was last tried."""

    again_at: float
    pause_s: float
    logged_at: float


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
        self._busy: set[tuple[str, GalleryId]] = set()
        self._trouble: dict[tuple[str, GalleryId | None], _Trouble] = {}
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="index-follower")
        self._threads = [
            threading.Thread(target=self._every, args=(work,), name=name, daemon=True)
            for name, work in (("index-watch", self.poll), ("index-keeper", self._keep))
        ]
        for thread in self._threads:
            thread.start()

    def add(self, follower: Follower) -> None:
        """Keep something in step from now on."""
        with self._guard:
            self._followers[follower.gallery_id] = follower

    def poll(self) -> None:
        """Look at the record once, and have others bring into step what is not."""
        followers = self._all()
        if not followers:
            return
        with self._database.read_scope() as session:
            heads = Galleries(session).heads([follower.gallery_id for follower in followers])
        for follower in followers:
            head = heads.get(follower.gallery_id)
            if head is None:
                self._start(follower, "close", partial(self._part, follower))
                continue
            if follower.look(head):
                self._start(follower, "follow", partial(follower.follow, head))
            if follower.outdated():
                self._start(follower, "load who is enrolled", follower.refresh)

    def close(self) -> None:
        """End the threads; what they are doing is finished first."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._workers.shutdown(cancel_futures=True)

    def _every(self, work: Callable[[], None]) -> None:
        while not self._stop.wait(self._poll_s):
            self._guarded(None, "look at the record", work)

    def _keep(self) -> None:
        for follower in self._all():
            with self._guard:
                pauses = self._pauses(("write the files", follower.gallery_id))
            if not pauses:
                self._guarded(follower.gallery_id, "write the files", follower.keep)

    def _all(self) -> Sequence[Follower]:
        with self._guard:
            return list(self._followers.values())

    def _start(self, follower: Follower, what: str, work: Callable[[], None]) -> None:
        """Have something done, unless it is being done."""
        key = (what, follower.gallery_id)
        with self._guard:
            if key in self._busy or self._pauses(key):
                return
            self._busy.add(key)
        self._workers.submit(self._finish, key, work)

    def _finish(self, key: tuple[str, GalleryId], work: Callable[[], None]) -> None:
        try:
            self._guarded(key[1], key[0], work)
        finally:
            with self._guard:
                self._busy.discard(key)

    def _part(self, follower: Follower) -> None:
        """Let a follower go, once its files are deleted: until then it is tried again."""
        follower.forsake()
        with self._guard:
            if self._followers.get(follower.gallery_id) is follower:
                del self._followers[follower.gallery_id]
            for key in [key for key in self._trouble if key[1] == follower.gallery_id]:
                del self._trouble[key]

    def _pauses(self, key: tuple[str, GalleryId | None]) -> bool:
        trouble = self._trouble.get(key)
        return trouble is not None and time.monotonic() < trouble.again_at

    def _guarded(self, gallery_id: GalleryId | None, what: str, work: Callable[[], None]) -> None:
        """Do something that may fail today and work tomorrow; these threads run as long as the process does."""
        key = (what, gallery_id)
        try:
            work()
        except Exception as error:
            if self._is_to_be_logged(key):
                logger.warning(
                    "gallery %s: could not %s: %s; trying again",
                    "-" if gallery_id is None else gallery_id,
                    what,
                    error.code if isinstance(error, VoxdexError) else type(error).__name__,
                    exc_info=error,
                )
        else:
            with self._guard:
                self._trouble.pop(key, None)

    def _is_to_be_logged(self, key: tuple[str, GalleryId | None]) -> bool:
        """Note that something failed, which is not tried again at once."""
        now = time.monotonic()
        with self._guard:
            before = self._trouble.get(key)
            pause_s = self._poll_s if before is None else min(2 * before.pause_s, _LONGEST_PAUSE_S)
            quiet = before is not None and now - before.logged_at < _REPEAT_S
            logged_at = before.logged_at if before is not None and quiet else now
            self._trouble[key] = _Trouble(now + pause_s, pause_s, logged_at)
        return not quiet
