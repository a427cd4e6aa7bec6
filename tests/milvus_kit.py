"""A Milvus Lite for tests: one in the process, started when the first test needs it, gone with its files at the end."""

import atexit
import itertools
import shutil
import tempfile
from functools import cache
from pathlib import Path

from milvus_lite.server_manager import server_manager_instance

from indexer.index.milvus_server import disconnect
from indexer.index.milvus_store import MilvusStore
from indexer.settings import MilvusSettings
from indexer.types import EncoderId, GalleryId

_numbers = itertools.count()


@cache
def milvus_uri() -> str:
    """Address of the one that runs for this process's tests."""
    folder = Path(tempfile.mkdtemp(prefix="voxdex-milvus-"))

    def end() -> None:
        disconnect()
        server_manager_instance.release_all()
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(end)
    return str(folder / "milvus.db")


def milvus_settings(**changes: object) -> MilvusSettings:
    """Settings of an installation of its own in it."""
    return MilvusSettings.model_validate({"uri": milvus_uri(), "prefix": f"test{next(_numbers)}", **changes})


_stores: dict[Path, MilvusSettings] = {}


def milvus_store(folder: Path, encoder_id: EncoderId) -> MilvusStore:
    """The store of a gallery of its own for each folder."""
    return MilvusStore(_stores.setdefault(folder, milvus_settings()), GalleryId(1), encoder_id)
