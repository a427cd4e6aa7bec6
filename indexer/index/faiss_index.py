"""Vectors in the process: every row in full, a scan that proposes, exact scores for what it proposes."""

import logging
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from indexer.errors import AlreadyExists, DeviceFailed, InvalidRequest, NotFound, Unavailable
from indexer.index.base import FeedMark, Hit, Ids, IdSet, IndexInfo, SearchParameters
from indexer.index.compressed_scan import CompressedScan, restored
from indexer.index.exact import Wanted
from indexer.index.faiss_codes import compressible
from indexer.index.flat_scan import FlatScan
from indexer.index.index_save import IndexSave
from indexer.index.locks import ReadWriteLock
from indexer.index.ranking import NeededLately, Ranking
from indexer.index.rows import RowTable, RowView
from indexer.index.scans import Positions, Scan
from indexer.index.scopes import Scope, Scopes
from indexer.index.snapshot_format import MappedSnapshot, Origin
from indexer.index.snapshots import SnapshotStore
from indexer.index.upkeep import Upkeep
from indexer.settings import IndexSettings
from indexer.types import EMBEDDING_DIM, EncoderId, Vectors
from indexer.vectors import checksums_of, require_unit_rows

logger = logging.getLogger(__name__)

ADDED_AT_ONCE = 4096
"""Rows that are let in at a time: searches wait some milliseconds for them."""

_Found = TypeVar("_Found")


class FaissIndex:
    """Vectors of one gallery under one encoder; see `VectorIndex`.

    A small one is scanned flat, a large one by compressed codes that are trained in the background; see
    `IndexSettings`. Either way the scores returned, and their order, are computed in float64 from the full vectors.

    Parameters
    ----------
    settings : IndexSettings, optional
        When to compress, in which precision to keep rows, and whether to scan on a GPU.
    base : MappedSnapshot, optional
        What is inside at first.
    store : SnapshotStore, optional
        Where `begin_save` writes; None: the index lives in memory only.
    origin : str
        What the first snapshot is said to be.
    folder : Path, optional
        Where vectors beyond some MB lie in a file without a name; None: the system's folder for such files.
    """

    def __init__(
        self,
        encoder_id: EncoderId,
        dim: int = EMBEDDING_DIM,
        *,
        settings: IndexSettings | None = None,
        base: MappedSnapshot | None = None,
        store: SnapshotStore | None = None,
        origin: Origin = "save",
        folder: Path | None = None,
    ) -> None:
        self._encoder_id = encoder_id
        self._dim = dim
        self.settings = settings or IndexSettings()
        self._store = store
        self._origin: Origin = origin
        self._folder = folder
        self.generation = 0 if base is None else base.manifest.generation
        """Of the snapshot that was loaded or written last; 0 where there is none."""
        self.lock = ReadWriteLock()
        """Searches are readers; whoever changes what they see is a writer, for milliseconds."""
        self.changing = threading.RLock()
        """Held by whoever changes rows or replaces the scan, however long it takes."""
        self.table = RowTable(dim, self.settings.rows, base=base, folder=folder)
        self.scan: Scan = FlatScan(self.table) if base is None else restored(base) or FlatScan(self.table)
        self._scopes = Scopes(self.table, self.scan)
        self.scan_on_device = _scans_on_device(self.settings, dim)
        """Makes an empty scan on the GPU; None where none is wanted, there is none, or it failed."""
        self._lately = NeededLately()
        self._upkeep = Upkeep(self)
        self._upkeep.wake()

    @property
    def encoder_id(self) -> EncoderId:
        """The encoder of every vector inside."""
        return self._encoder_id

    @property
    def dim(self) -> int:
        """D of every vector and probe."""
        return self._dim

    @property
    def count(self) -> int:
        """Vectors inside."""
        return self.table.count

    @property
    def damaged(self) -> str | None:
        """What is wrong with the files that it is searched from; None while nothing is known to be."""
        return self.table.damage

    @property
    def lacks_codes(self) -> bool:
        """Whether it is large enough to be compressed and its files have no codes: then every start trains."""
        large = self.count >= self.settings.compress_above and compressible(self._dim)
        return large and self.scan_on_device is None and (self.table.base is None or self.table.base.codes is None)

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Add vectors with their ids, all or none; see `VectorIndex.add`."""
        numbers = np.asarray(ids, dtype=np.int64)
        rows = require_unit_rows(vectors, self._dim)
        if numbers.shape != (len(rows),):
            raise InvalidRequest(f"{numbers.shape} ids for {len(rows)} vectors: give one id a vector")
        if not (np.diff(numbers) > 0).all():
            order = np.argsort(numbers, kind="stable")
            numbers, rows = numbers[order], rows[order]
            twice = np.flatnonzero(np.diff(numbers) == 0)
            if len(twice):
                raise AlreadyExists(f"embedding id {numbers[twice[0]]} is given twice")
        crcs = checksums_of(rows).astype(np.uint32)
        with self.changing:
            taken = numbers[self.table.find(numbers) >= 0]
            if len(taken):
                raise AlreadyExists(
                    f"embedding id {taken[0]} is in the index already ({len(taken)} of {len(numbers)} are)"
                )
            first = self.table.total
            try:
                for start in range(0, len(rows), ADDED_AT_ONCE):
                    some = slice(start, start + ADDED_AT_ONCE)
                    prepared = self.scan.prepare(rows[some])
                    with self.lock.writing():
                        self._append(numbers[some], rows[some], crcs[some], prepared)
            except BaseException:
                self._take_out(np.arange(first, self.table.total))
                raise
        self._upkeep.wake()

    def remove(self, ids: Ids) -> int:
        """Take out the vectors of these ids; return how many went."""
        numbers = np.unique(np.asarray(ids, dtype=np.int64))
        with self.changing:
            positions = self.table.find(numbers)
            positions = np.sort(positions[positions >= 0])
            self._take_out(positions)
        self._upkeep.wake()
        return len(positions)

    def search(
        self, probes: Vectors, k: int, *, allowed: IdSet | Ids | None = None, parameters: SearchParameters | None = None
    ) -> list[list[Hit]]:
        """Find the k nearest vectors of each probe; see `VectorIndex.search`."""
        rows = require_unit_rows(probes, self._dim)
        if k < 1:
            raise InvalidRequest(f"k = {k} where at least 1 is needed")
        candidates = None if parameters is None else parameters.candidates
        if candidates is not None and candidates < k:
            raise InvalidRequest(f"candidates = {candidates} where k = {k} are wanted: give as many at least")
        exhaustive = parameters is not None and parameters.exhaustive
        return self._ranked(allowed, exhaustive, lambda ranking: ranking.best(rows, Wanted(k, candidates=candidates)))

    def search_above(
        self, probes: Vectors, threshold: float, *, allowed: IdSet | Ids | None = None, limit: int | None = None
    ) -> list[list[Hit]]:
        """Find every vector whose score reaches the threshold; see `VectorIndex.search_above`."""
        rows = require_unit_rows(probes, self._dim)
        if not np.isfinite(threshold):
            raise InvalidRequest(f"threshold = {threshold} where a finite score is needed")
        if limit is not None and limit < 1:
            raise InvalidRequest(f"limit = {limit} where at least 1 is needed")
        return self._ranked(allowed, False, lambda ranking: ranking.best(rows, Wanted(limit, float(threshold))))

    def holds(self, ids: Ids) -> NDArray[np.bool_]:
        """Tell which of these ids are inside."""
        return self._places(np.asarray(ids, dtype=np.int64)) >= 0

    def ids(self, *, after: int | None = None, upto: int | None = None) -> Ids:
        """Every id inside, rising; see `VectorIndex.ids`."""
        view = self.view()
        order = view.order

        def place(number: int | None, otherwise: int) -> int:
            if number is None:
                return otherwise
            return bisect_right(range(len(order)), number, key=lambda at: int(view.ids_at(order[at : at + 1])[0]))

        return view.ids_at(order[place(after, 0) : place(upto, len(order))])

    def reconstruct(self, ids: Ids) -> Vectors:
        """Return the vectors of these ids as (n, D), or raise NotFound."""
        numbers = np.asarray(ids, dtype=np.int64)
        with self.lock.reading():
            positions = self._places_inside(numbers)
            if (positions < 0).any():
                missing = numbers[positions < 0]
                raise NotFound(
                    f"embedding id {missing[0]} is not in the index ({len(missing)} of {len(numbers)} are not)"
                )
            return self.table.gather(positions)

    def contents(self, *, deep: bool = False) -> Iterator[tuple[Ids, Ids]]:
        """Yield blocks of rising ids and checksums; see `VectorIndex.contents`.

        Rows of half precision are not the bytes that were added: theirs are the checksums that were kept.
        """
        view = self.view()
        if deep:
            view.verify_base()
        for _, ids, crcs, rows in view.blocks():
            exact = deep and rows.dtype == np.float32
            yield ids, checksums_of(rows.astype(np.float32, copy=False)) if exact else crcs.astype(np.int64)

    def info(self) -> IndexInfo:
        """Say what the index is, what it costs and how well it finds."""
        with self.lock.reading():
            table, scan = self.table, self.scan
            details = {"rows": table.row_dtype, "generation": self.generation, **scan.details}
            if self.damaged is not None:
                details["damaged"] = self.damaged
            return IndexInfo(
                kind=f"faiss-{scan.kind}",
                encoder_id=self._encoder_id,
                dim=self._dim,
                count=table.count,
                memory_bytes=table.memory_bytes + scan.memory_bytes + self._scopes.memory_bytes,
                mapped_bytes=table.mapped_bytes,
                details=details,
            )

    def begin_save(self, mark: FeedMark) -> IndexSave:
        """Take note of what is inside, to write it while the index goes on changing; see `VectorIndex.begin_save`.

        Raises
        ------
        Unavailable
            If the index has no place where it is kept.
        """
        if self._store is None:
            raise Unavailable("this index is kept in memory only: give it a store to save it")
        with self.changing:
            return IndexSave(self, self._store, self.view(), self.scan, mark, self._origin)

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Wait until nothing is left to train, compact or verify; return whether that is so."""
        return self._upkeep.wait(timeout_s)

    def close(self) -> None:
        """Give back files and threads; searches under way finish first."""
        self._upkeep.stop()
        with self.changing, self.lock.writing():
            self.scan.close()
            self.table.close()

    def view(self) -> RowView:
        """Take note of which rows are inside."""
        with self.lock.reading():
            return self.table.view()

    def replace(self, table: RowTable, scan: Scan) -> None:
        """Search other rows, or the same by another scan, from now on; the caller holds `changing`."""
        with self.lock.writing():
            before, outdated = self.table, self.scan
            self.table, self.scan, self._scopes = table, scan, Scopes(table, scan)
        if outdated is not scan:
            outdated.close()
        if before is not table:
            before.close()

    def saved(self, mapped: MappedSnapshot) -> None:
        """Hear which snapshot was written last; the caller holds `changing`."""
        self.generation, self._origin = mapped.manifest.generation, "save"
        self._upkeep.wake()

    def rebase(self, view: RowView, mapped: MappedSnapshot, saved: CompressedScan | None) -> None:
        """Search a snapshot that was made of `view`, whose codes are those of `saved`."""
        self._upkeep.rebase(view, mapped, saved)

    def new_table(self, base: MappedSnapshot | None) -> RowTable:
        """Make a table like the one in use."""
        return RowTable(self._dim, self.settings.rows, base=base, folder=self._folder)

    def leave_device(self, scan: Scan, error: DeviceFailed) -> None:
        """Scan on the CPU from now on, because a scan on the GPU failed."""
        with self.changing, self.lock.writing():
            self._leave_device(scan, error)
        self._upkeep.wake()

    def _leave_device(self, scan: Scan, error: DeviceFailed) -> None:
        if self.scan_on_device is not None:
            logger.warning("index: vectors are scanned on the CPU from now on: %s", error)
        self.scan_on_device = None
        if scan is self.scan:
            self.scan = FlatScan(self.table)
            self._scopes = Scopes(self.table, self.scan)
        scan.close()

    def _append(self, ids: Ids, rows: Vectors, crcs: NDArray[np.uint32], prepared: NDArray[np.generic]) -> None:
        self.table.append(ids, rows, crcs)
        try:
            self.scan.append(prepared)
        except DeviceFailed as error:
            self._leave_device(self.scan, error)

    def _take_out(self, positions: Positions) -> None:
        if len(positions):
            with self.lock.writing():
                self.table.remove(positions)
                try:
                    self.scan.remove(positions)
                except DeviceFailed as error:
                    self._leave_device(self.scan, error)

    def _places(self, numbers: Ids) -> Positions:
        with self.lock.reading():
            return self._places_inside(numbers)

    def _places_inside(self, numbers: Ids) -> Positions:
        if (np.diff(numbers) > 0).all():
            return self.table.find(numbers)
        rising, inverse = np.unique(numbers, return_inverse=True)
        return self.table.find(rising)[inverse]

    def _ranked(self, allowed: IdSet | Ids | None, exhaustive: bool, search: Callable[[Ranking], _Found]) -> _Found:
        """Search by the scan in use, or flat where every vector is to be compared."""
        while True:
            scan = self.scan
            try:
                with self.lock.reading():
                    scan, scopes = self.scan, self._scopes
                    if exhaustive:
                        flat = FlatScan(self.table)
                        scope = None if allowed is None else Scopes(self.table, flat).of(_ids_of(allowed))
                        return search(Ranking(self.table, flat, _narrow(scope)))
                    scope = None if allowed is None else scopes.of(allowed)
                    if allowed is None or scope is not None:
                        return search(Ranking(self.table, scan, _narrow(scope), self._lately))
                assert isinstance(allowed, IdSet)
                with self.lock.writing():  # rows came since the filter was prepared
                    scopes.extend(allowed)
            except DeviceFailed as error:
                self.leave_device(scan, error)


def _scans_on_device(settings: IndexSettings, dim: int) -> Callable[[], Scan] | None:
    if settings.engine != "faiss-gpu":
        return None
    from indexer.index.gpu_scan import GpuScan, find_device  # torch is loaded only where it is asked for

    device = find_device(settings.device)
    return None if device is None else partial(GpuScan, device, dim)


def _ids_of(allowed: IdSet | Ids) -> Ids:
    return allowed.ids if isinstance(allowed, IdSet) else allowed


def _narrow(scope: Scope | None) -> Scope | None:
    """Pass over a filter that leaves everything."""
    return None if scope is None or scope.whole else scope
