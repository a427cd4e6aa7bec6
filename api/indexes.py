"""The index of each gallery, in step with the record."""

from pathlib import Path

from indexer.db.repositories import Galleries
from indexer.db.session import Database
from indexer.index import feed
from indexer.index.base import VectorIndex
from indexer.types import EncoderId, GalleryId


class Indexes:
    """Opens, checks, rebuilds and erases the index of a gallery; files are below the home folder."""

    def __init__(self, database: Database, home: Path) -> None:
        self._database = database
        self._home = home

    def open(self, gallery: str) -> VectorIndex:
        """Load the index of a gallery and bring it into step with the record."""
        return feed.open_index(self._database, self._home, *self._ids(gallery))

    def check(self, gallery: str) -> feed.CheckReport:
        """Compare every id and vector of the index on disk with the record; heals nothing."""
        return feed.check(self._database, self._home, *self._ids(gallery))

    def rebuild(self, gallery: str) -> VectorIndex:
        """Build the index anew from the record."""
        return feed.rebuild(self._database, self._home, *self._ids(gallery))

    def scrub(self, gallery_id: GalleryId) -> None:
        """Leave no copy of a vector whose row is gone in any file of the gallery's index."""
        feed.scrub(self._database, self._home, gallery_id)

    def drop(self, gallery_id: GalleryId) -> None:
        """Remove every index file of a gallery that is gone."""
        feed.drop(self._home, gallery_id)

    def _ids(self, gallery: str) -> tuple[GalleryId, EncoderId]:
        with self._database.read_scope() as session:
            row = Galleries(session).by_name(gallery)
            return GalleryId(row.id), row.encoder_id
