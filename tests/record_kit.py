"""An empty record for reports that run outside pytest, on SQLite or on a PostgreSQL of its own."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.cli.local_servers import LocalPostgres
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.migrate import upgrade
from indexer.db.rows import NewEncoder
from indexer.db.session import Database
from indexer.settings import Settings, load_settings
from indexer.types import EncoderId, GalleryId

ENCODER = EncoderId("0123456789abcdef-spectrum")


@contextmanager
def record(postgres: bool) -> Iterator[Settings]:
    """Settings of an empty record in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        if not postgres:
            yield load_settings(home=home, database={})
            return
        with LocalPostgres() as server:
            url = server.url.format("postgres")
            upgrade(url)
            yield load_settings(home=home, database={"url": url})


def make_gallery(database: Database) -> GalleryId:
    """Make the gallery "archive"."""
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "spectrum", "speechbrain", "0" * 64, "x", 192))
        return GalleryId(Galleries(session).get_or_create("archive", encoder).id)
