"""Where the index of a gallery is kept by a Milvus."""

from indexer.index.base import FeedMark, Kept
from indexer.index.milvus_collections import GalleryCollections
from indexer.index.milvus_index import MilvusIndex
from indexer.settings import MilvusSettings
from indexer.types import EMBEDDING_DIM, EncoderId, GalleryId


class MilvusStore:
    """The collection that is searched, and the ones that are built to replace it; see `IndexStore`.

    All processes share one collection. So its generation rises when another one takes its place, and not when it is
    written to or a process says how far it has got.
    """

    def __init__(
        self, settings: MilvusSettings, gallery_id: GalleryId, encoder_id: EncoderId, dim: int = EMBEDDING_DIM
    ) -> None:
        self._collections = GalleryCollections(settings, gallery_id, encoder_id, dim)

    def load(self) -> Kept | None:
        """Return the index that is searched, with what it is in step with; None where there is none."""
        current = self._collections.current()
        if current is None:
            return None
        self._collections.ready(current)
        return Kept(MilvusIndex(self._collections, current, kept=True), current.mark)

    def create(self) -> MilvusIndex:
        """Make an empty collection, which is searched once `begin_save(...).write()` of its index is done."""
        return MilvusIndex(self._collections, self._collections.make(), kept=False)

    def generation(self) -> int:
        """Return the generation of the collection that is searched; 0 where there is none."""
        current = self._collections.glance()
        return 0 if current is None else current.generation

    def marks(self) -> list[FeedMark]:
        """Say what the collection that is searched is in step with."""
        current = self._collections.current()
        return [] if current is None else [current.mark]

    def prune_to_newest(self) -> None:
        """Do nothing: what is erased leaves the one collection that is searched, and no other is kept."""

    def clear(self) -> None:
        """Drop every collection of the gallery under this encoder."""
        self._collections.clear()
