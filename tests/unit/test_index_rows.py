import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import Unavailable
from indexer.index import row_storage
from indexer.index.faiss_index import FaissIndex
from indexer.index.row_storage import GrowingRows
from indexer.index.rows import RowTable
from indexer.types import EncoderId
from tests.full_disk import disk_full_beyond
from tests.vectors import crcs, unit_vectors


def _append(table: RowTable, ids: list[int], seed: int = 0) -> np.ndarray:
    vectors = unit_vectors(len(ids), seed=seed)
    table.append(np.array(ids), vectors, crcs(vectors).astype(np.uint32))
    return vectors


def test_rows_that_grow_into_a_file_keep_their_bytes_and_leave_no_name_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_storage, "IN_MEMORY_BYTES", 100 * 192 * 4)
    rows, vectors = GrowingRows(192, "float32", tmp_path), unit_vectors(1000)
    lent = []
    for start in range(0, 1000, 70):
        rows.append(vectors[start : start + 70])
        lent.append(rows.filled)
    np.testing.assert_array_equal(rows.filled, vectors)
    for view in lent:  # what was lent before stays as it was
        np.testing.assert_array_equal(view, vectors[: len(view)])
    assert rows.memory_bytes == 0
    assert rows.mapped_bytes == vectors.nbytes
    assert list(tmp_path.iterdir()) == []
    rows.close()


def test_a_full_disk_is_an_error_that_says_where_and_leaves_the_rows_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_storage, "IN_MEMORY_BYTES", 0)
    rows, vectors = GrowingRows(192, "float32", tmp_path), unit_vectors(2000)
    rows.append(vectors)
    with disk_full_beyond(1 << 20), pytest.raises(Unavailable, match=r"in .*: File too large; free some space"):
        rows.append(vectors)
    np.testing.assert_array_equal(rows.filled, vectors)
    rows.append(vectors[::-1])
    np.testing.assert_array_equal(rows.filled, np.concatenate([vectors, vectors[::-1]]))
    rows.close()


@contextmanager
def _no_blocks_left() -> Iterator[None]:
    """A file may grow, sparsely, and then there is no room for what is written into it but the first part."""
    write = os.pwrite
    with pytest.MonkeyPatch.context() as patch:

        def full(descriptor: int, data: memoryview, offset: int) -> int:
            if offset == 0:
                return write(descriptor, data[:1000], offset)
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(os, "pwrite", full)
        yield


@pytest.mark.parametrize("full", [partial(disk_full_beyond, 1 << 18), _no_blocks_left])
def test_a_disk_that_is_full_as_rows_move_to_it_gives_no_id_the_vector_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[[], AbstractContextManager[None]]
) -> None:
    monkeypatch.setattr(row_storage, "IN_MEMORY_BYTES", 1200 * 192 * 4)
    index, vectors = FaissIndex(EncoderId("encoder-a"), folder=tmp_path), unit_vectors(1500)
    index.add(np.arange(1000), vectors[:1000])
    with full():
        for _ in range(2):
            with pytest.raises(Unavailable, match="free some space"):
                index.add(np.arange(1000, 1500), vectors[1000:])
        assert [hit.embedding_id for hit in index.search(vectors[7:8], 1)[0]] == [7]
    assert index.count == 1000
    index.add(np.arange(1000, 1500), vectors[1000:])
    np.testing.assert_array_equal(index.reconstruct(np.arange(1500)), vectors)
    assert index.info().mapped_bytes > 0
    index.close()


def test_rows_that_could_be_added_in_part_only_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    table = RowTable(192, "float32")
    vectors = _append(table, list(range(300)))

    def no_memory(_numbers: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(table._crcs, "append", no_memory)
        with pytest.raises(MemoryError):
            _append(table, [500, 501], seed=1)
    assert (table.total, table.count, table.find(np.array([500, 501])).tolist()) == (300, 300, [-1, -1])
    later = _append(table, [400, 401], seed=2)
    np.testing.assert_array_equal(table.gather(table.find(np.array([0, 299, 400, 401]))), [*vectors[[0, -1]], *later])


def test_ids_are_found_whatever_order_their_blocks_came_in_and_after_they_went_and_came_again() -> None:
    table, random = RowTable(192, "float32"), np.random.default_rng(5)
    there: dict[int, int] = {}
    for turn in range(60):
        new = np.sort(random.choice(5000, 40, replace=False))
        new = np.array([number for number in new if number not in there])
        for number in new:
            there[int(number)] = table.total + int(np.searchsorted(new, number))
        _append(table, new.tolist(), seed=turn)
        gone = random.choice(sorted(there), 15, replace=False)
        table.remove(np.array([there.pop(int(number)) for number in gone]))
    wanted = np.arange(5000)
    expected = np.array([there.get(number, -1) for number in wanted.tolist()])
    np.testing.assert_array_equal(table.find(wanted), expected)
    view = table.view()
    np.testing.assert_array_equal(view.ids_at(view.order), sorted(there))
    assert len(table._runs) < 16  # merged as they come, or each search of an id would go through all of them


def test_rising_blocks_cost_no_memory_for_finding_them() -> None:
    table = RowTable(192, "float32")
    for first in range(0, 1000, 50):
        _append(table, list(range(first, first + 50)))
    assert len(table._runs) == 1
    assert table._runs[0].positions is None


def test_a_view_stays_as_it_was_while_the_table_goes_on() -> None:
    table = RowTable(192, "float32")
    vectors = _append(table, list(range(300)))
    view = table.view()
    table.remove(np.arange(100))
    _append(table, list(range(300, 3000)), seed=1)
    ids = np.concatenate([ids for _, ids, _, _ in view.blocks()])
    rows = np.concatenate([rows for _, _, _, rows in view.blocks()])
    np.testing.assert_array_equal(ids, np.arange(300))
    np.testing.assert_array_equal(rows, vectors)
