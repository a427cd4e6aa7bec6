"""What filters leave of an index, prepared once for each and kept in step."""

import threading
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from indexer.index.base import Ids, IdSet
from indexer.index.rows import RowTable
from indexer.index.scans import Positions, Scan, Subset

FEW = 4096
"""Eligible vectors that are all scored exactly (3 MiB of them, half a millisecond) rather than scanned."""

LEAST_BYTES = 64 << 20
"""What prepared filters may take, however small the index is."""


@dataclass(eq=False)
class Scope:
    """The rows that a filter leaves."""

    positions: Positions
    """(m,) rising; rows that went meanwhile may be among them."""
    subset: Subset | None
    """For the scan; None where the rows are few enough to score them all."""
    whole: bool
    """Whether every row is left: then it is no filter."""
    covered: int
    """Positions of the index that were looked at."""
    used: int = 0

    @property
    def memory_bytes(self) -> int:
        """What keeping it costs."""
        return int(self.positions.nbytes) + (0 if self.subset is None else self.subset.memory_bytes)


class Scopes:
    """The prepared filters of one index, for as long as somebody keeps their `IdSet`."""

    def __init__(self, table: RowTable, scan: Scan) -> None:
        self._table = table
        self._scan = scan
        self._kept: WeakKeyDictionary[IdSet, Scope] = WeakKeyDictionary()
        self._guard = threading.Lock()
        self._clock = 0

    @property
    def memory_bytes(self) -> int:
        """What keeping all of them costs."""
        with self._guard:
            return sum(scope.memory_bytes for scope in self._kept.values())

    def of(self, allowed: IdSet | Ids) -> Scope | None:
        """Return what a filter leaves; None where it or the rows have grown since it was prepared: `extend` it first.

        To be called beside other searches.
        """
        if not isinstance(allowed, IdSet):
            return self._made(IdSet(allowed))
        with self._guard:
            scope = self._kept.get(allowed)
            self._clock += 1
            if scope is None and (before := allowed.grown_from) is not None and before in self._kept:
                return None
            if scope is None:
                allowed.grown_from = None
                scope = self._kept[allowed] = self._made(allowed)
                self._evict(allowed)
            scope.used = self._clock
        return scope if scope.covered == self._table.total else None

    def extend(self, allowed: IdSet) -> None:
        """Look at the rows that came since; to be called while nobody searches."""
        scope = self._kept.get(allowed) or self._inherited(allowed)
        table = self._table
        if scope is None or scope.covered == table.total:
            return
        new = np.arange(scope.covered, table.total)
        ids = table.ids_at(new)
        places = np.minimum(np.searchsorted(allowed.ids, ids), max(len(allowed) - 1, 0))
        mine = new[allowed.ids[places] == ids] if len(allowed) else new[:0]
        mine = mine[table.alive[mine]]
        scope.whole = scope.whole and len(mine) == int(table.alive[new].sum())
        scope.covered = table.total
        self._take_in(scope, mine)

    def _inherited(self, allowed: IdSet) -> Scope | None:
        """Go on with what was prepared for the set that this one grew from; None where it has to be made anew."""
        before, allowed.grown_from = allowed.grown_from, None
        scope = self._kept.pop(before, None) if before is not None else None
        if before is None or scope is None:
            return None
        come = self._table.find(allowed.ids[len(before) :])
        come = np.sort(come[(come >= 0) & (come < scope.covered)])
        if len(come) and len(scope.positions) and come[0] <= scope.positions[-1]:
            return None  # Rows that were there before and matched later, as when a recording is described anew.
        self._take_in(scope, come)
        self._kept[allowed] = scope
        return scope

    def _take_in(self, scope: Scope, positions: Positions) -> None:
        scope.positions = np.concatenate([scope.positions, positions])
        if scope.subset is not None:
            scope.subset.append(positions)
        elif not scope.whole and len(scope.positions) > FEW:
            scope.subset = self._scan.subset(scope.positions)

    def _made(self, allowed: IdSet) -> Scope:
        table = self._table
        found = table.find(allowed.ids)
        found = np.sort(found[found >= 0])
        whole = len(found) == table.count
        subset = None if whole or len(found) <= FEW else self._scan.subset(found)
        return Scope(found, subset, whole, table.total)

    def _evict(self, newest: IdSet) -> None:
        """Forget what was used longest ago where all together take more than the scan itself."""
        limit = max(LEAST_BYTES, self._scan.memory_bytes)
        by_use = sorted(self._kept.items(), key=lambda item: item[1].used)
        total = sum(scope.memory_bytes for _, scope in by_use)
        for allowed, scope in by_use:
            if total <= limit:
                return
            if allowed is not newest:
                del self._kept[allowed]
                total -= scope.memory_bytes
