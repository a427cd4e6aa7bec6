"""A Milvus Lite for tests: one in the process, started when the first test needs it, gone with its files at the end."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

from milvus_lite.server_manager import server_manager_instance

from indexer.index.milvus_server import disconnect
from indexer.index.milvus_store import MilvusStore
from indexer.settings import MilvusSettings
from indexer.types import EncoderId, GalleryId


@cache
def milvus_settings() -> MilvusSettings:
    """Settings of the one that runs for this process's tests."""
    folder = Path(tempfile.mkdtemp(prefix="voxdex-milvus-"))

    def end() -> None:
        disconnect()
        server_manager_instance.release_all()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return MilvusSettings.model_validate({"uri": str(folder / "milvus.db")})


_galleries: dict[Path, GalleryId] = {}


def milvus_store(folder: Path, encoder_id: EncoderId) -> MilvusStore:
    """The store of a gallery of its own for each folder."""
    gallery_id = _galleries.setdefault(folder, GalleryId(len(_galleries) + 1))
    return MilvusStore(milvus_settings(), gallery_id, encoder_id)
