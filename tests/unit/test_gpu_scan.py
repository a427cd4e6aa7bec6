from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.index.gpu_scan import MARGIN, GpuScan, Sizes
from indexer.index.scans import Proposals, Scan
from tests.vectors import unit_vectors, voices


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.requires_cuda)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return torch.device(request.param)


@pytest.fixture
def scan(device: torch.device) -> Iterator[GpuScan]:
    made = GpuScan(device)
    yield made
    made.close()


# Blocks, pieces and groups so small that some hundred rows fill many of each.
SMALL = Sizes(
    first_block_rows=64,
    largest_block_rows=256,
    scores=400,
    probes=4,
    gather_rows=24,
    group=4,
    cpu_rows=33,
)


def assert_best(found: Proposals, probes: np.ndarray, rows: np.ndarray, eligible: np.ndarray, fetch: int) -> None:
    """Hold proposals to the best of the eligible rows, within the margin, and each floor to the rest."""
    products = probes.astype(np.float64) @ rows.astype(np.float64).T
    for scores, positions, floor, true in zip(*found[:3], products, strict=True):
        proposed = positions[positions >= 0]
        assert len(set(proposed)) == len(proposed)
        assert set(proposed) <= set(eligible)
        assert len(proposed) >= min(fetch, len(eligible))
        assert np.abs(scores[positions >= 0] - true[proposed]).max(initial=0) <= MARGIN
        others = np.setdiff1d(eligible, proposed)
        assert len(others) == 0 or true[others].max() <= floor + MARGIN


def test_it_is_a_scan(scan: GpuScan) -> None:
    declared: Scan = scan
    assert declared.kind == "flat-float16"
    assert declared.details["device_bytes"] == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    parts=st.lists(st.integers(0, 300), min_size=1, max_size=4),
    gone=st.floats(0, 1),
    probes=st.integers(0, 9),
    fetch=st.integers(1, 400),
    share=st.one_of(st.none(), st.floats(0, 1)),
)
def test_it_proposes_the_best_rows_whatever_is_removed_or_filtered(
    device: torch.device, seed: int, parts: list[int], gone: float, probes: int, fetch: int, share: float | None
) -> None:
    random = np.random.default_rng(seed)
    rows, asked = unit_vectors(sum(parts), seed=seed), unit_vectors(probes, seed=seed + 1)
    scan, subset, eligible, start = GpuScan(device, sizes=SMALL), None, np.arange(sum(parts)), 0
    chosen = eligible if share is None else eligible[random.random(len(eligible)) < share]
    for number, part in enumerate(parts):  # a filter is made among the first rows and hears of the others
        scan.append(scan.prepare(rows[start : start + part]))
        new = chosen[(chosen >= start) & (chosen < start + part)]
        if share is not None and number == 0:
            subset = scan.subset(new)
        elif subset is not None:
            subset.append(new)
        start += part
    removed = eligible[random.random(len(eligible)) < gone]
    scan.remove(random.permutation(removed))
    scan.remove(removed[:5])
    alive = np.setdiff1d(chosen, removed)
    assert_best(scan.search(asked, fetch, subset), asked, rows, alive, fetch)
    scan.close()


def test_equal_rows_are_all_proposed_when_as_many_are_asked_for(scan: GpuScan) -> None:
    same = np.repeat(unit_vectors(1), 5000, axis=0)
    scan.append(scan.prepare(same))
    found = scan.search(same[:1], 5000)
    assert sorted(found.positions[0].tolist()) == list(range(5000))
    assert found.floors.tolist() == [-np.inf]
    assert scan.search(same[:1], 100).floors[0] == pytest.approx(1, abs=MARGIN)


def test_the_margin_covers_what_rounding_does_to_the_worst_vectors(device: torch.device) -> None:
    """Numbers just above a power of two lose most, and numbers of one size all lose at once."""
    random = np.random.default_rng(0)
    largest = 0.0
    for numbers in (2.0**-4 * (1 + 2.0**-11), 2.0**-3 * (1 + 2.0**-11), 1e-6):
        base = np.full((400, 192), numbers)
        base *= np.where(random.random(base.shape) < 0.5, 1 + 2.0**-11, 1)
        base[:, 0] += np.sqrt(np.maximum(1 - (base[:, 1:] ** 2).sum(axis=1), 0)) - base[:, 0]
        rows = (base / np.linalg.norm(base, axis=1, keepdims=True)).astype(np.float32)
        one = GpuScan(device)
        one.append(one.prepare(rows))
        found = one.search(rows[:50], 400)
        true = np.take_along_axis(rows[:50].astype(np.float64) @ rows.T.astype(np.float64), found.positions, axis=1)
        largest = max(largest, float(np.abs(true - found.scores).max()))
    assert 0.2 * MARGIN < largest < MARGIN


def test_nothing_of_a_removed_row_stays_on_the_device(scan: GpuScan) -> None:
    rows = unit_vectors(300)
    scan.append(scan.prepare(rows))
    scan.remove(np.array([7, 299, 7]))
    (block,) = scan._blocks
    assert not block.rows[7].any()
    assert not block.rows[299].any()
    assert (block.dead, int(block.alive[:300].sum())) == (2, 298)


def test_growing_copies_no_row_and_wastes_no_more_than_half(device: torch.device) -> None:
    scan = GpuScan(device, sizes=SMALL)
    scan.append(scan.prepare(unit_vectors(10)))
    first = scan._blocks[0].rows.data_ptr()
    for seed in range(40):
        scan.append(scan.prepare(unit_vectors(100, seed=seed)))
    assert scan._blocks[0].rows.data_ptr() == first
    assert sum(len(block.rows) for block in scan._blocks) <= 2 * 4010
    assert scan.details["device_bytes"] == sum(len(block.rows) for block in scan._blocks) * (2 * 192 + 1)
    scan.close()
    assert scan.details["device_bytes"] == 0


def test_rows_that_are_mapped_read_only_or_already_float16_are_taken(scan: GpuScan) -> None:
    rows = voices(30, 10)
    for given_rows in (rows.copy(), rows.astype(np.float16)):
        given_rows.flags.writeable = False
        scan.append(scan.prepare(given_rows))
    found = scan.search(rows[:1], 2)
    assert sorted(found.positions[0].tolist()) == [0, 300]
    np.testing.assert_array_equal(found.scores[0][0], found.scores[0][1])
