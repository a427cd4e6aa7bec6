"""What is not as it was added is never written again under a digest that calls it sound."""

from pathlib import Path

import numpy as np
import pytest

from indexer.errors import Unavailable
from indexer.index import snapshots, upkeep
from indexer.index.base import FeedMark
from indexer.index.faiss_index import FaissIndex
from indexer.index.local_store import LocalStore
from indexer.settings import IndexSettings
from indexer.types import EncoderId
from tests.full_disk import disk_full_beyond
from tests.vectors import unit_vectors, voices

ENCODER = EncoderId("encoder-a")
COUNT = 500


def _flip(folder: Path, suffix: str, place: int) -> None:
    (path,) = folder.glob(f"*{suffix}")
    with path.open("r+b") as file:  # in place: it is mapped
        file.seek(place)
        old = file.read(1)[0]
        file.seek(place)
        file.write(bytes([old ^ 0x80]))


def _kept(store: LocalStore) -> FaissIndex:
    kept = store.load()
    assert kept is not None
    assert isinstance(kept.index, FaissIndex)
    return kept.index


def _saved(store: LocalStore) -> np.ndarray:
    vectors = unit_vectors(COUNT)
    index = store.create()
    index.add(np.arange(COUNT), vectors)
    index.begin_save(FeedMark(1, "a")).write()
    index.close()
    return vectors


@pytest.mark.parametrize("verified", [True, False])
def test_a_vector_that_rotted_is_not_saved_and_is_once_it_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verified: bool
) -> None:
    store = LocalStore(tmp_path, ENCODER)
    vectors = _saved(store)
    if not verified:
        monkeypatch.setattr(snapshots, "VERIFIED_AT_LOAD_BYTES", 0)
        monkeypatch.setattr(upkeep.Upkeep, "wake", lambda self: None)  # saved before the background looks
    index = _kept(store)
    _flip(tmp_path, ".rows", 3 * 192 * 4 + 3)
    index.remove(np.array([COUNT - 1]))
    for _ in range(2):
        with pytest.raises(Unavailable, match=r"embedding 3 is not as it was added; .*voxdex index rebuild"):
            index.begin_save(FeedMark(2, "b")).write(keep_previous=False)
    assert index.damaged is not None
    assert "embedding 3" in index.damaged
    assert (store.generation(), store.marks()) == (1, [FeedMark(1, "a")])
    index.remove(np.array([3]))
    index.add(np.array([3]), vectors[3:4])
    index.begin_save(FeedMark(2, "b")).write(keep_previous=False)
    assert index.damaged is None
    index.close()
    again = _kept(store)
    np.testing.assert_array_equal(again.reconstruct(np.arange(COUNT - 1)), vectors[:-1])
    again.close()


@pytest.mark.parametrize(("rows", "suffix"), [("float16", ".rows"), ("float32", ".ids"), ("float32", ".crcs")])
def test_what_has_no_checksum_of_its_own_is_compared_with_its_digest_before_it_is_saved(
    tmp_path: Path, rows: str, suffix: str
) -> None:
    store = LocalStore(tmp_path, ENCODER, settings=IndexSettings.model_validate({"rows": rows}))
    _saved(store)
    index = _kept(store)
    assert sum(len(ids) for ids, _ in index.contents(deep=True)) == COUNT
    _flip(tmp_path, suffix, 4000 // 2 - 1)
    with pytest.raises(Unavailable, match=rf"\{suffix} does not have the SHA-256 .*voxdex index rebuild"):
        index.begin_save(FeedMark(2, "b")).write()
    assert index.damaged is not None
    assert store.generation() == 1
    # So whoever repairs it by comparing it with the record learns that it has to be built anew.
    with pytest.raises(Unavailable):
        list(index.contents(deep=True))
    index.close()


def test_a_vector_that_changed_in_memory_is_not_saved(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, ENCODER)
    index = store.create()
    index.add(np.arange(COUNT), unit_vectors(COUNT))
    index.table._rows.filled[7, 0] += 1
    with pytest.raises(Unavailable, match=r"vectors not yet saved: the vector of embedding 7 is not as it was added"):
        index.begin_save(FeedMark(1, "a")).write()
    assert store.generation() == 0
    index.close()


@pytest.mark.parametrize("compress_above", [1000, 1_000_000])
def test_an_index_that_was_compacted_while_it_was_saved_goes_on_from_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress_above: int
) -> None:
    monkeypatch.setattr(upkeep, "LEAST_DEAD", 100)
    store = LocalStore(tmp_path, ENCODER, settings=IndexSettings(compress_above=compress_above))
    vectors = voices(200, 10, seed=1)
    index = store.create()
    index.add(np.arange(2000), vectors)
    assert index.wait_until_settled(180)
    save = index.begin_save(FeedMark(1, "a"))
    index.remove(np.arange(700))
    assert index.wait_until_settled(180)
    assert index.table.total == 1300
    assert save.write() == index.generation == store.generation() == 1
    assert index.begin_save(FeedMark(2, "b")).write(keep_previous=False) == 2
    for found in (index, _kept(store)):
        np.testing.assert_array_equal(found.reconstruct(np.arange(700, 2000)), vectors[700:])
        assert [hits[0].embedding_id for hits in found.search(vectors[[700, 1999]], 1)] == [700, 1999]
        found.close()


def test_a_disk_that_is_full_as_dead_rows_are_dropped_leaves_the_index_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from indexer.index import row_storage

    monkeypatch.setattr(upkeep, "LEAST_DEAD", 100)
    monkeypatch.setattr(upkeep, "BLOCK_ROWS", 256)
    monkeypatch.setattr("indexer.index.rows.BLOCK_ROWS", 256)
    monkeypatch.setattr(row_storage, "IN_MEMORY_BYTES", 0)
    index, vectors = FaissIndex(ENCODER, folder=tmp_path), unit_vectors(2000)
    index.add(np.arange(2000), vectors)
    with disk_full_beyond(600 * 192 * 4):
        index.remove(np.arange(700))
        assert index.wait_until_settled(180)
    assert index.table.total == 2000
    np.testing.assert_array_equal(index.reconstruct(np.arange(700, 2000)), vectors[700:])
    index.close()
