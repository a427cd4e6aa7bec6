"""Whether one voice is all there is, on made-up voices: each is a direction, and a window is it with noise."""

from collections.abc import Sequence

import numpy as np
import pytest

from indexer.audio.regions import Region
from indexer.types import EncoderId, Vectors
from search.screening import WINDOW_S, OneVoiceScreen

DEFAULT = EncoderId("0575cb64845e6b9a-speechbrain")
DIM = 192


def heard(voices: Sequence[int], seed: int = 0, noise: float = 1.1) -> Vectors:
    """One vector for each window, of the voice that it hears; those of one voice have a cosine of about 0.45."""
    directions = np.random.default_rng(99).standard_normal((max(voices) + 1, DIM))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rows = directions[list(voices)] + noise * np.random.default_rng(seed).standard_normal((len(voices), DIM)) / DIM**0.5
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("windows", [1, 2, 5, 16, 17, 300])
def test_one_voice_is_one_however_long_it_speaks(windows: int) -> None:
    assert OneVoiceScreen().is_one_voice(heard([0] * windows), DEFAULT)


@pytest.mark.parametrize(
    "voices",
    [
        pytest.param([0] * 3 + [1] * 3, id="equal shares"),
        pytest.param([0] * 8 + [1] * 2, id="four fifths and one"),
        pytest.param([0, 1] * 5, id="in turn"),
        pytest.param([0] * 150 + [1] * 150, id="one after the other, each for minutes"),
        pytest.param([0] * 200 + [1] * 4 + [0] * 100, id="six seconds within minutes"),
    ],
)
def test_a_second_voice_is_not_passed_over(voices: list[int]) -> None:
    for seed in range(5):
        assert not OneVoiceScreen().is_one_voice(heard(voices, seed), DEFAULT)


def test_no_window_is_one_voice() -> None:
    assert OneVoiceScreen().is_one_voice(np.zeros((0, DIM), dtype=np.float32), DEFAULT)


def test_windows_lie_side_by_side_within_the_speech() -> None:
    planned = OneVoiceScreen().windows([Region(1.0, 5.0), Region(9.0, 10.2), Region(20.0, 20.4)])
    assert planned == [Region(1.0, 2.5), Region(2.5, 4.0), Region(3.5, 5.0), Region(9.0, 10.0)]
    assert WINDOW_S == 1.5
