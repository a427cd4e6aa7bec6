"""A disk that is full, for tests of what is left when a write fails."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def disk_full_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes; the system refuses the write as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
