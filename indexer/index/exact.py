"""Exact scores for the rows that a scan proposes, of as many of them as may matter."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from indexer.index.base import Hit
from indexer.index.inner_products import inner_products
from indexer.index.rows import RowTable
from indexer.index.scans import ROUNDING, Positions, Proposals, Scan
from indexer.index.scopes import Scope
from indexer.index.snapshot_format import Rows
from indexer.types import EmbeddingId, Vectors

SPARE = 8
"""Rows fetched beyond k, so that those which rounding or ties displaced are seldom fetched in a second pass."""

_HEADS = 64
"""Rows estimated best that are scored before all others: what the last hit scores at least is known of them."""

ENTRIES = 1 << 22
"""Rows proposed at a time, over all probes: some 100 MB of estimates, positions and scores."""

_PAIRS_AT_ONCE = 256
"""Up to so many rows are copied and scored at once; more are scored where they lie, on all cores."""

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
class Round:
    """What one pass of the scan found for some probes: n rows that may be among their hits."""

    owners: Positions
    """(n,) rising: the number of the probe."""
    positions: Positions
    """(n,)."""
    cuts: NDArray[np.float64]
    """(Q,) scores below which nothing matters any more."""
    settled: NDArray[np.bool_]
    """(Q,) whether no row that was not proposed can matter."""
    needs: Positions
    """(Q,) rows that had to be proposed; all there are where more were needed than were."""


@dataclass(frozen=True, eq=False)
class Scoring:
    """Scores of one index in one state; to be used while nothing of it changes."""

    table: RowTable
    scan: Scan
    scope: Scope | None

    def round(self, probes: Vectors, fetch: int, wanted: Wanted) -> Round:
        """Have rows proposed for (Q, D) probes and score those that may matter."""
        found = self.scan.search(probes, fetch, None if self.scope is None else self.scope.subset)
        if wanted.candidates is None:
            places, scores = self._worth_scoring(probes, found, wanted)
        else:
            places = self._still_there(found.positions)
            scores = self._scores(probes, places)
        result = self._near(scores, places, wanted)
        bounds = result.cuts - self.scan.margin
        settled = (found.floors < bounds) | (found.floors == -np.inf)
        if wanted.candidates is not None:
            settled |= (places >= 0).sum(axis=1) >= (wanted.k or 0)
        matter = (found.scores >= bounds.astype(np.float32)[:, None]) & (found.positions >= 0)
        needs = np.where(settled, matter.sum(axis=1), self.table.total)
        return replace(result, settled=settled, needs=needs)

    def _worth_scoring(
        self, probes: Vectors, found: Proposals, wanted: Wanted
    ) -> tuple[Positions, NDArray[np.float32]]:
        """Score the proposed rows that may matter: (Q, m) positions of those that do, and their scores.

        Positions are -1 where there is none.

        The rows estimated best are scored first, and whatever they are estimated at: the margin was measured on the
        nearest of other voices and other sentences, while the same audio once more scores far higher and may be
        estimated too low by more.
        """
        heads = self._heads(found, wanted)
        first = self._still_there(found.positions[:, heads])
        first_scores = self._scores(probes, first)
        least = self._lasts(first_scores, wanted)
        chosen = found.scores >= (least - self.scan.margin - ROUNDING).astype(np.float32)[:, None]
        chosen[:, heads] = False
        # There are more in any case: nothing is scored twice.
        more = found.floors > -np.inf
        more &= (least == -np.inf) if wanted.k is not None else found.floors >= wanted.threshold - self.scan.margin
        chosen[more] = False
        columns = np.flatnonzero(chosen.any(axis=0))  # most of a long list cannot matter to anybody
        if not len(columns):
            return first, first_scores
        places = self._still_there(np.where(chosen[:, columns], found.positions[:, columns], -1))
        scores = self._scores(probes, places)
        # Hardly one of them beats the rows that were estimated best: nobody need look for the last hit among all.
        owners, slots = np.nonzero(scores >= _at_least(least))
        numbers = np.arange(len(owners)) - np.searchsorted(owners, owners)
        width = int(numbers.max(initial=-1)) + 1
        kept, kept_scores = np.full((len(probes), width), -1), np.full((len(probes), width), -np.inf, dtype=np.float32)
        kept[owners, numbers], kept_scores[owners, numbers] = places[owners, slots], scores[owners, slots]
        return np.concatenate([first, kept], axis=1), np.concatenate([first_scores, kept_scores], axis=1)

    def _heads(self, found: Proposals, wanted: Wanted) -> Positions:
        """Columns of the rows that are estimated best, which are scored whatever they are estimated at: (H,)."""
        most = max(self.scan.candidates, SPARE) if wanted.k is None else _HEADS
        each = max(2 * (wanted.k or 0), most // len(found.runs))
        ends = [*found.runs[1:], found.positions.shape[1]]
        return np.concatenate(
            [np.arange(start, min(start + each, end)) for start, end in zip(found.runs, ends, strict=True)]
        )

    def _lasts(self, scores: NDArray[np.float32], wanted: Wanted) -> NDArray[np.float64]:
        """Scores below which nothing matters beside these: (Q, F) -> (Q,)."""
        k, width = wanted.k, scores.shape[1]
        if k is None or width < k:
            return np.full(len(scores), wanted.threshold)
        last = np.partition(scores, width - k, axis=1)[:, width - k].astype(np.float64)
        return np.maximum(last - ROUNDING, wanted.threshold)

    def _near(self, scores: NDArray[np.float32], positions: Positions, wanted: Wanted) -> Round:
        """Pick of (Q, F) rows with their scores, -inf where there is none, those that may be hits, all settled."""
        cuts = self._lasts(scores, wanted)
        owners, columns = np.nonzero(scores >= _at_least(cuts))
        known = np.ones(len(scores), dtype=bool)
        places = positions[owners, columns]
        return Round(owners, places, cuts, settled=known, needs=np.zeros(len(scores), dtype=np.int64))

    def _still_there(self, positions: Positions) -> Positions:
        """Put -1 where the row has gone."""
        if self.table.count == self.table.total:
            return positions
        return np.where((positions >= 0) & self.table.alive[np.maximum(positions, 0)], positions, -1)

    def _scores(self, probes: Vectors, positions: Positions) -> NDArray[np.float32]:
        """Cosines but for rounding: (Q, m) positions -> (Q, m); -inf where a position is -1."""
        parts = self.table.parts()
        plain = self.table.trusted and all(rows.dtype == np.float32 for _, rows in parts)
        if plain and positions.size > _PAIRS_AT_ONCE:
            return inner_products(probes, parts, positions)
        scores = np.full(positions.shape, -np.inf, dtype=np.float32)
        owners, places = np.nonzero(positions >= 0)
        for start in range(0, len(owners), _BLOCK_ROWS):
            some = owners[start : start + _BLOCK_ROWS], places[start : start + _BLOCK_ROWS]
            # Not `@`: the threads of BLAS wait for each other in loops, longer than so few rows take.
            scores[some] = np.einsum("nd,nd->n", self.table.gather(positions[some]), probes[some[0]])
        return scores

    def of_few(self, probes: Vectors, positions: Positions, wanted: Wanted) -> list[list[Hit]]:
        """Score (m,) positions for every probe."""
        hits: list[list[Hit]] = []
        at_once = max(ENTRIES // max(len(positions), 1), 1)
        for start in range(0, len(probes), at_once):
            some = probes[start : start + at_once]
            places = np.broadcast_to(positions, (len(some), len(positions)))
            scores = self._scores(some, places)
            hits += self.settled(some, self._near(scores, places, wanted), wanted)
        return hits

    def exhaustively(self, probe: NDArray[np.float32], cut: float, wanted: Wanted) -> list[Hit]:
        """Compare with every row."""
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
        found, positions = np.concatenate(scores)[None], np.concatenate(kept)[None]
        return self.settled(probe[None], self._near(found, positions, wanted), wanted)[0]

    def _blocks(self) -> Iterator[tuple[int, Rows]]:
        for first, rows in self.table.parts():
            for start in range(0, len(rows), _BLOCK_SCANNED):
                yield first + start, rows[start : start + _BLOCK_SCANNED]

    def settled(self, probes: Vectors, found: Round, wanted: Wanted) -> list[list[Hit]]:
        """Score in float64 what may be among the hits of the settled probes, and order it."""
        near = found.settled[found.owners]
        owners, positions = found.owners[near], found.positions[near]
        exact = np.empty(len(positions), dtype=np.float64)
        for start in range(0, len(positions), _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            # Summed row by row rather than by a matrix product, whose rounding depends on the row's place in it.
            products = self.table.gather(positions[block]).astype(np.float64)
            products *= probes[owners[block]]
            exact[block] = products.sum(axis=1)
        np.clip(exact, -1.0, 1.0, out=exact)
        ids = self.table.ids_at(positions)
        order = np.lexsort((ids, -exact, owners))
        ids, exact = ids[order], exact[order]
        ends = np.searchsorted(owners, np.flatnonzero(found.settled), side="right").tolist()
        starts = [0, *ends][: len(ends)]
        hits: list[list[Hit]] = []
        for start, end in zip(starts, ends, strict=True):
            some = slice(start, end if wanted.k is None else min(end, start + wanted.k))
            hits.append(
                [
                    Hit(EmbeddingId(number), score)
                    for number, score in zip(ids[some].tolist(), exact[some].tolist(), strict=True)
                    if score >= wanted.threshold
                ]
            )
        return hits


def _at_least(cuts: NDArray[np.float64]) -> NDArray[np.float32]:
    """Float32 scores from which on a row may reach (Q,) cuts: (Q, 1); no row at all has -inf."""
    return np.maximum(cuts - ROUNDING, np.finfo(np.float32).min).astype(np.float32)[:, None]
