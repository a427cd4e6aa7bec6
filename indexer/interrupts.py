"""Ctrl-C that waits for a transaction to end."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold an interrupt (SIGINT) back until the block has ended, then raise it.

    Raised in the middle of a transaction it could leave the connection, and with it SQLite's write lock, in a state
    that the next write (the note that the job was canceled) has to wait for. Between transactions nothing is at stake.
    Elsewhere than in the main thread nothing is held back, because no signal arrives there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)

    previous = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt
