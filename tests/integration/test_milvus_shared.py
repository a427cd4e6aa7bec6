"""One Milvus collection that several processes read and write; each has a store and an index of its own here."""

import socket
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from indexer.errors import CorruptSnapshot, IndexReplaced, InvalidRequest, Unavailable
from indexer.index import milvus_collections
from indexer.index.base import FeedMark, IdSet, IndexStore, VectorIndex
from indexer.index.milvus_collections import drop_gallery, encoders_kept
from indexer.index.milvus_index import MOST_ROWS
from indexer.index.milvus_server import connect, disconnect
from indexer.index.milvus_store import MilvusStore
from indexer.settings import MilvusSettings
from indexer.types import EncoderId, GalleryId
from tests.milvus_kit import milvus_settings
from tests.vectors import ReferenceIndex, unit_vectors

ENCODER = EncoderId("encoder-a")
MARK, LATER = FeedMark(3, "ab" * 32), FeedMark(4, "cd" * 32)


@pytest.fixture
def settings() -> Iterator[MilvusSettings]:
    """An installation of its own."""
    made = milvus_settings()
    yield made
    for number in (1, 2, 12):
        drop_gallery(made, GalleryId(number))


def store_of(settings: MilvusSettings, gallery: int = 1, encoder: EncoderId = ENCODER) -> MilvusStore:
    return MilvusStore(settings, GalleryId(gallery), encoder)


def opened(store: IndexStore) -> VectorIndex:
    kept = store.load()
    assert kept is not None
    return kept.index


def published(settings: MilvusSettings, count: int = 20, **place: object) -> VectorIndex:
    index = store_of(settings, **place).create()  # type: ignore[arg-type]
    index.add(np.arange(count), unit_vectors(count))
    index.begin_save(MARK).write()
    return index


def collections_of(settings: MilvusSettings) -> list[str]:
    return sorted(name for name in connect(settings).call("list_collections") if name.startswith(settings.prefix + "_"))


def test_processes_that_apply_the_same_changes_at_once_end_with_the_same_rows(settings: MilvusSettings) -> None:
    published(settings, 0)
    vectors = unit_vectors(60)
    start = threading.Barrier(4)
    failed: list[BaseException] = []

    def apply() -> None:
        try:
            index = opened(store_of(settings))
            start.wait()
            for some in np.split(np.arange(60), 6):
                index.add(some, vectors[some])
                index.remove(some[:3])
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    index = opened(store_of(settings))
    # A process that is behind adds again what another took out, until it has applied that too.
    for some in np.split(np.arange(60), 6):
        index.remove(some[:3])
    expected = [number for number in range(60) if number % 10 >= 3]
    assert index.ids().tolist() == expected
    assert index.count == len(expected)
    np.testing.assert_array_equal(index.reconstruct(index.ids()), vectors[expected])


def test_what_one_process_writes_all_the_others_find(settings: MilvusSettings) -> None:
    one, probe = published(settings), unit_vectors(1, seed=7)
    other = opened(store_of(settings))
    one.add(np.array([500]), probe)
    assert other.search(probe, 1)[0][0].embedding_id == 500
    other.remove(np.array([500]))
    assert one.search(probe, 1)[0][0].embedding_id != 500


def test_an_index_that_was_replaced_answers_from_the_new_one_and_writes_nothing(settings: MilvusSettings) -> None:
    old = published(settings)
    probes = unit_vectors(2, seed=5)
    new = store_of(settings).create()
    new.add(np.array([1, 77]), probes)
    new.begin_save(LATER).write(keep_previous=False)
    assert [hits[0].embedding_id for hits in old.search(probes, 1)] == [1, 77]
    assert old.holds(np.array([77, 5])).tolist() == [True, False]
    with pytest.raises(IndexReplaced):
        old.add(np.array([900]), unit_vectors(1, seed=8))
    with pytest.raises(IndexReplaced):
        old.begin_save(FeedMark(9, "ff" * 32)).write()
    assert store_of(settings).marks() == [LATER]
    assert opened(store_of(settings)).ids().tolist() == [1, 77]
    old.close()
    assert opened(store_of(settings)).count == 2


def test_another_process_hears_of_a_replacement_by_the_generation(
    settings: MilvusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(settings)
    store = store_of(settings)
    first = store.generation()
    new = store_of(settings).create()
    assert store.generation() == first
    new.begin_save(LATER).write()
    assert store.generation() > first
    monkeypatch.setattr(milvus_collections, "GLANCE_S", 0.0)
    new.begin_save(MARK).write()
    assert store.generation() == store_of(settings).generation()


def test_what_was_built_and_never_kept_is_dropped(settings: MilvusSettings) -> None:
    published(settings)
    before = collections_of(settings)
    index = store_of(settings).create()
    index.add(np.array([1]), unit_vectors(1))
    assert len(collections_of(settings)) == 2
    index.close()
    assert collections_of(settings) == before


def test_what_a_killed_builder_left_goes_when_the_next_one_is_done(settings: MilvusSettings) -> None:
    published(settings)
    store_of(settings).create()  # never closed
    store_of(settings).create().begin_save(MARK).write(keep_previous=False)
    assert len(collections_of(settings)) == 1


def test_a_filter_of_more_ids_than_one_expression_takes_is_still_exact(
    settings: MilvusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.index.milvus_index.FILTER_AT_ONCE", 7)
    index, truth = published(settings, 90), ReferenceIndex(ENCODER)
    truth.add(np.arange(90), unit_vectors(90))
    probes, allowed = unit_vectors(3, seed=2), IdSet(np.arange(0, 90, 2))
    for k in (1, 5, 60):
        for hits, expected in zip(
            index.search(probes, k, allowed=allowed), truth.search(probes, k, allowed=allowed), strict=True
        ):
            assert [hit.embedding_id for hit in hits] == [hit.embedding_id for hit in expected]
            assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-12)


def test_a_filter_beyond_the_limit_is_refused_with_the_remedy(settings: MilvusSettings) -> None:
    published(settings)
    narrow = settings.model_copy(update={"filter_ids": 10})
    index = opened(store_of(narrow))
    assert len(index.search(unit_vectors(1), 20, allowed=IdSet(np.arange(10)))[0]) == 10
    with pytest.raises(InvalidRequest, match=r"11 vectors where .* at most 10: .*FILTER_IDS"):
        index.search(unit_vectors(1), 1, allowed=IdSet(np.arange(11)))
    with pytest.raises(InvalidRequest, match="FILTER_IDS"):
        index.search_above(unit_vectors(1), 0.5, allowed=np.arange(11))


def test_more_hits_than_milvus_returns_at_once_are_all_found(
    settings: MilvusSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.index.milvus_index.MOST_ROWS", 32)
    monkeypatch.setattr("indexer.index.milvus_index.FILTER_AT_ONCE", 32)
    index, truth = published(settings, 200), ReferenceIndex(ENCODER)
    truth.add(np.arange(200), unit_vectors(200))
    probe = unit_vectors(1, seed=4)
    for allowed in (None, IdSet(np.arange(0, 200, 2))):
        expected = truth.search_above(probe, -0.1, allowed=allowed)[0]
        assert len(expected) > 32
        found = index.search_above(probe, -0.1, allowed=allowed)[0]
        assert [hit.embedding_id for hit in found] == [hit.embedding_id for hit in expected]
        (best,) = index.search(probe, 70, allowed=allowed)
        (truly,) = truth.search(probe, 70, allowed=allowed)
        assert [hit.embedding_id for hit in best] == [hit.embedding_id for hit in truly]
    assert MOST_ROWS == 16_384


def test_vectors_that_were_changed_in_milvus_differ_from_their_checksums(settings: MilvusSettings) -> None:
    index = published(settings)
    _, before = next(index.contents(deep=True))
    connect(settings).call(
        "upsert",
        index.info().details["collection"],
        [{"id": 4, "checksum": int(before[4]), "vector": unit_vectors(1, seed=9)[0]}],
    )
    _, shallow = next(index.contents())
    _, deep = next(index.contents(deep=True))
    np.testing.assert_array_equal(shallow, before)
    assert np.flatnonzero(deep != before).tolist() == [4]


def test_galleries_and_encoders_do_not_meet(settings: MilvusSettings) -> None:
    published(settings, 5)
    published(settings, 6, gallery=12)
    published(settings, 7, encoder=EncoderId("encoder-b"))
    assert encoders_kept(settings, GalleryId(1)) == ["encoder-a", "encoder-b"]
    assert opened(store_of(settings)).count == 5
    assert opened(store_of(settings, encoder=EncoderId("encoder-b"))).count == 7
    drop_gallery(settings, GalleryId(1))
    assert store_of(settings).load() is None
    assert encoders_kept(settings, GalleryId(1)) == []
    assert opened(store_of(settings, gallery=12)).count == 6


def test_an_alias_of_something_else_is_refused_by_name(settings: MilvusSettings) -> None:
    index = published(settings)
    collection = index.info().details["collection"]
    connect(settings).call("alter_collection_properties", collection, properties={"voxdex.encoder": "other"})
    with pytest.raises(CorruptSnapshot, match=r"of encoder other where encoder-a is needed"):
        store_of(settings).load()
    connect(settings).call("alter_collection_properties", collection, properties={"voxdex.seq": "many"})
    with pytest.raises(CorruptSnapshot, match="not of a collection that voxdex made"):
        store_of(settings).load()


def test_a_milvus_out_of_reach_says_so_without_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        port = taken.getsockname()[1]
        dead = MilvusSettings.model_validate({"uri": f"http://ann:secret@127.0.0.1:{port}", "timeout_s": 1.0})
        with pytest.raises(Unavailable, match=rf"Milvus at http://127\.0\.0\.1:{port} ") as refused:
            store_of(dead).load()
        assert "secret" not in str(refused.value)


def test_an_address_is_asked_for_where_there_is_none() -> None:
    with pytest.raises(InvalidRequest, match="VOXDEX_INDEX__MILVUS__URI"):
        store_of(MilvusSettings()).create()


def test_without_pymilvus_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    with pytest.raises(Unavailable, match=r"needs the package pymilvus: .*extra `milvus`"):
        store_of(MilvusSettings.model_validate({"uri": "http://127.0.0.1:1"})).load()


def test_a_connection_that_was_ended_is_made_again(settings: MilvusSettings) -> None:
    published(settings)
    disconnect()
    assert opened(store_of(settings)).count == 20
