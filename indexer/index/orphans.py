"""Index files of galleries, and of their encoders, that were deleted while nobody on this machine could hear of it."""

import logging

from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.session import Database
from indexer.index import stores
from indexer.index.gallery_index import GalleryIndex
from indexer.settings import Settings
from indexer.types import GalleryId

logger = logging.getLogger(__name__)


def drop_orphans(database: Database, settings: Settings) -> int:
    """Delete the index files of galleries that the record made once and does not have any more; return of how many.

    Those of an encoder go too whose vectors a gallery had once and does not have any more.

    A number that the record never gave out names a gallery of another record, or of this one before it was lost:
    such files stay. Even a wrong guess costs no more than making an index again, for it holds nothing of its own.

    Raises
    ------
    Unavailable
        If the record is out of reach, or files cannot be deleted.
    """
    # Listed before the record is read: the files of a gallery that is made meanwhile are not among these.
    listed = [GalleryId(int(path.name)) for path in (settings.home / "index").glob("*") if path.name.isdecimal()]
    if not listed:
        return 0
    with database.read_scope() as session:
        galleries = Galleries(session)
        last = galleries.last_number()
        known = galleries.heads(listed)
        former = {
            head: GalleryEncoders(session, head.id).unused(stores.encoders_kept(settings, head.id, head.engine))
            for head in known.values()
        }
    for head, encoder_ids in former.items():
        for encoder_id in encoder_ids:
            GalleryIndex(database, settings, head.id, head.engine).drop(encoder_id)
            logger.info("gallery %d: vectors of %s were erased elsewhere: its index files go", head.id, encoder_id)
    gone = sorted(number for number in listed if number <= last and number not in known)
    for number in gone:
        stores.drop_gallery(settings, number)
        logger.info("gallery %d was deleted elsewhere: its index files are gone now", number)
    return len(gone)
