"""Keep open indexes in step with the record while other processes write, and keep their files tidy.

One thread asks the record how far each gallery has got, when Postgres tells of a commit and a few times a second in any
case, and hands what is new to others, so that no gallery waits for the long work of another (a comparison with the
whole record, loading who is enrolled, deleting files). One more has files written, soon after a deletion, because an
erased voice must not stay in them, and now and then after additions, so that the next start is quick; and it has some
vectors of each index compared with the record every few minutes.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from indexer.db.galleries import heads_of
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.errors import VoxdexError
from indexer.index.notifications import ChangeListener
from indexer.types import GalleryId

logger = logging.getLogger(__name__)

POLL_S = 0.25
"""How often the record is asked for changes, whether or not Postgres told of any."""

CHECK_S = 600.0
"""How often some vectors of an open index are compared with the record."""

_WORKERS = 8
"""Galleries that come into step at the same time."""

_WRITERS = 4
"""Galleries whose files are written, or which are compared with the record, at the same time."""

_LONGEST_PAUSE_S = 30.0
"""What fails again and again is tried as rarely as this: it may compare a whole gallery each time."""

_REPEAT_S = 60.0
"""The same trouble of the same gallery is logged as often as this."""


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

    def untidy(self) -> bool:
        """Tell at once whether there may be files to write, or newer ones to change over to."""
        ...

    def keep(self) -> None:
        """Write the files if it is time to, or change over to newer ones."""
        ...

    def check(self) -> None:
        """Compare some vectors with the record, and repair what differs."""
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
    check_s : float
        Seconds between two comparisons of an index with it.
    """

    def __init__(self, database: Database, *, poll_s: float = POLL_S, check_s: float = CHECK_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._check_s = check_s
        self._check_at: dict[GalleryId, float] = {}
        # Of its own: a thread that advances the process's disturbs whoever seeded that, as property tests do.
        self._dice = random.Random()
        self._heard = threading.Event()
        postgres = database.engine.dialect.name == "postgresql"
        self._listener = ChangeListener(database.engine, self._heard) if postgres else None
        self._guard = threading.Lock()
        self._followers: dict[GalleryId, Follower] = {}
        self._stop = threading.Event()
        self._busy: set[tuple[str, GalleryId]] = set()
        self._trouble: dict[tuple[str, GalleryId | None], _Trouble] = {}
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="index-follower")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="index-writer")
        self._threads = [
            threading.Thread(target=self._watch, name="index-watch", daemon=True),
            threading.Thread(target=self._tidy, name="index-keeper", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def add(self, follower: Follower) -> None:
        """Keep something in step from now on."""
        with self._guard:
            self._followers[follower.gallery_id] = follower
        self._heard.set()

    def remove(self, follower: Follower) -> None:
        """Let go of something; what is being done for it is finished, and no more is begun."""
        with self._guard:
            if self._followers.get(follower.gallery_id) is not follower:
                return
            del self._followers[follower.gallery_id]
            self._check_at.pop(follower.gallery_id, None)
            for key in [key for key in self._trouble if key[1] == follower.gallery_id]:
                del self._trouble[key]

    def poll(self) -> None:
        """Look at the record once, and have others bring into step what is not."""
        followers = self._all()
        if not followers:
            return
        heads = heads_of(self._database, [follower.gallery_id for follower in followers])
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
        self._heard.set()
        for thread in self._threads:
            thread.join()
        if self._listener is not None:
            self._listener.close()
        self._workers.shutdown(cancel_futures=True)
        self._writers.shutdown(cancel_futures=True)

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._heard.wait(self._poll_s)
            self._heard.clear()  # before the look: what is told of from here on is looked for again
            if not self._stop.is_set():
                self._guarded(None, "look at the record", self.poll)

    def _tidy(self) -> None:
        while not self._stop.wait(self._poll_s):
            self._tidy_all()

    def _tidy_all(self) -> None:
        # Of its own, for a thread that waits holds on to what its variables name, and to the files which that maps.
        for follower in self._all():
            self._guarded(follower.gallery_id, "look at the files", partial(self._tidy_one, follower))

    def _tidy_one(self, follower: Follower) -> None:
        self._start(follower, "write the files", partial(_keep_if_untidy, follower), self._writers)
        if self._is_check_due(follower):
            self._start(follower, "compare the index with the record", follower.check, self._writers)

    def _is_check_due(self, follower: Follower) -> bool:
        now = time.monotonic()
        with self._guard:
            if self._followers.get(follower.gallery_id) is not follower:
                return False
            # The first look comes at a moment of its own, so that many galleries are not compared all at once.
            at = self._check_at.setdefault(follower.gallery_id, now + self._dice.uniform(0, self._check_s))
            if now < at:
                return False
            self._check_at[follower.gallery_id] = now + self._check_s
            return True

    def _all(self) -> Sequence[Follower]:
        with self._guard:
            return list(self._followers.values())

    def _start(
        self, follower: Follower, what: str, work: Callable[[], None], pool: ThreadPoolExecutor | None = None
    ) -> None:
        """Have something done, unless it is being done."""
        key = (what, follower.gallery_id)
        with self._guard:
            if self._followers.get(follower.gallery_id) is not follower or key in self._busy or self._pauses(key):
                return
            self._busy.add(key)
        (pool or self._workers).submit(self._finish, key, work)

    def _finish(self, key: tuple[str, GalleryId], work: Callable[[], None]) -> None:
        try:
            self._guarded(key[1], key[0], work)
        finally:
            with self._guard:
                self._busy.discard(key)

    def _part(self, follower: Follower) -> None:
        """Let a follower go, once its files are deleted: until then it is tried again."""
        follower.forsake()
        self.remove(follower)

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
            if key[1] is not None and key[1] not in self._followers:
                return False  # it was let go meanwhile
            before = self._trouble.get(key)
            pause_s = self._poll_s if before is None else min(2 * before.pause_s, _LONGEST_PAUSE_S)
            quiet = before is not None and now - before.logged_at < _REPEAT_S
            logged_at = before.logged_at if before is not None and quiet else now
            self._trouble[key] = _Trouble(now + pause_s, pause_s, logged_at)
        return not quiet


def _keep_if_untidy(follower: Follower) -> None:
    # Asked here and not by the thread that asks all of them: an engine on the network may be slow to say.
    if follower.untidy():
        follower.keep()
