"""The folded CAM++ gives the vectors of the network, whatever its sizes, lengths, and what shares a pass."""

import dataclasses
import platform
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from indexer.embedding.campplus import CamPlus, CamPlusConfig, DenseShape
from indexer.embedding.checkpoints import read_checkpoint
from indexer.embedding.engines import best_pass_s, folds_campplus, make_engine
from indexer.embedding.folded_campplus import FoldedCamPlus, can_fold
from indexer.embedding.products import Product, packs
from indexer.embedding.windows import statistics_of
from indexer.torch_threads import settle_threads, use_threads
from tests.parity.campplus_files import random_campplus, write_campplus

CPU = torch.device("cpu")
SMALL = CamPlusConfig(
    bins=80,
    head_channels=3,
    head_blocks=(2, 2),
    channels=8,
    kernel=5,
    blocks=(DenseShape(2, 3, 1), DenseShape(3, 3, 2), DenseShape(1, 3, 2)),
    growth=4,
    bottleneck=6,
    context_channels=5,
    dim=24,
)
OTHER = dataclasses.replace(
    SMALL,
    bins=48,
    head_channels=5,
    head_blocks=(1, 3),
    channels=140,
    kernel=3,
    blocks=(DenseShape(1, 5, 3), DenseShape(2, 1, 1)),
    growth=7,
    segment_frames=33,
)

pytestmark = pytest.mark.skipif(not packs(), reason="torch has no oneDNN here: CAM++ runs as published")


def _trained(config: CamPlusConfig) -> CamPlus:
    """Return a network whose normalizations have scales of both signs, very small ones, and offsets."""
    dice = torch.Generator().manual_seed(7)
    network = CamPlus(config).eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv1d | torch.nn.Conv2d):
            module.weight.normal_(0.0, (2.0 / module.weight[0].numel()) ** 0.5, generator=dice)
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.3, 0.3, generator=dice)
            module.running_var.uniform_(0.5, 2.0, generator=dice)
            if module.affine:
                module.weight.uniform_(-0.5, 1.5, generator=dice)
                module.weight[0] = 1e-30
                module.bias.uniform_(-0.5, 0.5, generator=dice)
    return network


@pytest.mark.parametrize("config", [SMALL, OTHER])
@pytest.mark.parametrize(
    # Fewest; odd and even; segments and pieces that are full, and by one frame not; several tiles and pieces.
    "frames",
    [3, 4, 31, 66, 67, 98, 200, 201, 202, 319, 320, 321, 512, 513, 1_301],
)
@torch.inference_mode()
def test_folding_changes_no_vector_nor_those_of_windows(config: CamPlusConfig, frames: int) -> None:
    network = _trained(config)
    folded = FoldedCamPlus(network)
    features = torch.randn(2, config.bins, frames, generator=torch.Generator().manual_seed(frames))
    expected, frames_of_network = network.with_frames(features, frames)
    vectors, kept = folded.with_frames(features, frames)
    torch.testing.assert_close(vectors, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(kept, frames_of_network, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(folded(features, frames), vectors, atol=0, rtol=0)
    if kept.shape[2] >= 4:
        spans = [(0, 80 * frames), (40 * frames, 160 * frames)]
        windows, expected = (
            one.of_statistics(statistics_of(some[1], spans, 160 * frames))
            for one, some in ((folded, kept), (network, frames_of_network))
        )
        # Where a channel hardly changes, the variance is what is left of large sums.
        torch.testing.assert_close(windows, expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("frames", [5, 97, 330])
@torch.inference_mode()
def test_each_utterance_of_a_batch_keeps_the_vector_that_it_has_alone(frames: int) -> None:
    folded = FoldedCamPlus(_trained(SMALL))
    features = torch.randn(5, 80, frames) * torch.tensor([1.0, 30.0, 0.0, 1.0, 0.01])[:, None, None]
    alone = torch.cat([folded(one[None], frames) for one in features])
    torch.testing.assert_close(folded(features, frames), alone, atol=1e-5, rtol=1e-5)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """Change how many threads torch has, for one test."""
    before = settle_threads()
    yield use_threads
    use_threads(before)


@torch.inference_mode()
def test_of_two_threads_the_dense_blocks_of_a_short_utterance_are_left_to_one(
    threads: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folded = FoldedCamPlus(_trained(SMALL))
    found: set[int] = set()
    multiply = Product.__call__

    def noted(product: Product, rows: torch.Tensor) -> torch.Tensor:
        found.add(torch.get_num_threads())
        return multiply(product, rows)

    monkeypatch.setattr(Product, "__call__", noted)
    threads(2)
    short, long = torch.randn(1, 80, 512), torch.randn(1, 80, 513)
    folded(short, 512)
    assert found == {1}
    found.clear()
    folded(long, 513)
    assert found == {2}
    threads(3)
    found.clear()
    folded(short, 512)
    assert found == {3}


@torch.inference_mode()
def test_frames_past_the_valid_ones_are_not_looked_at() -> None:
    folded = FoldedCamPlus(_trained(SMALL))
    features = torch.randn(1, 80, 350)
    features[:, :, 340:] = torch.nan
    torch.testing.assert_close(folded(features, 340), folded(features[:, :, :340].clone(), 340))


@torch.inference_mode()
def test_products_of_any_length_are_of_few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = FoldedCamPlus(_trained(SMALL))
    shapes: set[tuple[int, ...]] = set()
    multiply = Product.__call__

    def noted(product: Product, rows: torch.Tensor) -> torch.Tensor:
        shapes.add(tuple(rows.shape))
        return multiply(product, rows)

    monkeypatch.setattr(Product, "__call__", noted)
    for frames in range(3, 1_500, 19):
        folded(torch.zeros(1, 80, frames), frames)
    assert {columns for _, columns in shapes} == {128}
    assert {rows for rows, _ in shapes} <= set(range(16, 257, 16))


def test_a_processor_runs_campplus_folded_and_what_is_not_known_as_it_was_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint(write_campplus(tmp_path / "tiny.pt", random_campplus()), "campplus")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    engine = make_engine(checkpoint, "exact", CPU)
    assert isinstance(engine, FoldedCamPlus)
    assert best_pass_s(engine, CPU) == 12.0
    network = checkpoint.network
    assert isinstance(network, CamPlusConfig)
    assert not folds_campplus(network, torch.device("mps"))
    assert not can_fold(dataclasses.replace(network, kernel=4))
    assert not can_fold(dataclasses.replace(network, blocks=(DenseShape(1, 2, 1),)))
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert isinstance(make_engine(checkpoint, "exact", CPU), CamPlus)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # switching oneDNN off and on says so
def test_without_the_library_that_packs_weights_campplus_runs_as_it_was_published(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(write_campplus(tmp_path / "tiny.pt", random_campplus()), "campplus")
    with torch.backends.mkldnn.flags(enabled=False):  # type: ignore[no-untyped-call]
        assert isinstance(make_engine(checkpoint, "exact", CPU), CamPlus)
