"""The laws of CAM++ as an encoder, on generated weights, and what is refused as weights of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.embedding.campplus import CamPlus
from indexer.embedding.checkpoints import detect_family, read_checkpoint
from indexer.embedding.encoder import SpeakerEncoder, load_encoder
from indexer.errors import (
    CorruptArtifact,
    InvalidAudio,
    InvalidRequest,
    NonFiniteEmbedding,
    TooLittleSpeech,
    UnsupportedCheckpoint,
)
from indexer.types import Waveform
from tests.parity.campplus_files import Arrays, random_campplus, write_campplus


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_campplus(tmp_path_factory.mktemp("campplus") / "tiny.pt", random_campplus(dim=24))


@pytest.fixture(scope="module")
def encoder(path: Path) -> SpeakerEncoder:
    return load_encoder(path, name="tiny", family="campplus", device="cpu", batch_audio_s=1.0)


@pytest.fixture
def weights() -> Arrays:
    return random_campplus(dim=24)


def _noise(samples: int, seed: int = 0) -> Waveform:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def test_it_is_named_by_weights_and_front_end_and_says_what_is_in_it(encoder: SpeakerEncoder) -> None:
    assert encoder.id == f"{encoder.checkpoint.weights_sha256[:16]}-kaldi"
    assert (encoder.dim, encoder.min_samples) == (24, 1_600)
    assert encoder.checkpoint.facts["blocks"] == "3 dense (layers/kernel/dilation 2/3/1, 3/3/2, 1/3/2)"
    assert encoder.checkpoint.facts["mel_bins"] == "80"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.sampled_from([1_600, 1_601, 2_560, 4_000, 36_000, 40_000]), min_size=1, max_size=7),
    batch_audio_s=st.sampled_from([0.01, 0.3, 1.0, 60.0]),
)
def test_batch_mates_batch_size_and_order_never_change_a_vector(
    path: Path, lengths: list[int], batch_audio_s: float
) -> None:
    encoder = load_encoder(path, name="tiny", family="campplus", device="cpu", batch_audio_s=batch_audio_s)
    waveforms = [_noise(length, seed) for seed, length in enumerate(lengths)]
    together = encoder.embed(waveforms).astype(np.float64)
    alone = np.concatenate([encoder.embed([waveform]) for waveform in waveforms]).astype(np.float64)
    assert (1.0 - (together * alone).sum(axis=1)).max() <= 1e-5
    backward = encoder.embed(waveforms[::-1])[::-1].astype(np.float64)
    assert (1.0 - (together * backward).sum(axis=1)).max() <= 1e-5


def test_padding_would_change_a_vector_which_is_why_only_equal_lengths_share_a_pass(encoder: SpeakerEncoder) -> None:
    waveform = _noise(20_000)
    padded = np.concatenate((waveform, np.zeros(20_000, np.float32)))
    one, other = encoder.embed([waveform, padded])
    assert float(one @ other) < 0.999


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 1_599])
def test_too_short_an_utterance_is_refused_with_its_length_and_the_minimum(
    samples: int, encoder: SpeakerEncoder
) -> None:
    with pytest.raises(TooLittleSpeech, match=rf"utterance 1: {samples / 16_000:.3f} s.*tiny needs 0\.100 s"):
        encoder.embed([_noise(4_000), _noise(samples)])


def test_the_fewest_frames_that_the_network_states_are_enough_and_one_fewer_has_no_deviation(path: Path) -> None:
    network = read_checkpoint(path, "campplus").build_network()
    assert isinstance(network, CamPlus)
    fewest = network.config.min_frames
    with torch.inference_mode():
        assert torch.isfinite(network(torch.randn(2, 80, fewest), fewest)).all()
        with pytest.warns(UserWarning, match="degrees of freedom"):
            assert torch.isnan(network(torch.randn(2, 80, fewest - 1), fewest - 1)).all()


def test_frames_past_the_valid_ones_are_not_looked_at(path: Path) -> None:
    network = read_checkpoint(path, "campplus").build_network()
    frames = torch.randn(1, 80, 50)
    with torch.inference_mode():
        torch.testing.assert_close(network(frames, 40), network(frames[:, :, :40], 40))


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(16_000, np.float32),
        np.full(16_000, 1.0, np.float32),
        np.eye(1, 16_000, 8_000, dtype=np.float32)[0],
        np.full(16_000, 1e-30, np.float32),
        np.tile(np.array([1.0, -1.0], np.float32), 8_000),
    ],
    ids=["silence", "high", "click", "denormal", "square"],
)
def test_signals_without_speech_give_finite_unit_vectors(waveform: Waveform, encoder: SpeakerEncoder) -> None:
    vector = encoder.embed([waveform])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_nan_in_a_waveform_is_refused(encoder: SpeakerEncoder) -> None:
    with pytest.raises(InvalidAudio, match="utterance 0: holds NaN or infinity"):
        encoder.embed([np.full(4_000, np.nan, np.float32)])


def test_weights_that_overflow_are_reported_and_no_vector_comes_out(weights: Arrays, tmp_path: Path) -> None:
    weights["xvector.tdnn.linear.weight"][:] = 3e38
    encoder = load_encoder(write_campplus(tmp_path / "loud.pt", weights), name="loud", family="campplus", device="cpu")
    with pytest.raises(NonFiniteEmbedding, match="loud"):
        encoder.embed([_noise(4_000)])


def test_the_family_is_told_from_the_names_of_the_tensors(path: Path, tmp_path: Path) -> None:
    assert detect_family(path) == "campplus"
    torch.save({"blocks.0.conv.conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    assert detect_family(tmp_path / "other.pt") == "speechbrain"
    old = tmp_path / "old.pt"
    torch.save({"xvector.tdnn.linear.weight": torch.zeros(1)}, old, _use_new_zipfile_serialization=False)
    assert detect_family(old) == "campplus"


def test_there_is_no_choice_of_front_end(path: Path) -> None:
    assert read_checkpoint(path, "campplus", "kaldi").front_end == "kaldi"
    with pytest.raises(InvalidRequest, match="one front end, 'kaldi'"):
        read_checkpoint(path, "campplus", "legacy")


@pytest.mark.parametrize(
    "name",
    [
        "head.layer2.1.conv2.weight",
        "xvector.block3.tdnnd1.cam_layer.linear2.bias",
        "xvector.transit2.nonlinear.batchnorm.running_var",
    ],
)
def test_a_missing_tensor_is_named(name: str, weights: Arrays, tmp_path: Path) -> None:
    del weights[name]
    with pytest.raises(CorruptArtifact, match=f"{name} is missing"):
        read_checkpoint(write_campplus(tmp_path / "m.pt", weights), "campplus")


def test_an_unexpected_tensor_is_named(weights: Arrays, tmp_path: Path) -> None:
    weights["xvector.block4.tdnnd1.linear1.weight"] = np.zeros((1, 1, 1), np.float32)
    with pytest.raises(CorruptArtifact, match=r"xvector\.block4\.tdnnd1\.linear1\.weight is not part"):
        read_checkpoint(write_campplus(tmp_path / "m.pt", weights), "campplus")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_tensor_that_is_not_finite_is_named(value: float, weights: Arrays, tmp_path: Path) -> None:
    weights["xvector.dense.linear.weight"][3, 5, 0] = value
    with pytest.raises(CorruptArtifact, match=r"xvector\.dense\.linear\.weight holds NaN or infinity"):
        read_checkpoint(write_campplus(tmp_path / "m.pt", weights), "campplus")


def test_a_tensor_of_another_shape_is_named_with_both_shapes(weights: Arrays, tmp_path: Path) -> None:
    weights["xvector.transit1.linear.weight"] = np.zeros((3, 3, 1), np.float32)
    with pytest.raises(CorruptArtifact, match=r"xvector\.transit1\.linear\.weight has shape \(3, 3, 1\)"):
        read_checkpoint(write_campplus(tmp_path / "m.pt", weights), "campplus")


@pytest.mark.parametrize(
    ("name", "shape", "error", "said"),
    [
        ("xvector.tdnn.linear.weight", (8, 31, 5), UnsupportedCheckpoint, "no CAM"),
        ("xvector.tdnn.linear.weight", (8, 33, 5), UnsupportedCheckpoint, "88 mel bins"),
        ("xvector.tdnn.linear.weight", (8, 30), CorruptArtifact, "expected 3 sizes"),
        ("head.conv1.weight", (3, 9), CorruptArtifact, "expected 4 sizes"),
    ],
)
def test_sizes_that_no_such_network_has_are_refused(
    name: str, shape: tuple[int, ...], error: type[Exception], said: str, weights: Arrays, tmp_path: Path
) -> None:
    weights[name] = np.zeros(shape, np.float32)
    with pytest.raises(error, match=said):
        read_checkpoint(write_campplus(tmp_path / "m.pt", weights), "campplus")


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"blocks.0.conv.conv.weight": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(UnsupportedCheckpoint, match=r"no tensor head\.conv1\.weight, so no CAM\+\+"):
        read_checkpoint(tmp_path / "other.pt", "campplus")
