"""What each API process does on its own machine every few minutes: files of galleries that are gone go too."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from indexer.errors import VoxdexError
from worker.stopping import Periodically

if TYPE_CHECKING:
    from indexer.db.session import Database
    from indexer.settings import Settings

logger = logging.getLogger(__name__)

CHORES_S = 600.0


def index_chores(
    database: "Callable[[], Database]", settings: "Settings", *, every_s: float = CHORES_S
) -> Periodically:
    """Make the thread that deletes index files of galleries that were deleted by other machines; at once, and again.

    A process that runs hears of a deletion by the feed of changes; one that was down, or had not opened the gallery,
    does not.
    """

    def sweep() -> None:
        from indexer.index.orphans import drop_orphans

        try:
            drop_orphans(database(), settings)
        except VoxdexError as error:
            logger.warning("index files of deleted galleries are looked for later: %s", error.code, exc_info=error)
        except Exception:
            logger.exception("index files of deleted galleries were not looked for")

    return Periodically(sweep, every_s, name="index-chores")
