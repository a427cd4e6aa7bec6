from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from indexer.db.embeddings import Embeddings
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.db.speakers import Speakers
from indexer.index import stores
from indexer.index.adjustment import Adjustment
from indexer.index.base import VectorIndex
from indexer.index.drift import CheckReport
from indexer.index.feed import IndexFeed
from indexer.index.gallery_index import GalleryIndex
from indexer.index.snapshots import index_folder
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId, Vectors
from indexer.vectors import checksums_of
from tests.vectors import ReferenceStore, unit_vectors

ENCODER = EncoderId("0575cb64/legacy")


@pytest.fixture
def settings(record_settings: Settings) -> Settings:
    return record_settings


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


def _data_files(settings: Settings, gallery: GalleryId) -> list[Path]:
    return sorted(index_folder(settings.home, gallery, ENCODER).glob("*.rows"))


def _feed(database: Database, settings: Settings, gallery: GalleryId) -> IndexFeed:
    return GalleryIndex(database, settings, gallery).feed(ENCODER)


def _opened(database: Database, settings: Settings, gallery: GalleryId) -> VectorIndex:
    return GalleryIndex(database, settings, gallery).open(ENCODER)


def _check(database: Database, settings: Settings, gallery: GalleryId) -> CheckReport:
    return GalleryIndex(database, settings, gallery).check(ENCODER)


def _rebuilt(database: Database, settings: Settings, gallery: GalleryId) -> VectorIndex:
    return GalleryIndex(database, settings, gallery).rebuild(ENCODER)


def _assert_in_step(database: Database, index: VectorIndex, gallery: GalleryId) -> None:
    with database.read_scope() as session:
        ids, _ = Embeddings(session).checksums(gallery, ENCODER)
        vectors = Embeddings(session).vectors(ids.tolist())
    np.testing.assert_array_equal(index.ids(), ids)
    np.testing.assert_array_equal(index.reconstruct(ids), vectors)


def test_an_index_is_made_from_the_record_saved_and_loaded_again(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    _add(database, gallery, 1)
    _assert_in_step(database, _opened(database, settings, gallery), gallery)
    (saved,) = _data_files(settings, gallery)
    _assert_in_step(database, _opened(database, settings, gallery), gallery)
    assert _data_files(settings, gallery) == [saved]  # nothing had changed, so nothing was written


def test_the_index_of_an_empty_gallery_is_empty_and_leaves_no_file(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    assert _opened(database, settings, gallery).count == 0
    assert _data_files(settings, gallery) == []
    assert _check(database, settings, gallery).in_step


def test_opening_adds_what_was_recorded_since(database: Database, settings: Settings, gallery: GalleryId) -> None:
    _add(database, gallery, 1)
    _opened(database, settings, gallery)
    _add(database, gallery, 2, count=7)
    report = _check(database, settings, gallery)
    assert (report.in_step, report.behind, report.recorded, report.indexed) == (True, 7, 11, 11)
    assert "11 vectors; 7 of them are newer" in report.describe()
    _assert_in_step(database, _opened(database, settings, gallery), gallery)
    assert _check(database, settings, gallery).behind == 0


def test_a_row_that_went_leaves_every_file_when_the_index_is_opened(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    gone, _kept = _add(database, gallery, 1), _add(database, gallery, 2)
    _opened(database, settings, gallery)
    _add(database, gallery, 3)
    _opened(database, settings, gallery)
    assert len(_data_files(settings, gallery)) == 2
    _delete(database, gone)
    report = _check(database, settings, gallery)
    assert (report.in_step, report.extra) == (True, ())  # the feed says that it went
    _assert_in_step(database, _opened(database, settings, gallery), gallery)
    (only,) = _data_files(settings, gallery)
    assert unit_vectors(4, seed=1)[0].tobytes() not in only.read_bytes()
    assert _check(database, settings, gallery).in_step


def _change(database: Database, number: int, vector: Vectors) -> None:
    """Put another vector into a row, of which the feed says nothing."""
    with database.session_scope() as session:
        change = text("UPDATE embeddings SET vector = :vector, checksum = :checksum WHERE id = :id")
        session.execute(
            change, {"vector": vector.tobytes(), "checksum": int(checksums_of(vector[None])[0]), "id": number}
        )


def test_what_changed_in_the_record_behind_the_feed_is_reported_and_a_rebuild_heals_it(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    ids = _add(database, gallery, 1).embedding_ids
    _opened(database, settings, gallery)
    other = unit_vectors(1, seed=99)
    _change(database, ids[2], other[0])
    report = _check(database, settings, gallery)
    assert (report.in_step, report.changed) == (False, (ids[2],))
    index = _rebuilt(database, settings, gallery)
    np.testing.assert_array_equal(index.reconstruct(np.array([ids[2]])), other)
    _assert_in_step(database, index, gallery)
    assert _check(database, settings, gallery).in_step


def test_a_vector_damaged_in_the_record_is_reported_and_stops_nothing(
    database: Database, settings: Settings, gallery: GalleryId, caplog: pytest.LogCaptureFixture
) -> None:
    added, kept = _add(database, gallery, 1), _add(database, gallery, 2)
    feed = _feed(database, settings, gallery)
    index = feed.open().index
    with database.session_scope() as session:
        harm = text("UPDATE embeddings SET vector = :vector WHERE id = :id")
        session.execute(harm, {"vector": unit_vectors(1, seed=99).tobytes(), "id": added.embedding_ids[1]})
    report = feed.check(index)
    assert (report.in_step, report.damaged, report.changed) == (False, (added.embedding_ids[1],), ())
    rebuilt = _rebuilt(database, settings, gallery)
    assert rebuilt.count == 7
    assert not rebuilt.holds(np.array([added.embedding_ids[1]])).any()
    assert f"first: embedding {added.embedding_ids[1]}" in caplog.text
    _delete(database, added)
    assert _rebuilt(database, settings, gallery).ids().tolist() == list(kept.embedding_ids)


def test_files_that_are_of_another_history_of_the_record_are_compared_as_a_whole(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    """As when the record is put back to an earlier day, and another change gets the number of the one that is lost."""
    _add(database, gallery, 1)
    _opened(database, settings, gallery)
    lost = _add(database, gallery, 2)
    _opened(database, settings, gallery)
    with database.session_scope() as session:
        session.execute(text("DELETE FROM embeddings WHERE id IN (SELECT id FROM embeddings ORDER BY id DESC LIMIT 4)"))
        session.execute(text("DELETE FROM index_changes WHERE seq = 2"))
        session.execute(text("UPDATE gallery_feeds SET vectors_seq = 1"))
    found = _add(database, gallery, 3)
    index = _opened(database, settings, gallery)
    _assert_in_step(database, index, gallery)
    assert not index.holds(np.array(lost.embedding_ids)).any()
    assert index.holds(np.array(found.embedding_ids)).all()


def test_rows_that_are_missing_in_the_middle_are_reported_then_added(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    """As when a transaction with lower ids commits after one with higher ids was indexed."""
    early, _late = _add(database, gallery, 1), _add(database, gallery, 2)
    feed = _feed(database, settings, gallery)
    index = feed.open().index
    index.remove(np.array(early.embedding_ids))
    feed.save(index)
    report = _check(database, settings, gallery)
    assert (report.in_step, report.missing, report.behind) == (False, early.embedding_ids, 0)
    _assert_in_step(database, _rebuilt(database, settings, gallery), gallery)


def test_two_vectors_that_changed_places_are_noticed(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    """Sums of ids and of checksums stay equal; only their products tell."""
    ids = _add(database, gallery, 1).embedding_ids
    feed = _feed(database, settings, gallery)
    index = feed.open().index
    index.remove(np.array(ids))
    index.add(np.array([ids[1], ids[0], ids[2], ids[3]]), unit_vectors(4, seed=1))
    feed.save(index)
    assert _check(database, settings, gallery).changed == ids[:2]
    steps: list[Adjustment] = []
    feed.compare(index, steps.append)
    assert sum(steps, Adjustment()) == Adjustment(replaced=2)
    _assert_in_step(database, index, gallery)


@pytest.mark.parametrize("harm", ["truncate", "empty", "delete manifest", "delete vectors", "both generations"])
def test_a_harmed_snapshot_is_healed_from_the_record(
    database: Database, settings: Settings, gallery: GalleryId, harm: str
) -> None:
    _add(database, gallery, 1)
    _opened(database, settings, gallery)
    _add(database, gallery, 2)
    _opened(database, settings, gallery)
    older, newest = _data_files(settings, gallery)
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
        report = _check(database, settings, gallery)
        assert not report.in_step
        assert "voxdex index rebuild" in report.describe()
    _assert_in_step(database, _opened(database, settings, gallery), gallery)
    report = _check(database, settings, gallery)
    assert (report.in_step, report.behind) == (True, 0)


def test_a_live_index_catches_up_with_inserts_and_deletions(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    feed = _feed(database, settings, gallery)
    index = feed.open().index

    def followed() -> Adjustment:
        steps: list[Adjustment] = []
        feed.follow(index, steps.append)
        return sum(steps, Adjustment())

    first = _add(database, gallery, 1)
    assert followed() == Adjustment(added=4)
    assert followed() == Adjustment()
    _delete(database, first)
    _add(database, gallery, 2, count=3)
    assert followed() == Adjustment(added=3, removed=4)
    _assert_in_step(database, index, gallery)


def test_any_engine_can_be_brought_into_step(database: Database, gallery: GalleryId) -> None:
    ids = _add(database, gallery, 1).embedding_ids
    feed = IndexFeed(database, ReferenceStore(ENCODER), gallery, ENCODER)
    opened = feed.open()
    assert opened.adjustment == Adjustment(added=4)
    feed.save(opened.index)
    opened.index.remove(np.array(ids[:1]))
    report = feed.check(opened.index)
    assert (report.missing, report.indexed, report.recorded) == (ids[:1], 3, 4)
    assert feed.check_kept().in_step


def test_a_check_of_a_live_index_changes_nothing(database: Database, settings: Settings, gallery: GalleryId) -> None:
    ids = _add(database, gallery, 1).embedding_ids
    feed = _feed(database, settings, gallery)
    index = feed.open().index
    feed.save(index)
    files = {path: path.read_bytes() for path in _data_files(settings, gallery)}
    index.remove(np.array(ids[-1:]))
    index.add(np.array([999]), unit_vectors(1, seed=50))
    report = feed.check(index)
    assert (report.missing, report.extra, report.changed) == (ids[-1:], (999,), ())
    assert index.count == 4
    assert {path: path.read_bytes() for path in _data_files(settings, gallery)} == files


def _put_back(database: Database, to: RecordedIds, feed: int) -> None:
    """Put the record back to when its newest recording was this one, as a backup would; its numbers are given again."""
    last = {"recordings": to.recording_id, "utterances": to.utterance_ids[-1], "embeddings": to.embedding_ids[-1]}
    with database.session_scope() as session:
        for table in ("embeddings", "utterances", "recordings"):
            session.execute(text(f"DELETE FROM {table} WHERE id > :last"), {"last": last[table]})
            if database.engine.dialect.name == "sqlite":
                name = {"name": table, "last": last[table]}
                session.execute(text("UPDATE sqlite_sequence SET seq = :last WHERE name = :name"), name)
            else:
                session.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), {last[table]})"))
        session.execute(text("DELETE FROM index_changes WHERE seq > :seq"), {"seq": feed})
        session.execute(text("UPDATE gallery_feeds SET vectors_seq = :seq"), {"seq": feed})


@pytest.mark.parametrize("later", [2, 3])
def test_a_live_index_notices_a_record_that_was_put_back_and_has_grown_since(
    database: Database, settings: Settings, gallery: GalleryId, later: int
) -> None:
    first = _add(database, gallery, 1)
    for seed in (2, 3):
        _add(database, gallery, seed)
    feed = _feed(database, settings, gallery)
    index = feed.open().index
    _put_back(database, first, 1)
    for seed in range(14, 14 + later):  # to the very number that the index has seen, and past it
        _add(database, gallery, seed)
    feed.follow(index, lambda _: None)
    _assert_in_step(database, index, gallery)
    index.close()


def test_an_index_that_had_seen_no_change_is_compared_with_the_record(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    first = _add(database, gallery, 1)
    _add(database, gallery, 2)
    with database.session_scope() as session:  # as a release left it that had no feed
        for table in ("index_changes", "gallery_feeds"):
            session.execute(text(f"DELETE FROM {table}"))
    _opened(database, settings, gallery).close()
    _put_back(database, first, 0)
    _add(database, gallery, 14)
    _assert_in_step(database, _opened(database, settings, gallery), gallery)


def test_an_erased_voice_is_in_no_row_no_index_and_no_file(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    _add(database, gallery, 1, speaker="ann")
    _opened(database, settings, gallery)
    _add(database, gallery, 2, speaker="bob")
    index = _opened(database, settings, gallery)
    with database.session_scope() as session:
        erased = Speakers(session).delete(Speakers(session).by_name(gallery, "ann").id)
    GalleryIndex(database, settings, gallery).scrub()
    voices = [row.tobytes() for row in unit_vectors(4, seed=1)]
    kept = [row.tobytes() for row in unit_vectors(4, seed=2)]
    files = [path.read_bytes() for path in settings.home.rglob("*") if path.is_file()]
    assert not [voice for voice in voices for body in files if voice in body]
    assert any(voice in body for voice in kept for body in files)  # the search itself can find one
    assert set(erased.embedding_ids) <= set(index.ids().tolist())  # which that other index has yet to hear of


def test_scrubbing_a_gallery_does_the_same_where_no_index_is_open(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    gone, _ = _add(database, gallery, 1), _add(database, gallery, 2)
    _opened(database, settings, gallery)
    _delete(database, gone)
    GalleryIndex(database, settings, gallery).scrub()
    voice = unit_vectors(4, seed=1)[0].tobytes()
    assert not [path for path in settings.home.rglob("*") if path.is_file() and voice in path.read_bytes()]
    report = _check(database, settings, gallery)
    assert (report.in_step, report.indexed) == (True, 4)
    GalleryIndex(database, settings, GalleryId(999)).scrub()


def test_dropping_a_gallery_removes_its_folder_and_no_other(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    other = _gallery(database, "other")
    for each in (gallery, other):
        _add(database, each, 1)
        _opened(database, settings, each)
    stores.drop_gallery(settings, gallery)
    stores.drop_gallery(settings, gallery)
    assert not index_folder(settings.home, gallery).exists()
    assert len(_data_files(settings, other)) == 1


def test_vectors_of_another_gallery_never_appear(database: Database, settings: Settings, gallery: GalleryId) -> None:
    other = _gallery(database, "other")
    mine, theirs = _add(database, gallery, 1), _add(database, other, 1)
    index = _opened(database, settings, gallery)
    hits = index.search(unit_vectors(4, seed=1), 100)
    assert {hit.embedding_id for found in hits for hit in found} == set(mine.embedding_ids)
    assert not set(mine.embedding_ids) & set(theirs.embedding_ids)


def test_an_index_that_cannot_be_saved_answers_all_the_same(
    database: Database, settings: Settings, gallery: GalleryId
) -> None:
    _add(database, gallery, 1)
    settings.home.mkdir(exist_ok=True)
    (settings.home / "index").write_text("a file where the folder should be")
    _assert_in_step(database, _opened(database, settings, gallery), gallery)
