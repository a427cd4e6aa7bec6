"""Whether one voice is all there is, on made-up voices: each is a direction, and a window is it with noise."""

from collections.abc import Sequence

import numpy as np
import pytest

from indexer.audio.regions import Region
from indexer.listening import Suspicion
from indexer.types import EncoderId, Vectors
from search.screening import WINDOW_S, OneVoiceScreen
from tests.listening_kit import window_vectors

DEFAULT = EncoderId("0575cb64845e6b9a-speechbrain")
DIM = 192


def heard(voices: Sequence[int], seed: int = 0, noise: float = 1.1) -> Vectors:
    """One vector for each window, of the voice that it hears; those of one voice have a cosine of about 0.45."""
    return window_vectors(voices, seed, noise)


def laid(count: int) -> list[Region]:
    """Return windows side by side."""
    return [Region(1.5 * place, 1.5 * place + 1.5) for place in range(count)]


def suspected(vectors: Vectors, encoder_id: EncoderId = DEFAULT) -> Suspicion | None:
    return OneVoiceScreen().suspect(laid(len(vectors)), vectors, encoder_id)


@pytest.mark.parametrize("windows", [1, 2, 5, 16, 17, 300])
def test_one_voice_is_one_however_long_it_speaks(windows: int) -> None:
    assert suspected(heard([0] * windows)) is None


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
        assert suspected(heard(voices, seed)) is not None


def test_no_window_is_one_voice() -> None:
    assert suspected(np.zeros((0, DIM), dtype=np.float32)) is None


def test_the_stretches_that_are_suspected_are_those_of_either_voice() -> None:
    apart = heard([0] * 5 + [1] * 4, noise=0.7).astype(np.float64)
    mixed = apart + 1.2 * apart.mean(axis=0)  # windows that hear a little of both
    suspicion = suspected((mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32))
    assert suspicion is not None
    ((*sides,),) = suspicion.pairs
    early, late = sorted(sides)
    assert early[-1].end_s <= 7.5 <= late[0].start_s
    for side in sides:
        assert 1.0 <= sum(end_s - start_s for start_s, end_s in side) <= 4.0


def test_what_is_plainly_two_voices_needs_no_closer_look() -> None:
    assert suspected(heard([0] * 5 + [1] * 5, noise=0.5)) == Suspicion()


@pytest.mark.parametrize(("windows", "is_suspected"), [(3, False), (4, True), (5, True), (6, False), (16, False)])
def test_of_a_short_recording_less_is_a_doubt_for_it_is_soon_looked_at_again(windows: int, is_suspected: bool) -> None:
    half = windows // 2
    # The second eigenvalue of two groups whose windows are alike, as a share of the root of their number.
    likeness = np.sqrt(
        ((windows / 2 - 0.35 * np.sqrt(windows)) ** 2 - (windows / 2 - half) ** 2) / half / (windows - half)
    )
    voices = np.array([[1.0, 0.0], [likeness, np.sqrt(1 - likeness**2)]], dtype=np.float32)
    vectors = voices[[0] * half + [1] * (windows - half)]
    assert (suspected(vectors) is not None) == is_suspected
    assert suspected(vectors, EncoderId("0123456789abcdef-current")) is None


def test_of_an_encoder_that_nobody_measured_the_diarizer_decides() -> None:
    assert suspected(heard([0] * 5 + [1] * 5), EncoderId("0123456789abcdef-current")) == Suspicion()


def test_a_closer_look_clears_only_what_is_alike_in_every_pair() -> None:
    one, other = heard([0, 0], noise=0.3), heard([0, 1], noise=0.3)
    assert OneVoiceScreen().least_voices(one[None], DEFAULT) == 1
    assert OneVoiceScreen().least_voices(np.stack([one, other]), DEFAULT) == 2


@pytest.mark.parametrize(("cosine", "voices"), [(0.41, 1), (0.39, None), (0.34, None), (0.32, 2), (-0.1, 2)])
def test_a_closer_look_is_sure_of_two_voices_only_where_they_are_further_apart_than_one_is(
    cosine: float, voices: int | None
) -> None:
    pair = np.array([[[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]]], dtype=np.float32)
    assert OneVoiceScreen().least_voices(pair, DEFAULT) == voices
    assert OneVoiceScreen().least_voices(pair, EncoderId("0123456789abcdef-current")) is None


def test_windows_lie_every_half_second_within_the_speech() -> None:
    planned = OneVoiceScreen().windows([Region(1.0, 3.3), Region(9.0, 10.2), Region(20.0, 20.4)])
    expected = [(1.0, 2.5), (1.5, 3.0), (1.8, 3.3), (9.0, 10.0)]
    assert planned == [pytest.approx(window) for window in expected]
    assert WINDOW_S == 1.5
