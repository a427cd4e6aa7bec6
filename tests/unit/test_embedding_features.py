"""Front ends against numbers worked by hand; parity with the published code is in tests/parity."""

import math

import pytest
import torch

from indexer.embedding.features import (
    NemoFrontEnd,
    NemoFrontEndConfig,
    SpeechBrainFrontEnd,
    SpeechBrainFrontEndConfig,
    left_gap_triangles,
)


def _nemo(**changes: object) -> NemoFrontEnd:
    config = NemoFrontEndConfig(
        **({"generation": "legacy", "bins": 4, "fft": 512, "window": 400, "hop": 160} | changes)
    )  # type: ignore[arg-type]
    return NemoFrontEnd(config, torch.hann_window(config.window, periodic=False), torch.ones(config.bins, 257) / 257)


@pytest.mark.parametrize(
    ("samples", "legacy", "current"),
    [(16_000, 101, 100), (1_600, 11, 10), (1_599, 10, 9), (320, 3, 2), (96_139, 601, 600)],
)
def test_valid_frames_are_one_fewer_since_2_5(samples: int, legacy: int, current: int) -> None:
    assert _nemo(generation="legacy").config.valid_frames(samples) == legacy
    assert _nemo(generation="current").config.valid_frames(samples) == current


@pytest.mark.parametrize("generation", ["legacy", "current"])
@pytest.mark.parametrize(("samples", "padded"), [(2_399, 16), (2_400, 16), (2_560, 32), (16_000, 112)])
def test_time_is_padded_with_zeros_to_a_multiple_of_16(generation: str, samples: int, padded: int) -> None:
    front_end = _nemo(generation=generation)
    frames = front_end(torch.randn(2, samples))
    assert frames.values.shape == (2, 4, padded)
    assert frames.values[:, :, frames.valid :].eq(0).all()
    assert frames.values[:, :, : frames.valid].ne(0).all()


@pytest.mark.parametrize("generation", ["legacy", "current"])
@pytest.mark.parametrize("exact_pad", [False, True])
@pytest.mark.parametrize("frames", [2, 3, 10])
def test_the_stated_minimum_gives_that_many_frames_and_one_sample_less_does_not(
    generation: str, exact_pad: bool, frames: int
) -> None:
    front_end = _nemo(generation=generation, exact_pad=exact_pad)
    needed = front_end.samples_for(frames)
    assert front_end(torch.randn(1, needed)).valid >= frames
    if front_end.config.valid_frames(needed - 1) >= frames:  # then it is the mirrored edge that needs the samples
        with pytest.raises(RuntimeError, match=r"[Pp]adding"):
            front_end(torch.randn(1, needed - 1))


def test_each_bin_of_the_speech_has_mean_zero_and_deviation_one() -> None:
    frames = _nemo(generation="current")(torch.randn(3, 16_000))
    speech = frames.values[:, :, : frames.valid]
    torch.testing.assert_close(speech.mean(2), torch.zeros(3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(speech.std(2, correction=1), torch.ones(3, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("generation", ["legacy", "current"])
@pytest.mark.parametrize("signal", [torch.zeros(1, 1_600), torch.full((1, 1_600), 0.5), torch.eye(1, 1_600)])
def test_silence_constants_and_one_click_give_finite_features(generation: str, signal: torch.Tensor) -> None:
    assert torch.isfinite(_nemo(generation=generation)(signal).values).all()
    assert torch.isfinite(SpeechBrainFrontEnd(SpeechBrainFrontEndConfig())(signal).values).all()


def test_the_last_frame_of_the_current_generation_cannot_be_heard_in_the_statistics() -> None:
    quiet = torch.randn(1, 16_000)
    loud_end = quiet.clone()
    loud_end[0, -40:] *= 100.0  # windows of one hop: only the last frame, centered on the end, covers these
    for generation, heard in (("legacy", True), ("current", False)):
        front_end = _nemo(generation=generation, window=160)
        before, after = front_end(quiet).values[:, :, :99], front_end(loud_end).values[:, :, :99]
        assert bool((before != after).any()) == heard


def test_digital_silence_is_flat_for_speechbrain() -> None:
    frames = SpeechBrainFrontEnd(SpeechBrainFrontEndConfig())(torch.zeros(1, 16_000))
    assert frames.values.shape == (1, 80, 101)
    assert frames.valid == 101
    assert frames.values.eq(0).all()


def test_decibels_span_at_most_80_under_the_loudest_cell() -> None:
    time = torch.arange(16_000) / 16_000
    tone = torch.sin(2 * math.pi * 1000 * time) * (time < 0.5)  # half a second of tone, half of nothing
    front_end = SpeechBrainFrontEnd(SpeechBrainFrontEndConfig())
    values = front_end(tone[None]).values[0]
    spans = values.amax(1) - values.amin(1)
    loudest_bin = int(spans.argmax())
    assert spans[loudest_bin] == pytest.approx(80.0, abs=1e-3)
    centers = 700 * (10 ** (torch.linspace(0, 2595 * math.log10(1 + 8000 / 700), 82) / 2595) - 1)
    assert abs(float(centers[loudest_bin + 1]) - 1000) < 60


def test_a_louder_recording_gives_the_same_speechbrain_features() -> None:
    front_end = SpeechBrainFrontEnd(SpeechBrainFrontEndConfig())
    signal = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(1)) * 0.05
    torch.testing.assert_close(front_end(signal).values, front_end(signal * 8).values, atol=1e-3, rtol=0)


def test_triangles_peak_at_one_and_are_as_wide_on_the_right_as_on_the_left() -> None:
    config = SpeechBrainFrontEndConfig(bins=4, fft=16_000)  # one FFT bin per Hz
    triangles = left_gap_triangles(config)
    mel = torch.linspace(0, 2595 * math.log10(1 + 8000 / 700), 6)
    hertz = 700 * (10 ** (mel / 2595) - 1)
    for row, left, center in zip(triangles, hertz[:-2], hertz[1:-1], strict=True):
        half = center - left
        assert float(row.max()) == pytest.approx(1.0, abs=5e-3)
        positive = torch.nonzero(row > 0).flatten()
        assert float(positive[0]) == pytest.approx(float(left), abs=1.5)
        assert float(positive[-1]) == pytest.approx(float(center + half), abs=1.5)
