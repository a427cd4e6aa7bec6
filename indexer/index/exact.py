"""Exact scores for what a scan proposes, and as much proposing as they call for."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from indexer.index.base import Hit
from indexer.index.rows import RowTable
from indexer.index.scans import Positions, Proposals, Scan
from indexer.index.scopes import Scope
from indexer.index.snapshot_format import Rows
from indexer.types import EmbeddingId, Vectors

ROUNDING = 1e-5
"""More than a float32 inner product of 192 terms can differ from the exact one (about 1e-6 for unit vectors)."""

SPARE = 8
"""Rows fetched beyond k, so that those which rounding or ties displaced are seldom fetched in a second pass."""

_GROWTH = 4
"""How many times as many rows a further pass fetches."""

_FEW = 128
"""Rows fetched at first for each of many probes."""

_BLOCK_ROWS = 4096
"""Rows scored at a time: 3 MiB for vectors of 192 numbers, however many there are."""

_BLOCK_SCANNED = 65_536


@dataclass(frozen=True)
class Wanted:
    """What one search asks for."""

    k: int | None
    """Most hits; None: all."""
    threshold: float = -np.inf
    candidates: int | None = None
    """Rows that are scored exactly, more only where k are not among them; None: as many as the margin calls for."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Searches of one index in one state; to be used while nothing of it changes."""

    table: RowTable
    scan: Scan
    scope: Scope | None

    def best(self, probes: Vectors, wanted: Wanted) -> list[list[Hit]]:
        """Return the hits for each of (Q, D) probes, by falling score and then rising id."""
        eligible = self.table.count if self.scope is None else len(self.scope.positions)
        if not eligible or not len(probes):
            return [[] for _ in probes]
        if self.scope is not None and self.scope.subset is None:
            positions = self.scope.positions
            positions = positions[self.table.alive[positions]]
            return [self._hits(probe, *self._all_of(probe, positions), wanted) for probe in probes]
        return self._in_rounds(probes, wanted)

    def _in_rounds(self, probes: Vectors, wanted: Wanted) -> list[list[Hit]]:
        """Fetch more, in each round, for those probes for which a row that was not proposed might matter."""
        answers: list[list[Hit]] = [[] for _ in probes]
        pending = np.arange(len(probes))
        fetch = self._first_fetch(wanted, len(probes))
        while len(pending):
            found = self._propose(probes[pending], fetch)
            fetch = max(_GROWTH * fetch, self.scan.candidates)
            last = 2 * fetch > self.table.total
            more: list[int] = []
            for row, number in enumerate(pending.tolist()):
                hits, cut = self._settled(probes[number], found, row, wanted)
                if hits is None and last:
                    hits = self._hits(probes[number], *self._everything(probes[number], cut), wanted)
                if hits is None:
                    more.append(number)
                else:
                    answers[number] = hits
            pending = np.array(more, dtype=np.int64)
        return answers

    def _first_fetch(self, wanted: Wanted, probes: int) -> int:
        if wanted.candidates is not None:
            return wanted.candidates
        # For one probe a longer list costs nothing; for many it does, and known voices need few.
        fetch = max(self.scan.candidates if probes == 1 else _FEW, SPARE + (0 if wanted.k is None else 2 * wanted.k))
        # Rows that went are proposed too: as many more are fetched as their share calls for.
        return min(fetch * self.table.total // max(self.table.count, 1), self.table.total)

    def _propose(self, probes: Vectors, fetch: int) -> Proposals:
        return self.scan.search(probes, fetch, None if self.scope is None else self.scope.subset)

    def _settled(
        self, probe: NDArray[np.float32], found: Proposals, row: int, wanted: Wanted
    ) -> tuple[list[Hit] | None, float]:
        """Score what may matter; None for hits where a row that was not proposed might, too. Return the cut as well."""
        positions, estimates, floor = found.positions[row], found.scores[row], float(found.floors[row])
        there = positions >= 0
        there[there] = self.table.alive[positions[there]]
        positions, estimates = positions[there], estimates[there]
        if wanted.candidates is not None and (wanted.k is None or len(positions) >= wanted.k):
            return self._hits(probe, *self._all_of(probe, positions), wanted), wanted.threshold
        few = wanted.k is None or len(positions) < wanted.k
        if few and floor > -np.inf and floor >= wanted.threshold - self.scan.margin:
            return None, wanted.threshold  # there are more in any case: nothing is scored twice
        scores, positions = self._needed(probe, estimates, positions, wanted)
        cut = self._cut(scores, wanted)
        if floor < cut - self.scan.margin or floor == -np.inf:
            return self._hits(probe, scores, positions, wanted), cut
        return None, cut

    def _needed(
        self, probe: NDArray[np.float32], estimates: NDArray[np.float32], positions: Positions, wanted: Wanted
    ) -> tuple[NDArray[np.float32], Positions]:
        """Score the k that are estimated best, and then every other that may be better than the last of them."""
        k = wanted.k
        if k is None or len(positions) <= k:
            worth = estimates >= wanted.threshold - self.scan.margin
            # The margin was measured on the nearest of other voices and other sentences: the same audio once more
            # scores far higher and may be estimated too low by more, yet it is estimated best.
            best = max(self.scan.candidates, SPARE)
            worth[np.argpartition(-estimates, best)[:best] if len(estimates) > best else slice(None)] = True
            return self._all_of(probe, positions[worth])
        order = np.argpartition(estimates, len(estimates) - k)
        first, others = order[-k:], order[:-k]
        scores = self._scores(probe, positions[first])
        cut = max(float(scores.min()), wanted.threshold)
        others = others[estimates[others] >= cut - self.scan.margin]
        if not len(others):
            return scores, positions[first]
        chosen = np.concatenate([first, others])
        return np.concatenate([scores, self._scores(probe, positions[others])]), positions[chosen]

    def _cut(self, scores: NDArray[np.float32], wanted: Wanted) -> float:
        """Score below which nothing matters any more."""
        if wanted.k is None or len(scores) < wanted.k:
            return wanted.threshold
        return max(wanted.threshold, float(np.partition(scores, -wanted.k)[-wanted.k]) - ROUNDING)

    def _all_of(self, probe: NDArray[np.float32], positions: Positions) -> tuple[NDArray[np.float32], Positions]:
        return self._scores(probe, positions), positions

    def _scores(self, probe: NDArray[np.float32], positions: Positions) -> NDArray[np.float32]:
        """Cosines but for rounding: (m,) positions -> (m,)."""
        scores = np.empty(len(positions), dtype=np.float32)
        for start in range(0, len(positions), _BLOCK_ROWS):
            some = slice(start, start + _BLOCK_ROWS)
            # Not `@`: the threads of BLAS wait for each other in loops, longer than so few rows take.
            np.einsum("nd,d->n", self.table.gather(positions[some]), probe, out=scores[some])
        return scores

    def _everything(self, probe: NDArray[np.float32], cut: float) -> tuple[NDArray[np.float32], Positions]:
        """Compare with every row; keep those that reach the cut but for rounding."""
        scores: list[NDArray[np.float32]] = []
        kept: list[Positions] = []
        allowed = np.zeros(self.table.total, dtype=bool)
        if self.scope is not None:
            allowed[self.scope.positions] = True
        for first, rows in self._blocks():
            some = rows.astype(np.float32, copy=False) @ probe
            good = (some >= cut - ROUNDING) & self.table.alive[first : first + len(rows)]
            if self.scope is not None:
                good &= allowed[first : first + len(rows)]
            places = np.flatnonzero(good)
            scores.append(some[places])
            kept.append(places + first)
        return np.concatenate(scores), np.concatenate(kept)

    def _blocks(self) -> Iterator[tuple[int, Rows]]:
        for first, rows in self.table.parts():
            for start in range(0, len(rows), _BLOCK_SCANNED):
                yield first + start, rows[start : start + _BLOCK_SCANNED]

    def _hits(
        self, probe: NDArray[np.float32], scores: NDArray[np.float32], positions: Positions, wanted: Wanted
    ) -> list[Hit]:
        """Score in float64 what may be among the hits, and order it; `scores` are right but for rounding."""
        near = scores >= self._cut(scores, wanted) - ROUNDING
        positions = positions[near]
        exact, wide = np.empty(len(positions), dtype=np.float64), probe.astype(np.float64)
        for start in range(0, len(positions), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            # Summed row by row rather than by a matrix product, whose rounding depends on the row's place in it.
            exact[block] = (self.table.gather(positions[block]).astype(np.float64) * wide).sum(axis=1)
        np.clip(exact, -1.0, 1.0, out=exact)
        ids = self.table.ids_at(positions)
        order = np.lexsort((ids, -exact))[: wanted.k]
        return [
            Hit(EmbeddingId(number), score)
            for number, score in zip(ids[order].tolist(), exact[order].tolist(), strict=True)
            if score >= wanted.threshold
        ]
