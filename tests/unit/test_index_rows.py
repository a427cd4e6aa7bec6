import errno
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import Unavailable
from indexer.index import row_storage
from indexer.index.row_storage import GrowingRows
from indexer.index.rows import RowTable
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
    rows, vectors = GrowingRows(192, "float32", tmp_path), unit_vectors(10)
    rows.append(vectors)

    class FullFile:
        def __init__(self, file: object) -> None:
            self._file = file

        def __getattr__(self, name: str) -> object:
            return getattr(self._file, name)

        def write(self, _data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    whole = rows._file
    rows._file = FullFile(whole)  # type: ignore[assignment]
    with pytest.raises(Unavailable, match=r"No space left.*free some space"):
        rows.append(vectors)
    rows._file = whole
    np.testing.assert_array_equal(rows.filled, vectors)
    rows.close()


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
