"""As much proposing by a scan as each probe of a search calls for."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from indexer.index.base import Hit
from indexer.index.calibration import NEIGHBORS
from indexer.index.cores import core_count, in_parallel
from indexer.index.exact import ENTRIES, SPARE, Scoring, Wanted
from indexer.index.rows import RowTable
from indexer.index.scans import Positions, Scan
from indexer.index.scopes import Scope
from indexer.types import Vectors

_GROWTH = 4
"""How many times as many rows a further pass fetches."""

TRIED = 24
"""Probes that show how many rows others need: the first of a batch, as many as one pass over the codes serves, or the
last of all."""

_FEW = 128
"""Rows that are fetched at least: voices that are there need no more."""

_GLANCED_AT = 256
"""Rows that are scored exactly at once: proposing some of them first takes longer."""

_A_PROPOSAL = 140
"""Codes that are scanned in the time that proposing one more row takes.

Measured at 1,000,000 vectors: a probe takes 1.5 ms of processor time, and 0.5 ms more where 2,300 rows are proposed."""

_A_ROUND = 300_000
"""Codes that are scanned in the time that a second pass of a few probes takes besides, some 0.4 ms."""

_UNEVEN = 1.1
"""How many times the rows are fetched that were needed, for a stripe may hold more of them than its share."""

_MORE_HITS = 0.6
"""By which power of k beyond `NEIGHBORS`, for which the scan says it, rows are needed.

Measured on 1,000,000 clustered vectors: 19 of 20 strangers need 2,644 rows for 10 hits, 4,037 for 20, 6,495 for 51 and
9,476 for 100."""

_ROUNDS = 2
"""How often each core must have probes of its own to search with, or all search with all, one after the other."""


class NeededLately:
    """Remembers how many rows the last probes of an index needed, for the next one is likely to need as many.

    Voices that are there need few rows, strangers some thousands, and those who ask tend to ask for the one or the
    other. What it remembers changes how long a search takes, never what it finds.
    """

    def __init__(self) -> None:
        self._last: tuple[int, ...] = ()

    def note(self, needs: Positions) -> None:
        """Hear how many rows (n,) probes needed."""
        self._last = (*self._last, *needs[-TRIED:].tolist())[-TRIED:]

    def best_fetch(self, few: int, most: int, total: int) -> int:
        """Return how many rows to fetch at first, of `total` that are scanned."""
        return _best_fetch(self._last, few, most, total + _A_ROUND)


def _best_fetch(needs: Sequence[int], few: int, most: int, again: int) -> int:
    """Choose, between few and most, how many rows to fetch so that probes with such needs take least time.

    Whoever needs more takes a second pass, which costs scanning `again` codes, with most. That one probe more may is
    allowed for.
    """
    fetches = [few, *sorted({min(round(_UNEVEN * need), most) for need in needs if _UNEVEN * need > few})]
    again += _A_PROPOSAL * most

    def cost(fetch: int) -> float:
        more = sum(need > fetch for need in needs) + 0.5 if fetch < most else 0.0
        return _A_PROPOSAL * fetch + again * more / max(len(needs), 1)

    return min(fetches, key=cost) if needs else few


@dataclass(frozen=True, eq=False)
class Ranking:
    """Searches of one index in one state; to be used while nothing of it changes."""

    table: RowTable
    scan: Scan
    scope: Scope | None
    lately: NeededLately = field(default_factory=NeededLately)

    def best(self, probes: Vectors, wanted: Wanted) -> list[list[Hit]]:
        """Return the hits for each of (Q, D) probes, by falling score and then rising id."""
        eligible = self.table.count if self.scope is None else len(self.scope.positions)
        if not eligible or not len(probes):
            return [[] for _ in probes]
        if self.scope is not None and self.scope.subset is None:
            positions = self.scope.positions
            return self._scoring.of_few(probes, positions[self.table.alive[positions]], wanted)
        if self.scope is None and self.table.total <= _GLANCED_AT:
            return self._scoring.of_few(probes, np.flatnonzero(self.table.alive[: self.table.total]), wanted)
        answers: list[list[Hit]] = [[] for _ in probes]
        numbers = np.arange(len(probes))
        fetch = most = self._first_fetch(wanted)
        few = self._scaled(max(_FEW, SPARE + 2 * (wanted.k or 0)))
        if wanted.candidates is None and wanted.k is not None and most > few:
            # A shorter list is quicker, and known voices need no more.
            if len(probes) <= 2 * TRIED:
                fetch = self.lately.best_fetch(few, most, self.table.total)
                self.lately.note(self._in_rounds(probes, numbers, fetch, wanted, answers))
                return answers
            needs = self._in_rounds(probes, numbers[:TRIED], fetch, wanted, answers)
            numbers = numbers[TRIED:]
            fetch = _best_fetch(needs.tolist(), few, most, self.table.total)
        self._in_rounds(probes, numbers, fetch, wanted, answers)
        return answers

    def _in_rounds(
        self, probes: Vectors, pending: Positions, fetch: int, wanted: Wanted, answers: list[list[Hit]]
    ) -> Positions:
        """Fetch more, in each round, for those probes for which a row that was not proposed might matter.

        Return how many rows each of the (n,) pending ones needed; all there are where `fetch` did not suffice.
        """
        most = self._first_fetch(wanted)
        needed: Positions | None = None
        while len(pending):
            more = most if fetch < most else max(_GROWTH * fetch, self.scan.candidates)
            last = 2 * more > self.table.total
            pending, needs = self._round(probes, pending, fetch, wanted, answers, last=last)
            needed = needs if needed is None else needed
            fetch = more
        return np.zeros(0, dtype=np.int64) if needed is None else needed

    def _round(
        self, probes: Vectors, pending: Positions, fetch: int, wanted: Wanted, answers: list[list[Hit]], *, last: bool
    ) -> tuple[Positions, Positions]:
        """Answer what so long a list answers, and where it is the last round all the rest.

        Return the probes that are left, and how many rows each of the (n,) pending ones needed.
        """
        scoring = self._scoring
        blocks = self._blocks(pending, fetch)
        left: list[Positions] = [pending[:0]] * len(blocks)
        needs: list[Positions] = [pending[:0]] * len(blocks)

        def work(number: int) -> None:
            some = blocks[number]
            found = scoring.round(probes[some], fetch, wanted)
            for row, hits in zip(some[found.settled], scoring.settled(probes[some], found, wanted), strict=True):
                answers[row] = hits
            for row in np.flatnonzero(~found.settled) if last else ():
                answers[some[row]] = scoring.exhaustively(probes[some[row]], float(found.cuts[row]), wanted)
            left[number] = pending[:0] if last else some[~found.settled]
            needs[number] = found.needs

        if self.scan.probes_a_core and len(blocks) > 1:
            in_parallel(work, range(len(blocks)))
        else:
            for number in range(len(blocks)):
                work(number)
        return np.concatenate(left), np.concatenate(needs)

    def _blocks(self, pending: Positions, fetch: int) -> list[Positions]:
        """Cut (n,) probes into what is searched with at a time."""
        most = max(ENTRIES // max(fetch, 1), 1)
        cores, a_core = core_count(), self.scan.probes_a_core
        size = min(a_core, max(most // cores, 1)) if a_core and len(pending) >= _ROUNDS * cores * a_core else most
        return [pending[start : start + size] for start in range(0, len(pending), size)]

    @property
    def _scoring(self) -> Scoring:
        return Scoring(self.table, self.scan, self.scope)

    def _first_fetch(self, wanted: Wanted) -> int:
        if wanted.candidates is not None:
            return wanted.candidates
        k = wanted.k or 0
        rows = round(self.scan.candidates * (max(k, NEIGHBORS) / NEIGHBORS) ** _MORE_HITS)
        return self._scaled(max(rows, SPARE + 2 * k))

    def _scaled(self, fetch: int) -> int:
        # Rows that went are proposed too: as many more are fetched as their share calls for.
        return min(fetch * self.table.total // max(self.table.count, 1), self.table.total)
