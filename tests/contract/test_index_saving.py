"""What is kept of an index of any engine, and what is found again."""

import mmap
from pathlib import Path

import numpy as np
import pytest

from indexer.index.base import FeedMark, IndexStore, SearchParameters, VectorIndex
from tests.contract.engines import ENCODER, Lab
from tests.contract.test_index_changes import whole
from tests.vectors import unit_vectors

MARK = FeedMark(17, "ab" * 32)
LATER = FeedMark(18, "cd" * 32)
EVERYTHING = SearchParameters(exhaustive=True)
PROBES = unit_vectors(3, seed=99)


def assert_equal(one: VectorIndex, other: VectorIndex) -> None:
    """Hold two indexes to the same ids, vectors, checksums and answers, bit for bit."""
    assert (one.encoder_id, one.dim, one.count) == (other.encoder_id, other.dim, other.count)
    ids = one.ids()
    np.testing.assert_array_equal(ids, other.ids())
    np.testing.assert_array_equal(one.reconstruct(ids), other.reconstruct(ids))
    assert whole(one.contents()) == whole(other.contents()) == whole(other.contents(deep=True))
    assert one.search(PROBES, 20, parameters=EVERYTHING) == other.search(PROBES, 20, parameters=EVERYTHING)
    assert one.search_above(PROBES, -1.0) == other.search_above(PROBES, -1.0)


def filled(lab: Lab, store: IndexStore, count: int = 400) -> VectorIndex:
    """An index of this store whose ids are in no order, some of them gone again."""
    index = lab.lend(store.create())
    ids = np.random.default_rng(1).permutation(10 * count)[:count].astype(np.int64)
    index.add(ids, unit_vectors(count))
    index.remove(ids[::5])
    return index


def test_nothing_is_kept_before_the_first_save(lab: Lab) -> None:
    store = lab.store()
    assert store.load() is None
    assert (store.generation(), store.marks()) == (0, [])
    filled(lab, store)
    assert lab.store().load() is None or lab.engine.shared


def test_what_was_saved_is_what_is_loaded(lab: Lab) -> None:
    store = lab.store()
    index = filled(lab, store)
    generation = index.begin_save(MARK).write()
    again = lab.store()
    kept = again.load()
    assert kept is not None
    assert_equal(index, lab.lend(kept.index))
    assert (kept.mark, kept.damage) == (MARK, None)
    assert generation == again.generation() == store.generation() > 0
    assert again.marks() == [MARK]


def test_an_index_answers_the_same_after_it_was_saved(lab: Lab) -> None:
    store = lab.store()
    index, twin = filled(lab, store), filled(lab, lab.store("twin"))
    index.begin_save(MARK).write()
    assert_equal(twin, index)
    index.begin_save(LATER).write(keep_previous=False)
    assert_equal(twin, index)


def test_an_index_that_is_empty_is_saved_as_empty(lab: Lab) -> None:
    store = lab.store()
    index = lab.lend(store.create())
    index.begin_save(MARK).write()
    kept = store.load()
    assert kept is not None
    assert (lab.lend(kept.index).count, kept.mark) == (0, MARK)
    kept.index.add(np.array([1]), unit_vectors(1))
    kept.index.remove(np.array([1]))
    kept.index.begin_save(LATER).write()
    assert store.marks()[0] == LATER


def test_a_save_holds_what_was_inside_when_it_began(lab: Lab) -> None:
    store = lab.store()
    index, twin = filled(lab, store), filled(lab, lab.store("twin"))
    before = index.ids()
    save = index.begin_save(MARK)
    for one in (index, twin):
        one.remove(before[:50])
        one.add(np.array([-7, 10**6, *before[:10]]), unit_vectors(12, seed=8))
        one.remove(before[-10:])
    save.write()
    assert_equal(twin, index)
    with lab.loaded(lab.store()) as kept:
        assert kept.count == twin.count if lab.engine.shared else kept.ids().tolist() == before.tolist()
    index.begin_save(LATER).write()
    with lab.loaded(lab.store()) as kept:
        assert_equal(twin, kept)


def test_a_loaded_index_is_changed_and_saved_again_and_again(lab: Lab) -> None:
    store = lab.store()
    twin = filled(lab, lab.store("twin"))
    filled(lab, store).begin_save(MARK).write()
    generations = [store.generation()]
    for turn in range(5):
        with lab.loaded(lab.store()) as index:
            assert_equal(twin, index)
            gone, new = index.ids()[turn::9], np.arange(40) - 5000 + 100 * turn
            for one in (twin, index):
                one.remove(gone)
                one.add(new, unit_vectors(40, seed=50 + turn))
            assert_equal(twin, index)
            generations.append(index.begin_save(FeedMark(100 + turn, "ef" * 32)).write(keep_previous=turn % 2 == 0))
            assert_equal(twin, index)
        assert store.marks()[0] == FeedMark(100 + turn, "ef" * 32)
    assert generations == sorted(generations if lab.engine.shared else set(generations))


def test_a_new_index_beside_the_kept_one_replaces_it_only_when_it_is_saved(lab: Lab) -> None:
    store = lab.store()
    live = filled(lab, store)
    live.begin_save(MARK).write()
    answers = live.search(PROBES, 9)
    new = lab.lend(store.create())
    assert new.count == 0
    new.add(np.array([1, 2]), unit_vectors(2, seed=4))
    assert live.search(PROBES, 9) == answers
    with lab.loaded(lab.store()) as kept:
        assert kept.count == live.count
    new.begin_save(LATER).write()
    assert live.search(PROBES, 9) == answers
    with lab.loaded(lab.store()) as kept:
        assert kept.ids().tolist() == [1, 2]
    assert new.ids().tolist() == [1, 2]


def test_nothing_is_left_after_it_was_cleared(lab: Lab) -> None:
    store = lab.store()
    index = filled(lab, store)
    index.begin_save(MARK).write()
    index.begin_save(LATER).write()
    index.close()
    store.clear()
    assert store.load() is None
    assert lab.store().load() is None
    assert lab.store().marks() == []
    store.clear()
    assert lab.store().load() is None


def test_what_another_gallery_keeps_is_not_touched(lab: Lab) -> None:
    one, other = lab.store("one"), lab.store("other")
    mine, theirs = filled(lab, one), lab.lend(other.create())
    theirs.add(np.array([1]), PROBES[:1])
    mine.begin_save(MARK).write()
    theirs.begin_save(LATER).write()
    with lab.loaded(lab.store("one")) as kept:
        assert_equal(mine, kept)
    mine.close()
    one.clear()
    with lab.loaded(lab.store("other")) as kept:
        assert [hit.embedding_id for hit in kept.search(PROBES[:1], 5)[0]] == [1]


@pytest.mark.parametrize("rows", [np.float32, np.float16])
def test_no_file_holds_an_erased_vector_once_it_was_saved_without_the_previous(lab: Lab, rows: type) -> None:
    store = lab.store()
    index, vectors = lab.lend(store.create()), unit_vectors(300)
    index.add(np.arange(300), vectors)
    index.begin_save(MARK).write()
    index.begin_save(MARK).write()
    erased = vectors[123].astype(rows).tobytes()
    index.remove(np.array([123]))
    index.begin_save(LATER).write(keep_previous=False)
    assert not holding(lab.folder("gallery"), erased)
    assert not holding(lab.folder("gallery"), np.array([123], dtype=np.int64).tobytes() + (124).to_bytes(8, "little"))
    index.add(np.array([123]), vectors[123:124])  # the search for bytes finds them where they are
    index.begin_save(LATER).write()
    row_type = np.float32 if lab.engine.keeps_every_bit else np.float16
    if lab.folder("gallery").exists() and not lab.engine.shared and rows is row_type:
        assert holding(lab.folder("gallery"), erased)


def holding(folder: Path, needle: bytes) -> list[Path]:
    """Files under the folder with these bytes somewhere inside."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content.find(needle) >= 0:
                    found.append(path)
    return found


def test_the_encoder_goes_with_what_is_kept(lab: Lab) -> None:
    store = lab.store()
    filled(lab, store).begin_save(MARK).write()
    with lab.loaded(store) as kept:
        assert kept.encoder_id == ENCODER
        assert kept.info().encoder_id == ENCODER
