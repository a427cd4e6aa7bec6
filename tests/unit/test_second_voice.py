"""What may be a second voice, on made-up voices: each is a direction, and a window is it with noise."""

from collections.abc import Sequence

import pytest

from indexer.audio.regions import Region
from indexer.listening import UnlikeStretch
from indexer.types import EncoderId, Vectors
from search.second_voice import UnlikeStretchFinder
from tests.listening_kit import window_vectors

DEFAULT = EncoderId("0575cb64845e6b9a-speechbrain")


def heard(voices: Sequence[int], seed: int = 0, noise: float = 0.9) -> Vectors:
    """One vector for each window, of the voice that it hears; those of one voice have a cosine of about 0.55."""
    return window_vectors(voices, seed, noise)


def laid(count: int) -> list[Region]:
    """Return windows of 1.5 s every half second."""
    return [Region(place / 2, place / 2 + 1.5) for place in range(count)]


def found(vectors: Vectors, encoder_id: EncoderId = DEFAULT) -> UnlikeStretch | None:
    """Return what is found where windows out of a longer pass and those by themselves are all the same."""
    finder, windows = UnlikeStretchFinder(), laid(len(vectors))
    doubt = finder.doubt(windows, vectors, encoder_id)
    if doubt is None:
        return None
    return finder.find(doubt, vectors[[windows.index(window) for window in doubt.windows]], encoder_id)


@pytest.mark.parametrize("windows", [1, 2, 6, 20, 200])
def test_one_voice_is_nothing_to_listen_to(windows: int) -> None:
    assert [found(heard([0] * windows, seed)) for seed in range(5)] == [None] * 5


@pytest.mark.parametrize("first", [0, 7, 16])
def test_a_short_second_voice_is_found_where_it_speaks(first: int) -> None:
    voices = [0] * 20
    voices[first : first + 4] = [1] * 4
    for seed in range(5):
        stretch = found(heard(voices, seed))
        assert stretch is not None
        assert (stretch.start_s, stretch.end_s) == (first / 2, (first + 3) / 2 + 1.5)
        assert stretch.cosine < 0.4


def test_a_short_second_voice_is_found_within_minutes() -> None:
    stretch = found(heard([0] * 150 + [1] * 5 + [0] * 90))
    assert stretch is not None
    assert (stretch.start_s, stretch.end_s) == (75.0, 78.5)


def test_equal_shares_are_told_too() -> None:
    stretch = found(heard([0] * 8 + [1] * 8))
    assert stretch is not None
    assert stretch.cosine < 0.4


def test_vectors_of_another_encoder_have_their_own_bars() -> None:
    campplus = EncoderId("92f29b94e6948786-kaldi")
    assert found(heard([0] * 14 + [1] * 4, noise=0.6), campplus) is not None
    assert [found(heard([0] * 18, seed, noise=0.6), campplus) for seed in range(5)] == [None] * 5


def test_of_two_encoders_that_is_asked_which_tells_more_wherever_it_stands() -> None:
    campplus, other = EncoderId("92f29b94e6948786-kaldi"), EncoderId("0123456789abcdef-kaldi")
    fast = EncoderId("0575cb64845e6b9a-speechbrain-fast")
    finder = UnlikeStretchFinder()
    assert finder.tells_best([fast, campplus]) == finder.tells_best([campplus, fast]) == campplus
    assert finder.tells_best([other, fast]) == fast
    assert finder.tells_best([other]) == other


def test_an_encoder_that_nobody_measured_it_for_asks_nobody_to_listen() -> None:
    assert found(heard([0] * 8 + [1] * 4), EncoderId("0123456789abcdef-kaldi")) is None


def test_the_precision_of_an_encoder_does_not_matter() -> None:
    assert found(heard([0] * 8 + [1] * 4), EncoderId("0575cb64845e6b9a-speechbrain-fast")) is not None
