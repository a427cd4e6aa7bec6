import threading

from indexer.index.locks import ReadWriteLock


def test_readers_are_inside_together() -> None:
    lock, both = ReadWriteLock(), threading.Barrier(2, timeout=60)

    def read() -> None:
        with lock.reading():
            both.wait()

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not both.broken


def test_a_writer_is_inside_alone() -> None:
    lock, inside, seen = ReadWriteLock(), [0], []

    def write() -> None:
        for _ in range(200):
            with lock.writing():
                inside[0] += 1
                seen.append(inside[0])
                inside[0] -= 1

    def read() -> None:
        for _ in range(200):
            with lock.reading():
                seen.append(inside[0] + 1)

    threads = [threading.Thread(target=work) for work in (write, write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert set(seen) == {1}


def test_a_waiting_writer_goes_before_new_readers() -> None:
    lock, order = ReadWriteLock(), []
    first_inside, release_first = threading.Event(), threading.Event()

    def first() -> None:
        with lock.reading():
            first_inside.set()
            release_first.wait(60)

    def writer() -> None:
        with lock.writing():
            order.append("writer")

    def late() -> None:
        with lock.reading():
            order.append("late reader")

    threads = [threading.Thread(target=work) for work in (first, writer, late)]
    threads[0].start()
    first_inside.wait(60)
    threads[1].start()
    while not lock._writers_waiting:
        pass
    threads[2].start()
    threads[2].join(timeout=0.05)
    assert order == []
    release_first.set()
    for thread in threads:
        thread.join(timeout=60)
    assert order == ["writer", "late reader"]


def test_an_error_inside_lets_the_next_one_in() -> None:
    lock = ReadWriteLock()
    for enter in (lock.writing, lock.reading):
        try:
            with enter():
                raise RuntimeError
        except RuntimeError:
            pass
    with lock.writing():
        pass
