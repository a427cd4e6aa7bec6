"""Ctrl-C that waits for a transaction to end, and an end from outside that is as orderly as Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold an interrupt (SIGINT) back until the block has ended, then raise it.

    Raised in the middle of a transaction it could leave the connection, and with it SQLite's write lock, in a state
    that the next write (the note that the job was canceled) has to wait for. Between transactions nothing is at stake.
    Elsewhere than in the main thread nothing is held back, because no signal arrives there.
    """
    held: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)

    with _handled(signal.SIGINT, hold):
        yield
    if held:
        raise KeyboardInterrupt


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Have SIGTERM (`timeout`, a shutdown) end the block as Ctrl-C does: its processes and its files go too.

    Elsewhere than in the main thread nothing changes, because no signal arrives there.
    """
    with _handled(signal.SIGTERM, signal.default_int_handler):
        yield


@contextmanager
def _handled(number: signal.Signals, handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """Have a signal handled like this for as long as the block lasts, where signals arrive: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)
