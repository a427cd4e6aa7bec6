"""Ends a command's process without taking its modules apart, which after torch takes longer than reading the weights.

To be imported before anything else: whatever registers with `atexit` later is called before it.
"""

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn


class _Leaving:
    status: int | None = None


def leave(status: int) -> NoReturn:
    """End the process with an exit status, once its threads have ended and all that is registered was called."""
    _Leaving.status = status
    sys.exit(status)


@atexit.register
def _at_once() -> None:
    # Python has waited for all threads but daemons, as it does before it calls what is registered.
    if _Leaving.status is None:
        return
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # a reader that went away, a stream that was closed
            stream.flush()
    os._exit(_Leaving.status)
