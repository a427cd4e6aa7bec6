"""The scans that FAISS runs on the CPU; this module and `faiss_codes` alone import faiss."""

import ctypes
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeVar

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.index.calibration import Calibration
from indexer.index.faiss_codes import LANES, STRIPE_ROWS, PackedCodes, Quantizer, Stripe
from indexer.index.rows import RowTable
from indexer.index.scans import ROUNDING, Positions, Proposals, Subset
from indexer.index.snapshot_format import BLOCK_ROWS, Codes, MappedSnapshot, Rows
from indexer.types import Vectors

# The types that faiss ships describe its C++ constructors, not the ones its Python layer puts in their place.
_faiss: Any = faiss

_PROBES_AT_ONCE = 48
"""Probes of one task: two passes, so few that all cores have work for a batch."""

_PAIRS_A_TASK = 1 << 15
"""Rows scored by one task: some milliseconds."""

_WIDE = 0.7
"""Share of the rows above which a filter's codes are not laid out by themselves: others are passed over instead."""

_Task = TypeVar("_Task")


def describe_faiss() -> str:
    """Say which FAISS runs here and what it was built for."""
    return f"faiss {faiss.__version__} ({str(_faiss.get_compile_options()).strip()}; {_faiss.get_num_gpus()} GPUs)"


class FlatScan:
    """Every vector compared with every probe, where it lies: nothing is copied."""

    kind = "flat"
    margin = ROUNDING
    candidates = 0
    memory_bytes = 0

    def __init__(self, table: RowTable) -> None:
        self._table = table

    @property
    def details(self) -> dict[str, str | int | float]:
        """Nothing: it misses nothing."""
        return {}

    @property
    def count(self) -> int:
        """As many rows as the table has positions."""
        return self._table.total

    def prepare(self, vectors: Vectors) -> NDArray[Any]:
        """Keep nothing."""
        return vectors

    def append(self, prepared: NDArray[Any]) -> None:
        """Do nothing: the rows are read from the table."""

    def remove(self, positions: Positions) -> None:
        """Do nothing: the index passes over rows that went."""

    def subset(self, positions: Positions) -> "MaskSubset":
        """Prepare a filter; see `Scan.subset`."""
        return MaskSubset(positions)

    def search(self, probes: Vectors, fetch: int, subset: Subset | None = None) -> Proposals:
        """Propose the best rows, exact but for rounding; see `Scan.search`."""
        assert subset is None or isinstance(subset, MaskSubset)
        mask = None if subset is None else subset.mask
        scores: list[NDArray[np.float32]] = []
        positions: list[Positions] = []
        sizes: list[int] = []
        for first, rows in self._table.parts():
            step = len(rows) if rows.dtype == np.float32 else BLOCK_ROWS  # half precision is widened block by block
            for start in range(0, len(rows), max(step, 1)):
                some = rows[start : start + step]
                kept = None if mask is None else mask[first + start : first + start + len(some)]
                found, places = _knn(probes, some.astype(np.float32, copy=False), fetch, kept)
                scores.append(found)
                positions.append(np.where(places < 0, places, places + (first + start)))
                sizes.append(len(some) if kept is None else int(np.count_nonzero(kept)))
        return _merged(scores, positions, sizes, fetch)

    def close(self) -> None:
        """Do nothing: it holds nothing."""


class MaskSubset:
    """Which rows a scan of all may propose."""

    def __init__(self, positions: Positions) -> None:
        self.mask: NDArray[np.bool_] = np.empty(0, dtype=bool)
        """(m,) whether the row at each position may be found; none behind the last may."""
        self.append(positions)

    @property
    def memory_bytes(self) -> int:
        """What keeping it costs."""
        return int(self.mask.nbytes)

    def holds(self, positions: Positions) -> NDArray[np.bool_]:
        """Tell which positions may be found; -1 may not."""
        inside: NDArray[np.bool_] = (positions >= 0) & (positions < len(self.mask))
        inside[inside] = self.mask[positions[inside]]
        return inside

    def append(self, positions: Positions) -> None:
        """Let more rows be found; see `Subset.append`."""
        if len(positions):
            mask = np.zeros(int(positions[-1]) + 1, dtype=bool)
            mask[: len(self.mask)] = self.mask
            mask[positions] = True
            self.mask = mask


class CompressedScan:
    """Codes of 4 bits for every two components, compared with the probe 32 rows at a time in the registers.

    An estimate is the sum of the products of probe and centroids, which lie nearer to the origin than what they stand
    for: it is too small by a factor that calibration measures (`gain`). See `indexer.index.calibration`.
    """

    kind = "compressed"

    def __init__(self, quantizer: Quantizer, calibration: Calibration) -> None:
        self.quantizer = quantizer
        self.calibration = calibration
        self._stripes: list[Stripe] = []

    @property
    def margin(self) -> float:
        """Measured; see `Calibration`."""
        return self.calibration.margin

    @property
    def candidates(self) -> int:
        """Measured; see `Calibration`. Among more rows, as many more are estimated as high."""
        measured_at = self.calibration.measured_at_count
        grown = max(self.count / measured_at, 1.0) if measured_at else 1.0
        return round(self.calibration.candidates * grown)

    @property
    def count(self) -> int:
        """Rows that are in it, those that went among them."""
        return sum(stripe.count for stripe in self._stripes)

    @property
    def memory_bytes(self) -> int:
        """Bytes of codes that are not mapped."""
        return sum(stripe.memory_bytes for stripe in self._stripes)

    @property
    def details(self) -> dict[str, str | int | float]:
        """What was measured when it was trained."""
        return self.calibration.details()

    def prepare(self, vectors: Vectors) -> NDArray[Any]:
        """Make the codes."""
        return self.quantizer.encode(vectors)

    def append(self, prepared: NDArray[Any], *, mapped: bool = False) -> None:
        """Take in more rows as (n, C) codes; those of a snapshot are used where they lie, in stripes of one size."""
        codes: Codes = prepared
        most = STRIPE_ROWS
        if mapped and len(codes):
            # Of unequal ones, whoever scans the larger is waited for.
            stripes = -(-len(codes) // STRIPE_ROWS)
            most = -(-len(codes) // (stripes * LANES)) * LANES
        done = 0
        while done < len(codes):
            last = self._stripes[-1] if self._stripes else None
            if last is None or mapped or not last.room:
                some = codes[done : done + most]
                self._stripes.append(Stripe(self.quantizer, self.count, some, mapped=mapped))
            else:
                some = codes[done : done + last.room]
                last.append(some)
            done += len(some)

    def remove(self, positions: Positions) -> None:
        """Do nothing: the index passes over rows that went."""

    def codes_at(self, positions: Positions) -> Codes:
        """(n, C) codes at (n,) positions."""
        firsts = np.array([stripe.first for stripe in self._stripes], dtype=np.int64)
        owners = np.searchsorted(firsts, positions, side="right") - 1
        codes = np.empty((len(positions), self.quantizer.code_bytes), dtype=np.uint8)
        for number, stripe in enumerate(self._stripes):
            mine = owners == number
            codes[mine] = stripe.codes[positions[mine] - stripe.first]
        return codes

    def subset(self, positions: Positions) -> Subset:
        """Lay the codes of some rows out by themselves, or note which rows a search of all is kept to.

        See `Scan.subset`.
        """
        wide = len(positions) > _WIDE * self.count
        return MaskSubset(positions) if wide else CompressedSubset(self, positions)

    def search(self, probes: Vectors, fetch: int, subset: Subset | None = None) -> Proposals:
        """Propose the best rows by their codes; see `Scan.search`."""
        if isinstance(subset, CompressedSubset):
            return self._search(probes, fetch, [(subset.packed, subset.positions)], self.calibration.gain)
        stripes: list[tuple[PackedCodes, Positions | int]] = [(some.packed, some.first) for some in self._stripes]
        if subset is None:
            return self._search(probes, fetch, stripes, self.calibration.gain)
        assert isinstance(subset, MaskSubset)
        found = self._search(probes, 2 * fetch, stripes, self.calibration.gain)
        positions = np.where(subset.holds(found.positions), found.positions, -1)
        return found._replace(positions=positions)

    def raw_search(self, probes: Vectors, fetch: int) -> tuple[NDArray[np.float32], Positions]:
        """Best (Q, F) scores of codes, not made estimates of cosines, and their positions."""
        stripes: list[tuple[PackedCodes, Positions | int]] = [(some.packed, some.first) for some in self._stripes]
        found = self._search(probes, fetch, stripes, gain=1.0)
        return found.scores, found.positions

    def raw_scores(self, probes: Vectors, positions: Positions) -> NDArray[np.float32]:
        """Scores of the codes at (Q, m) positions, as a search would give them; NaN where a position is -1."""
        wanted = np.unique(positions[positions >= 0])
        scores = np.full(positions.shape, np.nan, dtype=np.float32)
        if not len(wanted):
            return scores
        found, places = PackedCodes(self.quantizer, self.codes_at(wanted)).search(probes, len(wanted))
        table = np.full(len(wanted), np.nan, dtype=np.float32)
        for row, some in enumerate(positions):
            table[places[row]] = found[row]
            scores[row] = np.where(some < 0, np.nan, table[np.searchsorted(wanted, np.maximum(some, wanted[0]))])
        return scores

    def close(self) -> None:
        """Do nothing: its threads are everybody's."""

    def _search(
        self, probes: Vectors, fetch: int, parts: list[tuple[PackedCodes, Positions | int]], gain: float
    ) -> Proposals:
        total = sum(packed.count for packed, _ in parts)
        # Each part proposes its share and some more; where the best lie together, the floor tells.
        shares = [min(packed.count, fetch * packed.count // max(total, 1) + LANES) for packed, _ in parts]
        ends = list(accumulate(shares))
        scores = np.empty((len(probes), sum(shares)), dtype=np.float32)
        positions = np.empty(scores.shape, dtype=np.int64)

        def work(task: tuple[slice, Iterable[int]]) -> None:
            block, some = task
            for part in some:
                packed, origin = parts[part]
                columns = slice(ends[part] - shares[part], ends[part])
                found, places = packed.search(probes[block], shares[part])
                np.multiply(found, np.float32(gain), out=scores[block, columns])
                positions[block, columns] = _placed(places, origin)

        blocks = [slice(start, start + _PROBES_AT_ONCE) for start in range(0, len(probes), _PROBES_AT_ONCE)]
        # Of few probes each core scans its part of the codes, in one go.
        step = 1 if len(blocks) > 1 else -(-len(parts) // _cores())
        groups = [range(start, min(start + step, len(parts))) for start in range(0, len(parts), step or 1)]
        _in_parallel(work, [(block, group) for block in blocks for group in groups], here=len(probes) == 1)
        floors = np.full(len(probes), -np.inf, dtype=np.float32)
        for (packed, _), share, end in zip(parts, shares, ends, strict=True):
            if share < packed.count:
                np.maximum(floors, scores[:, end - 1], out=floors)
        return Proposals(scores, positions, floors, (0, *ends[:-1]))


class CompressedSubset:
    """Codes of some rows, laid out by themselves."""

    def __init__(self, scan: CompressedScan, positions: Positions) -> None:
        self._scan = scan
        self.positions = positions.copy()
        """(n,) rising: which row each is."""
        self.packed = PackedCodes(scan.quantizer, scan.codes_at(positions))

    @property
    def memory_bytes(self) -> int:
        """Bytes of codes and positions."""
        return self.packed.memory_bytes + int(self.positions.nbytes)

    def append(self, positions: Positions) -> None:
        """Take in more rows; see `Subset.append`."""
        if len(positions):
            self.packed.append(self._scan.codes_at(positions))
            self.positions = np.concatenate([self.positions, positions])


def _knn(
    probes: Vectors, rows: Vectors, fetch: int, kept: NDArray[np.bool_] | None
) -> tuple[NDArray[np.float32], Positions]:
    """Exact nearest (Q, F) of (n, D) rows, by falling score; -1 where fewer are kept."""
    fetch = min(fetch, len(rows))
    scores = np.full((len(probes), fetch), -np.inf, dtype=np.float32)
    places = np.full((len(probes), fetch), -1, dtype=np.int64)
    selector = None
    if kept is not None:
        bits = np.packbits(kept, bitorder="little")
        selector = _faiss.IDSelectorBitmap(bits)
    if fetch:
        _faiss.knn_inner_product(
            *(_faiss.swig_ptr(array) for array in (np.ascontiguousarray(probes), rows)),
            rows.shape[1],
            len(probes),
            len(rows),
            fetch,
            _faiss.swig_ptr(scores),
            _faiss.swig_ptr(places),
            selector,
        )
    return scores, places


def inner_products(probes: Vectors, parts: list[tuple[int, Rows]], positions: Positions) -> NDArray[np.float32]:
    """Score rows where they lie, without copying them, on all cores.

    Parameters
    ----------
    probes : (Q, D) float32 array
    parts : list of (first position, (m, D) float32 rows)
        As `RowTable.parts` lists them.
    positions : (Q, F) int64 array
        Rows for each probe; -1 where there is none.

    Returns
    -------
    scores : (Q, F) float32 array
        Inner products; -inf where there is no row.
    """
    count, width = positions.shape
    scores = np.full(positions.shape, -np.inf, dtype=np.float32)
    filled = [(first, rows) for first, rows in parts if len(rows)]
    high = max(1, min(_PAIRS_A_TASK // width, -(-count // _cores())))
    wide = max(1, -(-width // _cores())) if count == 1 else width

    def work(task: tuple[slice, slice]) -> None:
        some, x = np.ascontiguousarray(positions[task]), np.ascontiguousarray(probes[task[0]])
        for first, rows in filled:
            inside = (some >= first) & (some < first + len(rows))
            ids = np.where(inside, some - first, -1) if len(filled) > 1 else some
            found = np.empty(ids.shape, dtype=np.float32)
            _faiss.fvec_inner_products_by_idx(
                *(_faiss.swig_ptr(array) for array in (found, x, rows, ids)), rows.shape[1], *ids.shape
            )
            np.copyto(scores[task], found, where=inside)

    tasks = [
        (slice(row, row + high), slice(column, column + wide))
        for row in range(0, count, high)
        for column in range(0, width, wide)
    ]
    _in_parallel(work, tasks, here=count == 1)
    return scores


def _merged(scores: list[NDArray[np.float32]], positions: list[Positions], sizes: list[int], fetch: int) -> Proposals:
    """Put the finds of several parts together, of which each had so many rows to propose."""
    floors = np.full(len(scores[0]), -np.inf, dtype=np.float32)
    for found, size in zip(scores, sizes, strict=True):
        if size > fetch:
            np.maximum(floors, found[:, -1], out=floors)
    ends = accumulate(found.shape[1] for found in scores)
    runs = (0, *ends)[: len(scores)]
    return Proposals(np.concatenate(scores, axis=1), np.concatenate(positions, axis=1), floors, runs)


def _placed(places: Positions, origin: Positions | int) -> Positions:
    """Positions in the index of places within a part."""
    if isinstance(origin, int):
        return np.where(places < 0, places, places + origin)
    return np.where(places < 0, places, origin[places])


def _in_parallel(work: Callable[[_Task], None], tasks: Sequence[_Task], *, here: bool = False) -> None:
    """Do tasks on all cores, each on one.

    Parameters
    ----------
    here
        The caller does the first, and nobody need be woken for it.
    """
    others = _threads(os.getpid()).map(work, tasks[1:] if here else tasks)
    if here:
        # Or FAISS has threads of its own in the caller's, which wait for each other in loops.
        threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        try:
            for task in tasks[:1]:
                work(task)
        finally:
            faiss.omp_set_num_threads(threads)
    for _ in others:
        pass


@lru_cache(maxsize=1)
def _cores() -> int:
    return os.cpu_count() or 1


@lru_cache(maxsize=1)
def _threads(_process: int) -> ThreadPoolExecutor:
    # Of the process, as a fork has none of its parent's threads. Each runs FAISS on its own core alone.
    return ThreadPoolExecutor(_cores(), "voxdex-scan", initializer=lambda: faiss.omp_set_num_threads(1))


def restored(base: MappedSnapshot) -> CompressedScan | None:
    """Make the scan of a snapshot's codes; None where it has none."""
    if base.codes is None or base.codebook is None or base.calibration is None:
        return None
    scan = CompressedScan(Quantizer(base.codebook), Calibration.read(base.calibration))
    scan.append(base.codes, mapped=True)
    return scan


def give_memory_back() -> None:
    """Return to the system what training has freed; the C library would keep it for a next time."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # musl has none
        trim(0)
