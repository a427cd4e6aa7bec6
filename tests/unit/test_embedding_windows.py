"""Vectors of stretches out of the pass of their utterance: the same whoever asks, and beside unchanged vectors."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from api.evaluation.cache import HeardCache
from api.evaluation.remembering import RememberingEncoder
from indexer.embedding.batching import BatchingEncoder
from indexer.embedding.ecapa import Ecapa, EcapaConfig
from indexer.embedding.encoder import SpeakerEncoder, load_encoder
from indexer.embedding.windows import statistics_of
from indexer.errors import TooLittleSpeech
from indexer.types import SAMPLE_RATE_HZ, Waveform

TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


@pytest.fixture(scope="module")
def encoder() -> SpeakerEncoder:
    return load_encoder(TINY, name="tiny", family="nemo", front_end="current", device="cpu", batch_audio_s=4.0)


def noise(seconds: float, seed: int = 0) -> Waveform:
    return (np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE_HZ)) * 0.1).astype(np.float32)


WAVEFORMS = [noise(2, 1), noise(3, 2), noise(2, 3), noise(1, 4)]
WINDOWS = [[(0, 16_000), (8_000, 24_000)], [(0, 48_000)], [(16_000, 32_000)], []]


def test_vectors_are_those_without_windows_and_a_window_over_all_is_near_them(encoder: SpeakerEncoder) -> None:
    vectors, windows = encoder.embed_with_windows(WAVEFORMS, WINDOWS)
    np.testing.assert_allclose(vectors, encoder.embed(WAVEFORMS), atol=1e-5)
    assert [some.shape for some in windows] == [(2, 32), (1, 32), (1, 32), (0, 32)]
    assert float(windows[1][0] @ vectors[1]) > 0.95
    assert float(windows[1][0] @ vectors[0]) < float(windows[1][0] @ vectors[1])


def test_without_attention_a_window_over_all_is_the_utterance(encoder: SpeakerEncoder) -> None:
    network = encoder.checkpoint.network
    assert isinstance(network, EcapaConfig)
    torch.manual_seed(0)
    plain = Ecapa(replace(network, pooling="xvector", embedding_sizes=(16, 8))).eval()
    with torch.inference_mode():
        vectors, frames = plain.with_frames(torch.randn(2, network.bins, 48), 48)
        whole = statistics_of(frames[0], [(0, 8_000)], 8_000)
        torch.testing.assert_close(plain.of_statistics(whole), vectors[:1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_frames_added_up_a_part_at_a_time_are_those_added_up_at_once(dtype: torch.dtype) -> None:
    frames = torch.randn(24, 1003, generator=torch.Generator().manual_seed(0)).to(dtype)
    before = frames.clone()
    found = statistics_of(frames, [(0, 24_000), (60_000, 160_400)], 160_400)
    blocks = torch.nn.functional.pad(frames.T.float(), (0, 0, 0, 1)).view(251, 4, 24)
    for own, wanted in ((slice(0, 38), (0, 0)), (slice(94, 251), (1, 1))):
        row = wanted[0]
        sums, powers, held = blocks.sum(dim=1)[own], blocks.square().sum(dim=1)[own], found.frames[row]
        torch.testing.assert_close(found.mean[row], sums.sum(dim=0) / held)
        torch.testing.assert_close(found.variance[row], powers.sum(dim=0) / held - found.mean[row].square())
    assert torch.equal(frames, before)


def test_a_window_is_pooled_from_its_own_frames(encoder: SpeakerEncoder) -> None:
    loud_end = np.concatenate([noise(2, 1), np.sin(np.arange(32_000) * 0.1).astype(np.float32)])
    _, (windows,) = encoder.embed_with_windows([loud_end], [[(0, 30_000), (2_000, 30_000), (34_000, 62_000)]])
    noise_alike, noise_tone = windows[0] @ windows[1], windows[0] @ windows[2]
    assert noise_alike > 0.99 > noise_tone


def test_a_short_utterance_is_refused_as_without_windows(encoder: SpeakerEncoder) -> None:
    with pytest.raises(TooLittleSpeech):
        encoder.embed_with_windows([noise(0.05)], [[]])


def test_whoever_shares_an_encoder_gets_the_same(encoder: SpeakerEncoder) -> None:
    expected, expected_windows = encoder.embed_with_windows(WAVEFORMS, WINDOWS)
    shared = BatchingEncoder(encoder, batch_audio_s=4.0)
    try:
        for view in (shared, shared.background()):
            vectors, windows = view.embed_with_windows(WAVEFORMS, WINDOWS)
            np.testing.assert_allclose(vectors, expected, atol=1e-5)
            for own, wanted in zip(windows, expected_windows, strict=True):
                np.testing.assert_allclose(own, wanted, atol=1e-5)
    finally:
        shared.close()


def test_what_was_pooled_once_is_remembered(encoder: SpeakerEncoder, tmp_path: Path) -> None:
    cache = HeardCache(tmp_path)
    try:
        remembering = RememberingEncoder(encoder, cache)
        vectors, windows = remembering.embed_with_windows(WAVEFORMS, WINDOWS)
        again, windows_again = remembering.embed_with_windows(WAVEFORMS, WINDOWS)
        np.testing.assert_array_equal(again, vectors)
        np.testing.assert_allclose(vectors, encoder.embed(WAVEFORMS), atol=1e-5)
        assert [some.shape for some in windows] == [(2, 32), (1, 32), (1, 32), (0, 32)]
        for own, before in zip(windows_again, windows, strict=True):
            np.testing.assert_array_equal(own, before)
    finally:
        cache.close()
