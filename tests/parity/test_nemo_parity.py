"""Our numbers against NeMo's own, and against a second implementation in NumPy for shapes that NeMo was not run on."""

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from indexer.audio.decode import decode
from indexer.embedding.checkpoints import detect_family
from indexer.embedding.encoder import load_encoder
from tests.conftest import REPOSITORY, unavailable
from tests.parity.make_fixture import LENGTHS, voiced_signal
from tests.parity.nemo_files import nemo_config, random_weights, write_nemo
from tests.parity.numpy_ecapa import nemo_embedding, nemo_features

HERE = Path(__file__).parent
GENERATIONS = ("legacy", "current")
TOLERANCE = 2e-4  # what one torch build may differ from another; embeddings are of order 2

VARIANTS: dict[str, dict[str, Any]] = {
    "two blocks": {
        "encoder__filters": [16, 16, 16, 32],
        "encoder__kernel_sizes": [3, 3, 5, 3],
        "encoder__dilations": [2, 4, 1, 2],
        "decoder__feat_in": 32,
    },
    "one block": {
        "encoder__filters": [16, 16, 16],
        "encoder__kernel_sizes": [5, 3, 1],
        "encoder__dilations": [1, 1, 1],
        "decoder__feat_in": 16,
    },
    "five blocks": {
        "encoder__filters": [16] * 6 + [80],
        "encoder__kernel_sizes": [5, 3, 3, 3, 3, 3, 1],
        "encoder__dilations": [1, 2, 3, 4, 5, 6, 1],
        "decoder__feat_in": 80,
    },
    "one group": {"encoder__scale": 1},
    "a group per channel": {"encoder__scale": 24},
    "even kernel with even dilation": {"encoder__kernel_sizes": [5, 4, 3, 3, 1], "encoder__dilations": [1, 2, 1, 1, 1]},
    "one embedding layer": {"decoder__emb_sizes": 192},
    "three embedding layers": {"decoder__emb_sizes": [48, 24, 8]},
    "default attention": {"decoder__attention_channels": ...},
    "x-vector pooling": {"decoder__pool_mode": "xvector"},
    "average pooling": {"decoder__pool_mode": "tap"},
    "64 bins": {"preprocessor__features": 64, "encoder__feat_in": 64},
    "other windows": {"preprocessor__window_size": 0.032, "preprocessor__window_stride": 0.0125},
    "windows in samples": {
        "preprocessor__window_size": None,
        "preprocessor__window_stride": None,
        "preprocessor__n_window_size": 320,
        "preprocessor__n_window_stride": 128,
    },
    "fft from window": {"preprocessor__n_fft": None},
    "long fft": {"preprocessor__n_fft": 1024},
    "no pre-emphasis": {"preprocessor__preemph": None},
    "normalized over all bins": {"preprocessor__normalize": "all_features"},
    "not normalized": {"preprocessor__normalize": None},
    "no padding": {"preprocessor__pad_to": 0},
    "padded with a value": {"preprocessor__pad_to": 32, "preprocessor__pad_value": 0.5},
    "clamped logarithm": {"preprocessor__log_zero_guard_type": "clamp", "preprocessor__log_zero_guard_value": 1e-6},
    "magnitudes": {"preprocessor__mag_power": 1.0},
    "spliced frames": {"preprocessor__frame_splicing": 2, "encoder__feat_in": 80},
}


@pytest.fixture(scope="module")
def nemo_reference() -> Path:
    """Folder with what NeMo itself computed: ecapa_small.nemo and one npz for each generation."""
    given = os.environ.get("VOXDEX_TEST_REFERENCE_DIR")
    folder = (Path(given) if given else REPOSITORY.parent / "shared" / "reference") / "nemo"
    if not (folder / "ecapa_small.nemo").is_file():
        unavailable(f"no ecapa_small.nemo in {folder}; set VOXDEX_TEST_REFERENCE_DIR to the folder that holds nemo/")
    return folder


@pytest.mark.real_speech
@pytest.mark.parametrize("generation", GENERATIONS)
def test_every_reference_file_gets_the_embedding_and_features_that_nemo_computed(
    generation: str, nemo_reference: Path, speech_dir: Path
) -> None:
    encoder = load_encoder(nemo_reference / "ecapa_small.nemo", name="small", family="nemo", front_end=generation)
    front_end = encoder.checkpoint.build_front_end()
    paths = (nemo_reference / "files.txt").read_text().split()
    with np.load(nemo_reference / f"ecapa_small.{generation}.npz") as expected:
        for path in paths:
            waveform = decode(speech_dir / path).waveforms[0]
            frames = front_end(torch.from_numpy(waveform)[None])
            assert [frames.valid, frames.values.shape[2]] == expected[f"frames:{path}"].tolist(), path
            features = expected[f"features:{path}"].reshape(frames.values.shape[1:])
            np.testing.assert_allclose(frames.values[0].numpy(), features, atol=1e-3, rtol=0, err_msg=path)
            raw = encoder.embed_raw([waveform])[0]
            np.testing.assert_allclose(raw, expected[path], atol=TOLERANCE, rtol=0, err_msg=path)
    assert len(paths) >= 6


@pytest.mark.parametrize("generation", GENERATIONS)
def test_committed_model_gives_the_committed_numbers(generation: str) -> None:
    encoder = load_encoder(HERE / "tiny.nemo", name="tiny", family="nemo", front_end=generation, device="cpu")
    raw = encoder.embed_raw([voiced_signal(length) for length in LENGTHS])
    with np.load(HERE / "tiny_expected.npz") as expected:
        for row, length in zip(raw, LENGTHS, strict=True):
            np.testing.assert_allclose(row, expected[f"{generation}:{length}"], atol=TOLERANCE, rtol=0)


def test_the_two_generations_differ_by_far_more_than_the_tolerance() -> None:
    with np.load(HERE / "tiny_expected.npz") as expected:
        for length in LENGTHS:
            assert np.abs(expected[f"legacy:{length}"] - expected[f"current:{length}"]).max() > 10 * TOLERANCE


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_shape_agrees_with_the_numpy_reference(
    variant: str, generation: Literal["legacy", "current"], tmp_path: Path
) -> None:
    config = nemo_config(**VARIANTS[variant])
    weights = random_weights(config, seed=3)
    path = write_nemo(tmp_path / "variant.nemo", config, weights)
    encoder = load_encoder(path, name=variant, family="nemo", front_end=generation, device="cpu")
    front_end = encoder.checkpoint.build_front_end()
    for length in (1_600, 5_120, 12_345):
        signal = voiced_signal(length)
        features, valid = nemo_features(signal, config["preprocessor"], weights, generation)
        frames = front_end(torch.from_numpy(signal)[None])
        assert frames.valid == valid
        np.testing.assert_allclose(frames.values[0].numpy(), features, atol=1e-3, rtol=0)
        expected = nemo_embedding(signal, config, weights, generation)
        np.testing.assert_allclose(encoder.embed_raw([signal])[0], expected, atol=TOLERANCE, rtol=1e-5)


@pytest.mark.parametrize("compression", ["w", "w:gz"])
@pytest.mark.parametrize("prefix", ["./", ""])
@pytest.mark.parametrize("old_format", [False, True])
def test_every_container_that_nemo_has_written_gives_the_same_vector(
    compression: Literal["w", "w:gz"], prefix: str, old_format: bool, tmp_path: Path
) -> None:
    config = nemo_config()
    weights = random_weights(config, seed=7)
    path = tmp_path / "container.nemo"
    write_nemo(path, config, weights, compression=compression, prefix=prefix, old_format=old_format)
    assert detect_family(path) == "nemo"
    encoder = load_encoder(path, name="container", family="nemo", device="cpu")
    assert encoder.id.endswith("-nemo-legacy")  # the configuration names 1.16.0
    with np.load(HERE / "tiny_expected.npz") as expected:
        raw = encoder.embed_raw([voiced_signal(16_000)])[0]
        np.testing.assert_allclose(raw, expected["legacy:16000"], atol=TOLERANCE, rtol=0)
