"""Keeps a lease on work while it is done: whoever falls silent is taken for dead."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from indexer.errors import VoxdexError

logger = logging.getLogger(__name__)


@contextmanager
def kept_lease(
    renew: Callable[[], bool], lease_s: float, *, lost: threading.Event | None = None
) -> Iterator[threading.Event]:
    """Renew a lease from a thread of its own until the block ends, or until it is lost.

    Renewing that fails, by whatever, is tried again for as long as the lease lasts; the work can only stop by itself,
    and does not have to: what it commits is fenced.

    Parameters
    ----------
    renew
        Renews it, and returns whether it was still there to be renewed.
    lease_s
        How long the lease lasts from each renewal on; it is renewed three times as often.
    lost
        Set once the lease is lost; one is made where none is given.

    Yields
    ------
    threading.Event
        `lost`.
    """
    ended, lost = threading.Event(), lost or threading.Event()

    def beat() -> None:
        until, pause_s = time.monotonic() + lease_s, lease_s / 3
        while not ended.wait(pause_s):
            began = time.monotonic()
            try:
                kept = renew()
            except Exception as error:
                kind = error.code if isinstance(error, VoxdexError) else type(error).__name__
                if time.monotonic() < until:
                    logger.warning("a lease could not be renewed: %s; trying again", kind, exc_info=error)
                    pause_s = lease_s / 12
                    continue
                logger.error("a lease ran out that could not be renewed: %s", kind, exc_info=error)
                kept = False
            if not kept:
                lost.set()
                return
            until, pause_s = began + lease_s, lease_s / 3

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        ended.set()
        thread.join()
