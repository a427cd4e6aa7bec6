"""Keeps a lease on work while it is done: whoever falls silent is taken for dead."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from indexer.errors import Unavailable

logger = logging.getLogger(__name__)


@contextmanager
def kept_lease(renew: Callable[[], bool], every_s: float) -> Iterator[None]:
    """Renew a lease from a thread of its own until the block ends, or until `renew` says that it is lost.

    A record that is out of reach for a moment is asked again: losing the lease is decided by the next commit, which is
    fenced, and never here.
    """
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(every_s):
            try:
                if not renew():
                    return
            except Unavailable as error:
                logger.warning("a lease could not be renewed: %s", error)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
