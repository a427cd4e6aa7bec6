"""How much audio a file holds is guessed from what is cheap to know."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from indexer.audio.durations import UNKNOWN_S, estimate_duration_s, guess_duration_s


@pytest.mark.parametrize(
    ("name", "rate", "channels", "subtype"),
    [
        ("a.wav", 8000, 1, "ULAW"),
        ("a.wav", 48000, 2, "PCM_24"),
        ("a.wav", 16000, 1, "FLOAT"),
        ("a.flac", 44100, 2, "PCM_16"),
    ],
)
def test_a_header_that_tells_the_length_is_believed(
    tmp_path: Path, name: str, rate: int, channels: int, subtype: str
) -> None:
    path = tmp_path / name
    soundfile.write(path, np.zeros((rate * 5, channels)), rate, subtype=subtype)
    assert estimate_duration_s(path, path.stat().st_size) == pytest.approx(5.0, rel=0.01)


def test_a_file_that_claims_to_be_audio_and_is_not_is_guessed_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"x" * 160_000)
    assert estimate_duration_s(path, 160_000) == 10.0
    assert estimate_duration_s(tmp_path / "gone.wav", 160_000) == 10.0


def test_a_header_that_claims_more_than_is_there_counts_for_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(16_000 * 10), 16_000)
    path.write_bytes(path.read_bytes()[: 44 + 32_000])
    assert estimate_duration_s(path, path.stat().st_size) == pytest.approx(1.0)


def test_formats_are_guessed_at_the_rates_of_speech() -> None:
    assert guess_duration_s("call.OPUS", 30_000) == 10.0
    assert guess_duration_s("call.mp3", 80_000) == 10.0
    assert guess_duration_s("call.unheard-of", 160_000) == 10.0
    assert guess_duration_s("call.wav", None) == UNKNOWN_S
