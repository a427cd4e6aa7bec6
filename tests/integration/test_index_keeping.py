"""Several processes with one index open: one writes its files, all change over to what is newer, none drifts unseen."""

import errno
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from indexer.db.embeddings import Embeddings
from indexer.db.encoders import Encoders
from indexer.db.galleries import Galleries
from indexer.db.gallery_encoders import GalleryEncoders
from indexer.db.recordings import Recordings
from indexer.db.rows import NewEncoder, NewRecording, NewUtterance, RecordedIds
from indexer.db.session import Database
from indexer.errors import Unavailable
from indexer.index import feed, gallery_index
from indexer.index import followed as followed_module
from indexer.index.base import VectorIndex
from indexer.index.followed import FollowedIndex
from indexer.index.gallery_index import GalleryIndex
from indexer.index.index_save import IndexSave
from indexer.index.snapshots import SnapshotStore, index_folder
from indexer.observability import REGISTRY
from indexer.settings import Settings
from indexer.types import EncoderId, GalleryId
from tests.vectors import unit_vectors
from tests.waiting import eventually

ENCODER = EncoderId("0575cb64/legacy")
OTHER = EncoderId("1575cb64/other")


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_module, "ERASURE_DELAY_S", 0.05)


@pytest.fixture
def kept(database: Database, record_settings: Settings) -> GalleryIndex:
    with database.session_scope() as session:
        encoder = Encoders(session).register(NewEncoder(ENCODER, "ecapa", "speechbrain", "0" * 64, "legacy", 192))
        number = GalleryId(Galleries(session).get_or_create("archive", encoder).id)
    return GalleryIndex(database, record_settings, number)


@pytest.fixture
def keeper(kept: GalleryIndex) -> Iterator[FollowedIndex]:
    """Opened first, so it writes."""
    add(kept, 1)
    followed = FollowedIndex(kept, ENCODER)
    yield followed
    followed.close()


@pytest.fixture
def other(kept: GalleryIndex, keeper: FollowedIndex) -> Iterator[FollowedIndex]:
    """As in another process: it shares the folder and the record, and nothing else."""
    followed = FollowedIndex(kept, ENCODER)
    yield followed
    followed.close()


def add(kept: GalleryIndex, seed: int, count: int = 4, encoder: EncoderId = ENCODER) -> RecordedIds:
    parts = [NewUtterance(None, n, n + 1.0, row) for n, row in enumerate(unit_vectors(count, seed=seed))]
    with kept.database.session_scope() as session:
        recording = NewRecording(f"content-{seed}", f"/{seed}.wav", utterances=parts)
        return Recordings(session).add(kept.gallery_id, encoder, recording)


def delete(kept: GalleryIndex, added: RecordedIds) -> None:
    with kept.database.session_scope() as session:
        Recordings(session).delete(added.recording_id)


def switch(kept: GalleryIndex, encoder: EncoderId) -> None:
    with kept.database.session_scope() as session:
        Encoders(session).register(NewEncoder(encoder, "other", "speechbrain", "1" * 64, "legacy", 192))
        encoders = GalleryEncoders(session, kept.gallery_id)
        encoders.lock()
        encoders.switch(encoder)


def snapshots(kept: GalleryIndex) -> SnapshotStore:
    return SnapshotStore(index_folder(kept.settings.home, kept.gallery_id, ENCODER), ENCODER, 192)


def on_disk(kept: GalleryIndex, vector: np.ndarray) -> bool:
    files = index_folder(kept.settings.home, kept.gallery_id, ENCODER).glob("*.rows")
    return any(vector.tobytes() in path.read_bytes() for path in files)


def assert_in_step(kept: GalleryIndex, followed: FollowedIndex) -> None:
    followed.follow()
    with kept.database.read_scope() as session:
        ids, _ = Embeddings(session).checksums(kept.gallery_id, ENCODER)
        vectors = Embeddings(session).vectors(ids.tolist())
    np.testing.assert_array_equal(followed.index.ids(), ids)
    np.testing.assert_array_equal(followed.index.reconstruct(ids), vectors)


def tidy(followed: FollowedIndex, during_s: float = 0.6) -> None:
    """Do what a process that runs on does, until nothing is left to do."""
    until = time.monotonic() + during_s
    followed.follow()
    while time.monotonic() < until:
        if followed.untidy():
            followed.keep()
        time.sleep(0.05)
    eventually(lambda: not followed.untidy() or followed.keep())


def counted(name: str) -> float:
    return REGISTRY.get_sample_value(name) or 0.0


def test_only_the_first_writes_until_it_ends(kept: GalleryIndex, keeper: FollowedIndex, other: FollowedIndex) -> None:
    add(kept, 2)
    keeper.follow()
    other.follow()
    before = snapshots(kept).generation()
    other.keep(closing=True)
    assert snapshots(kept).generation() == before
    keeper.close()
    other.keep(closing=True)
    assert snapshots(kept).generation() == before + 1
    assert on_disk(kept, unit_vectors(4, seed=2)[0])


@pytest.mark.usefixtures("soon")
def test_an_erased_voice_leaves_the_files_that_every_process_maps(
    kept: GalleryIndex, keeper: FollowedIndex, other: FollowedIndex
) -> None:
    gone = add(kept, 2)
    for followed in (keeper, other):
        followed.follow()
    keeper.keep(closing=True)
    other.keep()
    delete(kept, gone)
    for followed in (keeper, other):
        followed.follow()
    other.keep(closing=True)
    keeper.keep(closing=True)
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    assert other.untidy()  # it still maps the file that is gone
    other.keep()
    assert not other.untidy()
    assert_in_step(kept, other)
    mapped = Path("/proc/self/maps").read_text().splitlines()
    assert [line for line in mapped if "(deleted)" in line and "snapshot-" in line] == []


@pytest.mark.usefixtures("soon")
def test_a_rebuild_by_a_command_is_taken_over_by_every_process_which_answers_all_the_while(
    kept: GalleryIndex, keeper: FollowedIndex, other: FollowedIndex
) -> None:
    probe = unit_vectors(4, seed=1)[:1]
    for followed in (keeper, other):
        with followed.index.lent() as index:
            index.remove(followed.index.ids()[:1])  # something is wrong with them, whatever it was
    kept.rebuild(ENCODER).close()
    assert kept.check(ENCODER).in_step
    for followed in (keeper, other):
        assert followed.index.search(probe, 1)[0][0].score < 0.9
        assert followed.untidy()
        with followed.index.lent() as before:
            followed.keep()
            assert len(before.search(probe, 3)[0]) == 3  # whoever was inside goes on with the one before
        assert followed.index.search(probe, 1)[0][0].score == pytest.approx(1)
        assert_in_step(kept, followed)
        assert not followed.untidy()
    add(kept, 3)
    keeper.follow()
    keeper.keep(closing=True)
    assert snapshots(kept).generation() == 3


def test_a_keeper_that_writes_over_a_rebuild_it_had_not_seen_makes_up_for_it(
    kept: GalleryIndex, keeper: FollowedIndex
) -> None:
    with keeper.index.lent() as index:
        index.remove(keeper.index.ids()[:1])
    kept.rebuild(ENCODER).close()
    keeper._write(keep_previous=True)  # as when the rebuild ends while the keeper is writing
    assert_in_step(kept, keeper)
    keeper.keep(closing=True)
    assert kept.check(ENCODER).in_step


def test_a_command_leaves_an_erasure_to_the_process_that_keeps_the_files(
    kept: GalleryIndex, keeper: FollowedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery_index, "KEEPER_WAIT_S", 0.3)
    gone = add(kept, 2)
    keeper.follow()
    keeper.keep(closing=True)
    delete(kept, gone)
    kept.scrub(wait=False)
    with pytest.raises(Unavailable, match="another process keeps the index files"):
        kept.scrub()
    keeper.follow()
    keeper.keep(closing=True)
    kept.scrub()
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    keeper.close()
    kept.scrub()
    assert kept.check(ENCODER).in_step


def test_a_vector_that_is_damaged_in_the_record_is_found_by_a_sample(
    kept: GalleryIndex, keeper: FollowedIndex, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.check()
    assert keeper.damaged == 0
    number = int(keeper.index.ids()[0])
    with kept.database.session_scope() as session:
        session.execute(text("UPDATE embeddings SET checksum = checksum + 1 WHERE id = :id"), {"id": number})
    keeper.check()
    assert keeper.damaged == 1
    assert f"1 vectors are damaged in the record and not searched (first: embedding {number})" in caplog.text
    assert not keeper.index.holds(np.array([number])).any()


def test_drift_is_found_by_a_sample_counted_logged_and_repaired(
    kept: GalleryIndex, keeper: FollowedIndex, caplog: pytest.LogCaptureFixture
) -> None:
    compared, drift = counted("voxdex_index_compared_vectors_total"), counted("voxdex_index_drifted_total")
    keeper.check()
    assert keeper.drifted == 0
    assert counted("voxdex_index_compared_vectors_total") > compared
    ids = keeper.index.ids()
    with keeper.index.lent() as index:
        index.remove(ids[:2])
        index.add(np.array([ids[1], 999]), unit_vectors(2, seed=50))
    keeper.check()
    assert keeper.drifted == 3  # one is missing, one has other bytes, one is of no row
    assert counted("voxdex_index_drifted_total") == drift + 3
    assert f"3 differ from the record (first: embedding {ids[0]})" in caplog.text
    assert_in_step(kept, keeper)
    keeper.check()
    assert keeper.drifted == 0


def test_files_that_rot_under_an_open_index_never_yield_a_score_and_are_made_anew(
    kept: GalleryIndex, keeper: FollowedIndex
) -> None:
    keeper.keep(closing=True)
    (rows,) = index_folder(kept.settings.home, kept.gallery_id, ENCODER).glob("*.rows")
    with rows.open("r+b") as file:
        file.seek(4 * 192 * 2)
        file.write(unit_vectors(1, seed=77).tobytes())
    keeper.check()
    assert keeper.drifted >= 1
    assert_in_step(kept, keeper)
    keeper.keep(closing=True)
    assert kept.check(ENCODER).in_step


def test_an_erased_voice_leaves_files_that_rotted_before_anybody_looked(
    kept: GalleryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("indexer.index.snapshots.VERIFIED_AT_LOAD_BYTES", 0)  # As if there were many more rows.
    gone, stays = add(kept, 1), add(kept, 2)
    kept.rebuild(ENCODER).close()
    with kept.database.read_scope() as session:
        erased, other = (Embeddings(session).vectors(list(some.embedding_ids))[0] for some in (gone, stays))
    (rows,) = index_folder(kept.settings.home, kept.gallery_id, ENCODER).glob("*.rows")
    rotted = rows.read_bytes().replace(other.tobytes(), unit_vectors(1, seed=77).tobytes())
    rows.write_bytes(rotted)
    delete(kept, gone)
    kept.scrub()
    assert not on_disk(kept, erased)
    assert on_disk(kept, other)
    assert kept.check(ENCODER).in_step


def test_a_row_that_is_damaged_in_the_record_is_no_drift(kept: GalleryIndex, keeper: FollowedIndex) -> None:
    added = add(kept, 2)
    with kept.database.session_scope() as session:
        change = text("UPDATE embeddings SET checksum = checksum + 1 WHERE id = :id")
        session.execute(change, {"id": added.embedding_ids[0]})
    keeper.check()
    assert keeper.drifted == 0
    assert keeper.index.count == 7


@pytest.mark.usefixtures("soon")
def test_an_erasure_that_waits_is_done_by_whatever_writes_the_files_first(kept: GalleryIndex) -> None:
    gone = add(kept, 2, 1500)
    add(kept, 1, 3000)
    followed = FollowedIndex(kept, ENCODER)
    followed._saved_at -= followed_module.SAVE_INTERVAL_S  # a gallery that was quiet until now
    delete(kept, gone)
    followed.follow()
    assert followed._due(urgent=False) == "addition"
    tidy(followed)
    followed.close()
    assert not on_disk(kept, unit_vectors(1500, seed=2)[0])


@pytest.mark.usefixtures("soon")
def test_an_erasure_reaches_the_files_of_an_encoder_that_nobody_has_open(kept: GalleryIndex) -> None:
    gone = add(kept, 2)
    FollowedIndex(kept, ENCODER).close()
    switch(kept, OTHER)
    add(kept, 1, encoder=OTHER)
    followed = FollowedIndex(kept, OTHER)
    tidy(followed)
    assert on_disk(kept, unit_vectors(4, seed=2)[0])
    generation = kept.generation(OTHER)
    delete(kept, gone)
    tidy(followed)
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    assert kept.generation(OTHER) == generation  # its own files were as they should be
    followed.close()


@pytest.mark.usefixtures("soon")
def test_an_erasure_under_another_encoder_is_made_up_for_when_nobody_was_there(kept: GalleryIndex) -> None:
    gone = add(kept, 2)
    FollowedIndex(kept, ENCODER).close()
    switch(kept, OTHER)
    delete(kept, gone)
    followed = FollowedIndex(kept, OTHER)
    tidy(followed)
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    followed.close()


@pytest.mark.usefixtures("soon")
def test_what_a_writer_left_that_was_killed_before_it_deleted_the_old_files_goes_when_the_index_is_opened(
    kept: GalleryIndex,
) -> None:
    gone = add(kept, 2)
    add(kept, 1)
    FollowedIndex(kept, ENCODER).close()
    delete(kept, gone)
    opened = kept.feed(ENCODER).open()
    kept.feed(ENCODER).save(opened.index, keep_previous=True)  # as if killed before the old ones went
    opened.index.close()
    assert on_disk(kept, unit_vectors(4, seed=2)[0])
    followed = FollowedIndex(kept, ENCODER)
    tidy(followed)
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    followed.close()
    assert kept.check(ENCODER).in_step


def test_a_rebuild_does_not_bring_back_what_was_erased_while_it_went_on(
    kept: GalleryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = add(kept, 2)
    add(kept, 1)
    kept.open(ENCODER).close()

    def erased_meanwhile(index: VectorIndex) -> None:
        delete(kept, gone)
        kept.scrub()
        assert not on_disk(kept, unit_vectors(4, seed=2)[0])

    monkeypatch.setattr(feed, "settle", erased_meanwhile)
    kept.rebuild(ENCODER).close()
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])


def test_what_is_erased_while_the_files_are_written_is_not_left_in_them(
    kept: GalleryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = add(kept, 2)
    add(kept, 1)
    write = IndexSave.write

    def erased_meanwhile(save: IndexSave, *, keep_previous: bool = True) -> int:
        monkeypatch.setattr(IndexSave, "write", write)
        delete(kept, gone)
        return write(save, keep_previous=keep_previous)

    monkeypatch.setattr(IndexSave, "write", erased_meanwhile)
    kept.open(ENCODER).close()
    assert not on_disk(kept, unit_vectors(4, seed=2)[0])
    assert kept.check(ENCODER).indexed == 4


@pytest.mark.usefixtures("soon")
def test_an_index_that_is_replaced_while_it_is_written_leaves_no_files_that_lack_a_vector(
    kept: GalleryIndex, keeper: FollowedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = IndexSave.write

    def replaced_meanwhile(save: IndexSave, *, keep_previous: bool = True) -> int:
        monkeypatch.setattr(IndexSave, "write", write)
        built = kept.feed(ENCODER)
        opened = built.build()
        add(kept, 3)
        keeper._put_in_place(built, opened)
        return write(save, keep_previous=keep_previous)

    add(kept, 2)
    keeper.follow()
    monkeypatch.setattr(IndexSave, "write", replaced_meanwhile)
    keeper.keep(closing=True)
    assert kept.check(ENCODER).in_step
    assert_in_step(kept, keeper)

    def written() -> bool:
        keeper.keep()  # Not at once: after a write that took long, the next one waits long.
        return kept.check(ENCODER).behind == 0

    eventually(written, every_s=0.05)
    assert keeper.index.count == 12


@pytest.mark.usefixtures("soon")
def test_files_are_not_written_again_where_only_the_log_of_the_record_could_not_be_emptied(
    kept: GalleryIndex, keeper: FollowedIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = add(kept, 2)
    tidy(keeper)
    delete(kept, gone)
    keeper.follow()

    def busy(_: Database) -> None:
        raise Unavailable("a reader needs the log")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "scrub", busy)
        with pytest.raises(Unavailable):
            keeper.keep(closing=True)
        written = kept.generation(ENCODER)
        with pytest.raises(Unavailable):
            keeper.keep(closing=True)
        assert keeper.untidy() or keeper._unscrubbed_at is not None
    keeper.keep(closing=True)
    assert kept.generation(ENCODER) == written
    assert keeper._unscrubbed_at is None


def test_a_disk_that_cannot_lock_files_is_told_of_and_leaves_nobody_in_doubt(
    kept: GalleryIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", cannot)
    with pytest.raises(Unavailable, match="No locks available; keep the home folder"):
        kept.keeper(ENCODER).elected()
