"""How the threads of OpenMP wait; to be set before anything is loaded that brings them (torch, faiss)."""

import os

SPIN_COUNT = 10_000
"""Turns of its loop that a thread waits before it sleeps: tens of microseconds."""

_DECIDED_BY_USER = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def share_cores() -> None:
    """Let GNU OpenMP's threads sleep soon after they find nothing to do, unless the user has decided otherwise."""
    if not any(name in os.environ for name in _DECIDED_BY_USER):
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
