"""How many requests of a minute are served."""

import logging
import math
import threading
import time

from limits import RateLimitItemPerMinute
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from indexer.errors import RateLimited
from indexer.settings import BrokerSettings

logger = logging.getLogger(__name__)


class RateLimiter:
    """Counts requests of a minute, in Redis where there is one, so that several processes share the count.

    While Redis does not answer each process counts for itself: a limit that is too wide for a moment, and neither none
    nor a service that stands still.
    """

    _RETRY_REDIS_S = 5.0

    def __init__(self, broker: BrokerSettings) -> None:
        self._local = FixedWindowRateLimiter(MemoryStorage())
        self._shared: FixedWindowRateLimiter | None = None
        self._shared_again_at = 0.0
        if broker.url is not None:
            storage = storage_from_string(
                broker.url.get_secret_value(),
                wrap_exceptions=True,
                socket_connect_timeout=0.5,
                socket_timeout=0.5,
            )
            assert isinstance(storage, Storage)
            self._shared = FixedWindowRateLimiter(storage)
        self._lock = threading.Lock()

    def hit(self, owner: str, most_per_minute: int) -> None:
        """Count a request, or raise RateLimited with the seconds until the next one is served."""
        item = RateLimitItemPerMinute(most_per_minute, namespace="voxdex")
        reset_at = self._hit(item, owner)
        if reset_at is not None:
            wait_s = max(0.0, reset_at - time.time())
            raise RateLimited(
                f"{most_per_minute} requests of this minute are used up; wait {math.ceil(wait_s)} s, or ask for a "
                "higher limit",
                retry_after_s=wait_s,
            )

    def _hit(self, item: RateLimitItemPerMinute, owner: str) -> float | None:
        """Count a request; return when the next one is served if this one is not."""
        if self._shared is not None and time.monotonic() >= self._shared_again_at:
            try:
                return _hit_one(self._shared, item, owner)
            except StorageError:
                with self._lock:
                    self._shared_again_at = time.monotonic() + self._RETRY_REDIS_S
                logger.warning("rate limits are counted in this process: the broker does not answer")
        return _hit_one(self._local, item, owner)


def _hit_one(limiter: FixedWindowRateLimiter, item: RateLimitItemPerMinute, owner: str) -> float | None:
    return None if limiter.hit(item, owner) else limiter.get_window_stats(item, owner).reset_time
