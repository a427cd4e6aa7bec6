"""Blocks of the network against numbers worked by hand; whole networks are compared in tests/parity."""

import dataclasses

import pytest
import torch

from indexer.embedding.ecapa import (
    AttentivePooling,
    ChannelGate,
    ConvShape,
    Ecapa,
    Res2Cascade,
    StatisticsPooling,
    TimeConv,
)
from tests.network_kit import SMALL_CASCADE

CONFIG = SMALL_CASCADE


def _ones(module: torch.nn.Module) -> None:
    for name, parameter in module.named_parameters():
        torch.nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)


@torch.inference_mode()
def test_a_convolution_is_rectified_before_it_is_normalized() -> None:
    layer = TimeConv(1, 1).eval()
    _ones(layer)
    layer.norm.running_mean.fill_(1.0)
    layer.norm.running_var.fill_(4.0 - 1e-5)
    x = torch.tensor([[[-3.0, 0.0, 5.0]]])
    torch.testing.assert_close(layer(x), torch.tensor([[[-0.5, -0.5, 2.0]]]))


@torch.inference_mode()
def test_the_first_chunk_of_the_cascade_passes_and_later_ones_accumulate() -> None:
    cascade = Res2Cascade(3, 3, ConvShape(1, 1), "zeros").eval()
    _ones(cascade)
    out = cascade(torch.tensor([[[1.0], [10.0], [100.0]]]))
    scale = 1.0 / (1.0 + 1e-5) ** 0.5  # of the untrained batch norm
    expected = [1.0, 10.0 * scale, (100.0 + 10.0 * scale) * scale]  # the second chunk is convolved alone
    torch.testing.assert_close(out.flatten(), torch.tensor(expected))


@torch.inference_mode()
def test_the_gate_looks_at_valid_frames_only() -> None:
    gate = ChannelGate(2, 3, norm=False).eval()
    x = torch.randn(1, 2, 10)
    changed = x.clone()
    changed[:, :, 6:] = 100.0
    torch.testing.assert_close(gate(x, 6)[:, :, :6], gate(changed, 6)[:, :, :6])


@torch.inference_mode()
def test_attention_that_scores_all_frames_alike_gives_mean_and_biased_deviation() -> None:
    pooling = AttentivePooling(1, 2, 1e-10).eval()
    _ones(pooling)
    torch.nn.init.zeros_(pooling.score.weight)
    pooled = pooling(torch.tensor([[[1.0, 3.0, 5.0, 7.0, 99.0]]]), 4).flatten()
    torch.testing.assert_close(pooled, torch.tensor([4.0, 5.0**0.5]))


@torch.inference_mode()
def test_attention_equals_the_plain_convolution_of_frames_mean_and_deviation() -> None:
    pooling = AttentivePooling(4, 6, 1e-10).eval()
    x = torch.randn(2, 4, 9)
    mean = x.mean(2, keepdim=True)
    deviation = x.std(2, correction=0, keepdim=True)
    context = pooling.context(torch.cat([x, mean.expand_as(x), deviation.expand_as(x)], dim=1))
    weights = torch.softmax(pooling.score(torch.tanh(context)), dim=2)
    mu = (weights * x).sum(2)
    sigma = ((weights * (x - mu[:, :, None]) ** 2).sum(2)).sqrt()
    torch.testing.assert_close(pooling(x, 9).squeeze(2), torch.cat([mu, sigma], 1), atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_a_constant_channel_has_the_floor_as_deviation() -> None:
    pooled = AttentivePooling(1, 2, 1e-10).eval()(torch.full((1, 1, 5), 3.0), 5).flatten()
    torch.testing.assert_close(pooled, torch.tensor([3.0, 1e-5]))


@torch.inference_mode()
def test_plain_statistics_are_mean_and_unbiased_deviation() -> None:
    x = torch.tensor([[[1.0, 3.0, 5.0, 50.0]]])
    torch.testing.assert_close(StatisticsPooling(True, 1e-10)(x, 3), torch.tensor([[3.0, 2.0]]))
    torch.testing.assert_close(StatisticsPooling(False, 1e-10)(x, 3), torch.tensor([[3.0]]))


@pytest.mark.parametrize("middle", ["res2", "group"])
@pytest.mark.parametrize("pooling", ["attention", "xvector", "tap"])
@pytest.mark.parametrize("gate_norm", [True, False])
@torch.inference_mode()
def test_every_combination_gives_one_vector_per_utterance(middle: str, pooling: str, gate_norm: bool) -> None:
    changes = {"middle": middle, "pooling": pooling, "gate_norm": gate_norm, "embedding_sizes": (7, 3)}
    network = Ecapa(dataclasses.replace(CONFIG, **changes)).eval()  # type: ignore[arg-type]
    vectors = network(torch.randn(2, 8, 20), 15)
    assert vectors.shape == (2, 3)
    assert torch.isfinite(vectors).all()


@torch.inference_mode()
def test_the_fewest_frames_pass_and_one_fewer_is_what_mirroring_refuses() -> None:
    network = Ecapa(CONFIG).eval()
    assert CONFIG.min_frames == 4  # the widest dilation mirrors three
    assert network(torch.randn(1, 8, 4), 4).isfinite().all()
    with pytest.raises(RuntimeError, match=r"[Pp]adding"):
        network(torch.randn(1, 8, 3), 3)


def test_a_dilation_times_an_odd_span_leaves_one_frame_fewer() -> None:
    assert ConvShape(5, 1).padding == 2
    assert ConvShape(3, 4).padding == 4
    assert TimeConv(1, 1, ConvShape(4, 1))(torch.randn(2, 1, 10)).shape[2] == 9
