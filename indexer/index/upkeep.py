"""What an index does in the background: train and measure its codes, drop dead rows, verify its files."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from indexer.errors import CorruptSnapshot, DeviceFailed, VoxdexError
from indexer.index.calibration import TARGET_RECALL, Calibration, measure
from indexer.index.compressed_scan import CompressedScan
from indexer.index.faiss_codes import Quantizer, compressible, give_memory_back
from indexer.index.flat_scan import FlatScan
from indexer.index.rows import RowTable, RowView
from indexer.index.scans import Positions, Scan
from indexer.index.snapshot_format import BLOCK_ROWS, MappedSnapshot, Rows
from indexer.types import Vectors

if TYPE_CHECKING:
    from indexer.index.faiss_index import FaissIndex

logger = logging.getLogger(__name__)

TRAINING_ROWS = 65_536
"""Vectors that codes are trained on: 4,096 for each of the 16 centroids of two components."""

RETRAIN_GROWTH = 4
"""Codes are trained anew when there are so many times the vectors there were."""

MEASURE_GROWTH = 1.5
"""They are measured again when there are so many times as many, which widens a margin that finds too little.

Where that does not help they are trained anew."""

MOST_DEAD = 0.25
"""Share of rows that went above which an index in memory is made anew without them."""

LEAST_DEAD = 4096

_PAUSE_S = 60.0
"""After a failure nothing is tried again for so long."""

_MEASURED_ROWS = 16_384
"""Rows compared at a time while measuring."""


class Upkeep:
    """One thread of an index, alive only while there is something to do."""

    def __init__(self, index: "FaissIndex") -> None:
        self._index = index
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        # Whoever makes a new table or a new scan out of the ones in use holds this.
        self._working = threading.Lock()
        self._not_before = 0.0

    def wake(self) -> None:
        """See whether something is to be done, and have it done."""
        with self._guard:
            if self._thread is None and self._next() is not None:
                self._thread = threading.Thread(target=self._run, name="voxdex-index-upkeep", daemon=True)
                self._thread.start()

    def wait(self, timeout_s: float) -> bool:
        """Wait until nothing is left to do; return whether that is so."""
        with self._guard:
            thread = self._thread
        if thread is not None:
            thread.join(timeout_s)
        with self._guard:
            return self._thread is None

    def stop(self) -> None:
        """Do nothing any more; what is under way ends at its next step."""
        self._stopping.set()
        with self._guard:
            thread = self._thread
        if thread is not None:
            thread.join()
        # The index refers to this, too: in a circle, files of erased voices would stay mapped until Python finds it.
        vars(self).pop("_index", None)

    def rebase(self, view: RowView, mapped: MappedSnapshot, saved: CompressedScan | None) -> None:
        """Search a snapshot that was made of `view`, and what changed since, instead of what is searched now."""
        index = self._index
        with self._working:
            if index.table is not view.table:  # made anew meanwhile, without rows that were dead: positions are others
                with index.changing:
                    index.saved(mapped)
                return
            before, scan = index.scan, self._copy_on_device(view)
            if isinstance(before, CompressedScan):
                scan = CompressedScan(before.quantizer, before.calibration)
                if before is saved and mapped.codes is not None:
                    scan.append(mapped.codes, mapped=True)
                else:  # trained anew meanwhile
                    scan.append(before.codes_at(view.order))
            with index.changing:
                self._change_over(view, index.new_table(mapped), scan)
                index.saved(mapped)

    def _run(self) -> None:
        while True:
            with self._guard:
                work = self._next()
                if work is None:
                    self._thread = None
                    return
            try:
                with self._working:
                    work()
                give_memory_back()
            except VoxdexError as error:
                logger.warning(
                    "index: %s failed and is tried again later: %s", work.__name__, error.code, exc_info=error
                )
                self._not_before = time.monotonic() + _PAUSE_S
            except BaseException:
                self._not_before = time.monotonic() + _PAUSE_S
                with self._guard:
                    self._thread = None
                raise

    def _next(self) -> Callable[[], None] | None:
        """Choose what is to be done; None where nothing is."""
        if self._stopping.is_set() or time.monotonic() < self._not_before:
            return None
        index = self._index
        table, scan, count = index.table, index.scan, index.count
        if not table.trusted and table.damage is None:
            return self._verify
        if table.base is None and table.total - count > max(LEAST_DEAD, MOST_DEAD * table.total):
            return self._compact
        if index.scan_on_device is not None:
            return self._to_device if isinstance(scan, FlatScan | CompressedScan) else None
        large = count >= index.settings.compress_above and compressible(index.dim)
        if isinstance(scan, CompressedScan):
            if 2 * count < index.settings.compress_above:
                return self._flatten
            if count >= RETRAIN_GROWTH * scan.calibration.trained_at_count:
                return self._train
            return self._measure if count >= MEASURE_GROWTH * scan.calibration.measured_at_count else None
        return self._train if large and isinstance(scan, FlatScan) else None

    def _verify(self) -> None:
        table = self._index.table
        assert table.base is not None
        try:
            table.base.verify(self._stopping)
        except CorruptSnapshot as error:
            logger.error("index: %s; searches of it are refused until it is repaired from the record", error.problem)
            table.damage = str(error)
            return
        if table.base.verified:
            table.trust()

    def _train(self) -> None:
        index = self._index
        view = index.view()
        started = time.monotonic()
        sample = _sample(view, TRAINING_ROWS)
        scan = CompressedScan(Quantizer.trained(sample), Calibration())
        if not self._fill(view.table, scan):
            return
        trained = Calibration(trained_on=len(sample), trained_at_count=len(view.order))
        scan.calibration = self._measured(view, scan, trained)
        with index.changing:
            self._fill(view.table, scan)
            index.replace(view.table, scan)
        logger.info(
            "index: codes of %d vectors trained and measured in %.1f s: recall@10 %.4f",
            len(view.order),
            time.monotonic() - started,
            scan.calibration.recall_at_10,
        )

    def _to_device(self) -> None:
        index, table = self._index, self._index.table
        assert index.scan_on_device is not None
        scan = index.scan_on_device()
        try:
            if not self._fill(table, scan):
                scan.close()
                return
            with index.changing:
                self._fill(table, scan)
                scan.remove(np.flatnonzero(~table.alive))
                index.replace(table, scan)
        except DeviceFailed as error:
            index.leave_device(scan, error)

    def _copy_on_device(self, view: RowView) -> Scan | None:
        """Scan the rows of a view, in their order, on the GPU; None where there is none, or no room for a second scan.

        Where there is none the first is given back, and `_to_device` makes another.
        """
        index = self._index
        if index.scan_on_device is None or isinstance(index.scan, FlatScan | CompressedScan):
            return None
        scan = index.scan_on_device()
        try:
            for _, _, _, rows in view.blocks():
                scan.append(scan.prepare(rows.astype(np.float32, copy=False)))
        except DeviceFailed:
            scan.close()
            return None
        return scan

    def _measure(self) -> None:
        index = self._index
        view, scan = index.view(), index.scan
        assert isinstance(scan, CompressedScan)
        found = self._measured(view, scan, scan.calibration, refit=False)
        if self._stopping.is_set():  # not everything was looked at
            return
        scan.calibration = found
        if found.recall_at_10 < TARGET_RECALL:
            logger.info("index: codes find %.4f of the ten nearest: they are trained anew", found.recall_at_10)
            self._train()

    def _flatten(self) -> None:
        index = self._index
        with index.changing:
            index.replace(index.table, FlatScan(index.table))

    def _compact(self) -> None:
        index = self._index
        view, before = index.view(), index.scan
        table = index.new_table(None)
        try:
            for _, ids, crcs, rows in view.blocks():
                if self._stopping.is_set():
                    table.close()
                    return
                table.append(ids, rows.astype(np.float32, copy=False), crcs)
        except BaseException:
            table.close()
            raise
        scan = self._copy_on_device(view)
        if isinstance(before, CompressedScan):
            scan = CompressedScan(before.quantizer, before.calibration)
            scan.append(before.codes_at(view.order))
        with index.changing:
            self._change_over(view, table, scan)

    def _change_over(self, view: RowView, table: RowTable, made: Scan | None) -> None:
        """Put a table in place that holds the rows of a view in their order; the caller holds `changing`."""
        before = view.table
        scan: Scan = FlatScan(table) if made is None else made
        gone = np.flatnonzero(~before.alive[view.order])
        table.remove(gone)
        scan.remove(gone)
        later = np.arange(view.total, before.total)
        later = later[before.alive[later]]
        later = later[np.argsort(before.ids_at(later))]
        for start in range(0, len(later), BLOCK_ROWS):
            some = later[start : start + BLOCK_ROWS]
            rows = before.gather(some)
            table.append(before.ids_at(some), rows, before.crcs_at(some))
            try:
                scan.append(scan.prepare(rows))
            except DeviceFailed:  # perhaps there is no room for two: `_to_device` tries again when this is done
                scan.close()
                scan = FlatScan(table)
        self._index.replace(table, scan)

    def _fill(self, table: RowTable, scan: Scan) -> bool:
        """Append to a scan what of a table it lacks; return whether it was not stopped."""
        while scan.count < table.total:
            if self._stopping.is_set():
                return False
            rows = _next_rows(self._parts(table), scan.count, BLOCK_ROWS)
            scan.append(scan.prepare(rows))
        return True

    def _parts(self, table: RowTable) -> list[tuple[int, Rows]]:
        with self._index.lock.reading():
            return [(first, rows) for first, rows in table.parts() if len(rows)]

    def _measured(self, view: RowView, scan: CompressedScan, before: Calibration, *, refit: bool = True) -> Calibration:
        def blocks() -> Iterator[tuple[Positions, Vectors]]:
            alive = np.zeros(view.total, dtype=bool)
            alive[view.order] = True
            for start in range(0, view.total, _MEASURED_ROWS):
                places = np.flatnonzero(alive[start : start + _MEASURED_ROWS]) + start
                if self._stopping.is_set() or not len(places):
                    continue
                yield places, view.rows_at(places).astype(np.float32, copy=False)

        random = np.random.default_rng(len(view.order))
        found = measure(scan, view, blocks, random, before if not refit else None)
        return replace(
            found,
            trained_on=before.trained_on,
            trained_at_count=before.trained_at_count,
            measured_at_count=len(view.order),
        )


def _sample(view: RowView, most: int) -> Vectors:
    count = len(view.order)
    chosen = np.random.default_rng(count).choice(count, min(count, most), replace=False)
    return view.rows_at(view.order[np.sort(chosen)]).astype(np.float32, copy=False)


def _next_rows(parts: list[tuple[int, Rows]], start: int, most: int) -> Vectors:
    """Rows from a position on, as many as lie beside each other."""
    for first, rows in parts:
        if first <= start < first + len(rows):
            return rows[start - first : start - first + most].astype(np.float32, copy=False)
    raise IndexError(f"position {start} is behind all rows")
