"""Waiting for what happens in another thread or process."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def eventually(
    ask: Callable[[], Answer],
    *,
    within_s: float = 180.0,
    every_s: float = 0.01,
    told: Callable[[], str] = lambda: "it did not happen in time",
) -> Answer:
    """Ask until the answer is something, and return it; for so long that only what never happens fails.

    Raises
    ------
    AssertionError
        If the last answer was still nothing; it says what is `told`.
    """
    limit = time.monotonic() + within_s
    while not (answer := ask()):
        assert time.monotonic() < limit, f"{answer!r} after {within_s:g} s: {told()}"
        time.sleep(every_s)
    return answer
