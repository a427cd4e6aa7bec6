"""Codes in stripes: however they are cut, every row is where it is, and lists grow with what they are drawn from."""

import pytest

from indexer.index import compressed_scan
from indexer.index.calibration import Calibration
from indexer.index.compressed_scan import CompressedScan
from indexer.index.faiss_codes import Quantizer
from tests.vectors import unit_vectors

VECTORS = unit_vectors(1500, seed=3)


@pytest.fixture(scope="module")
def quantizer() -> Quantizer:
    return Quantizer.trained(VECTORS)


def test_codes_of_a_snapshot_in_several_stripes_are_found_where_their_rows_are(
    quantizer: Quantizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = CompressedScan(quantizer, Calibration()), CompressedScan(quantizer, Calibration())
    codes = quantizer.encode(VECTORS)
    whole.append(codes[:1300], mapped=True)
    monkeypatch.setattr(compressed_scan, "STRIPE_ROWS", 512)  # a real one has half a million rows
    cut.append(codes[:1300], mapped=True)
    for scan in (whole, cut):
        scan.append(codes[1300:])
    found, expected = (scan.search(VECTORS[:20], 1500) for scan in (cut, whole))
    assert len(found.runs) == 4  # three of the snapshot, one that grows
    for row in range(20):
        there = dict(zip(expected.positions[row].tolist(), expected.scores[row].tolist(), strict=True))
        assert dict(zip(found.positions[row].tolist(), found.scores[row].tolist(), strict=True)) == there
        assert len(there) == 1500


def test_a_first_fetch_grows_with_the_rows_that_came_since_it_was_measured(quantizer: Quantizer) -> None:
    scan = CompressedScan(quantizer, Calibration(candidates=400, measured_at_count=1000))
    codes = quantizer.encode(VECTORS)
    scan.append(codes[:1000])
    assert scan.candidates == 400
    scan.append(codes[1000:])
    assert scan.candidates == 490  # 1.5 ** 0.5 times as many
