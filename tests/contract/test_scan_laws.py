"""What an index relies on whatever scan proposes its rows: nothing eligible is left out above the floor."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.index.calibration import Calibration
from indexer.index.compressed_scan import CompressedScan
from indexer.index.faiss_codes import Quantizer
from indexer.index.flat_scan import FlatScan
from indexer.index.gpu_scan import GpuScan, Sizes
from indexer.index.rows import RowTable
from indexer.index.scans import Proposals, Scan, Subset
from indexer.types import Vectors
from tests.vectors import crcs, unit_vectors, voices

Append = Callable[[Vectors], None]
QUANTIZER = Quantizer.trained(unit_vectors(2000, seed=12345))


def flat() -> tuple[Scan, Append]:
    table = RowTable(192, "float32")
    scan = FlatScan(table)

    def append(vectors: Vectors) -> None:
        prepared = scan.prepare(vectors)
        ids = np.arange(table.total, table.total + len(vectors))
        table.append(ids, vectors, crcs(vectors).astype(np.uint32))
        scan.append(prepared)

    return scan, append


def appending(scan: Scan) -> tuple[Scan, Append]:
    return scan, lambda vectors: scan.append(scan.prepare(vectors))


SCANS = {
    "flat": flat,
    "compressed": lambda: appending(CompressedScan(QUANTIZER, Calibration())),
    "gpu": lambda: appending(GpuScan(torch.device("cpu"), sizes=Sizes(first_block_rows=100, scores=2000, group=4))),
}


@pytest.fixture(params=SCANS)
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


def estimates(scan: Scan, probes: Vectors, count: int) -> np.ndarray:
    """(Q, n) estimate of every row, which a scan proposes when as many are asked for."""
    everything = scan.search(probes, count)
    found = np.full((len(probes), count), np.nan, dtype=np.float32)
    for probe, (scores, positions) in enumerate(zip(everything.scores, everything.positions, strict=True)):
        found[probe, positions[positions >= 0]] = scores[positions >= 0]
    assert not np.isnan(found).any()
    assert (everything.floors == -np.inf).all()
    return found


def assert_nothing_left_out(found: Proposals, all_estimates: np.ndarray, eligible: np.ndarray, fetch: int) -> None:
    for scores, positions, floor, true in zip(*found[:3], all_estimates, strict=True):
        proposed = positions[positions >= 0]
        assert len(set(proposed)) == len(proposed)
        assert set(proposed) <= set(eligible)
        assert len(proposed) > 0 or len(eligible) == 0 or floor > -np.inf
        np.testing.assert_allclose(scores[positions >= 0], true[proposed], rtol=0, atol=2e-6)
        others = np.setdiff1d(eligible, proposed)
        assert len(others) == 0 or true[others].max() <= floor + 2e-6, "a row above the floor was left out"
        if fetch >= len(eligible):
            assert len(others) == 0


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(SCANS)),
    seed=st.integers(0, 10**6),
    parts=st.lists(st.integers(1, 300), min_size=1, max_size=6),
    probes=st.integers(1, 70),
    fetch=st.integers(1, 500),
    share=st.floats(0, 1),
    same=st.integers(0, 100),
)
def test_a_scan_leaves_out_nothing_above_its_floor(
    kind: str, seed: int, parts: list[int], probes: int, fetch: int, share: float, same: int
) -> None:
    random, count = np.random.default_rng(seed), sum(parts)
    rows = voices(count // 3 + 1, 3, seed=seed)[:count]
    rows[random.integers(0, count, min(same, count))] = rows[0]
    asked = np.concatenate([rows, unit_vectors(70, seed=seed)])[random.permutation(count + 70)[:probes]]
    scan, append = SCANS[kind]()
    positions = np.arange(count)
    chosen = positions[random.random(count) < share]
    subset: Subset | None = None
    start = 0
    for part in parts:  # a filter is made of the first rows and hears of the others
        append(rows[start : start + part])
        new = chosen[(chosen >= start) & (chosen < start + part)]
        if subset is not None:
            subset.append(new)
        elif len(new):
            subset = scan.subset(new)
        start += part
    assert scan.count == count
    all_estimates = estimates(scan, asked, count)
    assert_nothing_left_out(scan.search(asked, fetch), all_estimates, positions, fetch)
    if subset is not None:
        assert_nothing_left_out(scan.search(asked, fetch, subset), all_estimates, chosen, fetch)
    if kind != "compressed":
        exact = asked.astype(np.float64) @ rows.T.astype(np.float64)
        assert (exact - all_estimates).max() <= scan.margin
    scan.close()


def test_an_estimate_does_not_depend_on_the_probes_beside_it(kind: str) -> None:
    rows, asked = voices(300, 5), unit_vectors(130, seed=3)
    scan, append = SCANS[kind]()
    append(rows)
    together = estimates(scan, asked, 1500)
    for number in (0, 63, 64, 129):
        alone = estimates(scan, asked[number : number + 1], 1500)
        np.testing.assert_allclose(alone[0], together[number], rtol=0, atol=2e-6)
    scan.close()


def test_an_estimate_does_not_depend_on_how_rows_were_appended(kind: str) -> None:
    rows, asked = voices(300, 5), unit_vectors(5, seed=3)
    (one, append_one), (other, append_other) = SCANS[kind](), SCANS[kind]()
    append_one(rows)
    for some in np.array_split(np.arange(1500), [1, 2, 33, 65, 500, 501, 1499]):
        append_other(rows[some])
    np.testing.assert_allclose(estimates(one, asked, 1500), estimates(other, asked, 1500), rtol=0, atol=2e-6)
    for scan in (one, other):
        scan.close()
