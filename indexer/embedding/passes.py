"""Passes of a network on a processor: each in a thread of its own, where there are as many as threads.

Threads that share every operation of a pass wait for each other after it, hundreds of times a pass, and each wait lasts
until the last of them has had its core. Passes that run side by side wait for nothing, and threads that each have a
share of the frames of one utterance nine times.
"""

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

from indexer.embedding.shares import LeftAlone, Share
from indexer.torch_threads import one_thread, settle_threads, stay_alone, use_threads

_Batch = TypeVar("_Batch")
_Made = TypeVar("_Made")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES = 256 * 2**20
_LARGEST_MMAP_THRESHOLD = 32 * 2**20


def run_passes(run: Callable[[_Batch], _Made], batches: Sequence[_Batch], at_once: int) -> list[_Made]:
    """Run a pass over each batch and return what they make, in order.

    Parameters
    ----------
    at_once
        How many may be under way, for memory's sake; 1 lets each pass have all threads.
    """
    threads = settle_threads()
    # Fewer passes than threads leave cores idle, which half as many or less cannot make up for.
    together = min(at_once, len(batches))
    if threads < 2 or together < 2 or 2 * together <= threads:
        return [run(batch) for batch in batches]
    pool = _pool(threads)
    if at_once >= threads:  # There are no more threads that could have one under way.
        return list(pool.map(run, batches))
    made: list[_Made] = []
    for start in range(0, len(batches), at_once):
        made += pool.map(run, batches[start : start + at_once])
    return made


def run_shares(run: Callable[[Share], _Made], shares: Sequence[Share]) -> list[_Made]:
    """Run one pass in as many threads as there are shares of its frames, one of them the caller's.

    Returns what each share makes, in order.
    """
    inference = torch.is_inference_mode_enabled()

    def own(share: Share) -> _Made:
        try:
            with torch.inference_mode(inference):
                return run(share)
        except BaseException:
            share.leave()
            raise

    pool = _pool(len(shares))
    made: list[_Made] = []
    failed: list[BaseException] = []
    # One utterance at a time: threads that wait for each other must not wait for each other's places too.
    with _queue_of(pool), one_thread():
        others = [pool.submit(own, share) for share in shares[1:]]
        try:
            made.append(own(shares[0]))
        except BaseException as error:
            failed.append(error)
        failed += [why for one in others if (why := one.exception()) is not None]
    for first in sorted(failed, key=lambda one: isinstance(one, LeftAlone)):
        raise first
    return made + [one.result() for one in others]


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """Start so many threads, in which torch uses one thread each; kept for as long as the process lives."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="pass", initializer=stay_alone)
    started = threading.Barrier(threads)
    list(pool.map(lambda _: started.wait(), range(threads)))
    use_threads(threads)  # for those to come: what the first question of a thread finds was set to one
    return pool


@cache
def _queue_of(pool: ThreadPoolExecutor) -> threading.Lock:
    return threading.Lock()


def _forget() -> None:
    _pool.cache_clear()  # its threads stay with the parent
    _queue_of.cache_clear()


os.register_at_fork(after_in_child=_forget)


def keep_freed_memory() -> None:
    """Let the allocator keep what a pass frees for the next one, where it is glibc's and the user set nothing else.

    By default it gives such memory back to the system after each pass and has every page made anew, which took up to
    a fifth of the time of a pass.
    """
    if any(name.startswith(("MALLOC_TRIM_THRESHOLD", "MALLOC_MMAP_THRESHOLD", "LD_PRELOAD")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
