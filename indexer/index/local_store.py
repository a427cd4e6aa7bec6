"""Where the index of one gallery lives on this machine's disk."""

from pathlib import Path

from indexer.errors import CorruptSnapshot
from indexer.index.base import FeedMark, Kept
from indexer.index.faiss_index import FaissIndex
from indexer.index.snapshots import SnapshotStore
from indexer.settings import IndexSettings
from indexer.types import EMBEDDING_DIM, EncoderId


class LocalStore:
    """Snapshots in one folder, searched where they lie; see `IndexStore`."""

    def __init__(
        self, folder: Path, encoder_id: EncoderId, dim: int = EMBEDDING_DIM, *, settings: IndexSettings | None = None
    ) -> None:
        self._encoder_id = encoder_id
        self._dim = dim
        self._settings = settings or IndexSettings()
        self._snapshots = SnapshotStore(folder, encoder_id, dim)

    def load(self) -> Kept | None:
        """Map the newest whole snapshot; see `IndexStore.load`."""
        mapped = self._snapshots.load()
        if mapped is None:
            return None
        if mapped.manifest.row_dtype == "float16":
            if self._settings.rows == "float32":
                raise CorruptSnapshot(
                    f"{mapped.path} keeps vectors as float16 where the settings want float32: run `voxdex index "
                    "rebuild`"
                )
            # The record's checksums are of float32 rows, so single rows cannot be checked as they are met.
            mapped.verify()
        index = FaissIndex(self._encoder_id, self._dim, settings=self._settings, base=mapped, store=self._snapshots)
        return Kept(index, mapped.manifest.mark, mapped.damage)

    def create(self) -> FaissIndex:
        """Make an empty index beside the kept one; see `IndexStore.create`."""
        return FaissIndex(self._encoder_id, self._dim, settings=self._settings, store=self._snapshots, origin="rebuild")

    def generation(self) -> int:
        """Return the number of the newest snapshot; see `IndexStore.generation`."""
        return self._snapshots.generation()

    def marks(self) -> list[FeedMark]:
        """Return the marks of all snapshots, newest first; see `IndexStore.marks`."""
        return self._snapshots.marks()

    def prune_to_newest(self) -> None:
        """Delete every file that is not of the newest snapshot; see `IndexStore.prune_to_newest`."""
        self._snapshots.prune_to_newest()

    def clear(self) -> None:
        """Delete every snapshot; see `IndexStore.clear`."""
        self._snapshots.clear()
