"""The rows of an index: which id is where, which are gone, and every vector in full."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from indexer.errors import CorruptSnapshot, Unavailable
from indexer.index.base import Ids
from indexer.index.row_storage import GrowingArray, GrowingRows
from indexer.index.scans import Positions
from indexer.index.snapshot_format import BLOCK_ROWS, ROW_DTYPES, Crcs, MappedSnapshot, Rows, RowType
from indexer.types import Vectors
from indexer.vectors import checksums_of


@dataclass(frozen=True, eq=False)
class _Run:
    """Rows by rising id."""

    ids: Ids
    first: int
    """Position of the first row."""
    positions: Positions | None
    """Where each is; None where they lie one after the other."""

    def find(self, numbers: Ids) -> Positions:
        if not len(self.ids) or not len(numbers) or numbers[0] > self.ids[-1]:
            return np.full(len(numbers), -1, dtype=np.int64)
        places = np.minimum(np.searchsorted(self.ids, numbers), len(self.ids) - 1)
        found = places + self.first if self.positions is None else self.positions[places]
        return np.where(self.ids[places] == numbers, found, -1)


@dataclass(frozen=True, eq=False)
class RowView:
    """What a table held at one moment; it stays so while the table goes on changing."""

    table: "RowTable"
    """Whose it is; its positions are the same until it is replaced as a whole."""
    row_dtype: RowType
    base: MappedSnapshot | None
    tail_ids: Ids
    tail_crcs: Crcs
    tail_rows: Rows
    order: Positions
    """(n,) positions of the rows that were there, by rising id."""

    @property
    def total(self) -> int:
        """Positions, those of rows that went among them."""
        return len(self.tail_ids) + (0 if self.base is None else len(self.base.ids))

    def blocks(self) -> Iterator[tuple[Positions, Ids, Crcs, Rows]]:
        """Yield (positions, ids, checksums as added, rows as kept), ids rising over all blocks."""
        for start in range(0, len(self.order), BLOCK_ROWS):
            positions = self.order[start : start + BLOCK_ROWS]
            yield positions, self.ids_at(positions), self.crcs_at(positions), self.rows_at(positions)

    def sound_blocks(self) -> Iterator[tuple[Positions, Ids, Crcs, Rows]]:
        """Yield what `blocks` does, after each row was compared with what was added.

        Raises
        ------
        Unavailable
            If something is not as it was added or written; the table is damaged then.
        """
        self.verify_base()
        for positions, ids, crcs, rows in self.blocks():
            if rows.dtype == np.float32:
                off = checksums_of(rows.astype(np.float32, copy=False)) != crcs
                if off.any():
                    row = int(np.argmax(off))
                    mapped = self.base is not None and positions[row] < len(self.base.ids)
                    where = self.base.path if self.base is not None and mapped else "vectors not yet saved"
                    self.table.refuse(f"{where}: the vector of embedding {ids[row]} is not as it was added")
            yield positions, ids, crcs, rows

    def verify_base(self) -> None:
        """Compare what of the snapshot has no checksum of its own with its digests: all but rows of full precision.

        Raises
        ------
        Unavailable
            If something is not as it was written; the table is damaged then.
        """
        if self.base is None:
            return
        try:
            self.base.verify_rest()
            if self.row_dtype == "float16":
                self.base.verify()
        except CorruptSnapshot as error:
            self.table.refuse(str(error).removesuffix(": run `voxdex index rebuild`"))

    def ids_at(self, positions: Positions) -> Ids:
        """Ids at (m,) positions."""
        return _pick(None if self.base is None else self.base.ids, self.tail_ids, positions)

    def crcs_at(self, positions: Positions) -> Crcs:
        """Checksums at (m,) positions, of the vectors as they were added."""
        return _pick(None if self.base is None else self.base.crcs, self.tail_crcs, positions)

    def rows_at(self, positions: Positions) -> Rows:
        """(m, D) rows at positions, as they are kept."""
        rows = _pick(None if self.base is None else self.base.rows, self.tail_rows, positions)
        return rows.astype(ROW_DTYPES[self.row_dtype], copy=False)


class RowTable:
    """Rows by position: first those of a snapshot, mapped and never changed, then those that came since.

    A row that goes leaves its place empty until the table is made anew. Not safe by itself: its index keeps changes
    and readers apart.
    """

    def __init__(
        self, dim: int, row_dtype: RowType, *, base: MappedSnapshot | None = None, folder: Path | None = None
    ) -> None:
        self.dim = dim
        self.row_dtype: RowType = row_dtype
        self.base = base
        self.damage: str | None = None
        """What is wrong with the snapshot, once a row of it was met that is not as it was written."""
        self._start = 0 if base is None else len(base.ids)
        self._ids = GrowingArray(np.int64)
        self._crcs = GrowingArray(np.uint32)
        self._rows = GrowingRows(dim, row_dtype, folder)
        self._alive = GrowingArray(np.bool_)
        self._alive.append(np.ones(self._start, dtype=bool))
        # A row of half precision cannot be compared with the checksum of what was added: whoever maps such a snapshot
        # verifies it first.
        single = base is not None and base.rows.dtype == np.float32 and not base.verified
        self._checked = np.zeros(self._start, dtype=bool) if single else None
        self._runs: list[_Run] = []
        self.count = self._start

    @property
    def total(self) -> int:
        """Positions, those of rows that went among them."""
        return self._alive.count

    @property
    def alive(self) -> NDArray[np.bool_]:
        """(total,) whether the row at each position is there."""
        return self._alive.filled

    @property
    def memory_bytes(self) -> int:
        """Resident bytes, without what is mapped."""
        parts = (self._ids, self._crcs, self._alive, self._rows)
        runs = sum(run.ids.nbytes + run.positions.nbytes for run in self._runs if run.positions is not None)
        return sum(part.memory_bytes for part in parts) + runs

    @property
    def mapped_bytes(self) -> int:
        """Bytes of vectors mapped from files."""
        return self._rows.mapped_bytes + (0 if self.base is None else int(self.base.rows.nbytes))

    def parts(self) -> list[tuple[int, Rows]]:
        """List (first position, (m, D) rows) of all positions, without copying a row."""
        parts = [] if self.base is None else [(0, self.base.rows)]
        return [*parts, (self._start, self._rows.filled)]

    def append(self, ids: Ids, vectors: Vectors, crcs: Crcs) -> None:
        """Add (m,) rising ids that are not there with (m, D) vectors and their checksums."""
        first = self.total
        parts: list[GrowingArray | GrowingRows] = [self._rows, self._ids, self._crcs, self._alive]
        counts = [part.count for part in parts]
        # A row under the id of another would be a wrong answer.
        assert counts[0] == counts[1] == counts[2] == counts[3] - self._start
        try:
            self._rows.append(vectors)
            self._ids.append(ids)
            self._crcs.append(crcs)
            self._alive.append(np.ones(len(ids), dtype=bool))
        except BaseException:
            for part, count in zip(parts, counts, strict=True):
                part.count = count
            raise
        self.count += len(ids)
        self._note_run(ids, first)

    def remove(self, positions: Positions) -> None:
        """Take out the rows at (m,) positions that are there."""
        self._alive.filled[positions] = False
        self.count -= len(positions)

    def find(self, numbers: Ids) -> Positions:
        """Positions of (m,) rising ids; -1 where one is not there."""
        found = np.full(len(numbers), -1, dtype=np.int64)
        if self.base is not None:
            self._settle(found, _Run(self.base.ids, 0, None).find(numbers))
        for run in self._runs:
            self._settle(found, run.find(numbers))
        return found

    def ids_at(self, positions: Positions) -> Ids:
        """Ids at (m,) positions."""
        return _pick(None if self.base is None else self.base.ids, self._ids.filled, positions)

    def crcs_at(self, positions: Positions) -> Crcs:
        """Checksums at (m,) positions, of the vectors as they were added."""
        return _pick(None if self.base is None else self.base.crcs, self._crcs.filled, positions)

    def gather(self, positions: Positions) -> Vectors:
        """Vectors at (m,) positions, in float32, each known to be as it was written.

        Raises
        ------
        Unavailable
            If a row of the snapshot is not as it was written.
        """
        base = None if self.base is None else self.base.rows
        rows = _pick(base, self._rows.filled, positions)
        if self._checked is not None:
            self._check(positions, rows)
        return rows.astype(np.float32, copy=False)

    def refuse(self, damage: str) -> NoReturn:
        """Take note of what is wrong, for whoever repairs it, and answer nothing from it."""
        self.damage = damage
        raise Unavailable(f"{damage}; the record repairs it: ask again later, or run `voxdex index rebuild`")

    @property
    def trusted(self) -> bool:
        """Whether all rows are known to be as they were written."""
        return self._checked is None

    def trust(self) -> None:
        """Check single rows no more: the whole snapshot is known to be as it was written."""
        self._checked = None

    def view(self) -> RowView:
        """Take note of what is inside."""
        held = np.flatnonzero(self.alive[: self._start])
        later = np.flatnonzero(self.alive[self._start :])
        ids = self._ids.filled
        some = ids[later]
        if not _rising(some):
            later = later[np.argsort(some)]
        order = np.concatenate([held, later + self._start])
        if self.base is not None and len(held) and len(later) and ids[later[0]] < self.base.ids[held[-1]]:
            order = order[np.argsort(self.ids_at(order), kind="stable")]  # two rising runs: merged in one pass
        return RowView(self, self.row_dtype, self.base, ids, self._crcs.filled, self._rows.filled, order)

    def close(self) -> None:
        """Give files back; what was lent stays readable until it is dropped."""
        self._rows.close()

    def _settle(self, found: Positions, places: Positions) -> None:
        there = places >= 0
        there[there] = self.alive[places[there]]  # an id that went and came again is in two places
        found[there] = places[there]

    def _note_run(self, ids: Ids, first: int) -> None:
        last = self._runs[-1] if self._runs else None
        if (
            last is not None
            and last.positions is None
            and last.first + len(last.ids) == first
            and ids[0] > last.ids[-1]
        ):
            begin = last.first - self._start
            self._runs[-1] = _Run(self._ids.filled[begin:], last.first, None)
            return
        begin = first - self._start
        self._runs.append(_Run(self._ids.filled[begin:], first, None))
        # Ids that come out of order make many short runs: neighbors of like size are merged, as in a merge sort.
        while len(self._runs) > 1 and 2 * len(self._runs[-1].ids) > len(self._runs[-2].ids):
            self._merge_last()

    def _merge_last(self) -> None:
        some = [
            np.arange(run.first, run.first + len(run.ids)) if run.positions is None else run.positions
            for run in self._runs[-2:]
        ]
        positions = np.concatenate(some)
        positions = positions[self.alive[positions]]
        ids = self._ids.filled[positions - self._start]
        order = np.argsort(ids, kind="stable")
        self._runs[-2:] = [_Run(ids[order], 0, positions[order])]

    def _check(self, positions: Positions, rows: Rows) -> None:
        checked, base = self._checked, self.base
        if checked is None or base is None:  # trusted meanwhile
            return
        inside = np.flatnonzero(positions < self._start)
        new = inside[~checked[positions[inside]]]
        if not len(new):
            return
        places = positions[new]
        off = checksums_of(rows[new]) != base.crcs[places]
        if off.any():
            number = int(base.ids[places[np.argmax(off)]])
            self.refuse(f"{base.path}: the vector of embedding {number} is not as it was written")
        checked[places] = True


def _pick(base: NDArray[Any] | None, tail: NDArray[Any], positions: Positions) -> NDArray[Any]:
    """Take entries of two arrays as if the second lay behind the first."""
    if base is None or not len(base):
        return tail.take(positions, axis=0)
    if not len(tail):
        return base.take(positions, axis=0)
    inside = positions < len(base)
    if inside.all():
        return base.take(positions, axis=0)
    picked = np.empty((len(positions), *tail.shape[1:]), dtype=np.result_type(base, tail))
    picked[inside] = base.take(positions[inside], axis=0)
    picked[~inside] = tail.take(positions[~inside] - len(base), axis=0)
    return picked


def _rising(numbers: Ids) -> bool:
    return bool((np.diff(numbers) > 0).all())
