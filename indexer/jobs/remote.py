"""Files that are elsewhere, brought to this machine for as long as they are worked on."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer.jobs.source import require_allowed
from indexer.jobs.uris import local_path
from indexer.settings import Settings


@contextmanager
def fetched(uri: str, settings: Settings) -> Iterator[Path]:
    """Give the local file that a URI names; what is elsewhere is fetched, and gone when the block ends."""
    # Only trusted jobs get this far where no sources are listed: planning asked before.
    normal = require_allowed(uri, settings.jobs, trusted=True)
    path = local_path(normal)
    assert path is not None
    yield path
