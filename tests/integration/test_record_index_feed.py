from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from indexer.db.embeddings import Embeddings
from indexer.db.recordings import Recordings
from indexer.db.repositories import Encoders, Galleries, Speakers
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.errors import CorruptArtifact
from indexer.index.faiss_index import FaissFlatIndex
from indexer.index.feed import Adjustment, IndexFeed, check, drop, open_index, rebuild, scrub
from indexer.index.snapshots import index_folder
from indexer.types import EncoderId, GalleryId
from indexer.vectors import checksums_of
from tests.vectors import ReferenceIndex, unit_vectors

ENCODER = EncoderId("0575cb64/legacy")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def gallery(database: Database) -> GalleryId:
    return _gallery(database, "archive")


def _gallery(database: Database, name: str) -> GalleryId:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        return GalleryId(Galleries(session).get_or_create(name, encoder).id)


def _add(database: Database, gallery: GalleryId, seed: int, count: int = 4, speaker: str | None = None) -> RecordedIds:
    with database.session_scope() as session:
        owner = Speakers(session).get_or_create(gallery, [speaker])[speaker] if speaker else None
        parts = [NewUtterance(None, n, n + 1.0, row, owner) for n, row in enumerate(unit_vectors(count, seed=seed))]
        return Recordings(session).add(
            gallery, ENCODER, NewRecording(f"content-{seed}", f"/{seed}.wav", utterances=parts)
        )


def _delete(database: Database, added: RecordedIds) -> None:
    with database.session_scope() as session:
        Recordings(session).delete(added.recording_id)


def _data_files(home: Path, gallery: GalleryId) -> list[Path]:
    return sorted(index_folder(home, gallery, ENCODER).glob("*.rows"))


def _assert_in_step(database: Database, index: FaissFlatIndex, gallery: GalleryId) -> None:
    with database.read_scope() as session:
        ids, _ = Embeddings(session).checksums(gallery, ENCODER)
        vectors = Embeddings(session).vectors(ids.tolist())
    np.testing.assert_array_equal(index.ids(), ids)
    np.testing.assert_array_equal(index.reconstruct(ids), vectors)


def test_an_index_is_made_from_the_record_saved_and_loaded_again(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    _add(database, gallery, 1)
    _assert_in_step(database, open_index(database, home, gallery, ENCODER), gallery)
    (saved,) = _data_files(home, gallery)
    _assert_in_step(database, open_index(database, home, gallery, ENCODER), gallery)
    assert _data_files(home, gallery) == [saved]  # nothing had changed, so nothing was written


def test_the_index_of_an_empty_gallery_is_empty_and_leaves_no_file(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    assert open_index(database, home, gallery, ENCODER).count == 0
    assert _data_files(home, gallery) == []
    assert check(database, home, gallery, ENCODER).in_step


def test_opening_adds_what_was_recorded_since(database: Database, home: Path, gallery: GalleryId) -> None:
    _add(database, gallery, 1)
    open_index(database, home, gallery, ENCODER)
    _add(database, gallery, 2, count=7)
    report = check(database, home, gallery, ENCODER)
    assert (report.in_step, report.behind, report.recorded, report.indexed) == (True, 7, 11, 4)
    assert "7 newer rows" in report.describe()
    _assert_in_step(database, open_index(database, home, gallery, ENCODER), gallery)
    assert check(database, home, gallery, ENCODER).behind == 0


def test_a_row_that_went_behind_the_index_is_reported_then_healed_and_leaves_every_file(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    gone, _kept = _add(database, gallery, 1), _add(database, gallery, 2)
    open_index(database, home, gallery, ENCODER)
    _add(database, gallery, 3)
    open_index(database, home, gallery, ENCODER)
    assert len(_data_files(home, gallery)) == 2
    _delete(database, gone)
    report = check(database, home, gallery, ENCODER)
    assert (report.in_step, report.extra) == (False, gone.embedding_ids)
    assert "4 extra" in report.describe()
    _assert_in_step(database, open_index(database, home, gallery, ENCODER), gallery)
    (only,) = _data_files(home, gallery)
    assert unit_vectors(4, seed=1)[0].tobytes() not in only.read_bytes()
    assert check(database, home, gallery, ENCODER).in_step


def test_a_vector_that_changed_in_the_record_is_reported_then_replaced(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    ids = _add(database, gallery, 1).embedding_ids
    open_index(database, home, gallery, ENCODER)
    other = unit_vectors(1, seed=99)
    with database.session_scope() as session:
        change = text("UPDATE embeddings SET vector = :vector, checksum = :checksum WHERE id = :id")
        session.execute(change, {"vector": other.tobytes(), "checksum": int(checksums_of(other)[0]), "id": ids[2]})
    report = check(database, home, gallery, ENCODER)
    assert (report.in_step, report.changed) == (False, (ids[2],))
    index = open_index(database, home, gallery, ENCODER)
    np.testing.assert_array_equal(index.reconstruct(np.array([ids[2]])), other)
    _assert_in_step(database, index, gallery)


def test_a_vector_damaged_in_the_record_is_reported_and_no_index_is_built_on_it(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    added = _add(database, gallery, 1)
    index = open_index(database, home, gallery, ENCODER)
    with database.session_scope() as session:
        harm = text("UPDATE embeddings SET vector = :vector WHERE id = :id")
        session.execute(harm, {"vector": unit_vectors(1, seed=99).tobytes(), "id": added.embedding_ids[1]})
    report = IndexFeed(database, home, gallery, ENCODER).check(index)
    assert (report.in_step, report.damaged, report.changed) == (False, (added.embedding_ids[1],), ())
    with pytest.raises(CorruptArtifact, match=f"delete recording {added.recording_id} "):
        rebuild(database, home, gallery, ENCODER)
    _delete(database, added)
    assert rebuild(database, home, gallery, ENCODER).count == 0


def test_rows_that_are_missing_in_the_middle_are_reported_then_added(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    """As when a transaction with lower ids commits after one with higher ids was indexed."""
    early, _late = _add(database, gallery, 1), _add(database, gallery, 2)
    feed = IndexFeed(database, home, gallery, ENCODER)
    index = feed.open()
    index.remove(np.array(early.embedding_ids))
    feed.save(index)
    report = check(database, home, gallery, ENCODER)
    assert (report.in_step, report.missing, report.behind) == (False, early.embedding_ids, 0)
    _assert_in_step(database, open_index(database, home, gallery, ENCODER), gallery)


def test_two_vectors_that_changed_places_are_noticed(database: Database, home: Path, gallery: GalleryId) -> None:
    """Sums of ids and of checksums stay equal; only their products tell."""
    ids = _add(database, gallery, 1).embedding_ids
    index = FaissFlatIndex(ENCODER)
    vectors = unit_vectors(4, seed=1)
    index.add(np.array([ids[1], ids[0], ids[2], ids[3]]), vectors)
    feed = IndexFeed(database, home, gallery, ENCODER)
    feed.save(index)
    assert check(database, home, gallery, ENCODER).changed == ids[:2]
    _assert_in_step(database, feed.open(), gallery)


@pytest.mark.parametrize("harm", ["truncate", "empty", "delete manifest", "delete vectors", "both generations"])
def test_a_harmed_snapshot_is_healed_from_the_record(
    database: Database, home: Path, gallery: GalleryId, harm: str
) -> None:
    _add(database, gallery, 1)
    open_index(database, home, gallery, ENCODER)
    _add(database, gallery, 2)
    open_index(database, home, gallery, ENCODER)
    older, newest = _data_files(home, gallery)
    if harm == "truncate":
        newest.write_bytes(newest.read_bytes()[:-1])
    elif harm == "empty":
        newest.write_bytes(b"")
    elif harm == "delete manifest":
        newest.with_suffix(".json").unlink()
    elif harm == "delete vectors":
        newest.unlink()
    else:
        for path in (older, newest):
            path.write_bytes(b"not vectors")
    if harm != "delete manifest":  # that is what a writer killed half way leaves
        report = check(database, home, gallery, ENCODER)
        assert not report.in_step
        assert "voxdex index rebuild" in report.describe()
    _assert_in_step(database, open_index(database, home, gallery, ENCODER), gallery)
    report = check(database, home, gallery, ENCODER)
    assert (report.in_step, report.behind) == (True, 0)


def test_a_live_index_catches_up_with_inserts_and_deletions(database: Database, home: Path, gallery: GalleryId) -> None:
    feed = IndexFeed(database, home, gallery, ENCODER)
    index = feed.open()
    first = _add(database, gallery, 1)
    assert feed.catch_up(index) == Adjustment(added=4)
    assert feed.catch_up(index) == Adjustment()
    _delete(database, first)
    _add(database, gallery, 2, count=3)
    assert feed.catch_up(index) == Adjustment(added=3, removed=4)
    _assert_in_step(database, index, gallery)


def test_any_engine_can_be_brought_into_step(database: Database, home: Path, gallery: GalleryId) -> None:
    ids = _add(database, gallery, 1).embedding_ids
    feed, index = IndexFeed(database, home, gallery, ENCODER), ReferenceIndex(ENCODER)
    assert feed.catch_up(index) == Adjustment(added=4)
    index.remove(np.array(ids[:1]))
    report = feed.check(index)
    assert (report.missing, report.indexed, report.recorded) == (ids[:1], 3, 4)


def test_a_check_of_a_live_index_changes_nothing(database: Database, home: Path, gallery: GalleryId) -> None:
    ids = _add(database, gallery, 1).embedding_ids
    feed = IndexFeed(database, home, gallery, ENCODER)
    index = feed.open()
    files = {path: path.read_bytes() for path in _data_files(home, gallery)}
    index.remove(np.array(ids[-1:]))
    index.add(np.array([999]), unit_vectors(1, seed=50))
    report = feed.check(index)
    assert (report.missing, report.extra, report.changed) == (ids[-1:], (999,), ())
    assert index.count == 4
    assert {path: path.read_bytes() for path in _data_files(home, gallery)} == files


def test_an_erased_voice_is_in_no_row_no_index_and_no_file(database: Database, home: Path, gallery: GalleryId) -> None:
    _add(database, gallery, 1, speaker="ann")
    feed = IndexFeed(database, home, gallery, ENCODER)
    index = feed.open()
    _add(database, gallery, 2, speaker="bob")
    feed.catch_up(index)
    feed.save(index)
    with database.session_scope() as session:
        erased = Speakers(session).delete(Speakers(session).by_name(gallery, "ann").id)
    assert feed.forget(index) == Adjustment(removed=4)
    voices = [row.tobytes() for row in unit_vectors(4, seed=1)]
    kept = [row.tobytes() for row in unit_vectors(4, seed=2)]
    files = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert not [voice for voice in voices for body in files if voice in body]
    assert any(voice in body for voice in kept for body in files)  # the search itself can find one
    assert not set(erased.embedding_ids) & set(index.ids().tolist())


def test_scrubbing_a_gallery_does_the_same_where_no_index_is_open(
    database: Database, home: Path, gallery: GalleryId
) -> None:
    gone, _ = _add(database, gallery, 1), _add(database, gallery, 2)
    open_index(database, home, gallery, ENCODER)
    _delete(database, gone)
    scrub(database, home, gallery)
    voice = unit_vectors(4, seed=1)[0].tobytes()
    assert not [path for path in home.rglob("*") if path.is_file() and voice in path.read_bytes()]
    report = check(database, home, gallery, ENCODER)
    assert (report.in_step, report.indexed) == (True, 4)
    scrub(database, home, GalleryId(999))


def test_dropping_a_gallery_removes_its_folder_and_no_other(database: Database, home: Path, gallery: GalleryId) -> None:
    other = _gallery(database, "other")
    for each in (gallery, other):
        _add(database, each, 1)
        open_index(database, home, each, ENCODER)
    drop(home, gallery)
    drop(home, gallery)
    assert not index_folder(home, gallery).exists()
    assert len(_data_files(home, other)) == 1


def test_vectors_of_another_gallery_never_appear(database: Database, home: Path, gallery: GalleryId) -> None:
    other = _gallery(database, "other")
    mine, theirs = _add(database, gallery, 1), _add(database, other, 1)
    index = open_index(database, home, gallery, ENCODER)
    hits = index.search(unit_vectors(4, seed=1), 100)
    assert {hit.embedding_id for found in hits for hit in found} == set(mine.embedding_ids)
    assert not set(mine.embedding_ids) & set(theirs.embedding_ids)


def test_an_index_that_cannot_be_saved_answers_all_the_same(database: Database, home: Path, gallery: GalleryId) -> None:
    _add(database, gallery, 1)
    home.mkdir(exist_ok=True)
    (home / "index").write_text("a file where the folder should be")
    _assert_in_step(database, open_index(database, home, gallery, ENCODER), gallery)
