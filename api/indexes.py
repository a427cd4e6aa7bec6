"""The index of each gallery, in step with the record."""

from contextlib import closing
from dataclasses import asdict
from typing import Any

from indexer.db.galleries import Galleries
from indexer.db.rows import GalleryHead
from indexer.db.session import Database
from indexer.index import stores
from indexer.index.base import VectorIndex
from indexer.index.drift import CheckReport
from indexer.index.gallery_index import GalleryIndex
from indexer.index.migration import Engine, Migrated, migrate
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId


class Indexes:
    """Opens, checks, rebuilds and erases the index of a gallery; files are below the home folder.

    A gallery has one under each encoder that it is searched under; where none is named, that of its own is meant.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def encoders(self, gallery: str) -> tuple[EncoderId, ...]:
        """Return the encoders that a gallery is searched under, its own first."""
        return self._head(gallery).encoder_ids

    def open(self, gallery: str, encoder_id: EncoderId | None = None) -> VectorIndex:
        """Load the index of a gallery and bring it into step with the record."""
        head = self._head(gallery)
        return self._of(head).open(encoder_id or head.encoder_id)

    def bring_into_step(self, gallery: str) -> None:
        """Do the same now under every encoder, and keep it, so that the first question does not wait for it."""
        for encoder_id in self.encoders(gallery):
            self.open(gallery, encoder_id).close()

    def info(self, gallery: str, encoder_id: EncoderId | None = None) -> dict[str, Any]:
        """Say what the index of a gallery is, what it costs and how well it finds."""
        return _info_of(self.open(gallery, encoder_id))

    def check(self, gallery: str, encoder_id: EncoderId | None = None) -> CheckReport:
        """Compare every id and vector of the index that is kept with the record; heals nothing."""
        head = self._head(gallery)
        return self._of(head).check(encoder_id or head.encoder_id)

    def rebuild(self, gallery: str, encoder_id: EncoderId | None = None) -> dict[str, Any]:
        """Build the index anew from the record, put it in place of the one that answers, and say what it is."""
        head = self._head(gallery)
        return _info_of(self._of(head).rebuild(encoder_id or head.encoder_id))

    def migrate(self, gallery: str, to: Engine, *, leave_collections: bool = False) -> Migrated:
        """Have another engine search a gallery; see `indexer.index.migration.migrate`."""
        gallery_id = self._head(gallery).id
        return migrate(self._database, self._settings, gallery_id, to, leave_collections=leave_collections)

    def prepare(self, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        """Make and keep the index of an encoder that a gallery is about to be searched under."""
        GalleryIndex.of(self._database, self._settings, gallery_id).open(encoder_id).close()

    def drop_encoder(self, gallery_id: GalleryId, encoder_id: EncoderId) -> None:
        """Remove what is kept of a gallery's index under an encoder whose vectors were erased."""
        GalleryIndex.of(self._database, self._settings, gallery_id).drop(encoder_id)

    def scrub(self, gallery_id: GalleryId) -> None:
        """Leave no copy of a vector whose row is gone in any file of the gallery's index."""
        GalleryIndex.of(self._database, self._settings, gallery_id).scrub()

    def drop(self, gallery_id: GalleryId) -> None:
        """Remove every index file of a gallery that is gone."""
        stores.drop_gallery(self._settings, gallery_id)

    def _head(self, gallery: str) -> GalleryHead:
        with self._database.read_scope() as session:
            return Galleries(session).head(gallery)

    def _of(self, head: GalleryHead) -> GalleryIndex:
        return GalleryIndex(self._database, self._settings, head.id, head.engine)


def _info_of(index: VectorIndex) -> dict[str, Any]:
    with closing(index):
        return asdict(index.info())
