"""Which engine keeps an index, and where: the only place where engines are chosen."""

from indexer.index.base import IndexStore
from indexer.index.local_store import LocalStore
from indexer.index.snapshots import encoders_indexed, index_folder, remove_folder
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
    if is_in_milvus(settings, engine):
        from indexer.index.milvus_store import MilvusStore

        return MilvusStore(settings.index.milvus, gallery_id, encoder_id)
    folder = index_folder(settings.home, gallery_id, encoder_id)
    return LocalStore(folder, encoder_id, settings=settings.index)


def is_in_milvus(settings: Settings, engine: str | None) -> bool:
    """Tell whether a gallery with this engine of its own, or none, is searched in Milvus and not on this machine."""
    return (engine or settings.index.engine) == "milvus"


def encoders_kept(settings: Settings, gallery_id: GalleryId, engine: str | None) -> list[EncoderId]:
    """List the encoders under which an engine keeps an index of a gallery."""
    here = encoders_indexed(settings.home, gallery_id)
    if not is_in_milvus(settings, engine):
        return here
    from indexer.index import milvus_collections

    return sorted({*here, *milvus_collections.encoders_kept(settings.index.milvus, gallery_id)})


def clear_files(settings: Settings, gallery_id: GalleryId) -> None:
    """Delete the snapshots on this machine of a gallery that another engine searches: nobody keeps them in step."""
    for encoder_id in encoders_indexed(settings.home, gallery_id):
        LocalStore(index_folder(settings.home, gallery_id, encoder_id), encoder_id, settings=settings.index).clear()


def drop_gallery(settings: Settings, gallery_id: GalleryId) -> None:
    """Delete everything that is kept of a gallery that was deleted, by whichever engine."""
    # The folder last: while it is there, it is known that there was such a gallery, and this is tried again.
    drop_collections(settings, gallery_id)
    remove_folder(index_folder(settings.home, gallery_id))


def drop_collections(settings: Settings, gallery_id: GalleryId) -> None:
    """Delete what Milvus keeps of a gallery, where one is known."""
    if settings.index.milvus.uri is not None:
        from indexer.index import milvus_collections

        milvus_collections.drop_gallery(settings.index.milvus, gallery_id)
