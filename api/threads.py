"""Threads for one kind of request, so that however many of them wait, the threads of the other kinds stay free."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from indexer.errors import Overloaded

_Answer = TypeVar("_Answer")


class RequestThreads:
    """A few threads, and a bound on the requests that use or will use them.

    Parameters
    ----------
    threads
        Work that is done at the same time.
    most
        Requests under way, from before their body is read until they are answered: each holds a connection, and those
        that send a recording a file on the disk.
    what
        Names them in the message of a refusal.
    retry_after_s
        When a refused one may come again.
    """

    def __init__(self, threads: int, *, most: int, what: str, retry_after_s: float = 1.0) -> None:
        self._limiter = CapacityLimiter(threads)
        self._most = most
        self._what = what
        self._retry_after_s = retry_after_s
        self._under_way = 0  # changed in the event loop only

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count a request as under way for as long as the block lasts; only in the event loop.

        Raises
        ------
        Overloaded
            If there are as many as there may be.
        """
        if self._under_way >= self._most:
            raise Overloaded(
                f"{self._under_way} {self._what} are under way, which is the limit: try again later",
                retry_after_s=self._retry_after_s,
            )
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def run(self, work: Callable[[], _Answer]) -> _Answer:
        """Run what blocks, while the event loop goes on."""
        return await run_sync(work, limiter=self._limiter)
