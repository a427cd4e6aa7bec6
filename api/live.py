"""Galleries that stay open for weeks, in step with what every other process writes."""

import itertools
import logging
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

from api.comparison import Comparison
from api.dependencies import Services
from api.live_encoders import LiveEncoders
from api.live_side import each, open_sides
from api.voices import Voices
from indexer.db.galleries import Galleries, head_named, head_of
from indexer.db.rows import GalleryHead
from indexer.embedding.encoder_set import EncoderSet
from indexer.errors import NotFound, Unavailable, VoxdexError
from indexer.index import stores
from indexer.index.base import IndexInfo
from indexer.index.follower import POLL_S, FeedWatch
from indexer.index.gallery_index import GalleryIndex
from indexer.types import GalleryId

logger = logging.getLogger(__name__)

_NAMES_KNOWN = 1000
"""Names of galleries whose numbers are remembered."""

_NOBODY = GalleryId(0)

_OVERDUE_S = 4 * POLL_S
"""An index that was in step so recently is not behind: the record is asked that often."""


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """One index of an open gallery."""

    gallery_id: GalleryId
    gallery: str
    info: IndexInfo
    changes_behind: int
    lag_s: float


@dataclass(frozen=True, slots=True)
class GalleryLag:
    """How far an open gallery is behind the record."""

    gallery_id: GalleryId
    gallery: str
    vectors: int
    """Vectors in the index, under the gallery's own encoder."""
    changes_behind: int
    """Committed transactions whose vectors are not in the index yet."""
    lag_s: float
    """Seconds since the index was last known to be in step; 0 where it is."""
    drifted: int = 0
    """Vectors that the last comparison with the record found wrong, and that were repaired."""
    damaged: int = 0
    """Vectors that it found damaged in the record."""


class LiveGallery:
    """One open gallery: index and enrolled speakers under each of its encoders, and how far behind the record they are.

    Once left it takes no more questions, and what it holds is given back with the end of the last that it has.
    """

    def __init__(self, services: Services, head: GalleryHead, *, on_gone: Callable[["LiveGallery"], None]) -> None:
        started = time.monotonic()
        self.gallery_id = head.id
        self.encoder_ids = head.encoder_ids
        self.engine = head.engine
        self.sides = open_sides(services, head)
        self.gone = False
        self.deleted = False
        self._tickets = itertools.count()
        self._asking: set[int] = set()
        self._closing = threading.Lock()  # taken by whoever closes this, and never given back
        self._on_gone = on_gone
        self._settings = services.settings
        self._head = head
        self._in_step_at = started

    @property
    def head(self) -> GalleryHead:
        """What the gallery depends on, as it was last looked at."""
        return self._head

    def answers(self, head: GalleryHead) -> bool:
        """Tell whether this is of the gallery's encoders and engine as they are now."""
        return (head.encoder_ids, head.engine) == (self.encoder_ids, self.engine)

    def look(self, head: GalleryHead) -> bool:
        """Take note of where the record is, and tell whether the index is not there yet."""
        if self.gone:
            return False
        if not self.answers(head):
            self.leave()
            return False
        asked = time.monotonic()
        self._head = head
        if any(side.indexed.position != head.position.vectors for side in self.sides):
            return True
        self._in_step_at = asked
        return False

    def follow(self, head: GalleryHead) -> None:
        """Apply what was committed until now."""
        asked = time.monotonic()
        if self.look(head):
            each(self.sides, lambda side: side.indexed.follow())
            self._in_step_at = asked

    def outdated(self) -> bool:
        """Tell whether it is time to load again who is enrolled."""
        return not self.gone and any(side.enrolled.outdated(self._head) for side in self.sides)

    def refresh(self) -> None:
        """Load who is enrolled again, if that has changed."""
        if not self.gone:
            each(self.sides, lambda side: side.enrolled.refresh())

    def catch_up(self, head: GalleryHead) -> None:
        """Come into step with the record in every respect before returning."""
        self.follow(head)
        each(self.sides, lambda side: side.enrolled.require(head))

    def untidy(self) -> bool:
        """Tell at once whether there may be something to do for `keep`."""
        return not self.gone and any(side.indexed.untidy() for side in self.sides)

    def check(self) -> None:
        """Compare some vectors of the index with the record, and repair what differs."""
        if not self.gone:
            each(self.sides, lambda side: side.indexed.check())

    def keep(self, *, closing: bool = False) -> None:
        """Write index files if it is time to, or change over to newer ones."""
        if self.gone:
            return
        try:
            each(self.sides, lambda side: side.indexed.keep(closing=closing))
        finally:
            self._resign_if_gone()
        if self.deleted:  # Meanwhile: what was written came too late to be deleted.
            stores.drop_gallery(self._settings, self.gallery_id)

    def _resign_if_gone(self) -> None:
        """Leave the files to another keeper, where this was left while it wrote and became the keeper again."""
        if self.gone:
            self._resign()

    def _resign(self) -> None:
        each(self.sides, lambda side: side.indexed.resign())

    def lend(self, voices: Voices) -> bool:
        """Stay open for as long as somebody holds `voices`; tell whether it is not too late for that."""
        ticket = next(self._tickets)
        self._asking.add(ticket)  # before the look at `gone`: `leave` looks in the other order
        if self.gone:
            self._answered(ticket)
            return False
        weakref.finalize(voices, self._answered, ticket).atexit = False
        return True

    def leave(self) -> None:
        """Take no more questions: the next opens what is there then."""
        self.gone = True
        self._on_gone(self)
        self._resign()
        self._close_if_idle()

    def forsake(self) -> None:
        """Take no more questions and delete the files: the gallery was deleted."""
        self.deleted = True
        self.leave()
        stores.drop_gallery(self._settings, self.gallery_id)

    def close(self) -> None:
        """Give back memory and files; calls under way finish first."""
        self.gone = True
        self._closing.acquire(blocking=False)
        each(self.sides, lambda side: side.close())

    def _answered(self, ticket: int) -> None:
        # Whatever thread drops the last reference runs this, whatever locks it holds: so nothing here waits for one.
        self._asking.discard(ticket)
        if self.gone:
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        """Close this once nobody has a question, beside: loading who is enrolled may have to finish first."""
        if not self._asking and self._closing.acquire(blocking=False):
            threading.Thread(target=self.close, name="gallery-closer").start()

    def lag(self) -> GalleryLag:
        """Say how far behind the record this is."""
        first = self.sides[0].indexed
        behind = max(0, self._head.position.vectors - min(side.indexed.position for side in self.sides))
        since = time.monotonic() - self._in_step_at
        late = behind > 0 or since > _OVERDUE_S
        return GalleryLag(
            self.gallery_id,
            self._head.name,
            first.index.count,
            behind,
            since if late else 0.0,
            sum(side.indexed.drifted for side in self.sides),
            sum(side.indexed.damaged for side in self.sides),
        )


class LiveGalleries:
    """Every gallery that was asked for, open, and the encoders they need."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._guard = threading.Lock()
        self._open: dict[GalleryId, LiveGallery] = {}
        self._known: dict[str, GalleryId] = {}
        self._opening: dict[GalleryId, threading.Lock] = {}
        self._encoders = LiveEncoders(services)
        self._watch: FeedWatch | None = None
        self._closed = False

    def get(self, gallery: str) -> Voices:
        """Return what answers questions from a gallery, opened if it was not; cheap enough for every request.

        Raises
        ------
        NotFound
            If there is no such gallery.
        EncoderMismatch
            If the gallery's encoder cannot be had any more.
        """
        while True:
            voices, live = self._ask(gallery)
            if live.lend(voices):
                return voices

    def recall(self, gallery: str) -> Voices:
        """Return what `get` does, of a gallery that is open without asking the record whether it is still there.

        Each question asks the record itself, and raises `GalleryGone` or `EncoderChanged` where it is not: then ask
        again, by `get`. So a recording is heard in vain for a gallery that another process deleted a moment ago.
        """
        with self._guard:
            live = self._open.get(self._known.get(gallery, _NOBODY))
        if live is not None and not live.gone:
            voices = self._voices(live, live.head)
            if live.lend(voices):
                return voices
        return self.get(gallery)

    def _ask(self, gallery: str) -> tuple[Voices, LiveGallery]:
        self._require_open()
        head = head_named(self._services.record(), gallery)
        live, head = self._live(head)
        with self._guard:
            if len(self._known) >= _NAMES_KNOWN:
                self._known.clear()
            self._known[gallery] = head.id
        return self._voices(live, head), live

    def _voices(self, live: LiveGallery, head: GalleryHead) -> Voices:
        return Voices(
            [side.asked_with(*self._encoders.of_gallery(head, side.encoder_id)) for side in live.sides],
            self._services.settings,
            listening=lambda: self._services.listening,
            database=self._services.database,
            gallery=head.name,
            gallery_id=head.id,
        )

    def comparison(self, encoder: str | None = None) -> Comparison:
        """Prepare to compare recordings without a gallery, by an encoder's name or the setting's."""
        loaded, spec = self._encoders.named(encoder)
        return Comparison(EncoderSet(loaded), spec, self._services.settings, lambda: self._services.listening)

    def encoders_for(self, gallery_id: GalleryId) -> EncoderSet:
        """Return a gallery's encoders for ingest, whose work waits while probes wait.

        Raises
        ------
        NotFound
            If the gallery is gone.
        EncoderMismatch
            If an encoder of the gallery cannot be had any more.
        """
        head = self._head(gallery_id)
        found = (self._encoders.of_gallery(head, encoder_id)[0] for encoder_id in head.encoder_ids)
        return EncoderSet(*(self._encoders.background(encoder) for encoder in found))

    def catch_up(self, gallery_id: GalleryId) -> None:
        """Bring a gallery into step now, so that a caller finds what this process has just committed.

        Where the gallery is not open there is nothing to do. Files follow within a second or so.
        """
        with self._guard:
            live = self._open.get(gallery_id)
        if live is None or live.gone:
            return
        try:
            head = self._head(gallery_id)
        except NotFound:
            live.forsake()
        else:
            live.catch_up(head)

    def erased(self, gallery_id: GalleryId) -> None:
        """After an erasure was committed: come into step, and leave no copy of it in any file, soon or now.

        The files of an open gallery are written without it within a second or two, however many erasures there are;
        those of one that is not open are written here, unless another process keeps them.
        """
        with self._guard:
            opened = gallery_id in self._open
        if opened:
            self.catch_up(gallery_id)
        else:
            GalleryIndex.of(self._services.database, self._services.settings, gallery_id).scrub(wait=False)

    def dropped(self, gallery_id: GalleryId) -> None:
        """After a gallery was deleted: close it and delete its files."""
        with self._guard:
            live = self._open.get(gallery_id)
        if live is not None:
            live.forsake()
        else:
            stores.drop_gallery(self._services.settings, gallery_id)

    def lag(self) -> list[GalleryLag]:
        """Say how far behind the record each open gallery is."""
        with self._guard:
            return [live.lag() for live in self._open.values() if not live.gone]

    def indexes(self) -> list[OpenIndex]:
        """Say what the index of each open gallery is, under each of its encoders."""
        with self._guard:
            lives = [live for live in self._open.values() if not live.gone]
        return [
            OpenIndex(lag.gallery_id, lag.gallery, side.indexed.index.info(), lag.changes_behind, lag.lag_s)
            for live in lives
            for lag in (live.lag(),)
            for side in live.sides
        ]

    @property
    def probes_waiting(self) -> int:
        """Probes that wait for an encoder of this process."""
        return self._encoders.waiting

    def open_all(self) -> None:
        """Open every gallery, so that nobody waits for it; one that cannot be opened is logged and passed over."""
        with self._services.record().read_scope() as session:
            names = Galleries(session).names()
        for name in names:
            try:
                self.get(name)
            except VoxdexError as error:
                logger.warning("a gallery was not opened: %s", error.code, exc_info=error)

    def close(self) -> None:
        """Stop following, write what is not in the files yet, and end the encoders."""
        with self._guard:
            self._closed = True
            watch, self._watch = self._watch, None
            lives = list(self._open.values())
        if watch is not None:
            watch.close()
        self._encoders.close()
        for live in lives:
            try:
                live.keep(closing=True)
            except VoxdexError as error:
                logger.warning(
                    "gallery %d: files were not written at the end: %s", live.gallery_id, error.code, exc_info=error
                )
            live.close()

    def _head(self, gallery_id: GalleryId) -> GalleryHead:
        self._require_open()
        head = head_of(self._services.record(), gallery_id)
        if head is None:
            raise NotFound(f"no gallery with id {gallery_id}: it may have been deleted already")
        return head

    def _live(self, head: GalleryHead) -> tuple[LiveGallery, GalleryHead]:
        """Return the open gallery and its head; the first to ask opens it, others wait for that gallery alone."""
        with self._guard:
            self._require_open()
            live = self._open.get(head.id)
            opening = self._opening.setdefault(head.id, threading.Lock())
        if live is not None and live.answers(head):
            return live, head
        with opening:
            # Anew: whoever waited here may have asked before the gallery went to another encoder or engine.
            head = self._head(head.id)
            with self._guard:
                live = self._open.get(head.id)
            if live is not None:
                if live.answers(head):
                    return live, head
                live.leave()
            live = LiveGallery(self._services, head, on_gone=self._forget)
            try:
                with self._guard:
                    self._require_open()
                    self._open[head.id] = live
                    if self._watch is None:
                        self._watch = FeedWatch(self._services.database)
                    self._watch.add(live)
            except BaseException:
                live.close()
                raise
            return live, head

    def _forget(self, live: LiveGallery) -> None:
        with self._guard:
            if self._open.get(live.gallery_id) is live:
                del self._open[live.gallery_id]
            watch = self._watch
            if live.deleted:  # The watch lets it go once its files are deleted.
                self._opening.pop(live.gallery_id, None)
                return
        if watch is not None:
            watch.remove(live)

    def _require_open(self) -> None:
        if self._closed:
            raise Unavailable("this process is ending: try again, elsewhere or later")
