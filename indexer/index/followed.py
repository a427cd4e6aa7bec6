"""An index that stays open: in step with the record, kept on disk, compared now and then, changed for a newer one."""

import logging
import threading
import time
from contextlib import ExitStack
from dataclasses import replace

from indexer.errors import Unavailable
from indexer.index.adjustment import Adjustment, Opened
from indexer.index.base import Tended, VectorIndex
from indexer.index.feed import IndexFeed
from indexer.index.gallery_index import SAVE_AT_LEAST, SAVE_SHARE, GalleryIndex, is_worth_saving
from indexer.index.replaceable import ReplaceableIndex
from indexer.observability import INDEX_COMPARED, INDEX_DRIFT
from indexer.types import EncoderId

logger = logging.getLogger(__name__)

ERASURE_DELAY_S = 1.0
"""How long deletions are collected before the files are written without them."""

SAVE_INTERVAL_S = 60.0
"""Shortest time between two snapshots that are written because of additions."""

_WRITING_SHARE = 0.2
"""Most of the time that rewriting the files of an index takes, when deletions never end."""

_SCRUB = "scrub"
"""Why there is something to do where the files of the index itself are as they should be."""


class FollowedIndex:
    """An open index of one gallery, and what of it is not in its files yet.

    Of the processes that have it open one is its keeper, and writes; see `Keeper`. When something was written by
    another process (its keeper, or `voxdex index rebuild`), this one changes over to that: so a voice that was erased
    leaves the files it maps as well.
    """

    def __init__(self, kept: GalleryIndex, encoder_id: EncoderId) -> None:
        self.gallery_id = kept.gallery_id
        self._kept = kept
        self._encoder_id = encoder_id
        self._keeper = kept.keeper(encoder_id)
        # Held while what is behind `index` changes, or is changed for another.
        self._following = threading.Lock()
        self._guard = threading.Lock()
        # Since when something is to go from the files of this index, and from those of other encoders and the log.
        self._erased_at: float | None = None
        self._unscrubbed_at: float | None = None
        self._unsaved = 0
        self._saved_at = self._scrubbed_at = time.monotonic()
        self._write_s = 0.0
        self._drifted = self._damaged = 0
        self._feed = kept.feed(encoder_id)
        opened = self._feed.open()
        self._generation = opened.generation
        self._take_note_of(opened)
        self.index = ReplaceableIndex(opened.index)
        self._saved_training = _training_of(opened.index)
        self._repaired: str | None = None
        self._begin()

    def _begin(self) -> None:
        """Be the keeper from the start if nobody is, so that commands leave the files to whoever runs on."""
        try:
            if self._keeper.elected():
                self._keep(urgent=True)
        except Unavailable as error:
            logger.warning("gallery %d: the index answers and was not saved: %s", self.gallery_id, error.code)

    @property
    def position(self) -> int:
        """Number of the last change that is applied."""
        return self._feed.position

    @property
    def drifted(self) -> int:
        """Vectors that the last look found to differ from the record; they were repaired then."""
        return self._drifted

    @property
    def damaged(self) -> int:
        """Vectors that the last look found damaged in the record; no index can hold them."""
        return self._damaged

    def follow(self) -> None:
        """Apply what was committed until now; see `IndexFeed.follow`."""
        with self._following, self.index.lent() as index:
            self._feed.follow(index, self._note)

    def _note(self, adjustment: Adjustment) -> None:
        with self._guard:
            self._unsaved += adjustment.added + adjustment.removed + adjustment.replaced
            now = time.monotonic()
            if adjustment.erases and self._erased_at is None:
                self._erased_at = now
            if (adjustment.erases or adjustment.elsewhere) and self._unscrubbed_at is None:
                self._unscrubbed_at = now

    def _take_note_of(self, opened: Opened) -> None:
        """Count from here on what is not in the files, which an index was just loaded from."""
        with self._guard:
            self._unsaved, self._erased_at = 0, None
        self._note(opened.adjustment)
        try:
            tidied = self._kept.tidied(self._encoder_id)  # not so where their writer was killed
            others = self._kept.others_tidied(self._encoder_id)
        except Unavailable as error:
            logger.warning("gallery %d: nobody knows if its files are tidy: %s", self.gallery_id, error.code)
            tidied = others = False
        self._note(Adjustment(replaced=int(not tidied), elsewhere=int(not others)))
        if opened.problem is not None:  # a damaged file is of no further use
            self._note(Adjustment(replaced=1))

    def untidy(self) -> bool:
        """Tell at once whether there may be something to do for `keep`."""
        return self._is_replaced() or self._damage() is not None or self._due(urgent=False) is not None

    def _is_replaced(self) -> bool:
        kept = self._kept.generation(self._encoder_id)
        return kept not in {0, self._generation}

    def _damage(self) -> str | None:
        """Say what is wrong with the files that are searched, unless the index was repaired of it already."""
        with self.index.lent() as index:
            damage = index.damaged if isinstance(index, Tended) else None
        return None if damage == self._repaired else damage

    def _due(self, *, urgent: bool) -> str | None:
        """Say why the files are to be written now, if they are."""
        now = time.monotonic()
        with self._guard:
            pause = max(ERASURE_DELAY_S, self._write_s / _WRITING_SHARE)
            erased_at = self._erased_at
            if erased_at is not None and (
                urgent or (now - erased_at >= ERASURE_DELAY_S and now - self._saved_at >= pause)
            ):
                return "erasure"
            unscrubbed_at = self._unscrubbed_at
            if erased_at is None and unscrubbed_at is not None:
                waited = now - max(unscrubbed_at, self._scrubbed_at)
                if urgent or waited >= ERASURE_DELAY_S:
                    return _SCRUB
            enough = self._unsaved >= max(SAVE_AT_LEAST, SAVE_SHARE * self.index.count)
            worth = urgent and is_worth_saving(self._unsaved, self.index.count)
            if worth or (enough and now - self._saved_at >= SAVE_INTERVAL_S):
                return "addition"
        with self.index.lent() as index:
            # Else every process would have to train again when it starts.
            return "training" if _training_of(index) != self._saved_training else None

    def keep(self, *, closing: bool = False) -> None:
        """Change over to what another process wrote, or write the files if it is time and this is their keeper.

        Raises
        ------
        Unavailable
            If a file cannot be written, or SQLite's log not be emptied; the next call tries again.
        """
        if self._is_replaced():
            self._change_over()
        if (damage := self._damage()) is not None:
            logger.error("gallery %d: its index files are damaged under it; repairing the index", self.gallery_id)
            self.repair()
            self._note(Adjustment(replaced=1))  # the files are to be written anew, whoever keeps them
            self._repaired = damage
        self._keep(urgent=closing)

    def _keep(self, *, urgent: bool) -> None:
        reason = self._due(urgent=urgent)
        if reason is None:
            return
        if not self._keeper.elected():
            if reason == _SCRUB:
                self._leave_to_keeper()
            return
        if reason != _SCRUB:
            self._save()
        self._scrub()

    def _leave_to_keeper(self) -> None:
        """Look until it has done its work, for it may be killed before, and then this one is elected."""
        with self._guard:
            unscrubbed_at, self._unscrubbed_at = self._unscrubbed_at, None
            self._scrubbed_at = time.monotonic()
        tidied = False
        try:
            tidied = self._kept.others_tidied(self._encoder_id)
        finally:
            with self._guard:
                self._unscrubbed_at = self._unscrubbed_at if tidied else unscrubbed_at

    def _save(self) -> None:
        """Write the files, and leave nothing of what they were where something had to go, whyever they are written."""
        with self._guard:
            # Taken back before the work: what comes in meanwhile counts for the next time.
            erased_at, unsaved = self._erased_at, self._unsaved
            self._erased_at, self._unsaved = None, 0
        started = time.monotonic()
        try:
            self._write(keep_previous=erased_at is None)
        except BaseException:
            with self._guard:
                self._erased_at = self._erased_at if erased_at is None else erased_at
                self._unsaved += unsaved
            raise
        finally:
            self._saved_at = time.monotonic()
            self._write_s = self._saved_at - started

    def _scrub(self) -> None:
        """After an erasure: leave no copy under other encoders either, nor in the log; the files here are done."""
        with self._guard:
            unscrubbed_at, self._unscrubbed_at = self._unscrubbed_at, None
        if unscrubbed_at is None:
            return
        try:
            self._kept.scrub(besides=self._encoder_id, wait=False)
        except BaseException:
            with self._guard:
                self._unscrubbed_at = unscrubbed_at
            raise
        finally:
            self._scrubbed_at = time.monotonic()

    def _write(self, *, keep_previous: bool) -> None:
        with ExitStack() as lent:
            with self._following:
                index, feed = lent.enter_context(self.index.lent()), self._feed
                expected, training = self._generation + 1, _training_of(index)
                save = feed.begin_save(index)
            generation = save.write(keep_previous=keep_previous)
            with self._following:
                self._generation = generation
                if self._feed is not feed:
                    # Another index answers by now, which no file is of; what was just written may be damaged.
                    self._note(Adjustment(replaced=1))
                    return
                self._saved_training = training
                if generation > expected > 1:
                    # Somebody had the index made anew meanwhile, and what was just written has taken its place.
                    logger.warning("gallery %d: a rebuilt index came while this one was written", self.gallery_id)
                    self._feed.compare(index, self._note, deep=True)

    def _change_over(self) -> None:
        """Open what is kept now, beside the index that answers, and put it in its place."""
        feed = self._kept.feed(self._encoder_id)
        opened = feed.open()
        self._put_in_place(feed, opened)
        logger.info("gallery %d: changed over to generation %d of its index", self.gallery_id, opened.generation)

    def _put_in_place(self, feed: IndexFeed, opened: Opened) -> None:
        """Answer from another index, in step with the record like the one before."""
        later: list[Adjustment] = []
        try:
            with self._following:
                feed.follow(opened.index, later.append)
                self._feed, self._generation = feed, opened.generation
                self.index.replace(opened.index)
                self._take_note_of(opened)
                self._saved_training = _training_of(opened.index)
                for adjustment in later:
                    self._note(adjustment)
        except BaseException:
            opened.index.close()
            raise

    def check(self) -> None:
        """Compare some vectors with the record, and repair the index if one differs."""
        with self._following, self.index.lent() as index:
            self._feed.follow(index, self._note)  # compares all where the record was put back in time
            sample = self._feed.sample(index, self._note)
        INDEX_COMPARED.inc(sample.compared)
        self._drifted, self._damaged = len(sample.drifted), len(sample.damaged)
        if sample.damaged:
            logger.error(
                "gallery %d: %d vectors are damaged in the record and not searched (first: embedding %d): run "
                "`voxdex index check`, delete their recordings and ingest them again",
                self.gallery_id,
                len(sample.damaged),
                sample.damaged[0],
            )
        if sample.drifted:
            INDEX_DRIFT.inc(len(sample.drifted))
            logger.error(
                "gallery %d: of %d vectors that were compared %d differ from the record (first: embedding %d); "
                "repairing the index",
                self.gallery_id,
                sample.compared,
                len(sample.drifted),
                sample.drifted[0],
            )
            self.repair()

    def repair(self) -> None:
        """Make the index equal to the record, whatever is wrong with it; it answers meanwhile."""
        try:
            with self._following, self.index.lent() as index:
                self._feed.compare(index, self._note, deep=True)
        except Unavailable as error:
            logger.warning(
                "gallery %d: the index cannot be repaired (%s) and is built anew", self.gallery_id, error.code
            )
            feed = self._kept.feed(self._encoder_id)
            opened = feed.build()
            # What was written of the other one meanwhile is nothing to change over to.
            self._put_in_place(feed, replace(opened, generation=self._kept.generation(self._encoder_id)))
            self._note(Adjustment(replaced=1))

    def resign(self) -> None:
        """Leave the files to another keeper."""
        self._keeper.resign()

    def close(self) -> None:
        """Close the index, and leave its files to another keeper."""
        self.index.close()
        self.resign()


def _training_of(index: VectorIndex) -> str | int | float | None:
    """Tell one training of an index from another."""
    return index.info().details.get("trained_at_count") if isinstance(index, Tended) else None
