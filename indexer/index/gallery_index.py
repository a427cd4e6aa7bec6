"""The indexes of one gallery, one for each encoder: opened, checked, built anew and kept free of what was erased."""

import logging
import time
from dataclasses import dataclass

from indexer.db.changes import Changes
from indexer.db.galleries import Galleries
from indexer.db.session import Database
from indexer.errors import Unavailable
from indexer.index import stores
from indexer.index.base import IndexStore, Tended, VectorIndex
from indexer.index.drift import CheckReport
from indexer.index.feed import IndexFeed, settle
from indexer.index.keeper import Keeper
from indexer.index.snapshots import index_folder, remove_folder
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId

logger = logging.getLogger(__name__)

SMALL = 50_000
"""Vectors up to which an index is saved whatever little is new: 40 MB."""

SAVE_SHARE = 0.1
"""Share of a larger index that must be new before it is worth saving."""

SAVE_AT_LEAST = 1000
"""Vectors that must be new before a process that runs on saves; fewer are read from the record in no time."""

KEEPER_WAIT_S = 60.0
"""Longest wait for another process to take an erased voice out of the files that it keeps."""

_ASK_S = 0.1


def is_worth_saving(unsaved: int, count: int) -> bool:
    """Tell whether a process that begins or ends should save an index of so many vectors, so many of them new."""
    return unsaved > 0 and (count <= SMALL or unsaved >= SAVE_SHARE * count)


@dataclass(frozen=True)
class GalleryIndex:
    """Where the indexes of one gallery are kept."""

    database: Database
    settings: Settings
    gallery_id: GalleryId
    engine: str | None = None
    """What the gallery was migrated to; None: the setting's engine."""

    @classmethod
    def of(cls, database: Database, settings: Settings, gallery_id: GalleryId) -> "GalleryIndex":
        """Look up the gallery's engine; one that is gone has none of its own."""
        with database.read_scope() as session:
            head = Galleries(session).heads([gallery_id]).get(gallery_id)
        return cls(database, settings, gallery_id, None if head is None else head.engine)

    def feed(self, encoder_id: EncoderId) -> IndexFeed:
        """Make a way from the record to the index of an encoder."""
        if stores.is_in_milvus(self.settings, self.engine):
            stores.clear_files(self.settings, self.gallery_id)
        store = stores.open_store(self.settings, self.gallery_id, encoder_id, self.engine)
        return IndexFeed(self.database, store, self.gallery_id, encoder_id)

    def generation(self, encoder_id: EncoderId) -> int:
        """Return the number of the newest index that is kept, without opening it."""
        return stores.open_store(self.settings, self.gallery_id, encoder_id, self.engine).generation()

    def keeper(self, encoder_id: EncoderId) -> Keeper:
        """Make a candidate for writing the files of an encoder."""
        return Keeper(index_folder(self.settings.home, self.gallery_id, encoder_id))

    def open(self, encoder_id: EncoderId) -> VectorIndex:
        """Return the index, in step with the record at this moment; see `IndexFeed.open`.

        What was changed is saved, if that is worth while and no other process keeps the files. If it fails the index
        still answers, and the next start repeats the work.
        """
        feed = self.feed(encoder_id)
        opened = feed.open()
        change = opened.adjustment
        untrained = isinstance(opened.index, Tended) and opened.index.lacks_codes
        worth = untrained or is_worth_saving(change.added, opened.index.count)
        if change.erases or opened.problem is not None or worth:
            keeper = self.keeper(encoder_id)
            try:
                if keeper.elected():
                    if untrained:
                        logger.warning(
                            "gallery %d: its index is compressed once, and kept so that the next start is quick: "
                            "training on %d vectors",
                            self.gallery_id,
                            opened.index.count,
                        )
                    settle(opened.index)
                    # What had to go from the index must go from its files, and a damaged one is of no further use.
                    feed.save(opened.index, keep_previous=opened.problem is None and not change.erases)
            except Unavailable as error:
                logger.warning("gallery %d: the index answers and was not saved: %s", self.gallery_id, error.code)
            finally:
                keeper.resign()
        try:
            self.tidied(encoder_id)
        except Unavailable as error:
            logger.warning("gallery %d: older index files were not deleted: %s", self.gallery_id, error.code)
        return opened.index

    def check(self, encoder_id: EncoderId) -> CheckReport:
        """Compare what is kept with the record; see `IndexFeed.check_kept`."""
        return self.feed(encoder_id).check_kept()

    def rebuild(self, encoder_id: EncoderId) -> VectorIndex:
        """Build the index from the record alone and keep it; processes that search change over to it by themselves.

        Raises
        ------
        Unavailable
            If the files cannot be written.
        """
        feed = self.feed(encoder_id)
        opened = feed.build()
        keeper = self.keeper(encoder_id)
        try:
            keeper.elected()  # If nobody else is: then who erases something meanwhile waits for what is written here.
            feed.save(opened.index, keep_previous=False)
        except BaseException:
            opened.index.close()
            raise
        finally:
            keeper.resign()
        return opened.index

    def drop(self, encoder_id: EncoderId) -> None:
        """Delete everything that is kept of the index of an encoder."""
        stores.open_store(self.settings, self.gallery_id, encoder_id, self.engine).clear()
        remove_folder(index_folder(self.settings.home, self.gallery_id, encoder_id))

    def scrub(self, *, besides: EncoderId | None = None, wait: bool = True) -> None:
        """After a deletion was committed: leave no copy of what went in what is kept, under any encoder.

        Where another process keeps the files, it takes the copy out, within seconds.

        Parameters
        ----------
        besides : str, optional
            An encoder whose index was seen to already.
        wait : bool
            Whether to wait for another process that keeps files.

        Raises
        ------
        Unavailable
            If a file cannot be written; calling again finishes the erasure, and so does opening the index.
        """
        for encoder_id in stores.encoders_kept(self.settings, self.gallery_id, self.engine):
            if encoder_id != besides:
                self._scrub_one(encoder_id, wait=wait)
        self.database.scrub()

    def others_tidied(self, encoder_id: EncoderId) -> bool:
        """Tell of all other encoders what `tidied` tells of one."""
        encoders = stores.encoders_kept(self.settings, self.gallery_id, self.engine)
        return all(self.tidied(other) for other in encoders if other != encoder_id)

    def tidied(self, encoder_id: EncoderId) -> bool:
        """Tell whether all that is kept of an encoder was written after the last erasure.

        Where that is so of the newest only, as when a writer was killed, nothing but that is left.

        Raises
        ------
        Unavailable
            If an older file cannot be deleted, or the record or the engine is out of reach.
        """
        store = stores.open_store(self.settings, self.gallery_id, encoder_id, self.engine)
        sound = self._sound(store, encoder_id)
        if all(sound):
            return True
        if sound[0]:
            store.prune_to_newest()
        return sound[0]

    def _sound(self, store: IndexStore, encoder_id: EncoderId) -> list[bool]:
        """Tell of each that is kept, newest first, whether nothing was erased since it was written."""
        marks = store.marks()
        with self.database.read_scope() as session:
            changes = Changes(session)
            erased_at = changes.last_removal(self.gallery_id, encoder_id)
            if erased_at == 0 and changes.position(self.gallery_id).vectors == 0:
                return [True for _ in marks]  # A record from before there was a feed: nothing is known to be gone.
            # One that is of another history of the record may have numbers as high as this one's.
            return [
                mark.seq >= erased_at and changes.digest_of(self.gallery_id, mark.seq) == mark.digest for mark in marks
            ]

    def _scrub_one(self, encoder_id: EncoderId, *, wait: bool) -> None:
        keeper = self.keeper(encoder_id)
        until = time.monotonic() + KEEPER_WAIT_S
        while not keeper.elected():
            if not wait or self.tidied(encoder_id):
                return
            if time.monotonic() > until:
                raise Unavailable(
                    f"another process keeps the index files of gallery {self.gallery_id} and has not written them for "
                    f"{KEEPER_WAIT_S:g} s: delete again once `voxdex index check` finds no difference"
                )
            time.sleep(_ASK_S)
        try:
            if self.tidied(encoder_id):
                return
            feed = self.feed(encoder_id)
            index = feed.open().index
            try:
                feed.save(index, keep_previous=False)
            except Unavailable:
                if not (isinstance(index, Tended) and index.damaged):
                    raise
                # Nothing is written of files that are damaged, and what was erased must leave them all the same.
                anew = feed.build().index
                try:
                    feed.save(anew, keep_previous=False)
                finally:
                    anew.close()
            finally:
                index.close()
        finally:
            keeper.resign()
