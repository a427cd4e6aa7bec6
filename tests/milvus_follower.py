"""A process that follows a gallery into Milvus until it is killed: FOLDER of the record, URI, PREFIX.

It prints the number of the last change that it has applied, whenever that moves.
"""

import sys
import time
from pathlib import Path

from indexer.db.session import open_database
from indexer.index.followed import FollowedIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.index.milvus_server import disconnect
from indexer.settings import load_settings
from indexer.types import EncoderId, GalleryId


def main(home: str, uri: str, prefix: str, encoder_id: str) -> None:
    settings = load_settings(home=Path(home), database={}, index={"milvus": {"uri": uri, "prefix": prefix}})
    database = open_database(settings)
    kept = GalleryIndex(database, settings, GalleryId(1), "milvus")
    followed = FollowedIndex(kept, EncoderId(encoder_id))
    position = -1
    while True:
        followed.follow()
        followed.keep()
        if followed.position != position:
            position = followed.position
            sys.stdout.write(f"{position}\n")
            sys.stdout.flush()
        time.sleep(0.01)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    finally:
        disconnect()
