"""Passes side by side: what each makes, in order, in threads that leave torch's own number of them alone."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from indexer.embedding.encoder import load_encoder
from indexer.embedding.passes import run_passes, run_shares
from indexer.embedding.shares import GRID, Share, shares_of
from indexer.torch_threads import settle_threads, use_threads

TINY = Path(__file__).parents[1] / "parity" / "tiny.nemo"


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    """Let torch have two threads, however many cores there are."""
    before = settle_threads()
    use_threads(2)
    yield
    use_threads(before)


def test_passes_run_side_by_side_with_one_thread_each_and_come_back_in_order() -> None:
    met = threading.Barrier(2, timeout=30)

    def run(batch: int) -> tuple[int, int]:
        met.wait()  # no pass ends before the other began
        return batch, torch.get_num_threads()

    assert run_passes(run, [3, 1, 2, 4], at_once=8) == [(3, 1), (1, 1), (2, 1), (4, 1)]
    assert torch.get_num_threads() == 2


def test_one_pass_has_all_threads_and_so_has_each_where_memory_allows_no_two() -> None:
    def run(batch: int) -> tuple[bool, int]:
        return threading.current_thread() is threading.main_thread(), torch.get_num_threads()

    assert run_passes(run, [1], at_once=8) == [(True, 2)]
    assert run_passes(run, [1, 2, 3], at_once=1) == [(True, 2)] * 3


def test_no_more_are_under_way_than_memory_allows() -> None:
    use_threads(3)
    lock, under_way, most = threading.Lock(), 0, 0

    def run(batch: int) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        threading.Event().wait(0.01)
        with lock:
            under_way -= 1
        return batch

    assert run_passes(run, range(6), at_once=2) == list(range(6))
    assert most == 2


def test_an_error_in_one_pass_is_the_callers() -> None:
    def run(batch: int) -> int:
        if batch == 2:
            raise ValueError("batch 2")
        return batch

    with pytest.raises(ValueError, match="batch 2"):
        run_passes(run, [1, 2, 3], at_once=3)
    assert run_passes(run, [4, 5], at_once=2) == [4, 5]


def test_shares_of_many_utterances_at_once_wait_for_nothing_but_their_own() -> None:
    def run(share: Share) -> float:
        assert torch.get_num_threads() == 1
        fill = [1e9] * (GRID - 5)  # rows that stand for nothing
        own = torch.tensor([*range(share.first, share.last), *fill]).view(1, -1, 1)
        around, ends = share.widened(own, 2)
        assert ends.frames == 5 + 2 * (not ends.start) + 2 * (not ends.end)
        assert around.shape[1] % GRID == 0
        return float(share.total(around[:, : ends.frames].sum(dim=1)))

    made: list[list[float]] = []
    askers = [threading.Thread(target=lambda: made.append(run_shares(run, shares_of(15, 3, 15)))) for _ in range(8)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join(timeout=30)
    edges = 3 + 4 + 5 + 6 + 8 + 9 + 10 + 11  # frames that two shares read
    assert made == [[sum(range(15)) + edges] * 3] * 8


@pytest.mark.parametrize("failing", [4, 8])
def test_an_error_in_one_share_is_the_callers_and_leaves_nobody_waiting(failing: int) -> None:
    def run(share: Share) -> float:
        if share.last == failing:
            raise ValueError("one half")
        return float(share.total(torch.ones(1)))

    with pytest.raises(ValueError, match="one half"):
        run_shares(run, shares_of(8, 2, 8))
    assert run_shares(lambda share: float(share.total(torch.ones(1))), shares_of(8, 2, 8)) == [2.0, 2.0]


def test_utterances_that_went_side_by_side_have_the_vectors_of_those_that_went_alone() -> None:
    encoder = load_encoder(TINY, name="tiny", family="nemo", device="cpu")
    rng = np.random.default_rng(5)
    waveforms = [rng.normal(0, 0.1, length).astype(np.float32) for length in (8_000, 9_600) * 6]
    windows = [[(0, 4_000), (2_000, 8_000)] for _ in waveforms]
    together, of_windows = encoder.embed_with_windows(waveforms, windows)
    alone = [encoder.embed_with_windows([waveform], windows[:1]) for waveform in waveforms]
    np.testing.assert_allclose(together, np.concatenate([vectors for vectors, _ in alone]), atol=1e-5)
    np.testing.assert_allclose(encoder.embed(waveforms), together, atol=1e-5)
    for own, (_, [apart]) in zip(of_windows, alone, strict=True):
        np.testing.assert_allclose(own, apart, atol=1e-5)
