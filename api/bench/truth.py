"""What an exhaustive search finds, computed from the vectors alone, by none of the engines that are measured."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.types import Vectors

Rows = NDArray[np.int64]
"""(Q, k) row numbers, best first; -1 where there are fewer than k."""

_BLOCK_ROWS = 16_384
"""Rows compared at a time; 2,000 probes make 131 MB of scores."""

_SPARE = 8
"""Rows kept beyond k, among which float32 rounding may have put the k-th in the wrong place."""


def exact_top(rows: Vectors, probes: Vectors, k: int, scopes: Sequence[NDArray[np.bool_] | None]) -> list[Rows]:
    """Find the k rows of highest cosine for each probe, in one pass for every scope.

    Parameters
    ----------
    rows : (n, D) float32 array
        Unit vectors; may be mapped from a file.
    probes : (Q, D) float32 array
        Unit vectors.
    scopes
        For each answer the (n,) mask of rows that may be found, or None for all.

    Returns
    -------
    list of (Q, k) int64 arrays
        Row numbers, by falling float64 cosine and then rising number.
    """
    wanted = k + _SPARE
    best = [np.full((len(probes), wanted), -np.inf, dtype=np.float32) for _ in scopes]
    found = [np.full((len(probes), wanted), -1, dtype=np.int64) for _ in scopes]
    for start in range(0, len(rows), _BLOCK_ROWS):
        scores = probes @ rows[start : start + _BLOCK_ROWS].T  # (Q, block)
        for number, scope in enumerate(scopes):
            inside = None if scope is None else np.flatnonzero(scope[start : start + _BLOCK_ROWS])
            columns = scores if inside is None else scores[:, inside]
            if columns.shape[1] == 0:
                continue
            better = np.flatnonzero(columns.max(axis=1) > best[number].min(axis=1))
            if len(better) == 0:
                continue
            take = min(wanted, columns.shape[1])
            some = columns[better]
            places = np.argpartition(some, -take, axis=1)[:, -take:]
            numbers = start + (places if inside is None else inside[places])
            merged = np.concatenate([best[number][better], np.take_along_axis(some, places, axis=1)], axis=1)
            names = np.concatenate([found[number][better], numbers], axis=1)
            kept = np.argpartition(merged, -wanted, axis=1)[:, -wanted:]
            best[number][better] = np.take_along_axis(merged, kept, axis=1)
            found[number][better] = np.take_along_axis(names, kept, axis=1)
    return [_ordered(rows, probes, candidates, k) for candidates in found]


def _ordered(rows: Vectors, probes: Vectors, candidates: Rows, k: int) -> Rows:
    """Order candidates by their float64 cosine; (Q, wanted) -> (Q, k)."""
    answer = np.full((len(probes), k), -1, dtype=np.int64)
    for number, (probe, some) in enumerate(zip(probes, candidates, strict=True)):
        some = np.sort(some[some >= 0])
        scores = rows[some].astype(np.float64) @ probe.astype(np.float64)
        order = np.lexsort((some, -scores))[:k]
        answer[number, : len(order)] = some[order]
    return answer


def recall(found: Sequence[Sequence[int]], truth: Rows) -> float:
    """Share of the true rows that were found: the mean over probes of |found and true| / |true|."""
    shares = []
    for numbers, exact in zip(found, truth, strict=True):
        there = set(exact[exact >= 0].tolist())
        if there:
            shares.append(len(there.intersection(numbers)) / len(there))
    return float(np.mean(shares)) if shares else 1.0
