"""Utterances of any lengths in one pass have the vectors, and those of their windows, that each has by itself."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.embedding import encoder as encoder_module
from indexer.embedding.checkpoints import Checkpoint, read_checkpoint
from indexer.embedding.ecapa import EcapaConfig
from indexer.embedding.encoder import SpeakerEncoder
from indexer.embedding.engines import for_any_lengths, keeps_vectors
from indexer.embedding.features import (
    FrontEnd,
    NemoFrontEnd,
    NemoFrontEndConfig,
    SpeechBrainFrontEnd,
    SpeechBrainFrontEndConfig,
)
from indexer.embedding.folded import FoldedEcapa
from indexer.embedding.ragged import Ragged
from indexer.types import Precision, Span, Vectors, Waveform
from tests.network_kit import SMALL_CASCADE, trained

CPU = torch.device("cpu")
TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"
LENGTHS = [16_000, 1_600, 48_123, 7_999, 16_000, 31_999]
CASCADE = dataclasses.replace(SMALL_CASCADE, bins=80, channels=16)
GROUPS = dataclasses.replace(CASCADE, middle="group", padding="zeros", gate_norm=True, embedding_sizes=(7, 5))


def _noise(lengths: list[int]) -> list[Waveform]:
    rng = np.random.default_rng(0)
    return [rng.normal(0.0, 0.1, length).astype(np.float32) for length in lengths]


def _nemo(generation: str, **others: object) -> NemoFrontEnd:
    config = NemoFrontEndConfig(generation=generation, bins=80, **others)  # type: ignore[arg-type]
    window = torch.hann_window(config.window, periodic=False)
    return NemoFrontEnd(config, window, torch.rand(80, 257, generator=torch.Generator().manual_seed(1)))


FRONT_ENDS = [
    SpeechBrainFrontEnd(SpeechBrainFrontEndConfig()),
    _nemo("legacy"),
    _nemo("current"),
    _nemo("current", preemphasis=None, power=2.5, normalize=None, pad_to=0),
    _nemo("legacy", frame_splicing=2, pad_value=-1.0, log=False),
]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@torch.inference_mode()
def test_features_of_each_are_those_of_it_alone_with_the_frames_of_padding_that_the_network_reads(
    front_end: FrontEnd,
) -> None:
    waveforms = _noise(LENGTHS)
    rows, ragged = front_end.of_ragged(torch.from_numpy(np.concatenate(waveforms)), LENGTHS)
    for waveform, found, valid in zip(waveforms, ragged.split(rows), ragged.valid_frames, strict=True):
        expected = front_end(torch.from_numpy(waveform).unsqueeze(0))
        assert valid == expected.valid
        torch.testing.assert_close(found.T, expected.values[0], atol=1e-4, rtol=1e-4)


def test_front_ends_that_pad_or_normalize_otherwise_take_one_length() -> None:
    assert all(front_end.takes_any_lengths for front_end in FRONT_ENDS)
    for other in (_nemo("current", exact_pad=True), _nemo("current", normalize="all_features")):
        assert not other.takes_any_lengths


@pytest.mark.parametrize("config", [CASCADE, GROUPS, dataclasses.replace(GROUPS, padding="reflect")])
@pytest.mark.parametrize("front_end", FRONT_ENDS[:3])
@torch.inference_mode()
def test_the_network_gives_each_the_vector_of_it_alone(config: EcapaConfig, front_end: FrontEnd) -> None:
    folded = FoldedEcapa(trained(config), torch.float32)
    waveforms = _noise(LENGTHS)
    together = folded.of_ragged(*front_end.of_ragged(torch.from_numpy(np.concatenate(waveforms)), LENGTHS))
    apart = torch.cat([folded(*front_end(torch.from_numpy(waveform).unsqueeze(0))) for waveform in waveforms])
    torch.testing.assert_close(together, apart, atol=1e-3, rtol=1e-3)
    assert keeps_vectors(folded, front_end, CPU)


@torch.inference_mode()
def test_attention_too_sharp_for_plain_sums_is_weighed_beside_the_largest_score_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("indexer.embedding.folded._LARGEST_EXPONENT", 1e-6)
    folded = FoldedEcapa(trained(CASCADE), torch.float32)
    assert keeps_vectors(folded, FRONT_ENDS[0], CPU)
    monkeypatch.setattr(Ragged, "highest", lambda self, x: torch.full((len(self.frames), x.shape[2]), torch.inf))
    assert not keeps_vectors(folded, _nemo("legacy"), CPU)


class _Off(Ragged):
    """Takes frames of the next utterance for its own at the end of each."""

    def read_by(self, around: object) -> torch.Tensor:
        found: torch.Tensor = super().read_by(around)  # type: ignore[arg-type]
        return (found + 3).clamp(max=len(self.owner) - 1)


@torch.inference_mode()
def test_an_engine_that_mixes_utterances_up_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexer.embedding.features.Ragged", _Off)
    assert not keeps_vectors(FoldedEcapa(trained(CASCADE), torch.float32), FRONT_ENDS[0], CPU)


def test_on_a_processor_lengths_share_no_pass() -> None:
    assert for_any_lengths(FoldedEcapa(trained(CASCADE), torch.float32), FRONT_ENDS[0], CPU) is None


class Joining(SpeakerEncoder):
    """Runs on a processor as an encoder does on a GPU."""

    def __init__(self, checkpoint: Checkpoint, precision: Precision = "exact", batch_audio_s: float = 40.0) -> None:
        super().__init__(checkpoint, name="joining", device="cpu", precision=precision, batch_audio_s=batch_audio_s)
        assert isinstance(self._network, FoldedEcapa)
        self._joining = self._network
        self.passes: list[list[int]] = []

    def _forward(self, waveforms: list[Waveform]) -> torch.Tensor:  # type: ignore[override]
        self.passes.append([len(waveform) for waveform in waveforms])
        return super()._forward(waveforms)


@pytest.mark.parametrize(("batch_audio_s", "passes"), [(40.0, 2), (3.0, 3)])
def test_an_encoder_that_joins_lengths_gives_the_vectors_of_one_that_does_not(
    batch_audio_s: float, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_module, "settle_threads", lambda: 1)
    monkeypatch.setattr(encoder_module, "_LONGEST_JOINED", 32_000)
    checkpoint = read_checkpoint(TINY, "nemo")
    waveforms = _noise(LENGTHS)
    joining = Joining(checkpoint, batch_audio_s=batch_audio_s)
    expected = SpeakerEncoder(checkpoint, name="apart", device="cpu").embed(waveforms)
    np.testing.assert_allclose(joining.embed(waveforms), expected, atol=1e-4)
    assert len(joining.passes) == passes
    assert [48_123] in joining.passes  # what is long has a pass of its own
    assert all(sum(lengths) <= batch_audio_s * 16_000 or len(lengths) == 1 for lengths in joining.passes)


@pytest.mark.parametrize("lengths", [LENGTHS, [16_000, 16_000, 16_000]])
def test_windows_have_the_vectors_that_they_have_in_an_utterance_by_itself(lengths: list[int]) -> None:
    checkpoint = read_checkpoint(TINY, "nemo")
    windows: list[list[Span]] = [[(0, length), (length // 4, length // 2)] for length in lengths]
    windows[1] = []
    expected = SpeakerEncoder(checkpoint, name="apart", device="cpu").embed_with_windows(_noise(lengths), windows)
    found = Joining(checkpoint).embed_with_windows(_noise(lengths), windows)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4)
    for own, others in zip(found[1], expected[1], strict=True):
        assert own.shape == others.shape
        np.testing.assert_allclose(own, others, atol=1e-4)


def _cosines(one: Vectors, other: Vectors) -> list[float]:
    return [float(value) for value in (one * other).sum(axis=1)]


def test_batch_mates_and_their_order_change_no_vector_of_an_encoder_that_joins_lengths() -> None:
    joining = Joining(read_checkpoint(TINY, "nemo"))
    waveforms = _noise(LENGTHS)
    alone = np.concatenate([joining.embed([waveform]) for waveform in waveforms])
    assert min(_cosines(joining.embed(waveforms), alone)) > 1 - 1e-5
    assert min(_cosines(joining.embed(waveforms[::-1])[::-1], alone)) > 1 - 1e-5
