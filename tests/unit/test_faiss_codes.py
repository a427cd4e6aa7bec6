"""Codes of two bits a component: along which directions they are made, and that older ones are read as they were."""

import faiss
import numpy as np

from indexer.index.calibration import Calibration
from indexer.index.compressed_scan import CompressedScan
from indexer.index.faiss_codes import Quantizer
from indexer.types import Vectors
from tests.vectors import unit_vectors


def uneven(count: int, seed: int) -> Vectors:
    """Unit vectors that differ in few directions far more than in all others, none of which is an axis."""
    random = np.random.default_rng(seed)
    directions = np.linalg.qr(np.random.default_rng(1).standard_normal((192, 192)))[0]
    rows = random.standard_normal((count, 192)) * np.geomspace(10, 0.1, 192) @ directions.T
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def errors(quantizer: Quantizer, rows: Vectors, probes: Vectors) -> float:
    """How far the estimates of a scan are off, as a root mean square."""
    scan = CompressedScan(quantizer, Calibration())
    scan.append(scan.prepare(rows))
    places = np.tile(np.arange(len(rows)), (len(probes), 1))
    return float(np.sqrt(np.mean((scan.raw_scores(probes, places) - probes @ rows.T) ** 2)))


def test_codes_are_made_along_the_directions_in_which_vectors_differ() -> None:
    rows, probes = uneven(3000, seed=2), uneven(20, seed=3)
    trained = Quantizer.trained(rows)
    coder = faiss.ProductQuantizer(192, 96, 4)
    coder.train(rows)
    along_axes = Quantizer(faiss.vector_to_array(coder.centroids).reshape(96, 16, 2))
    assert errors(trained, rows, probes) < 0.7 * errors(along_axes, rows, probes)


def test_directions_are_at_right_angles_so_that_products_are_what_they_were() -> None:
    quantizer = Quantizer.trained(uneven(3000, seed=2))
    some = unit_vectors(100, seed=5)
    turned = quantizer.turned(some)
    np.testing.assert_allclose(turned @ turned.T, some @ some.T, atol=1e-5)
    np.testing.assert_allclose(quantizer.turned(some[:3]), turned[:3], atol=1e-6)


def test_a_codebook_without_directions_is_read_as_one_along_the_axes() -> None:
    rows = unit_vectors(2000, seed=6)
    old = Quantizer(Quantizer.trained(rows).book[:, :16].copy())
    np.testing.assert_array_equal(old.turned(rows), rows)
    decoded = old.book[np.arange(96), _numbers(old.encode(rows))].reshape(-1, 192)
    others = old.book[np.arange(96), np.random.default_rng(0).integers(0, 16, (2000, 96))].reshape(-1, 192)
    assert np.linalg.norm(decoded - rows) < 0.5 * np.linalg.norm(others - rows)


def _numbers(codes: np.ndarray) -> np.ndarray:
    """(n, 48) bytes -> (n, 96) numbers of centroids."""
    return np.stack([codes & 15, codes >> 4], axis=2).reshape(len(codes), -1)
