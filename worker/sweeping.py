"""Takes turns at sweeping: one sweep in an interval, whichever process does it."""

import logging

from redis import Redis

from indexer.errors import Unavailable
from worker.client import translated_errors

logger = logging.getLogger(__name__)

_KEY = "voxdex:swept"
_SHARE = 0.9
"""Share of the interval in which a second sweep is left out; below 1: a regular one must not find its own note."""


class SharedTurn:
    """Lets one of many processes through in an interval; all of them while the broker that they agree by is away."""

    def __init__(self, redis: Redis, every_s: float) -> None:
        self._redis = redis
        self._milliseconds = max(1, int(1000 * every_s * _SHARE))

    def take(self) -> bool:
        """Tell whether it is this process's turn."""
        try:
            with translated_errors():
                return bool(self._redis.set(_KEY, "1", nx=True, px=self._milliseconds))
        except Unavailable as error:
            # A sweep too many does no harm; one too few lets work lie.
            logger.warning("sweeping without agreement: %s", error.code)
            return True
