"""A part that many threads ask for at once is made by one of them."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from api.dependencies import Services
from api.made_once import made_once
from api.runtime import Runtime


class Maker:
    def __init__(self) -> None:
        self.made = 0
        self.start = threading.Barrier(8)

    @made_once
    def part(self) -> object:
        """Something slow to make."""
        self.made += 1
        time.sleep(0.05)
        return object()

    @made_once
    def broken(self) -> object:
        self.made += 1
        raise ValueError("not now")


def test_eight_threads_get_the_same_part_which_was_made_once() -> None:
    maker, other = Maker(), Maker()

    def asked(_: int) -> object:
        maker.start.wait(10)
        return maker.part

    with ThreadPoolExecutor(8) as pool:
        parts = set(pool.map(asked, range(8)))
    assert (len(parts), maker.made) == (1, 1)
    assert other.part not in parts
    assert vars(maker)["part"] in parts


def test_what_failed_is_tried_again() -> None:
    maker = Maker()
    for made in (1, 2):
        with pytest.raises(ValueError, match="not now"):
            _ = maker.broken
        assert maker.made == made


@pytest.mark.parametrize(
    ("owner", "name"),
    [(Runtime, name) for name in ("gate", "keys", "live", "intake", "preload")]
    + [(Services, name) for name in ("encoders", "queue", "bulk", "indexes", "catalog")],
)
def test_every_part_of_a_process_is_made_once(owner: type, name: str) -> None:
    assert isinstance(vars(owner)[name], made_once)
