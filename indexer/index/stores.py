"""Which engine keeps an index, and where: the only place where engines are chosen."""

from indexer.index.base import IndexStore
from indexer.index.local_store import LocalStore
from indexer.index.snapshots import index_folder, remove_folder
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId


def open_store(
    settings: Settings, gallery_id: GalleryId, encoder_id: EncoderId, engine: str | None = None
) -> IndexStore:
    """Return where the index of a gallery under an encoder is kept; nothing is opened yet.

    Parameters
    ----------
    settings : Settings
        Names the engine and the home folder.
    gallery_id : int
        Whose index.
    encoder_id : str
        Under which encoder.
    engine : str, optional
        What the gallery was migrated to; None: the setting's engine.
    """
    folder = index_folder(settings.home, gallery_id, encoder_id)
    return LocalStore(folder, encoder_id, settings=settings.index)


def drop_gallery(settings: Settings, gallery_id: GalleryId) -> None:
    """Delete everything that is kept of a gallery that was deleted, by whichever engine."""
    remove_folder(index_folder(settings.home, gallery_id))
