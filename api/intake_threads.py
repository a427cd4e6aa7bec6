"""Threads for uploads alone, so that long ones leave the threads of short requests to them."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

_THREADS = 4
"""Uploads decoded at the same time; the others wait with their recording on the disk."""

_Answer = TypeVar("_Answer")


class IntakeThreads:
    """A few threads in which recordings are decoded, embedded and written."""

    def __init__(self, threads: int = _THREADS) -> None:
        self._limiter = CapacityLimiter(threads)

    async def run(self, work: Callable[[], _Answer]) -> _Answer:
        """Run what blocks, while the event loop goes on."""
        return await run_sync(work, limiter=self._limiter)
