"""How a worker's processes learn that they are to stop."""

import mmap
import os
import signal
import threading
import time
from collections.abc import Callable

_CHECK_S = 0.5


class StopFlag:
    """A flag that is raised in one process and seen in those it forked; raising it in a signal handler is safe.

    It is a byte of shared memory rather than an event of `multiprocessing`, whose lock a signal handler could find
    taken by the very code that it interrupts.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Ask for the stop; there is no way back."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Tell whether the stop was asked for."""
        return self._byte[0] != 0

    def wait(self, timeout_s: float) -> bool:
        """Wait for the stop; return whether it came in time."""
        deadline = time.monotonic() + timeout_s
        while not self.is_set():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(0.1, left_s))
        return True


def stop_with_parent(parent: int) -> None:
    """Have this process terminate itself (SIGTERM) once its parent is gone, however the parent died."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_CHECK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


class Periodically:
    """Calls something every so often in a thread of its own, until it is closed; errors are the callee's business."""

    def __init__(self, call: Callable[[], object], every_s: float, *, name: str) -> None:
        self._call = call
        self._every_s = every_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first call comes at once."""
        self._thread.start()

    def close(self) -> None:
        """End; a call that is under way is waited for."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._call()
            self._closing.wait(self._every_s)
