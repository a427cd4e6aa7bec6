"""What waits between the stages of a pipeline: utterances by length, and files that are decoded once more."""

import threading
from pathlib import Path

import numpy as np
import pytest

from indexer.archive import ArchiveFile
from indexer.audio.segmentation import UtteranceAudio
from indexer.embedded_files import EmbeddedFile
from indexer.stages import HELD_UTTERANCES, GivenUp, Heard, Held, Work, Works
from indexer.types import SAMPLE_RATE_HZ


def work(name: str = "a") -> Work:
    return Work(EmbeddedFile(ArchiveFile(Path(name), None, 1)))


def heard(seconds: float) -> Heard:
    samples = np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
    return Heard(work(), UtteranceAudio(0, 0.0, seconds, samples))


def lengths(taken: list[Heard]) -> list[float]:
    return [len(one.audio.waveform) / SAMPLE_RATE_HZ for one in taken]


def test_full_passes_of_one_length_go_first_and_where_they_are_enough_others_wait() -> None:
    held = Held(batch=32)
    for seconds in (5, 12, 5, 12, 1, 12, 12):
        held.add(heard(seconds))
    assert lengths(held.take()) == [5, 5, 12, 12, 12, 12]
    assert lengths(held.take()) == [1]
    assert not held


def test_where_full_passes_are_not_enough_those_that_wait_longest_go_too() -> None:
    held = Held(batch=8)
    for seconds in (4, 3, 6, 3, 6):
        held.add(heard(seconds))
    assert lengths(held.take()) == [6, 6, 4, 3, 3]
    assert not held


def test_no_more_are_handed_over_than_go_together() -> None:
    held = Held(batch=3)
    for _ in range(4):
        held.add(heard(2))
    assert lengths(held.take()) == [2, 2, 2]
    assert lengths(held.take()) == [2]


def test_long_utterances_are_handed_over_by_fewer() -> None:
    held = Held(batch=32)
    for _ in range(5):
        held.add(heard(50))
    assert [len(held.take()) for _ in range(3)] == [2, 2, 1]
    held.add(heard(500))
    assert lengths(held.take()) == [500]


def test_there_is_room_for_one_more_at_any_time() -> None:
    held = Held(batch=4)
    for number in range(HELD_UTTERANCES + 3):
        assert held.room >= 1
        held.add(heard(1 + number / 100))
    assert held.room == 1


def test_while_others_are_embedded_only_enough_for_some_passes_is_taken() -> None:
    held = Held(batch=32)
    for seconds in (12, 12, 12, 3):
        held.add(heard(seconds))
    assert held.take(if_enough=True) == []
    held.add(heard(1))
    assert lengths(held.take(if_enough=True)) == [12, 12, 12, 3, 1]
    held.add(heard(12))
    assert held.take(if_enough=True) == []  # what was taken counts no longer
    assert lengths(held.take()) == [12]


def test_no_more_are_added_than_are_held() -> None:
    held = Held(batch=4)
    for number in range(HELD_UTTERANCES):
        assert not held.is_full
        held.add(heard(1 + number / 100))
    assert held.is_full
    held.take()
    assert not held.is_full


def go_on() -> None:
    """Say that the run has not ended."""


def test_a_file_that_is_decoded_once_more_comes_before_new_ones_and_none_is_over_before_it_is_done() -> None:
    first, second = work("a"), work("b")
    works = Works(iter([first, second]))
    assert works.next(go_on) is first
    works.again(first)
    assert works.next(go_on) is first
    assert works.next(go_on) is second
    works.done(first)
    ended: list[Work | None] = []
    waiting = threading.Thread(target=lambda: ended.append(works.next(go_on)))
    waiting.start()
    waiting.join(0.15)
    assert waiting.is_alive()
    works.done(second)
    waiting.join(5)
    assert ended == [None]


def test_whoever_waits_for_files_hears_of_the_end_of_the_run() -> None:
    works = Works(iter([work()]))
    works.next(go_on)
    turns = iter([False, False, True])

    def stop_at_last() -> None:
        if next(turns):
            raise GivenUp

    with pytest.raises(GivenUp):
        works.next(stop_at_last)


def test_what_keeps_a_file_readable_ends_when_it_is_done_or_the_run_is() -> None:
    closed: list[str] = []
    done, left = work("a"), work("b")
    works = Works(iter([done, left]))
    for one in (done, left):
        assert works.next(go_on) is one
        one.opened.callback(closed.append, one.result.file.path.name)
    works.done(done)
    assert closed == ["a"]
    works.close()
    assert closed == ["a", "b"]
