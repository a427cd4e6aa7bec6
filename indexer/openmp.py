"""How the threads of OpenMP wait; to be set before anything is loaded that brings them (torch, faiss)."""

import os

SPIN_COUNT = 1000
"""Turns of its loop that a thread waits before it sleeps: some microseconds.

By default a thread spins for milliseconds, in which whoever it waits for cannot have the core. Seconds of audio
embedded in a second (default encoder, 2 cores that others used as well, runs of 6 s; first column: median and range
of five):

================  ====================  ================  ==================
GOMP_SPINCOUNT    load 1.6 to 3.5       load 4.7 to 5.8   and one busy loop
================  ====================  ================  ==================
not set           29.6 (11.1 to 34.0)   8.0, 2.4          5.4, 8.4
1000              29.2 (18.2 to 34.4)   12.5, 6.6         17.4, 6.9
10000             26.5 (12.5 to 32.7)   24.7              9.6
100000            12.3 (8.8 to 28.3)    4.0               4.4
================  ====================  ================  ==================

The runs scatter too much to tell 1000 from 10000. A low count costs nothing that can be seen while the cores are free,
and another measurement on a busy machine gave 2.9 by default and 5.8 with 1000.
"""

_DECIDED_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def share_cores() -> None:
    """Let GNU OpenMP's threads sleep soon after they find nothing to do, unless the user has decided otherwise."""
    if not any(name in os.environ for name in _DECIDED_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)


def default_waiting() -> None:
    """Take that back, in a process that measures what others do without it."""
    if os.environ.get("GOMP_SPINCOUNT") == str(SPIN_COUNT):
        del os.environ["GOMP_SPINCOUNT"]
