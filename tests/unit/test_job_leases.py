"""A lease is kept whatever goes wrong on the way, as long as it lasts, and no longer."""

import threading
import time

from indexer.errors import Unavailable
from indexer.jobs.leases import kept_lease
from tests.waiting import eventually

LEASE_S = 0.3
LONG_S = 1.5
"""A third of it, and twice a twelfth, are long enough for a busy machine not to miss the rest."""


def test_renewing_goes_on_after_any_failure() -> None:
    asked: list[float] = []

    def renew() -> bool:
        asked.append(time.monotonic())
        if len(asked) == 2:
            raise ZeroDivisionError("unforeseen")
        if len(asked) == 3:
            raise Unavailable("the record is away")
        return True

    with kept_lease(renew, LONG_S) as lost:
        eventually(lambda: len(asked) > 4 or lost.is_set())
        assert not lost.is_set()
    done = len(asked)
    time.sleep(LONG_S)
    assert len(asked) == done


def test_work_is_told_to_stop_once_its_lease_ran_out() -> None:
    lost, began = threading.Event(), time.monotonic()

    def renew() -> bool:
        raise ZeroDivisionError("unforeseen")

    with kept_lease(renew, LEASE_S, lost=lost):
        assert lost.wait(10)
    assert time.monotonic() - began >= LEASE_S


def test_work_is_told_at_once_that_somebody_else_holds_its_lease() -> None:
    asked = 0

    def renew() -> bool:
        nonlocal asked
        asked += 1
        return False

    with kept_lease(renew, LEASE_S) as lost:
        assert lost.wait(10)
        time.sleep(LEASE_S)
    assert asked == 1
