"""An interrupt waits for the end of a transaction, and is not lost."""

import os
import signal
import threading

import pytest

from indexer.interrupts import interrupts_deferred


def test_an_interrupt_is_raised_at_the_end_of_the_block() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - that the block goes on is the point
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the statement after it")
        reached.append("never")
    assert reached == ["the statement after it"]


def test_the_handler_from_before_is_put_back_also_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="first"), interrupts_deferred():
        raise ValueError("first")
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_may_use_it() -> None:
    done = []

    def work() -> None:
        with interrupts_deferred():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
