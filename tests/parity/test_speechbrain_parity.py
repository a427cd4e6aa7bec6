"""The published SpeechBrain weights in our network, against vectors that SpeechBrain's own code computed.

`make_speechbrain_expected.py` made the numbers; both sides see the same 16 kHz samples.
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from indexer.embedding.encoder import load_encoder
from indexer.types import SAMPLE_RATE_HZ

EXPECTED = Path(__file__).with_name("speechbrain_expected.npz")


@pytest.mark.real_weights
@pytest.mark.real_speech
def test_twenty_recordings_get_the_vectors_that_speechbrain_computes(default_weights: Path, speech_dir: Path) -> None:
    encoder = load_encoder(default_weights, name="default", family="speechbrain", device="cpu")
    with np.load(EXPECTED) as expected:
        assert len(expected.files) == 20
        for path in expected.files:
            samples, rate = soundfile.read(speech_dir / path, dtype="float32", always_2d=True)
            waveform = samples.mean(axis=1)
            if rate != SAMPLE_RATE_HZ:
                waveform = soxr.resample(waveform, rate, SAMPLE_RATE_HZ, quality="HQ")
            raw = encoder.embed_raw([np.ascontiguousarray(waveform)])[0].astype(np.float64)
            reference = expected[path].astype(np.float64)
            cosine = raw @ reference / (np.linalg.norm(raw) * np.linalg.norm(reference))
            assert cosine >= 0.99999, path
            # The cosine forgives a common factor; the raw numbers (of order 20) do not.
            np.testing.assert_allclose(raw, reference, atol=2e-3, rtol=0, err_msg=path)
