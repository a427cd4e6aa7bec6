"""Have another engine search a gallery: its index is built from the record, and switched to once it has caught up."""

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum

from indexer.db.changes import Changes
from indexer.db.galleries import Galleries
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.errors import EncoderMismatch, InvalidRequest, NotFound
from indexer.index import stores
from indexer.index.adjustment import unheard
from indexer.index.base import VectorIndex
from indexer.index.feed import CHANGES_AT_ONCE, IndexFeed
from indexer.index.follower import POLL_S
from indexer.settings import Settings
from indexer.types import GalleryId

logger = logging.getLogger(__name__)

CHANGE_OVER_S = 8 * POLL_S
"""How long processes that answer are given to change over, before what they searched until then is deleted."""


class Engine(StrEnum):
    """What a gallery can be migrated to."""

    FAISS = "faiss"
    """Files on each machine; the scan on the GPU where the settings say so."""
    MILVUS = "milvus"


@dataclass(frozen=True)
class Migrated:
    """What came of a migration."""

    engine: Engine
    count: int
    """Vectors in the index, under the gallery's own encoder."""
    switched: bool
    """False where this engine searched the gallery already."""
    seconds: float


def migrate(
    database: Database,
    settings: Settings,
    gallery_id: GalleryId,
    to: Engine,
    *,
    leave_collections: bool = False,
    change_over_s: float = CHANGE_OVER_S,
) -> Migrated:
    """Build a gallery's index in another engine, switch every process to it in one transaction, delete the old one.

    The gallery is searched and written to all the while. Interrupted, it leaves the gallery as it was, and what was
    built is deleted by the next try.

    Parameters
    ----------
    database : Database
        The record.
    settings : Settings
        Where each engine keeps its indexes.
    gallery_id : int
        Which gallery.
    to : Engine
        What is to search it.
    leave_collections : bool
        Whether to go away from a Milvus that is not known any more, and leave there what is there.
    change_over_s : float
        How long the old index stays after the switch.

    Raises
    ------
    InvalidRequest
        If collections would be left behind in a Milvus whose address is not set.
    NotFound
        If the gallery is gone.
    EncoderMismatch
        If the gallery went over to another encoder meanwhile.
    Unavailable
        If the engine is out of reach, or cannot write.
    """
    started = time.monotonic()
    head = _head(database, gallery_id)
    before = Engine.MILVUS if stores.is_in_milvus(settings, head.engine) else Engine.FAISS
    if before is Engine.MILVUS and settings.index.milvus.uri is None and not leave_collections:
        raise InvalidRequest(
            f"gallery {head.name!r} has collections in a Milvus whose address is not set, which would stay there, "
            "voices that are erased later included: set VOXDEX_INDEX__MILVUS__URI, or leave them with "
            "--leave-collections"
        )
    with ExitStack() as opened:
        built: list[tuple[IndexFeed, VectorIndex]] = []
        for encoder_id in head.encoder_ids:
            feed = IndexFeed(database, stores.open_store(settings, gallery_id, encoder_id, to), gallery_id, encoder_id)
            index = (feed.open() if before is to else feed.build()).index
            opened.callback(index.close)
            built.append((feed, index))
            if before is not to:
                feed.follow(index, unheard)
                feed.save(index, keep_previous=False)
        while not _switched(database, head, min(feed.position for feed, _ in built), to):
            for feed, index in built:
                feed.follow(index, unheard)
        count = built[0][1].count
    logger.info("gallery %d: searched by %s from now on, with %d vectors", gallery_id, to.value, count)
    if before is not to:
        time.sleep(change_over_s)
    if to is Engine.MILVUS:
        stores.clear_files(settings, gallery_id)
    else:
        stores.drop_collections(settings, gallery_id)
    return Migrated(to, count, before is not to, time.monotonic() - started)


def _switched(database: Database, head: GalleryHead, position: int, to: Engine) -> bool:
    """Switch if what was built is as good as in step: whoever opens it applies the rest before the first answer."""
    with database.session_scope() as session:
        if Changes(session).position(head.id).vectors - position > CHANGES_AT_ONCE:
            return False
        if not Galleries(session).set_engine(head.id, head.encoder_ids, to.value):
            raise EncoderMismatch(
                f"gallery {head.name!r} went over to other encoders while its index was built: migrate it again"
            )
        return True


def _head(database: Database, gallery_id: GalleryId) -> GalleryHead:
    with database.read_scope() as session:
        head = Galleries(session).heads([gallery_id]).get(gallery_id)
    if head is None:
        raise NotFound(f"no gallery with id {gallery_id}: it may have been deleted already")
    return head
