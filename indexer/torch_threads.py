"""How many threads torch uses for one operation: a number of the process, and one of each thread.

What a thread is told by `torch.set_num_threads` holds for that thread, and for those that ask torch for the first time
afterwards. So a thread that limits itself for a moment limits whoever begins in that moment, for good. Here the number
of the process is settled once, when this is imported, and threads are told it again before it matters.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class _Settled:
    threads = torch.get_num_threads()


def use_threads(threads: int) -> None:
    """Have all of the process use so many threads for one operation, from now on."""
    _Settled.threads = threads
    torch.set_num_threads(threads)


def settle_threads() -> int:
    """Have the calling thread use as many as the process is to, whatever it found when it first asked; how many."""
    if torch.get_num_threads() != _Settled.threads:
        torch.set_num_threads(_Settled.threads)
    return _Settled.threads


@contextmanager
def one_thread() -> Iterator[None]:
    """Have operations of the calling thread made by it alone; one that is alone for good stays so."""
    if torch.get_num_threads() == 1:  # A thread's first question sets its number; what was set before does not last.
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_Settled.threads)


def stay_alone() -> None:
    """Have operations of the calling thread made by it alone for as long as it lives, and leave others as they are."""
    torch.get_num_threads()
    torch.set_num_threads(1)
