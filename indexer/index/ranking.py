"""As much proposing by a scan as each probe of a search calls for."""

from dataclasses import dataclass, field

import numpy as np

from indexer.index.base import Hit
from indexer.index.calibration import NEIGHBORS
from indexer.index.cores import core_count, in_parallel
from indexer.index.exact import ENTRIES, FEW, SPARE, Scoring, Wanted
from indexer.index.rows import RowTable
from indexer.index.scans import Positions, Scan
from indexer.index.scopes import Scope
from indexer.types import Vectors

_GROWTH = 4
"""How many times as many rows a further pass fetches."""

TRIED = 24
"""Probes of a batch that show how many rows the others need: as many as one pass over the codes serves."""

_OFTEN = 0.1
"""Share of the last probes that needed more, above which a long list at once is cheaper on average.

At 1,000,000 vectors a long list costs a tenth of a pass over the codes more, and looking again a whole one."""

_FORGETTING = 0.1
"""Weight of the newest of them."""

_SELDOM = 0.1
"""Share of a batch that may need more: the second pass for so many costs less than longer lists for all."""

_MORE_HITS = 0.6
"""By which power of k beyond `NEIGHBORS`, for which the scan says it, rows are needed.

Measured on 1,000,000 clustered vectors: 19 of 20 strangers need 2,644 rows for 10 hits, 4,037 for 20, 6,495 for 51 and
9,476 for 100."""

_A_CORE = 12
"""Probes for each core from which on each core searches with its own, rather than all with one after the other."""


class FewSuffice:
    """Learns from the searches of an index how long a list the next probe is likely to need.

    Voices that are there need few rows, strangers some thousands, and those who ask tend to ask for the one or the
    other. What it learns changes how long a search takes, never what it finds.
    """

    def __init__(self) -> None:
        self._more = 0.0

    def __bool__(self) -> bool:
        return self._more <= _OFTEN

    def note(self, more: int, probes: int) -> None:
        """Hear how many of some probes needed more than few rows."""
        weight = 1.0 - (1.0 - _FORGETTING) ** probes
        self._more += weight * (more / probes - self._more)


@dataclass(frozen=True, eq=False)
class Ranking:
    """Searches of one index in one state; to be used while nothing of it changes."""

    table: RowTable
    scan: Scan
    scope: Scope | None
    few_suffice: FewSuffice = field(default_factory=FewSuffice)

    def best(self, probes: Vectors, wanted: Wanted) -> list[list[Hit]]:
        """Return the hits for each of (Q, D) probes, by falling score and then rising id."""
        eligible = self.table.count if self.scope is None else len(self.scope.positions)
        if not eligible or not len(probes):
            return [[] for _ in probes]
        if self.scope is not None and self.scope.subset is None:
            positions = self.scope.positions
            return self._scoring.of_few(probes, positions[self.table.alive[positions]], wanted)
        answers: list[list[Hit]] = [[] for _ in probes]
        numbers = np.arange(len(probes))
        fetch = self._first_fetch(wanted)
        few = self._scaled(max(FEW, SPARE + 2 * (wanted.k or 0)))
        if wanted.candidates is None and wanted.k is not None and fetch > few:
            # A shorter list is quicker, and known voices need no more.
            if len(probes) <= 2 * TRIED:
                more = self._in_rounds(probes, numbers, few if self.few_suffice else fetch, wanted, answers)
                self.few_suffice.note(more, len(probes))
                return answers
            tried = self._in_rounds(probes, numbers[:TRIED], fetch, wanted, answers)
            numbers = numbers[TRIED:]
            fetch = few if tried <= _SELDOM * TRIED else fetch
        self._in_rounds(probes, numbers, fetch, wanted, answers)
        return answers

    def _in_rounds(
        self, probes: Vectors, pending: Positions, fetch: int, wanted: Wanted, answers: list[list[Hit]]
    ) -> int:
        """Fetch more, in each round, for those probes for which a row that was not proposed might matter.

        Return how many of the (n,) pending ones needed more than few rows.
        """
        many: int | None = None
        while len(pending):
            last = 2 * max(_GROWTH * fetch, self.scan.candidates) > self.table.total
            pending, needed = self._round(probes, pending, fetch, wanted, answers, last=last)
            many = needed if many is None else many
            fetch = max(_GROWTH * fetch, self.scan.candidates)
        return many or 0

    def _round(
        self, probes: Vectors, pending: Positions, fetch: int, wanted: Wanted, answers: list[list[Hit]], *, last: bool
    ) -> tuple[Positions, int]:
        """Answer what so long a list answers, and where it is the last round all the rest.

        Return the probes that are left, and how many of the (n,) pending ones needed more than few rows.
        """
        scoring = self._scoring
        blocks = self._blocks(pending, fetch)
        left: list[Positions] = [pending[:0]] * len(blocks)
        needed = [0] * len(blocks)

        def work(number: int) -> None:
            some = blocks[number]
            found = scoring.round(probes[some], fetch, wanted)
            for row, hits in zip(some[found.settled], scoring.settled(probes[some], found, wanted), strict=True):
                answers[row] = hits
            for row in np.flatnonzero(~found.settled) if last else ():
                answers[some[row]] = scoring.exhaustively(probes[some[row]], float(found.cuts[row]), wanted)
            left[number] = pending[:0] if last else some[~found.settled]
            needed[number] = int(found.many.sum())

        if self.scan.probes_a_core and len(blocks) > 1:
            in_parallel(work, range(len(blocks)))
        else:
            for number in range(len(blocks)):
                work(number)
        return np.concatenate(left), sum(needed)

    def _blocks(self, pending: Positions, fetch: int) -> list[Positions]:
        """Cut (n,) probes into what is searched with at a time."""
        most = max(ENTRIES // max(fetch, 1), 1)
        a_core = self.scan.probes_a_core
        if not a_core or len(pending) < _A_CORE * core_count():
            return [pending[start : start + most] for start in range(0, len(pending), most)]
        cores = core_count()
        count = -(-len(pending) // min(a_core, max(most // cores, 1)))
        # Every core has as many, or one is waited for.
        return np.array_split(pending, min(-(-count // cores) * cores, len(pending)))

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
