import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from indexer.errors import CorruptSnapshot, InvalidRequest, Unavailable
from indexer.index import snapshots, upkeep
from indexer.index.base import FeedMark, Hit, IdSet, SearchParameters
from indexer.index.faiss_index import FaissIndex
from indexer.index.local_store import LocalStore
from indexer.settings import IndexSettings
from indexer.types import EncoderId, Vectors
from tests.vectors import unit_vectors, voices

ENCODER = EncoderId("encoder-a")
COUNT = 12_000
SMALL = IndexSettings(compress_above=2000)
EXHAUSTIVE = SearchParameters(exhaustive=True)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return voices(COUNT // 10, 10, seed=1)


@pytest.fixture(scope="module")
def compressed(vectors: Vectors) -> Iterator[FaissIndex]:
    """Twelve thousand vectors scanned by codes; ids are row numbers. Not to be changed."""
    index = FaissIndex(ENCODER, settings=SMALL)
    index.add(np.arange(COUNT), vectors)
    assert index.wait_until_settled(180)
    yield index
    index.close()


def _probes(vectors: Vectors, count: int) -> Vectors:
    """Half of them of voices that are there, half of strangers."""
    near = vectors[:: len(vectors) // (count // 2)][: count // 2]
    return np.concatenate([near, unit_vectors(count - len(near), seed=99)])


def _found(hits: list[list[Hit]]) -> list[set[int]]:
    return [{int(hit.embedding_id) for hit in some} for some in hits]


def _recall(index: FaissIndex, probes: Vectors, allowed: IdSet | None = None) -> float:
    truth = _found(index.search(probes, 10, allowed=allowed, parameters=EXHAUSTIVE))
    found = _found(index.search(probes, 10, allowed=allowed))
    return sum(len(a & b) for a, b in zip(truth, found, strict=True)) / sum(map(len, truth))


def test_a_large_index_compresses_itself_and_says_how_well_it_finds(compressed: FaissIndex, vectors: Vectors) -> None:
    info = compressed.info()
    assert info.kind == "faiss-compressed"
    assert float(info.details["recall_at_10"]) >= 0.999
    assert 0 < float(info.details["margin"]) < 0.3
    assert info.details["trained_at_count"] == COUNT
    assert _recall(compressed, _probes(vectors, 200)) >= 0.998
    assert info.memory_bytes < vectors.nbytes / 5


def test_a_score_of_a_compressed_index_is_the_exact_cosine(compressed: FaissIndex, vectors: Vectors) -> None:
    probes = _probes(vectors, 20).astype(np.float64)
    for probe, hits in zip(probes, compressed.search(probes.astype(np.float32), 10), strict=True):
        for hit in hits:
            exact = min(float(vectors[hit.embedding_id].astype(np.float64) @ probe), 1.0)
            assert hit.score == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_filter_finds_k_of_what_it_leaves_in_a_compressed_index(
    compressed: FaissIndex, vectors: Vectors, share: float
) -> None:
    allowed = IdSet(np.flatnonzero(np.random.default_rng(2).random(COUNT) < share))
    probes = _probes(vectors, 40)
    for hits in compressed.search(probes, 10, allowed=allowed):
        assert len(hits) == 10
        assert np.isin([hit.embedding_id for hit in hits], allowed.ids).all()
    assert _recall(compressed, probes, allowed) >= 0.995


def test_everything_above_a_threshold_is_found_however_much_that_is(compressed: FaissIndex, vectors: Vectors) -> None:
    for threshold in (0.6, 0.1, -0.5):
        found = compressed.search_above(vectors[:1], threshold)[0]
        scores = vectors.astype(np.float64) @ vectors[0].astype(np.float64)
        expected = int((scores >= threshold).sum())
        assert len(found) >= 0.999 * expected
        assert all(hit.score >= threshold for hit in found)
        assert len(found) <= expected


def test_what_single_searches_teach_an_index_never_changes_what_they_find(
    compressed: FaissIndex, vectors: Vectors
) -> None:
    strangers, known = unit_vectors(40, seed=98), vectors[:40]
    fetched = []
    for probes in (known, strangers, known):
        for probe in probes:
            alone = compressed.search(probe[None], 10)
            assert _found(alone) == _found(compressed.search(probe[None], 10, parameters=EXHAUSTIVE))
        fetched.append(compressed._lately.best_fetch(128, 3000, COUNT))
    assert fetched[0] == fetched[2] == 128 < fetched[1] < 3000


def test_a_batch_that_cores_share_finds_what_each_probe_finds_alone(compressed: FaissIndex, vectors: Vectors) -> None:
    probes = _probes(vectors, 150)[np.random.default_rng(2).permutation(150)]
    alone = [compressed.search(probe[None], 10)[0] for probe in probes]
    assert compressed.search(probes, 10) == alone


def test_explicit_candidates_are_as_many_as_are_scored(compressed: FaissIndex, vectors: Vectors) -> None:
    all_of_them = SearchParameters(candidates=COUNT)
    probes = _probes(vectors, 10)
    exact = compressed.search(probes, 10, parameters=EXHAUSTIVE)
    assert compressed.search(probes, 10, parameters=all_of_them) == exact
    with pytest.raises(InvalidRequest, match="candidates = 3 where k = 5"):
        compressed.search(probes, 5, parameters=SearchParameters(candidates=3))


def test_codes_are_trained_while_vectors_come_and_go_and_every_one_is_found(vectors: Vectors) -> None:
    index = FaissIndex(ENCODER, settings=IndexSettings(compress_above=1000))
    for start in range(0, COUNT, 500):
        index.add(np.arange(start, start + 500), vectors[start : start + 500])
        index.remove(np.arange(start, start + 500, 7))
        (hits,) = index.search(vectors[start + 1 : start + 2], 1)
        assert hits[0].embedding_id == start + 1
    assert index.wait_until_settled(180)
    left = index.ids()
    np.testing.assert_array_equal(index.reconstruct(left), vectors[left])
    some = left[::37]
    assert [hits[0].embedding_id for hits in index.search(vectors[some], 1)] == some.tolist()
    assert int(index.info().details["trained_at_count"]) * upkeep.RETRAIN_GROWTH > index.count
    index.close()


def test_searches_and_additions_go_on_while_codes_are_trained(vectors: Vectors) -> None:
    index = FaissIndex(ENCODER, settings=IndexSettings(compress_above=COUNT // 2))
    index.add(np.arange(COUNT // 2), vectors[: COUNT // 2])
    turns = 0
    while not index.wait_until_settled(0) and turns < 200:
        number = COUNT // 2 + turns
        index.add(np.array([number]), vectors[number : number + 1])
        assert index.search(vectors[number : number + 1], 1)[0][0].embedding_id == number
        turns += 1
    assert index.wait_until_settled(180)
    assert turns > 3  # Who waited for the training would have had one.
    assert index.info().kind == "faiss-compressed"
    index.close()


def test_an_index_that_lost_most_of_its_vectors_is_small_and_flat_again(vectors: Vectors) -> None:
    index = FaissIndex(ENCODER, settings=SMALL)
    index.add(np.arange(COUNT), vectors)
    index.wait_until_settled(180)
    index.remove(np.arange(500, COUNT))
    assert index.wait_until_settled(180)
    assert index.info().kind == "faiss-flat"
    assert index.table.total == 500
    assert [hits[0].embedding_id for hits in index.search(vectors[:50], 1)] == list(range(50))
    index.close()


def test_a_saved_index_searches_the_files_and_holds_no_copy_of_the_vectors(tmp_path: Path, vectors: Vectors) -> None:
    index = LocalStore(tmp_path, ENCODER, settings=SMALL).create()
    index.add(np.arange(COUNT), vectors)
    index.wait_until_settled(180)
    save = index.begin_save(FeedMark(3, "c"))
    later = unit_vectors(100, seed=50)
    index.add(np.arange(COUNT, COUNT + 100), later)  # neither is in the snapshot; both are in the index
    index.remove(np.arange(0, COUNT, 3))
    assert save.write() == 1
    assert index.table.base is not None
    assert index.count == COUNT + 100 - COUNT // 3
    left = index.ids()
    every = np.concatenate([vectors, later])
    np.testing.assert_array_equal(index.reconstruct(left), every[left])
    assert [hits[0].embedding_id for hits in index.search(every[left[::97]], 1)] == left[::97].tolist()
    index.close()

    kept = LocalStore(tmp_path, ENCODER, settings=SMALL).load()
    assert kept is not None
    assert kept.mark == FeedMark(3, "c")
    assert kept.index.info().kind == "faiss-compressed"  # nothing is trained again
    np.testing.assert_array_equal(kept.index.ids(), np.arange(COUNT))
    assert kept.index.search(vectors[:5], 10) == [
        sorted(hits, key=lambda hit: (-hit.score, hit.embedding_id)) for hits in kept.index.search(vectors[:5], 10)
    ]
    kept.index.close()


def test_a_damaged_vector_never_yields_a_score(
    tmp_path: Path, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(tmp_path, ENCODER)
    index = store.create()
    index.add(np.arange(1000), vectors[:1000])
    index.begin_save(FeedMark()).write()
    index.close()
    # As if the file were large, and its verification still to come.
    monkeypatch.setattr(snapshots, "VERIFIED_AT_LOAD_BYTES", 0)
    monkeypatch.setattr(upkeep.Upkeep, "wake", lambda self: None)
    (path,) = (path for path in tmp_path.iterdir() if path.stat().st_size >= vectors[:1000].nbytes)
    with path.open("r+b") as file:
        file.seek(777 * 192 * 4 + 5)
        file.write(b"\x7f")
    kept = LocalStore(tmp_path, ENCODER).load()
    assert kept is not None
    opened = kept.index
    assert isinstance(opened, FaissIndex)
    assert opened.search(vectors[:1], 5)[0][0].embedding_id == 0
    assert opened.damaged is None
    with pytest.raises(Unavailable, match="embedding 777 is not as it was written"):
        opened.search(vectors[777:778], 5)
    assert opened.damaged is not None
    opened.close()


def test_half_precision_keeps_scores_within_what_is_stated_and_refuses_to_pass_for_full(
    tmp_path: Path, vectors: Vectors
) -> None:
    half = IndexSettings(rows="float16", compress_above=2000)
    index = LocalStore(tmp_path, ENCODER, settings=half).create()
    index.add(np.arange(COUNT), vectors)
    index.wait_until_settled(180)
    for hits in index.search(vectors[:200], 10):
        for hit in hits:
            exact = vectors[hits[0].embedding_id].astype(np.float64) @ vectors[hit.embedding_id].astype(np.float64)
            assert abs(hit.score - exact) < 0.0005
    index.begin_save(FeedMark()).write()
    assert index.info().mapped_bytes == vectors.nbytes // 2
    index.close()
    with pytest.raises(CorruptSnapshot, match="float16 where the settings want float32"):
        LocalStore(tmp_path, ENCODER).load()


def test_an_index_without_a_store_says_that_it_cannot_be_saved() -> None:
    with pytest.raises(Unavailable, match="in memory only"):
        FaissIndex(ENCODER).begin_save(FeedMark())


def test_closing_ends_the_thread_that_was_training(vectors: Vectors) -> None:
    index = FaissIndex(ENCODER, settings=SMALL)
    index.add(np.arange(COUNT), vectors)
    index.close()
    assert "voxdex-index-upkeep" not in {thread.name for thread in threading.enumerate()}
