"""How long calls take: medians of repeated runs, competitors measured turn by turn."""

import statistics
import time
from collections.abc import Callable, Sequence


def median_s(call: Callable[[], object], budget_s: float) -> float:
    """Median seconds of a call that is repeated for `budget_s` seconds, three times at least, after one unmeasured."""
    call()
    return medians_s([call], budget_s=budget_s, least=3)[0]


def medians_s(calls: Sequence[Callable[[], object]], *, budget_s: float, least: int = 1, most: int = 0) -> list[float]:
    """Median seconds of each call, run in turns, so that whatever else the machine does meets all of them.

    Parameters
    ----------
    budget_s
        Seconds after which no further turn begins.
    least, most
        Turns that are taken however long they are; turns after which it ends in any case (0: none).
    """
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + budget_s
    turns = 0
    while turns < least or (time.perf_counter() < end and (most == 0 or turns < most)):
        for call, taken in zip(calls, times, strict=True):
            taken.append(seconds_of(call))
        turns += 1
    return [statistics.median(taken) for taken in times]


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
