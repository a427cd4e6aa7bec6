"""The cores of this machine, as FAISS is to use them: a thread for each, which keeps to its own."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import faiss

_Task = TypeVar("_Task")


class _Here(threading.local):
    """Whether this thread is one of the pool's."""

    pooled = False


_here = _Here()


def in_parallel(work: Callable[[_Task], None], tasks: Sequence[_Task], *, here: bool = False) -> None:
    """Do tasks on all cores, each on one; what is itself part of such a task is done on its core.

    Parameters
    ----------
    here
        The caller does the first, and nobody need be woken for it.
    """
    if _here.pooled:
        for task in tasks:
            work(task)
        return
    others = _threads(os.getpid()).map(work, tasks[1:] if here else tasks)
    if here:
        # Or FAISS has threads of its own in the caller's, which wait for each other in loops.
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            for task in tasks[:1]:
                work(task)
        finally:
            faiss.omp_set_num_threads(threads)
    for _ in others:
        pass


@lru_cache(maxsize=1)
def core_count() -> int:
    """How many cores there are."""
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _threads(_process: int) -> ThreadPoolExecutor:
    # Of the process, as a fork has none of its parent's threads. Each runs FAISS on its own core alone.
    return ThreadPoolExecutor(core_count(), "voxdex-scan", initializer=_begin_thread)


def _begin_thread() -> None:
    faiss.omp_set_num_threads(1)
    _here.pooled = True
