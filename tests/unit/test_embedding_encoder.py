"""The laws of an encoder: unit norm, input order, batch-mates without influence, and typed refusals."""

import dataclasses
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.embedding.checkpoints import read_checkpoint
from indexer.embedding.encoder import Encoder, SpeakerEncoder, choose_device, encoder_id, load_encoder
from indexer.embedding.features import Frames, FrontEnd
from indexer.errors import InvalidAudio, InvalidRequest, NonFiniteEmbedding, TooLittleSpeech, Unavailable
from indexer.torch_threads import settle_threads, use_threads
from indexer.types import Waveform

TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


@pytest.fixture(scope="module", params=["legacy", "current"])
def encoder(request: pytest.FixtureRequest) -> SpeakerEncoder:
    return load_encoder(TINY, name="tiny", family="nemo", front_end=request.param, device="cpu", batch_audio_s=1.0)


def _noise(samples: int, seed: int = 0) -> Waveform:
    return (np.random.default_rng(seed).standard_normal(samples) * 0.1).astype(np.float32)


def test_an_encoder_is_named_by_weights_and_front_end(encoder: SpeakerEncoder) -> None:
    assert encoder_id("ab" * 32, "speechbrain") == "abababababababab-speechbrain"
    assert encoder.id == f"{encoder.checkpoint.weights_sha256[:16]}-{encoder.checkpoint.front_end}"
    as_protocol: Encoder = encoder
    assert (as_protocol.name, as_protocol.dim, as_protocol.min_samples) == ("tiny", 32, 1_600)


def test_the_two_front_ends_are_two_encoders_with_different_vectors() -> None:
    legacy = load_encoder(TINY, name="a", family="nemo", front_end="legacy", device="cpu")
    current = load_encoder(TINY, name="a", family="nemo", front_end="current", device="cpu")
    assert legacy.id != current.id
    speech = [_noise(4_000)]
    assert float(legacy.embed(speech)[0] @ current.embed(speech)[0]) < 0.9999


def test_rows_are_unit_float32_and_point_where_the_raw_ones_do(encoder: SpeakerEncoder) -> None:
    waveforms = [_noise(5_000, seed) for seed in range(4)]
    unit, raw = encoder.embed(waveforms), encoder.embed_raw(waveforms)
    assert unit.dtype == raw.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(unit * np.linalg.norm(raw, axis=1, keepdims=True), raw, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", [1_600, 1_601, 7_777, 16_000, 40_000, 48_000, 128_000])
def test_what_is_prepared_gives_the_same_vectors_to_the_bit(encoder: SpeakerEncoder, samples: int) -> None:
    waveform, windows = _noise(samples), [[(0, samples // 2), (samples // 4, samples)]]
    alone, (alone_windows,) = encoder.embed([waveform]), encoder.embed_with_windows([waveform], windows)[1]
    encoder.prepare(waveform)
    assert np.array_equal(encoder.embed([waveform]), alone)
    encoder.prepare(waveform)
    assert np.array_equal(encoder.embed_with_windows([waveform], windows)[1][0], alone_windows)


def test_an_utterance_that_was_prepared_is_not_computed_again(
    encoder: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    waveform, other = _noise(5_000), _noise(5_000, 1)
    expected = encoder.embed([other, waveform])
    encoder.prepare(waveform)
    # Among others, and as other samples of the same length, it is not what was prepared.
    assert np.array_equal(encoder.embed([other, waveform]), expected)
    assert np.array_equal(encoder.embed([other]), encoder.embed([other.copy()]))
    encoder.prepare(waveform)
    made = Mock(side_effect=encoder._features)
    monkeypatch.setattr(encoder, "_features", made)
    encoder.embed([waveform])
    assert made.call_count == 0
    encoder.embed([waveform])
    assert made.call_count == 1


def test_what_was_prepared_goes_with_its_waveform(encoder: SpeakerEncoder) -> None:
    waveform = _noise(5_000)
    encoder.prepare(waveform)
    assert len(encoder._prepared) == 1
    del waveform
    assert encoder._prepared == {}
    encoder.prepare(_noise(100))  # Too short to be embedded.
    assert encoder._prepared == {}


def test_no_waveforms_give_no_rows(encoder: SpeakerEncoder) -> None:
    assert encoder.embed([]).shape == encoder.embed_raw([]).shape == (0, 32)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.sampled_from([1_600, 1_601, 2_560, 4_000, 16_000, 20_000]), min_size=1, max_size=9),
    batch_audio_s=st.sampled_from([0.01, 0.3, 1.0, 60.0]),
)
def test_batch_mates_batch_size_and_order_never_change_a_vector(lengths: list[int], batch_audio_s: float) -> None:
    encoder = load_encoder(TINY, name="tiny", family="nemo", device="cpu", batch_audio_s=batch_audio_s)
    waveforms = [_noise(length, seed) for seed, length in enumerate(lengths)]
    together = encoder.embed(waveforms).astype(np.float64)
    alone = np.concatenate([encoder.embed([waveform]) for waveform in waveforms]).astype(np.float64)
    assert (1.0 - (together * alone).sum(axis=1)).max() <= 1e-5
    backward = encoder.embed(waveforms[::-1])[::-1].astype(np.float64)
    assert (1.0 - (together * backward).sum(axis=1)).max() <= 1e-5


def test_the_same_call_gives_the_same_bits(encoder: SpeakerEncoder) -> None:
    waveforms = [_noise(length, length) for length in (4_000, 1_600, 4_000, 9_001)]
    assert encoder.embed(waveforms).tobytes() == encoder.embed(waveforms).tobytes()


def test_inputs_are_left_as_they_were(encoder: SpeakerEncoder) -> None:
    waveform = _noise(4_000)
    before = waveform.copy()
    encoder.embed([waveform])
    np.testing.assert_array_equal(waveform, before)
    frozen = waveform.copy()
    frozen.setflags(write=False)
    strided = np.repeat(waveform, 2)[::2]
    np.testing.assert_array_equal(encoder.embed([frozen, strided]), encoder.embed([waveform, waveform]))


@pytest.mark.parametrize("samples", [0, 1, 159, 320, 1_599])
def test_too_short_an_utterance_is_refused_with_its_length_and_the_minimum(
    samples: int, encoder: SpeakerEncoder
) -> None:
    with pytest.raises(TooLittleSpeech, match=rf"utterance 1: {samples / 16_000:.3f} s.*tiny needs 0\.100 s"):
        encoder.embed([_noise(4_000), _noise(samples)])


def test_the_minimum_itself_tells_two_voices_apart(encoder: SpeakerEncoder) -> None:
    vectors = encoder.embed([_noise(1_600, 1), _noise(1_600, 2)])
    assert float(vectors[0] @ vectors[1]) < 0.9999


@pytest.mark.parametrize(
    ("waveform", "complaint"),
    [
        (np.zeros((2, 4_000), np.float32), r"float32 of shape \(2, 4000\)"),
        (np.zeros(4_000), "float64"),
        (np.zeros(4_000, np.int16), "int16"),
        ([0.0] * 4_000, "list"),
        (np.full(4_000, np.nan, np.float32), "NaN or infinity"),
        (np.append(np.zeros(4_000, np.float32), np.float32(np.inf)), "NaN or infinity"),
    ],
)
def test_what_is_no_waveform_is_refused(waveform: Waveform, complaint: str, encoder: SpeakerEncoder) -> None:
    with pytest.raises(InvalidAudio, match=complaint):
        encoder.embed([waveform])


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(16_000, np.float32),
        np.full(16_000, 1.0, np.float32),
        np.full(16_000, -1.0, np.float32),
        np.eye(1, 16_000, 8_000, dtype=np.float32)[0],
        np.full(16_000, 1e-30, np.float32),
        np.tile(np.array([1.0, -1.0], np.float32), 8_000),
    ],
    ids=["silence", "high", "low", "click", "denormal", "square"],
)
def test_signals_without_speech_give_finite_unit_vectors(waveform: Waveform, encoder: SpeakerEncoder) -> None:
    vector = encoder.embed([waveform])[0]
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


def test_weights_that_overflow_are_reported_and_no_vector_comes_out() -> None:
    checkpoint = read_checkpoint(TINY, "nemo")
    loud = {
        name: torch.full_like(value, 3e38) if "linear" in name else value for name, value in checkpoint.state.items()
    }
    broken = SpeakerEncoder(dataclasses.replace(checkpoint, state=loud), name="broken", device="cpu")
    with pytest.raises(NonFiniteEmbedding, match="broken"):
        broken.embed([_noise(4_000)])


def test_weights_that_give_nothing_are_reported() -> None:
    checkpoint = read_checkpoint(TINY, "nemo")
    silent = {name: torch.zeros_like(value) if "linear" in name else value for name, value in checkpoint.state.items()}
    broken = SpeakerEncoder(dataclasses.replace(checkpoint, state=silent), name="broken", device="cpu")
    with pytest.raises(NonFiniteEmbedding, match="zero vector"):
        broken.embed([_noise(4_000)])


def test_a_network_never_stays_in_training_mode(encoder: SpeakerEncoder) -> None:
    network = encoder.checkpoint.build_network()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("choice", ["gpu", "", "cuda:", "cuda:x", "cpu:0", "cuda:-1", "mps:0", "auto:1"])
def test_an_unknown_device_is_an_invalid_request(choice: str) -> None:
    with pytest.raises(InvalidRequest, match="give auto, cpu, cuda, cuda:N or mps"):
        choose_device(choice)


def test_a_device_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="CUDA devices"):
        choose_device("cuda:99")
    if not torch.backends.mps.is_available():
        with pytest.raises(Unavailable, match="Metal"):
            choose_device("mps")


def test_auto_takes_a_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("arguments", [{"batch_audio_s": 0.0}, {"batch_audio_s": float("nan")}, {"threads": -1}])
def test_limits_out_of_range_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(arguments))):
        load_encoder(TINY, name="tiny", family="nemo", device="cpu", **arguments)  # type: ignore[arg-type]


@pytest.mark.requires_cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_vectors_of_the_cpu() -> None:
    waveforms = [_noise(length, length) for length in (1_600, 4_000, 4_000, 48_000)]
    on_cpu = load_encoder(TINY, name="tiny", family="nemo", device="cpu").embed_raw(waveforms)
    encoder = load_encoder(TINY, name="tiny", family="nemo", device="cuda")
    np.testing.assert_allclose(encoder.embed_raw(waveforms), on_cpu, atol=2e-4, rtol=0)
    vectors, (*_, of_windows) = encoder.embed_with_windows(waveforms, [[], [], [], [(0, 24_000), (24_000, 48_000)]])
    np.testing.assert_allclose(vectors, encoder.embed(waveforms), atol=2e-4, rtol=0)
    assert of_windows.shape == (2, encoder.dim)


def test_one_thread_makes_the_features_of_a_short_utterance_and_all_those_of_a_long_one(
    encoder: SpeakerEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    forward = type(encoder._front_end).forward

    def counting(self: FrontEnd, waveforms: torch.Tensor) -> Frames:
        used.append(torch.get_num_threads())
        return forward(self, waveforms)

    monkeypatch.setattr(type(encoder._front_end), "forward", counting)
    before = settle_threads()
    use_threads(2)
    try:
        encoder.embed([_noise(48_000)])
        encoder.embed([_noise(200_000)])
        assert torch.get_num_threads() == 2
    finally:
        use_threads(before)
    assert used == [1, 2]
