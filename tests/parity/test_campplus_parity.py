"""CAM++ against vectors that 3D-Speaker's own code computed, and against a NumPy version of it on generated weights.

`campplus_expected.npz` holds raw outputs of the published weights by path below the speech folder.
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from indexer.embedding.encoder import load_encoder
from indexer.embedding.features import KaldiFrontEnd, KaldiFrontEndConfig
from indexer.types import SAMPLE_RATE_HZ
from tests.parity.campplus_files import random_campplus, write_campplus
from tests.parity.make_fixture import voiced_signal
from tests.parity.numpy_campplus import campplus_embedding, kaldi_features

EXPECTED = Path(__file__).with_name("campplus_expected.npz")


@pytest.mark.real_weights
@pytest.mark.real_speech
def test_twelve_recordings_get_the_vectors_that_3d_speaker_computes(campplus_weights: Path, speech_dir: Path) -> None:
    encoder = load_encoder(campplus_weights, name="campplus", family="campplus", device="cpu")
    assert (encoder.id, encoder.dim) == ("92f29b94e6948786-kaldi", 192)
    with np.load(EXPECTED) as expected:
        assert len(expected.files) == 12
        for path in expected.files:
            waveform, rate = soundfile.read(speech_dir / path, dtype="float32")
            assert rate == SAMPLE_RATE_HZ
            raw = encoder.embed_raw([waveform])[0].astype(np.float64)
            reference = expected[path].astype(np.float64)
            cosine = raw @ reference / (np.linalg.norm(raw) * np.linalg.norm(reference))
            assert cosine >= 0.99999, path
            # The cosine forgives a common factor; the raw numbers (of order 1) do not.
            np.testing.assert_allclose(raw, reference, atol=1e-4, rtol=0, err_msg=path)


@pytest.mark.parametrize("samples", [1_600, 2_561, 16_000, 33_333, 70_000])
def test_generated_weights_give_what_numpy_computes(samples: int, tmp_path: Path) -> None:
    weights = random_campplus()
    path = write_campplus(tmp_path / "tiny.pt", weights)
    encoder = load_encoder(path, name="tiny", family="campplus", device="cpu")
    waveform = voiced_signal(samples)  # The longest has three segments of the mask's context, the last a short one.
    np.testing.assert_allclose(
        encoder.embed_raw([waveform])[0], campplus_embedding(waveform, weights), atol=2e-4, rtol=2e-4
    )


@pytest.mark.parametrize("samples", [400, 559, 560, 16_000, 40_123])
def test_the_filterbank_is_kaldis_for_a_whole_batch(samples: int) -> None:
    from torchaudio.compliance.kaldi import fbank

    waveforms = torch.stack([torch.from_numpy(voiced_signal(samples)), 0.3 * torch.randn(samples)])
    frames = KaldiFrontEnd(KaldiFrontEndConfig())(waveforms)
    assert frames.valid == frames.values.shape[2] == (samples - 400) // 160 + 1
    for waveform, ours in zip(waveforms, frames.values, strict=True):
        theirs = fbank(waveform[None], num_mel_bins=80, sample_frequency=SAMPLE_RATE_HZ, dither=0.0).T
        torch.testing.assert_close(ours, theirs - theirs.mean(dim=1, keepdim=True), atol=2e-4, rtol=0)


def test_the_filterbank_is_what_its_definition_says() -> None:
    waveform = voiced_signal(4_000)
    ours = KaldiFrontEnd(KaldiFrontEndConfig())(torch.from_numpy(waveform)[None]).values[0].numpy()
    np.testing.assert_allclose(ours, kaldi_features(waveform), atol=1e-3)
